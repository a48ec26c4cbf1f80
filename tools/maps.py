"""Put the map of the method, as psi.method draws it now, into the cells that show it: outputs only, nothing else is run.

    python tools/maps.py    after a change of nbs/00_method.ipynb, so that ten long notebooks need not run again
"""
import ast, json, re
from pathlib import Path
from psi.method import method_map

ROOT = Path(__file__).resolve().parent.parent

def refresh(path:Path) -> bool:
    "Whether a map in this notebook was out of date"
    nb, changed = json.loads(path.read_text(encoding='utf-8')), False
    for cell in nb['cells']:
        m = re.search(r"^method_map\((?:width=(\d+)|('\w+'))\)\s*\Z", ''.join(cell['source']), re.M) if cell['cell_type'] == 'code' else None
        if not m: continue
        now = method_map(width=int(m[1])) if m[1] else method_map(ast.literal_eval(m[2]))
        output = dict(data={'image/svg+xml': now.svg, 'text/plain': [now.says]}, execution_count=None, metadata={}, output_type='execute_result')
        changed, cell['outputs'] = changed or cell['outputs'] != [output], [output]
    if changed: path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    return changed

if __name__ == '__main__':
    done = [p.name for p in sorted((ROOT/'nbs').glob('*.ipynb')) if refresh(p)]
    print(f"the map is new in {', '.join(done)}" if done else 'the maps are those of today')
