"""A notebook's page, as Markdown for smalldocs: nbdev's own processors run what documents an export (`show_doc`), resolve names
to pages and leave out what is hidden; cells follow one another, code and outputs as finished HTML (outputs through `harmless`).

It runs in processes of its own: IPython, in which nbdev executes `show_doc`, puts its own module in the place of `__main__`.
"""
import ast, html, os, re, sys, warnings
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from harmless import harmless, visible

HERE = Path(__file__).resolve().parent

def joined(s) -> str: return s if isinstance(s, str) else ''.join(s or '')

# -- one notebook, processed (in a process of its own: it executes what it exports)

def opening(nb):
    "nbdev takes the whole first cell for the title and the `>` line. Ours go on with prose: that goes on in a cell of its own"
    from execnb.nbio import mk_cell
    cell = next((c for c in nb.cells if c.cell_type == 'markdown' and re.search(r'^# ', c.source, re.M)), None)
    if cell is None: return nb
    m = re.match(r'(?P<title>\s*# [^\n]*\n*)(?P<quote>(?:>[^\n]*\n?)*)\n*(?P<flags>(?:- \w+: [^\n]*\n?)*)', cell.source)
    if not m: return nb
    quote = ' '.join(re.sub(r'^> ?', '', l) for l in m['quote'].splitlines())
    rest = cell.source[m.end():].strip()
    cell.source = '\n\n'.join(filter(None, [m['title'].strip(), f'> {quote}' if quote else '', m['flags'].strip()]))
    if rest: nb.cells.insert(nb.cells.index(cell) + 1, mk_cell(rest, 'markdown'))
    return nb

def defined(src:str) -> list:
    "What a cell defines, as nbdev's index names it: `Journal.keep` for a method by `@patch`"
    from nbdev.showdoc import showdoc_nm
    try: body = ast.parse(src).body
    except SyntaxError: return []
    return [showdoc_nm(n) for n in body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]

def only_imports(src:str) -> bool:
    try: return all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(src).body)
    except SyntaxError: return False

def fold_exports(cell):
    "nbdev leaves exported code out of its pages. Here the code is the method, so it stays, folded; imports and plumbing go"
    d = cell.directives_ or {}
    if cell.cell_type != 'code' or not d.keys() & {'export', 'exporti', 'hide', 'default_exp'}: return
    if d.keys() & {'hide', 'default_exp'} or only_imports(cell.source): del cell['source']
    else: cell.metadata['exported'] = defined(cell.source)

def processed(
    path:str, # a notebook
    root:str, # of the repository, where settings.ini is
) -> dict:    # its page's `body` (Markdown), `title`, `about`, `module`; or the `error` that was met
    os.environ['IN_TEST'] = '1'
    sys.path[:0] = [root, str(HERE)]
    os.chdir(root)
    from execnb.nbio import nb2dict, read_nb
    from fastcore.xtras import dict2obj
    from nbdev.config import get_config
    from nbdev.process import NBProcessor
    from nbdev.processors import FilterDefaults, exec_show_docs, rm_export
    from apidoc import show_table

    class Documented(exec_show_docs):
        "nbdev executes every exported cell, in IPython, for `show_doc`; the module that they make has been checked to be the same, and is there at once"
        def begin(self):
            module = module_of(path, lib)
            self.names = {**(vars(import_module(module)) if module else {}), 'show_doc': show_table}
        def __call__(self, cell):
            if not is_doc(cell) or cell.get('outputs'): return
            shown = eval(cell.source.strip(), self.names)
            cell.outputs = [dict2obj(dict(output_type='display_data', metadata={}, data={'text/markdown': shown._repr_markdown_().splitlines(True)}))]

    class Pages(FilterDefaults):
        def base_procs(self): return [{exec_show_docs: Documented, rm_export: fold_exports}.get(p, p) for p in super().base_procs()]

    lib, nb = get_config().lib_name, opening(read_nb(path))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: Pages()(nb)
        except Exception as e: return dict(error=f"{Path(path).relative_to(root)}: {' '.join(repr(e.__cause__ or e).split())[:300]}")
    nb, meta = nb2dict(nb), dict(getattr(nb, 'frontmatter_', {}))
    if not meta.get('title'): return dict(error=f'{Path(path).relative_to(root)}: its first cell has no title; begin it with "# TITLE" and a line "> what it is about"')
    return dict(body=body_of(nb), title=str(meta['title']), about=str(meta.get('description') or ''), module=module_of(path, lib))

def module_of(path:str, lib:str) -> str:
    found = re.search(r'"#\|\s*default_exp\s+([\w.]+)', Path(path).read_text(encoding='utf-8'))
    return f'{lib}.{found[1]}' if found else ''

# -- a page's Markdown: cells one after the other, code and outputs as finished HTML

def raw(markup:str) -> str:
    from smalldocs.notebook import raw_html
    return '\n\n' + raw_html(markup) + '\n\n'

def code_html(code:str, lang:str='python') -> str:
    from smalldocs import highlight as smalldocs
    if not hasattr(smalldocs.css_class, 'cache_info'): smalldocs.css_class = lru_cache(None)(smalldocs.css_class)   # half of the time went there
    highlight = smalldocs.highlight
    return f'<div class="code"><pre tabindex="0"><code class="{lang}">{highlight(visible(code.rstrip()), lang)}</code></pre></div>'

def markdown_output(text:str) -> str:
    "Markdown that code wrote: no Quarto extras in it, and its HTML is as harmless as any output's"
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    md = MarkdownIt('commonmark', {'html': True}).enable(['table', 'strikethrough']).use(dollarmath_plugin, double_inline=True, allow_digits=False,
        renderer=lambda c, o: html.escape(f'\\[{c}\\]' if o.get('display_mode') else f'\\({c}\\)'))
    return re.sub(r'<(/?)h(\d)>', lambda m: f'<{m[1]}h{min(6, int(m[2]) + 2)}>', harmless(md.render(visible(text))))      # a page has one title, its own

def output_html(
    out:dict, # an output of a cell
    alt:str,  # what its picture shows, for those who do not see it
) -> str:
    data = {k: joined(v) for k, v in out.get('data', {}).items() if 'json' not in k}
    if out.get('name') == 'stderr': return ''
    if 'text/html' in data: return f"<div class='output rich'>{harmless(data['text/html'], styles=True)}</div>"
    if 'image/svg+xml' in data: return f"<div class='output figure'>{harmless(re.sub(r'^.*?(?=<svg)', '', data['image/svg+xml'], flags=re.S), styles=True)}</div>"
    for kind in ('image/png', 'image/jpeg', 'image/gif'):
        if kind in data: return f"<div class='output figure'><img class='plot' alt='{html.escape(alt)}' src='data:{kind};base64,{re.sub(r'[^A-Za-z0-9+/=]', '', data[kind])}'></div>"
    if 'text/markdown' in data: return f"<div class='output rich'>{markdown_output(data['text/markdown'])}</div>"
    if out.get('output_type') == 'error': text = '\n'.join(out.get('traceback') or [f"{out.get('ename')}: {out.get('evalue')}"])
    else: text = joined(out.get('text')) or data.get('text/plain', '')
    text = re.sub(r'\x1b\[[0-9;]*[A-Za-z]', '', text).rstrip()
    return f"<div class='output text'><pre tabindex='0'>{html.escape(visible(text), quote=False)}</pre></div>" if text else ''

def folded(names:list, code:str, exists:set) -> str:
    "Exported source, behind a summary. Names without a heading of their own get their anchor here: links to them lead somewhere"
    anchors = ''.join(f'<span id="{html.escape(n)}"></span>' for n in names if n not in exists)
    what = ', '.join(f'<code>{html.escape(n)}</code>' for n in names[:4]) + (' and more' if len(names) > 4 else '')
    return f'{anchors}<details class="source"><summary>Source{" of " if what else ""}{what}</summary>{code_html(code)}</details>'

def told_apart(md:str, names:set) -> str:
    "A heading in prose may be called as a function is: then the anchor is the function's"
    from smalldocs.markdown import pandoc_id
    def apart(m): return f'{m[0]} {{#about-{name}}}' if (name := pandoc_id(m[1].replace('`', ''))) in names else m[0]
    return ''.join(part if i % 2 else re.sub(r'^#{2,4} +(.*[^\s}]) *$', apart, part, flags=re.M) for i, part in enumerate(re.split(r'(^```.*?^```)', md, flags=re.M | re.S)))

def is_doc(cell) -> bool: return cell['cell_type'] == 'code' and bool(re.search(r'^show_doc\(', joined(cell['source']), re.M))

def body_of(nb:dict) -> str:
    "The Markdown of a processed notebook. The API's table stands before the source that it is of"
    from smalldocs.notebook import cell_options
    cells, parts = [c for c in nb['cells'] if c['cell_type'] != 'raw'], []
    exists = {n for c in cells if is_doc(c) for n in re.findall(r'^show_doc\(([\w.]+)', joined(c['source']), re.M)}
    def waits(i): return 'exported' in (cells[i]['metadata'] or {}) and i + 1 < len(cells) and is_doc(cells[i+1])
    for i in range(len(cells)):
        if waits(i):
            j = i + 1
            while j < len(cells) and is_doc(cells[j]): j += 1
            cells[i:j] = cells[i+1:j] + [cells[i]]
    for n, cell in enumerate(cells):
        opts, code = cell_options(joined(cell['source']))
        if cell['cell_type'] == 'markdown':
            src = joined(cell['source'])
            if src.startswith('<!-- WARNING'): continue
            for name, bundle in (cell.get('attachments') or {}).items():
                mime, data = next(iter(bundle.items()))
                src = src.replace(f'attachment:{name}', f'data:{mime};base64,{joined(data).strip()}')
            parts.append(told_apart(visible(src), exists))
        elif is_doc(cell): parts += [joined(o.get('data', {}).get('text/markdown')) for o in cell.get('outputs') or []]
        elif opts.get('include') is False or not code.strip(): continue
        else:
            alt = opts.get('fig-alt') or opts.get('fig-cap') or 'Figure drawn by the code above'
            lang = (re.match(r'%%(bash|sh|html|javascript)\b', code) or [0, 'python'])[1]
            pieces = []
            if 'exported' in (cell['metadata'] or {}): pieces.append(folded(cell['metadata']['exported'], code, exists))
            elif opts.get('echo', True) is not False:
                shown = code_html(code, lang)
                fold = str(opts.get('code-fold', False)).lower()
                if fold in ('true', 'show'): shown = f"<details class='source'{' open' if fold == 'show' else ''}><summary>{html.escape(str(opts.get('code-summary', 'Code')))}</summary>{shown}</details>"
                pieces.append(shown)
            if opts.get('output', True) is not False: pieces += [output_html(o, str(alt)) for o in cell.get('outputs') or []]
            if opts.get('fig-cap'): pieces.append(f"<p class='caption'>{html.escape(str(opts['fig-cap']))}</p>")
            if any(pieces): parts.append(raw(f"<div class='cell'>{''.join(pieces)}</div>"))
    return '\n\n'.join(parts)
