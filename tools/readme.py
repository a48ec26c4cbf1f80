"""README.md is nbs/index.ipynb, read as Markdown.

    python tools/readme.py            write README.md, and the figures it shows to nbs/images/
    python tools/readme.py --check    say what is out of date; write nothing
"""
import base64, json, posixpath, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX, IMAGES = 'nbs/index.ipynb', 'nbs/images'
NOTE = f'<!-- Made from {INDEX} by `make export`: edit the notebook. -->'

def joined(s): return s if isinstance(s, str) else ''.join(s)

def directives(
    src:str, # a code cell
) -> dict:   # {'hide': '', 'echo': 'false', ...}, from its `#|` lines
    return dict(re.findall(r'^#\|[ ]*([\w-]+):?[ ]*(.*?)[ ]*$', src, re.M))

def heading(src):
    "Front matter, or None: `title` and `description` become the H1 and the `>` line that a notebook may also open with"
    if not (m := re.fullmatch(r'---\n(.*?)\n---', src.strip(), re.S)): return None
    import yaml
    meta = yaml.safe_load(m[1])
    return '\n'.join([f"# {meta['title']}", *([f"> {meta['description']}"] if 'description' in meta else [])])

def relinked(
    md:str,    # Markdown whose relative links start at nbs/
    root:Path, # of the repository
) -> str:      # the same with links that start at the root, where README.md stands
    def at_root(m):
        path, anchor = re.fullmatch(r'([^#]*)(.*)', m[2]).groups()
        there = posixpath.normpath(posixpath.join('nbs', path))
        return f'{m[1]}{there}{anchor}' if path and (root/there).exists() else m[0]
    return re.sub(r'(\]\(|src=")([^\s)":]+)', at_root, md)

class Readme:
    "What `nbs/index.ipynb` under `root` makes: `files` by path, README.md and its figures"
    def __init__(self, root:Path=ROOT):
        self.root, self.files, parts = root, {}, []
        cells = json.loads((root/INDEX).read_text(encoding='utf-8'))['cells']
        for i, cell in enumerate(cells):
            src = joined(cell['source']).strip()
            if i == 0 and heading(src): parts.append(heading(src))
            elif cell['cell_type'] == 'markdown': parts.append(relinked(src, root))
            elif cell['cell_type'] == 'code': parts += self.code(src, cell.get('outputs', []))
        text = '\n\n'.join([NOTE, *filter(None, parts)])
        self.files['README.md'] = (text + '\n').encode()

    def code(self, src, outputs):
        "The cell and what it showed, without what its directives hide"
        d = directives(src)
        if 'hide' in d or d.get('include') == 'false': return
        shown = re.sub(r'^#\|.*\n?', '', src, flags=re.M).strip()
        if shown and d.get('echo') != 'false' and 'hide_input' not in d: yield f'```python\n{shown}\n```'
        if d.get('output') != 'false' and 'hide_output' not in d: yield from map(self.output, outputs)

    def output(self, o):
        "The richest form of one output that a README can show; errors and stderr are not for it"
        data = o.get('data', {})
        if o.get('name') == 'stderr' or o['output_type'] == 'error': return ''
        if 'text/markdown' in data: return relinked(joined(data['text/markdown']).strip(), self.root)
        if 'image/svg+xml' in data: return self.figure(joined(data['image/svg+xml']).encode(), 'svg')
        if 'image/png' in data: return self.figure(base64.b64decode(joined(data['image/png'])), 'png')
        text = joined(o.get('text') or data.get('text/plain', '')).rstrip()
        return '\n'.join('    ' + line if line else '' for line in text.split('\n')) if text else ''

    def figure(self, content, kind):
        path = f'{IMAGES}/index-{len(self.files)+1}.{kind}'
        self.files[path] = content
        says = re.search(r'<title>(.*?)</title>', content.decode()) if kind == 'svg' else None
        return f"![{says[1] if says else ''}]({path})"

    def stale(self):
        "Figures of an earlier index, which nothing shows any more"
        return [p for p in sorted((self.root/IMAGES).glob('index-[0-9]*.*')) if f'{IMAGES}/{p.name}' not in self.files]

    def differs(self) -> list:
        "Paths that are not what the notebook makes"
        def now(path): return (self.root/path).read_bytes() if (self.root/path).exists() else None
        return [p for p, content in self.files.items() if now(p) != content] + [p.relative_to(self.root).as_posix() for p in self.stale()]

    def write(self):
        for path in self.stale(): path.unlink()
        for path, content in self.files.items():
            (self.root/path).parent.mkdir(parents=True, exist_ok=True)
            (self.root/path).write_bytes(content)

if __name__ == '__main__':
    made = Readme()
    differs = made.differs()
    if '--check' not in sys.argv: made.write()
    elif differs: sys.exit(f"not what {INDEX} makes: {', '.join(differs)}\nmend it with: make export")
    print(f"README.md: {len(differs)} file(s) written" if differs else f'README.md is what {INDEX} makes')
