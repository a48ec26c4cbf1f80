"""The site, from the notebooks, without Quarto and without the network.

    python tools/docs.py [--root .] [--out _docs]

tools/pages.py makes one notebook's page; what stands here makes them a site, a folder that any web server, or a double click, can show: the
order of the pages (nbs/_quarto.yml), the frame around each, an index to search, formulas by the KaTeX in tools/katex. The notebooks are only read.
Nothing replaces the last site before everything is checked: each link and anchor leads somewhere, and no page asks the network for anything.
"""
import argparse, html, json, multiprocessing, os, posixpath, re, shutil, sys, tempfile, time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit
import yaml
from pages import joined, processed

HERE = Path(__file__).resolve().parent
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
          "base-uri 'none'; form-action 'none'")

class DocsError(Exception): pass

def page_name(path:str) -> str: return posixpath.join(posixpath.dirname(path), re.sub(r'^\d+[a-zA-Z0-9]*_', '', posixpath.basename(path))[:-6] + '.html')

# -- the site

@dataclass
class Page:
    src:str                  # 'tutorials/quickstart.ipynb', from nbs/
    out:str                  # 'tutorials/quickstart.html'
    title:str = ''
    about:str = ''           # the `>` line
    module:str = ''          # 'psi.cluster'
    body:str = ''            # HTML
    env:dict = field(default_factory=dict)
    section:str = ''

class Site:
    "A folder of pages from the notebooks under `root`"
    def __init__(self, root:Path, out:Path):
        from configparser import ConfigParser
        self.root, self.out, self.nbs = root, out, root/'nbs'
        ini = ConfigParser(delimiters=['=']); ini.read(root/'settings.ini', encoding='utf-8')
        self.cfg = ini['DEFAULT']
        self.host = self.cfg['doc_host'].rstrip('/') + '/' + self.cfg['doc_baseurl'].strip('/')
        self.code = f"{self.cfg['git_url']}/blob/{self.cfg['branch']}"
        self.pages, self.files, self.broken, self.soft = {}, {}, [], set()

    def notebooks(self) -> list:
        found = sorted(p.relative_to(self.nbs).as_posix() for p in self.nbs.rglob('*.ipynb'))
        return [f for f in found if not any(q.startswith(('.', '_')) or q == 'runs' for q in f.split('/'))]

    def read(self):
        "Process every notebook, the longest first, as many at a time as there are processors"
        names = sorted(self.notebooks(), key=lambda f: -(self.nbs/f).stat().st_size)
        if 'index.ipynb' not in names: raise DocsError(f'{self.nbs}: no index.ipynb: it is the first page')
        workers = max(1, min(os.cpu_count() or 2, 8, len(names) // 8))
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn')) as pool:
            made = dict(zip(names, pool.map(processed, [str(self.nbs/f) for f in names], [str(self.root)] * len(names))))
        if bad := [nb['error'] for nb in made.values() if 'error' in nb]: raise DocsError('; '.join(bad))
        for name in sorted(made): self.pages[name] = Page(name, page_name(name), **made[name])
        outs = [p.out for p in self.pages.values()]
        if twice := {o for o in outs if outs.count(o) > 1}: raise DocsError(f"{', '.join(sorted(twice))}: two notebooks make this page: rename one")
        for p in self.pages.values(): self.render(p)

    def render(self, page:Page):
        from smalldocs.markdown import render
        page.env = dict(link=lambda href, kind: self.link(page, href), code_copy=False)
        page.body = render(page.body, page.env)
        heads = {h['id'] for h in page.env.get('headings', [])}       # a heading in prose may be called as a function is
        page.body = re.sub(r'<span id="([\w.]+)"></span>', lambda m: '' if m[1] in heads else m[0], page.body)
        def ours(m): return m[0] if m[2].startswith('data:') else m[1] + html.escape(self.link(page, html.unescape(m[2])))
        page.body = re.sub(r'(<(?:img|source)\b[^>]*?\s(?:src|srcset)=["\'])([^"\'\s]+)', ours, page.body)     # pictures by HTML, which smalldocs leaves as they are
        page.body = re.sub(r'(<a\b[^>]*?\shref=["\'])([^"\'\s]+\.ipynb[^"\'\s]*)', ours, page.body)

    def link(self, page:Page, href:str) -> str:
        "Notebooks to their pages, nbdev's absolute links to relative ones, files of the repository to where it is kept, pictures into the site"
        if href.startswith(self.host):
            path, _, anchor = href[len(self.host):].lstrip('/').partition('#')
            here = relative(path or 'index.html', page.out) + (f'#{anchor}' if anchor else '')
            self.soft.add((page.out, here))
            return here
        if not href or href.startswith('#') or re.match(r'[a-zA-Z][\w+.-]*:|//', href): return href
        path, _, anchor = unquote(href).partition('#')
        there = posixpath.normpath(posixpath.join('nbs', posixpath.dirname(page.src), path))
        in_nbs = there[4:] if there.startswith('nbs/') else None
        tail = f'#{anchor}' if anchor else ''
        if in_nbs in self.pages: return relative(self.pages[in_nbs].out, page.out) + tail
        notebook = path[:-5] + '.ipynb'
        instead = f': write {notebook}' if path.endswith('.html') and (in_nbs or '')[:-5] + '.ipynb' in self.pages else ''
        if there.startswith('../') or not (self.root/there).exists(): self.broken.append(f'nbs/{page.src}: a link to {href}, which is not there{instead}'); return '#main'
        if in_nbs and (self.root/there).is_file() and re.search(r'\.(svg|png|jpe?g|gif|webp)$', in_nbs):
            self.files[in_nbs] = self.root/there
            return relative(in_nbs, page.out)
        return f"{self.code.replace('/blob/', '/tree/') if (self.root/there).is_dir() else self.code}/{there}{tail}"

def relative(target:str, page:str) -> str: return posixpath.relpath(target, posixpath.dirname(page) or '.')

def order(site:Site) -> list:
    "Sections and their pages: nbs/_quarto.yml says which, nbs/index.ipynb in which order where that says only `*`. Nothing is left out"
    import fnmatch
    config = yaml.safe_load((site.nbs/'_quarto.yml').read_text(encoding='utf-8'))
    index = json.loads((site.nbs/'index.ipynb').read_text(encoding='utf-8'))
    linked = re.findall(r'\]\(([\w./-]+\.ipynb)', '\n'.join(joined(c['source']) for c in index['cells'] if c['cell_type'] == 'markdown'))
    place = {f: i for i, f in enumerate(linked)}      # where it is linked last: the tables of all pages come after the prose
    left, found = dict.fromkeys(site.pages), []
    contents = config['website']['sidebar']['contents']
    def take(patterns):
        named = [f for p in patterns for f in (sorted(fnmatch.filter(list(left), p), key=lambda f: (place.get(f, len(place)), f)) if '*' in p else [p] if p in left else [])]
        return [f for f in dict.fromkeys(named) if left.pop(f, 0) is None]
    for item in contents:
        if isinstance(item, str): item = dict(section='', contents=[item])
        if 'href' in item: item = dict(section='', contents=[item['href']])
        patterns = [c if isinstance(c, str) else c['href'] for c in ([item['contents']] if isinstance(item['contents'], str) else item['contents'])]
        found.append((item['section'], patterns))
    named = [(title, take([p for p in patterns if '*' not in p]), patterns) for title, patterns in found]
    sections = [(title, first + take([p for p in patterns if '*' in p])) for title, first, patterns in named]
    rooms = max(sections, key=lambda s: sum('/' not in f for f in s[1]))     # a numbered notebook that no section names is one of these
    rooms[1].extend(f for f in take(list(left)) if '/' not in f)
    rooms[1].sort()
    by = {}       # and a folder that none names is a section
    for f in site.pages.keys() - {f for _, files in sections for f in files}: by.setdefault(f.split('/')[0].replace('_', ' ').capitalize(), []).append(f)
    sections += [(title, sorted(files)) for title, files in sorted(by.items())]
    return [(title, [site.pages[f] for f in files]) for title, files in sections if files]

# -- the frame around a page

def inline(text:str) -> str: return re.sub(r'`([^`]+)`', r'<code>\1</code>', html.escape(text, quote=False))
def plain(text:str) -> str: return text.replace('`', '')

def small(p:Page) -> str:
    "The module beneath a title that does not say it"
    name = p.module.split('.', 1)[-1]
    return f'<small>{name}</small>' if name and name != plain(p.title).lower() else ''

def navigation(sections, page:Page) -> str:
    parts = []
    for title, pages in sections:
        items = ''.join(f'''<li><a href="{relative(p.out, page.out)}"{' aria-current="page"' if p is page else ''}>{inline(p.title)}{small(p)}</a></li>'''
                        for p in pages)
        if not title: parts.append(f"<ul>{items.replace(inline(pages[0].title), 'Home', 1) if pages[0].out == 'index.html' else items}</ul>")
        else: parts.append(f'<details class="section"{" open" if page in pages or title != "Rooms beneath" else ""}><summary>{html.escape(title)}</summary><ul>{items}</ul></details>')
    return ''.join(parts)

def contents(page:Page) -> str:
    heads = [h for h in page.env.get('headings', []) if h['level'] in (2, 3)]
    if len(heads) < 2: return ''
    items = ''.join(f'<li class="l{h["level"]}{" api" if "api" in h["classes"] else ""}"><a href="#{html.escape(h["id"])}">{html.escape(h["text"])}</a></li>' for h in heads)
    return f'<nav class="toc" aria-label="On this page"><h2>On this page</h2><ul>{items}</ul></nav>'

def neighbours(sections, page:Page) -> str:
    pages = [p for _, ps in sections for p in ps]
    i = pages.index(page)
    def link(p, rel, word): return f'<a rel="{rel}" class="{rel}" href="{relative(p.out, page.out)}"><small>{word}</small>{inline(p.title)}</a>' if p else '<span></span>'
    before, after = (pages[i-1] if i else None), (pages[i+1] if i + 1 < len(pages) else None)
    return f'<nav class="neighbours" aria-label="Previous and next page">{link(before, "prev", "Before")}{link(after, "next", "Next")}</nav>'

def framed(site:Site, sections, page:Page) -> str:
    up = relative('.', page.out)
    up = '' if up == '.' else up + '/'
    name = site.cfg['title']
    lib, maths = f'{up}site', page.env.get('math') or 'class="math ' in page.body
    katex = f'<link rel="stylesheet" href="{up}katex/katex.min.css"><script defer src="{up}katex/katex.min.js"></script>' if maths else ''
    sources = [f'<a href="{site.code}/nbs/{page.src}">This page is a notebook</a>', *([f'<a href="{site.code}/{page.module.replace(".", "/")}.py"><code>{page.module}</code></a>'] if page.module else [])]
    crumb = f'<p class="crumb">{html.escape(page.section)}</p>' if page.section else ''
    title = plain(page.title) if page.title == name else f'{plain(page.title)} - {name}'
    return f'''<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title><meta name="description" content="{html.escape(plain(page.about))}">
<link rel="icon" href="{lib}/icon.svg"><link rel="stylesheet" href="{lib}/site.css">{katex}
<script src="{lib}/site.js" data-up="{up}"></script></head>
<body><a class="skip" href="#main">Skip to the text</a>
<header class="top"><button class="menu" aria-expanded="false" aria-controls="sections" aria-label="Sections"><span aria-hidden="true">☰</span></button>
<a class="name" href="{up}index.html"><span aria-hidden="true">ψ</span> {html.escape(name)}</a>
<div class="search" role="search"><input type="search" role="combobox" aria-expanded="false" aria-controls="found" aria-autocomplete="list" aria-label="Search this site" placeholder="Search ( / )" autocomplete="off" spellcheck="false">
<ul id="found" role="listbox" aria-label="What was found" hidden></ul><p class="unseen" role="status" aria-live="polite"></p></div>
<a class="repo" href="{html.escape(site.cfg['git_url'])}">Source</a>
<button class="theme" aria-label="Dark theme" aria-pressed="false"><span aria-hidden="true">◐</span></button></header>
<div class="page"><nav class="sections" id="sections" aria-label="Sections">{navigation(sections, page)}</nav>
<main id="main" tabindex="-1"><article>{crumb}<h1>{inline(page.title)}</h1>{f'<p class="about">{inline(page.about)}</p>' if page.about else ''}
<p class="sources">{' · '.join(sources)}</p>
{page.body}</article>{neighbours(sections, page)}</main>{contents(page)}</div>
<footer><p>{html.escape(name)} {html.escape(site.cfg['version'])} · built from the notebooks · Apache-2.0</p></footer></body></html>
'''

def search_index(sections) -> list:
    "[kind, name, where, address, text] of every exported symbol, page and heading; the script finds symbols first"
    rows = []
    for section, pages in sections:
        for p in pages:
            rows.append(['page', plain(p.title), section, p.out, plain(p.about)])
            classes = {h['id']: h['classes'] for h in p.env.get('headings', [])}
            for s in p.env.get('search', []):
                where, text = plain(p.title), re.sub(r'\\[()\[\]]', '', s['text'])
                if 'api' in classes.get(s['id'], ()):
                    rows.append(['symbol', s['id'], p.module or where, f"{p.out}#{s['id']}", re.sub(r'^source of \S+ ', '', text)[:600]])
                else: rows.append(['text', s['title'] or where, where, p.out + (f"#{s['id']}" if s['id'] else ''), text[:4000]])
            rows += [['symbol', n, p.module, f'{p.out}#{n}', ''] for n in re.findall(r'<span id="([\w.]+)"></span>', p.body)]
    return rows

# -- checks

LOADS = dict(script='src', link='href', img='src', iframe='src', source='src', video='src', audio='src', embed='src', object='data', use='href', image='href')

class Refs(HTMLParser):
    "The anchors of a page, the links of a page, and what it loads"
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(re.sub(r'<span class="\w\w">|</span>', '', text)); self.close()      # colours of code: most tags of most pages
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.add(a['id'])
        if tag == 'a' and a.get('href') is not None: self.links.append(a['href'])
        for key in {LOADS.get(tag), 'srcset', 'poster', 'xlink:href'} - {None, 'href' if tag == 'a' else None}:
            if a.get(key) and not (tag == 'a' and key == 'xlink:href'): self.loads += [u.split()[0] for u in (a[key].split(', ') if key == 'srcset' else [a[key].strip() or '#'])]
        if tag == 'style' or 'style' in a: self.loads += re.findall(r'url\(\s*[\'"]?([^)\'"]+)', a.get('style') or '')

def problems(folder:Path) -> list:
    "What is wrong with a built site: a link or an anchor that leads nowhere, a page or a style that asks the network for something"
    pages = {p.relative_to(folder).as_posix(): Refs(p.read_text(encoding='utf-8')) for p in sorted(folder.rglob('*.html'))}
    bad = []
    def outside(url): return bool(re.match(r'(?!data:)[a-zA-Z][\w+.-]*:|//', url.strip()))
    for name, refs in pages.items():
        bad += [f'{name}: asks the network for {u}' for u in refs.loads if outside(u)]
        for url in refs.links + [u for u in refs.loads if not u.startswith(('data:', '#'))]:
            if outside(url): continue
            parts = urlsplit(url)
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name
            if target.startswith('../') or not (folder/target).is_file(): bad.append(f'{name}: a link to {url}, which is not there')
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids: bad.append(f'{name}: a link to {url}: no such anchor on that page')
    for css in sorted(folder.rglob('*.css')):
        text = css.read_text(encoding='utf-8')
        bad += [f'{css.relative_to(folder)}: asks the network for {u}' for u in re.findall(r'(?:@import\s*[\'"]|url\(\s*[\'"]?)([^)\'"]+)', text) if outside(u)]
    return bad

def mended(text:str, page:str, ids:dict, soft:set) -> str:
    "Links that nbdev made of a name, to an anchor that its page lacks, lead to the page"
    def mend(m):
        path, _, anchor = html.unescape(m[1]).partition('#')
        if (page, html.unescape(m[1])) not in soft: return m[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        return m[0] if not anchor or anchor in ids.get(target, ()) else f'href="{html.escape(path)}"'
    return re.sub(r'href="([^"]*)"', mend, text)

def build(
    root:Path,  # of the repository: settings.ini and nbs/ in it
    out:Path,   # the folder of the site. What stood there is replaced, once the new one is whole
) -> int:       # pages
    if not find_spec('smalldocs'): raise DocsError('smalldocs is missing: the site needs Python 3.11 or newer: make PYTHON=python3.12 docs, in a clone without .venv')
    site = Site(root.resolve(), out.resolve())
    if out.exists() and any(out.iterdir()) and not (out/'site/site.css').exists(): raise DocsError(f'{out}: not empty, and not a site that this made: give another folder')
    site.read()
    sections = order(site)
    for title, pages in sections:
        for p in pages: p.section = title
    site.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.out.parent, prefix='.docs-') as tmp:
        new = Path(tmp)/'new'
        shutil.copytree(HERE/'site', new/'site')
        shutil.copytree(HERE/'katex', new/'katex')
        texts = {p.out: framed(site, sections, p) for p in site.pages.values()}
        ids = {name: set(re.findall(r'\sid="([^"]*)"', text)) for name, text in texts.items()}
        for name, text in texts.items():
            (new/name).parent.mkdir(parents=True, exist_ok=True)
            (new/name).write_text(mended(text, name, ids, site.soft), encoding='utf-8')
        for name, src in site.files.items():
            (new/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(src, new/name)
        (new/'site/index.js').write_text('window.searchIndex = ' + json.dumps(search_index(sections), ensure_ascii=True, separators=(',', ':')), encoding='utf-8')
        if bad := [*site.broken, *problems(new)]: raise DocsError('\n'.join(bad))
        if site.out.exists(): site.out.rename(Path(tmp)/'old')
        new.rename(site.out)
    return len(texts)

if __name__ == '__main__':
    ask = argparse.ArgumentParser(description='Build the site from the notebooks, offline')
    ask.add_argument('--root', type=Path, default=HERE.parent, help='the repository')
    ask.add_argument('--out', type=Path, help='where to (_docs in the repository)')
    args, start = ask.parse_args(), time.time()
    out = args.out or args.root/'_docs'
    try: pages = build(args.root, out)
    except DocsError as e: sys.exit(str(e))
    print(f'{pages} pages in {time.time() - start:.0f} s: open {os.path.relpath(out)}/index.html')
