"The site that `make docs` builds: served, opened and clicked in a browser; and what its builder refuses"
import http.server, json, re, resource, shutil, subprocess, sys, threading
from functools import partial
from pathlib import Path
import pytest
from conftest import ROOT

pytest.importorskip('smalldocs', reason='the site needs smalldocs (Python 3.11 or newer)')
HOSTILE = '<script>window.ran = 1</script><img src=x onerror="window.ran = 2"> ]]> </pre></div></details> \u202egnp.exe 🦆 \x00 $x$ {=html} ::: ```'
LONG = 'x' * 100_000

def cell(kind, source, outputs=None, **more):
    code = dict(execution_count=None, outputs=outputs or []) if kind == 'code' else {}
    return dict(cell_type=kind, id=f'c{abs(hash(source)) % 10**9}', metadata={}, source=source, **code, **more)

def shown(**data): return dict(output_type='display_data', metadata={}, data=data)
def notebook(*cells): return json.dumps(dict(cells=list(cells), metadata=dict(kernelspec=dict(name='python3', language='python', display_name='python3')), nbformat=4, nbformat_minor=5))

def small(root:Path, *cells, index=()):
    "A repository of two notebooks, to see what the builder does with them"
    (root/'nbs').mkdir(parents=True)
    for f in ('settings.ini', 'nbs/_quarto.yml'): shutil.copy(ROOT/f, root/f)
    (root/'nbs/index.ipynb').write_text(notebook(cell('markdown', '# psi\n\n> Small.\n\nWords.'), *index))
    (root/'nbs/00_page.ipynb').write_text(notebook(cell('markdown', '# A page\n\n> With cells.\n\nIts opening sentence.'), *cells))
    return root

def build(root:Path, out:Path): return subprocess.run([sys.executable, ROOT/'tools/docs.py', '--root', root, '--out', out], capture_output=True, text=True)

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The real site, and the seconds of processor time that it took"
    out, before = tmp_path_factory.mktemp('docs')/'_docs', resource.getrusage(resource.RUSAGE_CHILDREN)
    made = build(ROOT, out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert made.returncode == 0, made.stdout + made.stderr
    return out, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, made.stdout

@pytest.fixture(scope='module')
def served(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(site[0])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()

@pytest.fixture
def tab(browser):
    "Opens pages; remembers what they asked for and complained of"
    contexts = []
    def open_tab(**how):
        contexts.append(browser.new_context(**how))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.asked, page.said = [], []
        page.on('request', lambda r: page.asked.append(r.url))
        page.on('console', lambda m: page.said.append(m.text) if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda e: page.said.append(str(e)))
        return page
    yield open_tab
    for c in contexts: c.close()

def names(out): return sorted(p.relative_to(out).as_posix() for p in out.rglob('*.html'))

def test_every_notebook_is_a_page_and_the_build_fits_in_twenty_seconds(site):
    out, seconds, said = site
    notebooks = [p for p in (ROOT/'nbs').rglob('*.ipynb') if not any(q.startswith('.') or q == 'runs' for q in p.relative_to(ROOT).parts)]
    assert len(names(out)) == len(notebooks) and said.startswith(f'{len(notebooks)} pages in ')
    assert seconds < 40, 'twenty seconds of two processors'

def test_building_leaves_the_notebooks_and_the_package_alone(tmp_path):
    root = small(tmp_path/'r', cell('code', '1+1', [shown(**{'text/plain': '2'})]))
    before = {p: p.read_bytes() for p in root.rglob('*') if p.is_file()}
    assert build(root, tmp_path/'out').returncode == 0
    assert build(root, tmp_path/'out').returncode == 0, 'a second time over the first'
    assert before == {p: p.read_bytes() for p in root.rglob('*') if p.is_file()}
    assert [p.name for p in tmp_path.iterdir() if p.name not in ('r', 'out')] == []

def test_search_finds_a_symbol_first_and_goes_there_by_keyboard(served, tab):
    page = tab()
    page.goto(served + 'index.html')
    page.keyboard.press('/')
    page.keyboard.type('soft_cluster')
    first = page.locator('#found [role=option]').first
    first.wait_for()
    assert first.locator('b').inner_text() == 'soft_cluster' and 'psi.cluster' in first.inner_text()
    page.keyboard.press('ArrowDown'); page.keyboard.press('ArrowUp')
    assert first.get_attribute('aria-selected') == 'true'
    page.keyboard.press('Enter')
    page.wait_for_url('**/cluster.html#soft_cluster')
    assert page.locator('#soft_cluster h3').is_visible() and page.locator('#soft_cluster table').first.locator('th').all_inner_texts() == ['name', 'type', 'default', 'details']
    assert page.locator('#soft_cluster .source-link').get_attribute('href').endswith(tuple(f'#L{n}' for n in range(1, 2000)))

def test_search_knows_prose_and_says_when_there_is_nothing(served, tab):
    page = tab()
    page.goto(served + 'cli.html')
    box = page.get_by_role('combobox')
    box.fill('<b>zzqqx')
    page.get_by_text('Nothing was found').wait_for()
    box.fill('gaussian mixture')
    page.locator('#found [role=option] mark').first.wait_for()
    assert any('cluster.html' in li.get_attribute('data-url') for li in page.locator('#found [role=option]').all())
    box.press('Escape')
    assert page.locator('#found').is_hidden()

CHECK_PAGE = '''() => ({wide: document.documentElement.scrollWidth - innerWidth, h1: document.querySelectorAll('h1').length,
  lands: ['header', 'nav', 'main', 'footer'].every(t => document.querySelector(t)), lang: document.documentElement.lang,
  raw: [...document.querySelectorAll('.math')].filter(e => !e.querySelector('.katex') || e.querySelector('.katex-error')).map(e => e.textContent),
  alone: [...document.querySelectorAll('main img')].filter(e => !e.alt || !e.complete || !e.naturalWidth).map(e => e.src.slice(0, 80)),
  nameless: [...document.querySelectorAll('button, input')].filter(e => !e.ariaLabel && !e.textContent.trim()).length,
  twice: [...document.querySelectorAll('section[id], span[id]')].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i),
  maths: document.querySelectorAll('.katex').length})'''

def test_every_page_on_a_phone_draws_its_formulas_complains_of_nothing_and_asks_nobody(site, served, tab):
    page, formulas = tab(viewport=dict(width=390, height=844)), 0
    for name in names(site[0]):
        page.goto(served + name)
        found = page.evaluate(CHECK_PAGE)
        formulas += found.pop('maths')
        assert found == dict(wide=0, h1=1, lands=True, lang='en', raw=[], alone=[], nameless=0, twice=[]), name
    assert formulas > 50
    assert page.said == []
    assert [u for u in page.asked if not u.startswith((served, 'data:'))] == []

CONTRAST = '''() => {
  const rgb = s => { const m = s.match(/[\\d.]+/g).map(Number); return { c: m.slice(0, 3), a: m[3] ?? 1 } }
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b }
  const ground = e => { for (; e; e = e.parentElement) { const b = rgb(getComputedStyle(e).backgroundColor); if (b.a === 1) return b.c } return null }
  const poor = []
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.katex-mathml, svg, script') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.offsetParent) continue
    const bg = ground(e), fg = rgb(getComputedStyle(e).color).c
    const [a, b] = [light(fg), light(bg)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05)
    if (ratio < 4.5) poor.push(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2) + ' ' + e.textContent.slice(0, 30))
  }
  return { poor: [...new Set(poor)], ground: light(ground(document.querySelector('main'))) }
}'''

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_both_themes_are_legible(served, tab, scheme):
    page = tab(color_scheme=scheme)
    for name in ('index.html', 'cluster.html', 'config.html', 'tutorials/real_run.html'):
        page.goto(served + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = page.evaluate(CONTRAST)
        assert found['poor'] == [], name
        assert (found['ground'] < .2) == (scheme == 'dark')

def test_the_theme_that_was_chosen_is_remembered(served, tab):
    page = tab(color_scheme='light')
    page.goto(served + 'index.html')
    button = page.get_by_role('button', name='Dark theme')
    assert button.get_attribute('aria-pressed') == 'false'
    button.click()
    page.goto(served + 'cluster.html')
    assert page.evaluate(CONTRAST)['ground'] < .2 and button.get_attribute('aria-pressed') == 'true'

def test_the_menu_of_a_phone_by_keyboard(served, tab):
    page = tab(viewport=dict(width=390, height=844))
    page.goto(served + 'reflect.html')
    nav, button = page.get_by_role('navigation', name='Sections'), page.get_by_role('button', name='Sections')
    assert nav.is_hidden()
    button.press('Enter')
    assert nav.is_visible() and button.get_attribute('aria-expanded') == 'true' and page.evaluate("document.activeElement.closest('nav') !== null")
    page.keyboard.press('Escape')
    assert nav.is_hidden()

def test_pages_open_from_the_disk(site, tab):
    page = tab()
    page.goto((site[0]/'index.html').as_uri())
    page.get_by_role('combobox').fill('soft_cluster')
    page.locator('#found [role=option]').first.click()
    page.wait_for_url('**/cluster.html#soft_cluster')
    assert page.said == [] and all(u.startswith('file:') for u in page.asked if not u.startswith('data:'))

def test_sections_and_the_order_of_reading(site):
    home = (site[0]/'index.html').read_text()
    assert re.findall(r'<summary>([^<]+)</summary><ul>', home)[:7] == ['Method', 'Tutorials', 'Explanations', 'Command line', 'Baselines', 'Experiments', 'Rooms beneath']
    stages = [home.index(f'href="{s}.html"') for s in 'expand reflect cluster summarize generate train evaluate carbon'.split()]
    assert stages == sorted(stages)
    assert 'rel="next"' in home and 'rel="prev"' not in home

def test_hostile_outputs_are_text_and_run_nothing(tmp_path, tab):
    md, stream = [f'**{HOSTILE}**', f'| a |\n|---|\n| {HOSTILE} |', HOSTILE], dict(output_type='stream', name='stdout', text=HOSTILE + '\n' + LONG)
    outputs = [shown(**{'text/plain': HOSTILE}), stream, shown(**{'text/html': f'<div><b>kept</b>{HOSTILE}</div><iframe srcdoc="<script>parent.ran=3</script>"></iframe>'}),
        shown(**{'image/svg+xml': '<svg viewBox="0 0 9 9" onload="window.ran=4"><script>window.ran=5</script><text>drawn</text></svg>'}), *(shown(**{'text/markdown': t}) for t in md)]
    root = small(tmp_path/'r', cell('code', f'text = {HOSTILE!r}', outputs), cell('markdown', '## After\n\nStill here, $a_b$.\n\n<details><summary>Answer</summary>\n\nIt is $x^2$:\n\n```python\nx**2\n```\n\n</details>'))
    made = build(root, tmp_path/'out')
    assert made.returncode == 0, made.stderr
    page = tab(viewport=dict(width=390, height=844))
    page.goto((tmp_path/'out/page.html').as_uri())
    page.wait_for_timeout(300)
    assert page.evaluate('window.ran') is None and page.said == []
    text = page.locator('article').text_content()
    assert text.count('<script>window.ran = 1</script>') >= 7 and text.count('\u202egnp.exe 🦆 \u2400') >= 6 and text.count('onerror=') >= 7 and LONG in text
    assert page.locator('article script, article iframe, article [onerror], article [onload]').count() == 0
    assert page.locator('article b', has_text='kept').count() == 1 and page.locator('section#after', has_text='Still here').count() == 1, 'nothing of it swallowed what follows'
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') == 0
    page.get_by_text('Answer').click()
    assert page.locator('details[open] .katex').is_visible() and page.locator('details[open] pre').inner_text().strip().startswith('x**2')

def test_hidden_cells_stay_hidden_and_the_opening_sentence_stays(tmp_path):
    root = small(tmp_path/'r', cell('code', '#| hide\nsecret_one = 1', [shown(**{'text/plain': 'secret two'})]), cell('code', '#| echo: false\nsecret_three = 1', [shown(**{'text/plain': 'an output'})]),
        cell('code', '#| eval: false\nnever_run()'))
    assert build(root, tmp_path/'out').returncode == 0
    text = (tmp_path/'out/page.html').read_text()
    assert 'secret' not in text and 'an output' in text and 'Its opening sentence.' in text and 'never_run' in text and '#|' not in text

def test_a_page_without_a_title_is_refused(tmp_path):
    root = small(tmp_path/'r')
    (root/'nbs/01_bare.ipynb').write_text(notebook(cell('markdown', 'In: this. Out: that.'), cell('code', '1 + 1')))
    made = build(root, tmp_path/'out')
    assert made.returncode == 1 and made.stderr.strip().startswith('nbs/01_bare.ipynb: its first cell has no title') and not (tmp_path/'out').exists()

def test_what_leads_nowhere_or_outside_is_refused_with_a_line_each(tmp_path):
    wrong = {'[gone](nowhere.ipynb)': 'nbs/00_page.ipynb: a link to nowhere.ipynb, which is not there',
        '[gone](index.ipynb#nowhere)': 'page.html: a link to index.html#nowhere: no such anchor on that page',
        '<script src="https://cdn.example/x.js"></script>': 'page.html: asks the network for https://cdn.example/x.js',
        '![picture](https://cdn.example/x.png)': 'page.html: asks the network for https://cdn.example/x.png',
        '<link rel="stylesheet" href="//cdn.example/x.css">': 'page.html: asks the network for //cdn.example/x.css'}
    root = small(tmp_path/'r', *(cell('markdown', source) for source in wrong), cell('markdown', '[out](https://example.org/) is a link, which is fine'))
    (tmp_path/'out/site').mkdir(parents=True); (tmp_path/'out/site/site.css').write_text('the last site')
    made = build(root, tmp_path/'out')
    lines = made.stderr.strip().splitlines()
    assert made.returncode == 1 and sorted(lines) == sorted(wrong.values())
    assert (tmp_path/'out/site/site.css').read_text() == 'the last site', 'the last site stays until a better one is whole'

def test_a_folder_that_is_not_a_site_is_left_alone(tmp_path):
    (tmp_path/'mine').mkdir(); (tmp_path/'mine/thesis.txt').write_text('years')
    made = build(small(tmp_path/'r'), tmp_path/'mine')
    assert made.returncode == 1 and 'not a site that this made' in made.stderr and (tmp_path/'mine/thesis.txt').exists()
