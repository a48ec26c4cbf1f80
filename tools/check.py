"""Do the notebooks, psi/ and README.md say the same? Works in a copy, so the working tree is only read.

    python tools/check.py    0 when `make export` would change nothing; 1, with what it would change, otherwise
"""
import ast, json, os, re, shutil, sys, tempfile, warnings
from pathlib import Path
from readme import INDEX, Readme

ROOT = Path(__file__).resolve().parent.parent

def files(root:Path, folder:str, pattern:str) -> dict:
    "Contents by path, but for what hides in dot folders and in run folders"
    found = sorted((root/folder).rglob(pattern))
    rel = {p.relative_to(root): p for p in found}
    return {r.as_posix(): p.read_bytes() for r, p in rel.items() if not any(q.startswith('.') or q in ('runs', '__pycache__') for q in r.parts)}

def unreadable(notebooks:dict) -> list:
    "Files that are no notebooks, and code cells that are no Python (magics are)"
    from IPython.core.inputtransformer2 import TransformerManager
    python, bad = TransformerManager().transform_cell, []
    for path, content in notebooks.items():
        try: cells = json.loads(content)['cells']
        except (ValueError, KeyError, TypeError) as e: bad.append(f'{path}: not a notebook: {e!r}'); continue
        for i, cell in enumerate(cells):
            if cell['cell_type'] != 'code': continue
            code = re.sub(r'\A(\s*#\|.*\n)+', '', ''.join(cell['source']))      # a `%%` magic may stand under directives
            try: ast.parse(python(code))
            except SyntaxError as e: bad.append(f"{path}: cell {i}: {e.msg}: {(e.text or '').strip()}")
    return bad

def invalid(notebooks:dict) -> list:
    "Notebooks that Jupyter would refuse or mend in silence. For clean ones: cleaning mends some of it"
    import nbformat
    bad = []
    for path, content in notebooks.items():
        try: nbformat.validate(json.loads(content))
        except nbformat.ValidationError as e: bad.append(f'{path}: not in the notebook format: {str(e).splitlines()[0]}')
    return bad

def shared_homes(notebooks:dict) -> list:
    "Notebooks that export to one module: each export would overwrite the other's, in silence"
    homes = {}
    for path, content in notebooks.items():
        for cell in json.loads(content)['cells']:
            for module in re.findall(r'^#\|\s*default_exp\s+(\S+)', ''.join(cell['source']), re.M) if cell['cell_type'] == 'code' else []:
                homes.setdefault(module, []).append(path)
    return [f"{' and '.join(paths)} all export to psi.{module}: give each its own default_exp" for module, paths in homes.items() if len(paths) > 1]

def remade(root:Path) -> tuple:
    "Clean notebooks, and the modules they export to, made by nbdev in a copy of `root`"
    os.environ.pop('IN_TEST', None)    # with it, nbdev_export does nothing and says nothing
    with tempfile.TemporaryDirectory() as tmp, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        copy = Path(tmp).resolve()
        for folder in ('nbs', 'psi'):
            shutil.copytree(root/folder, copy/folder, ignore=shutil.ignore_patterns('.*', 'runs', '__pycache__'))
        shutil.copy(root/'settings.ini', copy)
        for p in (copy/'psi').rglob('*.py'):      # so that what no notebook exports any more is missed
            if p.name != '__init__.py': p.unlink()
        os.chdir(copy)
        try:
            from nbdev.clean import nbdev_clean
            from nbdev.doclinks import nbdev_export
            nbdev_clean.__wrapped__()
            nbdev_export.__wrapped__()
            made = files(copy, 'nbs', '*.ipynb'), files(copy, 'psi', '*.py')
        finally: os.chdir(root)
    return *made, [f'nbdev: {w.message}' for w in said if w.category is UserWarning]

def difference(have:dict, made:dict, verb:str) -> list:
    return [f'{p}: no notebook exports it: delete it' if p not in made else f'{p}: {verb}' for p in sorted(have.keys() | made.keys()) if have.get(p) != made.get(p)]

def problems(root:Path=ROOT) -> list:
    notebooks, modules = files(root, 'nbs', '*.ipynb'), files(root, 'psi', '*.py')
    if INDEX not in notebooks: return [f'{INDEX} is missing: README.md is made from it']
    if bad := unreadable(notebooks): return bad
    clean, exported, said = remade(root)
    return [*shared_homes(notebooks), *said,
        *invalid(clean),
        *difference(notebooks, clean, 'not clean: make export'),
        *difference(modules, exported, 'not what its notebook exports: make export'),
        *(f'{p}: not what {INDEX} makes: make export' for p in Readme(root).differs())]

if __name__ == '__main__':
    if found := problems(): sys.exit('\n'.join(found))
    print('notebooks are clean; psi/ and README.md are what they make')
