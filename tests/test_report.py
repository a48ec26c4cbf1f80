"The report of a run, in a browser: opened from the disk, clicked, typed into, and fed with what it may not run"
import json, os, random, shutil, stat, subprocess, sys
from pathlib import Path
import numpy as np
import pytest
from psi.charts import COLOURS, esc, map_view, verb_noun, verbs_view, waterfall_view
from psi.cluster import Clustering
from psi.config import read_config, to_toml
from psi.core import DataError, Dropped, Instance, Origin, Principle, packaged_seeds, write_records, write_text
from psi.folder import Run
from psi.lm import scripted
from psi.pipeline import run
from psi.report import Report, nearest_before
from script import script

ARGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
RESULTS = Path(__file__).resolve().parent.parent/'results'/'self_instruct_200'
HOSTILE = ['<script>window.ran = 1</script>', '</script><img src=x onerror="window.ran = 1">', ']]> --> <!-- <style>*{display:none}</style>', '\u202eright to left\u2066 and on', 'half \ud800 a character', 'nul \x00 and bell \x07', '😀 עברית', '{{data}} ${window.ran = 1}']


@pytest.fixture(scope='module')
def browser():
    "Chromium, if there is one"
    sync = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    if not (chromium := shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')): pytest.skip('no Chromium on this machine')
    with sync.sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=ARGS)
        yield b
        b.close()


@pytest.fixture
def show(browser):
    "Opens a file; at the end, the page must have asked for nothing and complained of nothing"
    opened, said = [], []
    def go(path, wait='html[data-ready]', **kw):
        page = browser.new_page(**kw)
        page.on('console', lambda m: said.append(m.text)); page.on('pageerror', lambda e: said.append(str(e)))
        page.on('request', lambda r: said.append(f'asked for {r.url}') if r.url != Path(path).as_uri() else None)
        page.goto(Path(path).as_uri())
        if wait: page.wait_for_selector(wait, state='attached', timeout=30_000)
        opened.append(page)
        return page
    yield go
    for page in opened: page.close()
    assert said == []


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that a script made, and its page"
    with scripted(script) as url:
        r = run(read_config(None, ['expand.n=40', 'reflect.T=4', 'generate.n=60', 'M_L.model=script', 'M_g.model=script', 'name=small', f'M_L.base_url={url}', f'M_g.base_url={url}']), runs=tmp_path_factory.mktemp('runs'))
    return r, Report(r).write()


def text(rng, n): return ' '.join(f'w{min(int(rng.paretovariate(.3)), 9000)}' for _ in range(n))

def clustering(low, k):
    "Soft clusters, as `psi.cluster` would write them: every fifth principle is in two"
    m = np.zeros((len(low), k))
    for i in range(len(low)): m[i, i % k] = 1 if i % 5 else .7; m[i, (i + 1) % k] += 0 if i % 5 else .3
    return Clustering(m, tuple(range(k)), xy=np.array([[i % k + .1*(i//k), (3*i) % 7 + .3] for i in range(len(low))]), texts=tuple(p.text for p in low), ids=tuple(p.id for p in low))

def make(folder, n, dropped, change=lambda s: s, k=6, K=(), sets=()):
    "A run's folder in the files' own formats, without any model"
    rng, seeds = random.Random(1), packaged_seeds()[:50]
    initial = [Instance(change(f'Initial {i} {text(rng, 8)}'), '', change(text(rng, 30)), Origin('expand', i//17, i % 17, tuple(x.id for x in rng.sample(seeds, 3)), K)) for i in range(100)]
    low = [Principle(change(f'Insight {t} {j} {text(rng, 15)}'), Origin('reflect', t, j, tuple(x.id for x in initial[10*t:10*t + 10]))) for t in range(10) for j in range(4)]
    c = clustering(low, k)
    high = [Principle(change(f'Principle {j} {text(rng, 40)}'), Origin('summarize', j, 0, tuple(low[i].id for i in c.members(j)))) for j in range(k)]
    shown = [tuple(p.id for p in high) + tuple(x.id for x in rng.sample(seeds, 3)) for _ in range(n//17 + 1)]
    data = [Instance(change(f'Task {i} {text(rng, 11)}'), change(text(rng, 12)) if i % 3 == 0 else '', change(text(rng, rng.choice((3, 20, 60, 120)))), Origin('generate', i//17, i % 17, shown[i//17], K)) for i in range(n)]
    reasons = 'too similar', 'cut off', 'no output', change('blocked word')
    drops = [Dropped(reasons[i % 4], change('because'), Instance(change(f'Candidate {i} {text(rng, 10)}'), '', text(rng, 20)), origin=Origin('generate', i % (n//17 + 1), 17, shown[0]), score=.8 if i % 4 == 0 else None, nearest=data[i % n].id if i % 4 == 0 else '', nearest_text=data[i % n].instruction if i % 4 == 0 else '') for i in range(dropped)]
    write_text(folder/'psi.toml', to_toml(read_config(None, [f'generate.n={n}', *sets])))
    for name, xs in dict(seeds=seeds, initial=initial, principles_low=low, principles=high, instances=data, dropped=drops).items(): (folder/f'{name}.jsonl').write_bytes(''.join(json.dumps(d) + '\n' for d in map(plain, xs)).encode())
    write_text(folder/'clusters.json', json.dumps(c.to_dict()))
    return Run(folder)

def plain(x):
    from psi.core import to_dict
    return to_dict(x)


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    "20,000 instances and 12,000 dropped candidates, and the page"
    r = make(tmp_path_factory.mktemp('large'), 20_000, 12_000)
    return r, Report(r).write()


def test_a_click_on_a_principle_shows_its_sources(whole, show):
    r, path = whole
    page = show(path)
    buttons = page.locator('#clusters button')
    assert buttons.count() == len(r.clusters)
    buttons.nth(len(r.clusters) - 1).click()
    j = len(r.clusters) - 1
    panel, members = page.locator('#panel'), r.clusters.members(j)
    assert buttons.nth(j).get_attribute('aria-pressed') == 'true'
    assert panel.locator('details').count() == len(members)
    one = r.low[members[0]]
    panel.locator('summary').first.click()
    panel.locator('details .links button').first.wait_for()
    said = panel.inner_text()
    for x in (x for x in r.initial if x.id in one.origin.parents): assert x.instruction in said
    seeds = {p for x in r.initial if x.id in one.origin.parents for p in x.origin.parents}
    assert f'{len(seeds)} seeds behind them' in said
    page.locator('text=Show them in the data').click()
    page.wait_for_function("document.querySelector('#data-form').elements.from.value !== ''")
    assert page.locator('#data-count').inner_text().startswith('60 instances')


def test_provenance_runs_both_ways_as_in_the_folder(whole, show):
    r, path = whole
    page, x = show(path), r.instances[7]
    page.locator('#data-list button.open').nth(7).click()
    dialog = page.locator('#record')
    up = r.ancestors(x.id)
    behind = {k: sum(isinstance(y, cls) and (y.origin.stage if y.origin else 'seed') == k for y in up) for k, cls in (('reflect', Principle), ('summarize', Principle), ('expand', Instance), ('seed', Instance))}
    assert f"{behind['summarize']} high-level principle" in (said := dialog.inner_text()) and f"{behind['reflect']} low-level principle" in said
    assert f"{behind['expand']} initial instance" in said and f"{behind['seed']} seed" in said
    seed = next(y for y in up if isinstance(y, Instance) and y.origin is None and y.id in x.origin.parents)
    dialog.locator('.links button', has_text=seed.instruction[:60]).first.click()
    down = [y for y in r.descendants(seed.id) if isinstance(y, Instance) and y.origin and y.origin.stage == 'generate']
    assert dialog.locator('#record-title').inner_text() == f'Seed {seed.id}' and f'{len(down)} instance' in dialog.inner_text()
    page.locator('#back').click()
    assert x.id in dialog.locator('#record-title').inner_text()
    dialog.locator('.links button', has_text=seed.instruction[:60]).first.click()
    dialog.locator('p > button').last.click()    # show them in the data
    page.wait_for_function("!document.querySelector('#record').open && document.querySelector('#data-form').elements.from.value !== ''")
    page.wait_for_timeout(50)
    assert page.locator('#data-list > li').count() == min(50, len(down))


def test_dropped_ones_stand_beside_their_neighbours(whole, show):
    r, path = whole
    page = show(path)
    similar = [d for d in r.dropped if d.reason == 'too similar']
    option = page.locator('#drop-form select[name=reason] option', has_text='too similar')
    page.locator('#drop-form select[name=reason]').select_option(option.get_attribute('value'))
    assert f'{len(similar)} of {len(r.dropped)}' in page.locator('#drop-count').inner_text().replace(',', '')
    first = page.locator('#drop-list li').first.inner_text()
    assert similar[0].instance.instruction in first and similar[0].nearest_text in first and f'{round(100*similar[0].score)}%' in first


def test_20_000_instances_fit_and_are_filtered_at_once(large, show):
    r, path = large
    assert path.stat().st_size < 5_000_000
    page = show(path)
    assert page.locator('#data-count').inner_text().startswith('20,000 instances') and page.locator('#data-list > li').count() == 50
    filtered = '''([field, value]) => { const e = document.querySelector('#data-form').elements[field], start = performance.now(); e.value = value; e.dispatchEvent(new Event('input', {bubbles: true}))
        document.querySelector('#data-list').getBoundingClientRect(); return performance.now() - start }'''
    for field, value in (('q', 'task 77'), ('q', 'nothing like it'), ('q', ''), ('wmin', '100'), ('smax', '60'), ('sort', 'long'), ('from', str(len(r.seeds) + 140))):
        took = min(page.evaluate(filtered, [field, value]) for _ in range(5))    # other work on the machine is not meant
        assert took < 200, f'{field}={value}: {took:.0f} ms'
    page.locator('#data-form button[type=reset]').click()
    page.wait_for_function("document.querySelector('#data-count').textContent.startsWith('20,000 instances')")
    page.locator('#data-form input[name=q]').fill('Task 777 ')
    want = sum('task' in (t := f'{x.instruction}\n{x.input}\n{x.output}\n{x.id}'.lower()) and '777' in t for x in r.instances)
    assert page.locator('#data-count').inner_text().startswith(f'{want:,} of 20,000')
    page.locator('#data-form input[name=q]').fill('')
    page.locator('#data-pages >> text=Last').click()
    assert '19,951 to 20,000' in page.locator('#data-count').inner_text()
    page.locator('#data-form select[name=sort]').select_option('long')
    longest = max(len(f'{x.instruction} {x.input} {x.output}'.split()) for x in r.instances)
    assert f'{longest} words' in page.locator('#data-list li').first.inner_text()


def test_the_keyboard_is_enough(whole, show):
    page = show(whole[1])
    focused = lambda: page.evaluate("(e => e.dataset.i !== undefined ? 'point' : e.id || e.name || e.className || e.tagName)(document.activeElement)")
    def tab_to(what, most=60):
        for _ in range(most):
            page.keyboard.press('Tab')
            if focused() == what: return
        raise AssertionError(f'{what} cannot be reached with Tab; the focus is on {focused()}')
    page.keyboard.press('Tab')
    assert focused() == 'skip'
    tab_to('theme'); page.keyboard.press('Enter')
    assert page.evaluate('document.documentElement.dataset.theme') == 'light'
    tab_to('point')
    page.keyboard.press('ArrowRight')
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused() == 'point' and name.startswith('cluster') and page.evaluate("getComputedStyle(document.activeElement.querySelector('.halo')).display") != 'none'
    assert 'Low-level principle' in page.locator('#panel').inner_text()
    page.keyboard.press('Enter')
    assert focused() == 'panel'
    page.locator('#data-form [name=q]').focus()
    tab_to('open'); page.keyboard.press('Enter')
    assert page.evaluate("document.querySelector('#record').open") and focused() == 'record-title'
    page.keyboard.press('Escape')
    assert not page.evaluate("document.querySelector('#record').open") and focused() == 'open'
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


CONTRAST = '''() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number), light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b }
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] }
  const bad = []
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg, script, noscript, [disabled], .skip') || !e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue
    const a = light(parse(getComputedStyle(e).color)), b = light(ground(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`)
  }
  return bad }'''

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_is_legible_and_fits_a_phone(whole, show, scheme):
    page = show(whole[1], color_scheme=scheme, viewport=dict(width=390, height=844))
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") 
    assert (dark == 'rgb(21, 24, 28)') == (scheme == 'dark')
    assert page.evaluate(CONTRAST) == []
    page.locator('#data-list button.open').first.click()
    assert page.evaluate(CONTRAST) == [] and page.evaluate('document.documentElement.scrollWidth') <= 390


def test_numbers_on_signs_can_be_read():
    light = lambda c: sum(k*((v/255 + .055)/1.055)**2.4 for k, v in zip((.2126, .7152, .0722), bytes.fromhex(c[1:])))
    for c in COLOURS: assert 1.05/(light(c) + .05) >= 4.5, c


def test_a_screen_reader_finds_names(whole, show):
    page = show(whole[1])
    unnamed = '''() => [...document.querySelectorAll('button, input, select, svg[role], table, section, [role=region], [role=group]')].filter(e => e.checkVisibility()).filter(e =>
        !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim() || e.labels?.length || e.caption)).map(e => e.outerHTML.slice(0, 80))'''
    assert page.evaluate(unnamed) == []
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope=col]'))")
    assert page.evaluate("document.querySelector('#data-count').getAttribute('aria-live')") == 'polite'
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_hostile_text_is_text(tmp_path, show):
    k = iter(range(10**9))
    r = make(tmp_path/'<img src=x onerror=alert(1)>', 60, 40, lambda s: f'{s} {HOSTILE[next(k) % len(HOSTILE)]}', sets=['M_g.model="<script>window.ran = 1</script>"', 'M_g.base_url=http://127.0.0.1:9/v1'])
    long = Instance('One line', 'x'*100_000, 'y', Origin('generate', 0, 0, r.instances[0].origin.parents))
    lines = (r.folder/'instances.jsonl').read_text().splitlines()
    write_text(r.folder/'instances.jsonl', '\n'.join([json.dumps(plain(long)), *lines, *(json.dumps(dict(instruction=h, output=h, id=f'"><b>{i}')) for i, h in enumerate(HOSTILE))]) + '\n')
    r = Run(r.folder)
    page = show(Report(r).write())
    assert page.evaluate('window.ran') is None and page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.locator('main img, main script, main style').count() == 0
    page.locator('#data-list button.open').first.click()
    assert 'show all 100,000 characters' in page.locator('#record').inner_text() and len(page.locator('#record').inner_text()) < 20_000
    page.locator('#record .more').first.click()
    assert 'x'*100_000 in page.locator('#record').inner_text() and page.evaluate("document.querySelector('#record').scrollWidth <= document.querySelector('#record').clientWidth")
    page.keyboard.press('Escape')
    said = page.locator('#data-list').inner_text()
    for h in (HOSTILE[0], HOSTILE[1], HOSTILE[2], 'nul ␀ and bell ␇', 'half \ufffd a character', '😀 עברית', '{{data}} ${window.ran = 1}'): assert h in said, h
    assert page.locator('h1').inner_text() == '<img src=x onerror=alert(1)>'
    for i in range(page.locator('#clusters button').count()): page.locator('#clusters button').nth(i).click()
    for i in range(0, 40, 5): page.locator('#drop-list button.open').nth(i).click(); page.keyboard.press('Escape')
    assert page.evaluate('window.ran') is None and page.locator('main img, main script, dialog img').count() == 0
    for view in (*Report(r).views().values(), *Report(r).waterfalls()): assert not any(bad in view._repr_html_() for bad in ('<script', '<img', '\x00', '\ud800'))
    assert '<script' not in Report(r)._repr_html_()


def test_an_unfinished_run_says_what_is_missing(whole, tmp_path, show):
    r, _ = whole
    for files, lacks in (((), 'no low-level principles yet'), (('initial.jsonl', 'dropped.jsonl'), 'no low-level principles yet'), (('initial.jsonl', 'dropped.jsonl', 'principles_low.jsonl'), 'no clusters yet'),
                         (('initial.jsonl', 'dropped.jsonl', 'principles_low.jsonl', 'clusters.json', 'principles.jsonl'), 'data is not made yet')):
        part = tmp_path/f'part{len(files)}'
        part.mkdir()
        for f in ('psi.toml', 'seeds.jsonl', *files): shutil.copy(r.folder/f, part/f)
        page = show(Report(part).write())
        assert lacks in page.locator('.note').first.inner_text()
        assert 'not known' in page.locator('#cost').inner_text().lower() and '? not known' in page.locator('#audit').inner_text()
        assert page.locator('.tiles').inner_text().count('?') >= 3


def test_given_principles_have_a_report(tmp_path, show):
    with scripted(script) as url: r = run(read_config(None, ['name=given', 'generate.n=5', 'generate.principles=zephyr-7b-beta', 'M_g.model=script', f'M_g.base_url={url}']), runs=tmp_path, said=lambda line: None)
    page = show(Report(r).write())
    assert 'The principles were given (zephyr-7b-beta)' in page.locator('.note').first.inner_text()
    assert page.locator('#clusters button').count() == 9
    page.locator('#clusters button').nth(3).click()
    assert '5 instances of the data were written with it' in page.locator('#panel').inner_text()


@pytest.mark.skipif(not RESULTS.exists(), reason='the recorded run is in the repository only')
def test_a_real_run_of_200(tmp_path, show):
    page = show(Report(RESULTS).write(tmp_path/'real.html'))
    r = Run(RESULTS)
    assert page.locator('#data-count').inner_text().startswith('200 instances')
    page.locator('#clusters button').nth(1).click()
    for i in r.clusters.members(1): assert r.low[i].text[:60] in page.locator('#panel').inner_text()
    page.locator('#map .pt').first.hover()
    assert r.low[0].text[:60] in page.locator('#panel').inner_text() and '%' in page.locator('#panel .share').first.inner_text()
    page.locator('h1').hover()
    assert 'Cluster 1' in page.locator('#panel').inner_text()


def test_without_javascript_the_views_are_there(whole, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(whole[1].as_uri())
    said = page.locator('main').inner_text()
    assert 'JavaScript is off' in said and 'candidates' in said and 'median' in said
    assert page.locator('#principles-static .pt').count() == len(whole[0].low) and not page.locator('#data-tool').is_visible()
    context.close()


def test_a_browser_that_cannot_unzip_says_so(whole, browser):
    page = browser.new_page()
    page.add_init_script('delete window.DecompressionStream')
    page.goto(whole[1].as_uri())
    page.wait_for_selector('#trouble:not([hidden])')
    assert 'cannot unpack' in page.locator('#trouble').inner_text() and page.locator('#principles-static').is_visible()
    page.close()


def test_private_knowledge_keeps_the_page_private(tmp_path):
    secret = 'the vault of the house opens at nine with the blue key of the gardener'
    write_text(tmp_path/'k.txt', secret)
    r = make(tmp_path/'run', 30, 5, K=('k12',), sets=[f'knowledge.source={tmp_path/"k.txt"}', 'boundary.trusted=["localhost"]'])
    path = Report(r).write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text()
    assert 'Made with private knowledge: keep this page as private as the run' in page and secret not in page
    data = Report(r).packed()[0]
    import base64, gzip
    D = json.loads(gzip.decompress(base64.b64decode(data)))
    assert secret not in json.dumps(D) and ['k12'] in [q[3] for q in D['requests']]


def test_a_kill_while_writing_leaves_the_old_page(whole, tmp_path):
    out = tmp_path/'page.html'
    out.write_text('the old page')
    code = f"import os\nfrom psi.report import Report\nr = Report({str(whole[0].folder)!r})\nos.replace = lambda *a: os._exit(9)\nr.write({str(out)!r})"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 9
    assert out.read_text() == 'the old page'
    Report(whole[0]).write(out)
    assert out.read_text().startswith('<!doctype html>')


def test_texts_that_are_too_long_are_cut_and_it_is_said(whole):
    report = Report(whole[0])
    full, said = report.packed()
    assert said == ''
    less, said = report.packed(len(full)*2//3)
    assert len(less) < len(full) and 'all of it is in the folder of the run' in said


def test_similarity_is_that_of_all_pairs():
    from psi.diversity import DiversityFilter
    rng = random.Random(3)
    xs = [Instance(' '.join(rng.choices('abcdef', k=rng.randrange(3, 9)))) for _ in range(60)]
    seeds, found = xs[:10], nearest_before(xs[10:], xs[:10], .4)
    pool = DiversityFilter(1, [x.instruction for x in seeds], neighbours=1)
    for x, (f1, at) in zip(xs[10:], found):
        best = pool.admit(x.instruction)
        assert (at == -1 and best.score <= .4) or (f1 == pytest.approx(best.score) and at == best.nearest)


@pytest.mark.parametrize('instruction, verb, noun', [('Write a short poem about the sea', 'write', 'poem'), ('Could you please list three fruits?', 'list', 'fruits'), ('Given the text below, find the main idea.', 'find', 'idea'),
    ('What is a noun?', '', ''), ('', '', ''), ('123', '', ''), ('Summarize', 'summarize', ''), ('Using Python, sort the numbers by size', 'sort', 'numbers'), ('Come up with a name for a cat', 'come', 'name'), ('Explain what a noun is', 'explain', '')])
def test_verbs_and_nouns(instruction, verb, noun): assert verb_noun(instruction) == (verb, noun)


def test_the_command(whole, tmp_path):
    psi = [sys.executable, '-c', 'import sys; from psi.cli import main; sys.argv[0] = "psi"; main()', 'report']
    done = subprocess.run([*psi, str(whole[0].folder), '--out', str(tmp_path/'sub'/'r.html')], capture_output=True, text=True)
    assert done.returncode == 0 and 'r.html' in done.stdout and 'MB' in done.stdout and (tmp_path/'sub'/'r.html').exists()
    done = subprocess.run([*psi, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and 'is not a run of psi' in done.stderr and len(done.stderr.splitlines()) == 1
