"The report of a run, in a browser: opened from the disk, clicked, typed into, and fed with what it may not run"
import base64, gzip, json, os, random, shutil, stat, subprocess, sys
from pathlib import Path
import numpy as np
import pytest
from psi.charts import COLOURS, esc, lengths_view, map_view, principles_view, verb_noun, verbs_view, waterfall_view
from psi.cluster import Clustering
from psi.config import read_config, to_toml
from psi.core import ConfigError, DataError, Dropped, Instance, Origin, Principle, packaged_seeds, write_records, write_text
from psi.folder import Run
from psi.lm import scripted
from psi.pipeline import run
from psi.report import Report, nearest_before
from script import script

RESULTS = Path(__file__).resolve().parent.parent/'results'/'self_instruct_200'
HOSTILE = ['<script>window.ran = 1</script>', '</script><img src=x onerror="window.ran = 1">', ']]> --> <!-- <style>*{display:none}</style>', '\u202eright to left\u2066 and on', 'half \ud800 a character', 'nul \x00 and bell \x07', '😀 עברית', '{{data}} ${window.ran = 1}']


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
    rests = lambda s: [y for y in r.descendants(s) if isinstance(y, Instance) and y.origin and y.origin.stage == 'generate']
    shows = lambda s: [y for y in r.instances if s in y.origin.parents]
    at, seed = next((i, s) for i, x in enumerate(r.instances[:50]) for s in r.seeds if s.id in x.origin.parents and len(shows(s.id)) < len(rests(s.id)))   # one that the principles go back to, too
    page, x = show(path), r.instances[at]
    page.locator('#data-list button.open').nth(at).click()
    dialog = page.locator('#record')
    up = r.ancestors(x.id)
    behind = {k: sum(isinstance(y, cls) and (y.origin.stage if y.origin else 'seed') == k for y in up) for k, cls in (('reflect', Principle), ('summarize', Principle), ('expand', Instance), ('seed', Instance))}
    assert f"{behind['summarize']} high-level principle" in (said := dialog.inner_text()) and f"{behind['reflect']} low-level principle" in said
    assert f"{behind['expand']} initial instance" in said and f"{behind['seed']} seed" in said
    dialog.locator('.links button', has_text=seed.instruction[:60]).first.click()
    down, shown = rests(seed.id), shows(seed.id)
    assert dialog.locator('#record-title').inner_text() == f'Seed {seed.id}' and f'{len(down)} instance' in dialog.inner_text()
    page.locator('#back').click()
    assert x.id in dialog.locator('#record-title').inner_text()
    dialog.locator('.links button', has_text=seed.instruction[:60]).first.click()
    dialog.locator('button', has_text=f'Show the {len(shown)} whose request showed it in the data').click()
    page.wait_for_function("!document.querySelector('#record').open && document.querySelector('#data-form').elements.from.value !== ''")
    page.wait_for_timeout(50)
    assert page.locator('#data-count').inner_text().startswith(f'{len(shown)} of {len(r.instances)}') and page.locator('#data-list > li').count() == min(50, len(shown))
    assert 'finds every instance; a filter by a seed, from its record, finds those whose request showed it' in page.locator('#data-t').inner_text()


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


NAMED = 'button link searchbox spinbutton combobox textbox table form region image navigation'.split()   # roles that need a name

def unnamed(page):
    "What the browser tells a screen reader of with a role alone"
    nodes = page.context.new_cdp_session(page).send('Accessibility.getFullAXTree')['nodes']
    return [n['role']['value'] for n in nodes if not n['ignored'] and n['role']['value'] in NAMED and not n.get('name', {}).get('value', '').strip()]

def test_a_screen_reader_finds_names(whole, show):
    page, tool = show(whole[1]), lambda i: page.locator(f'#{i}')
    for form, role, name in [('data-form', 'searchbox', 'Search'), ('data-form', 'combobox', 'Made from'), ('data-form', 'combobox', 'Sort'), ('data-form', 'spinbutton', 'Words, at least'), ('data-form', 'spinbutton', 'Words, at most'), ('data-form', 'spinbutton', 'Similarity, at least, percent'),
        ('data-form', 'spinbutton', 'Similarity, at most, percent'), ('data-form', 'button', 'Clear'), ('drop-form', 'searchbox', 'Search'), ('drop-form', 'combobox', 'Reason'), ('drop-form', 'combobox', 'Stage')]:
        assert tool(form).get_by_role(role, name=name, exact=True).count() == 1, f'{role} {name}'
    for role, name in [('form', 'Filter the data'), ('form', 'Filter the dropped candidates'), ('group', 'High-level principles'), ('region', 'Details of the chosen principle'), ('navigation', 'Sections'), ('group', 'Words'), ('group', 'Similarity to the nearest, %'), ('group', 'Pages of the data'), ('group', map_view(whole[0].clusters).says)]:
        assert page.get_by_role(role, name=name, exact=True).count() == 1, f'{role} {name}'
    assert unnamed(page) == []
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope=col]'))")
    assert page.evaluate("[...document.querySelectorAll('section')].every(s => s.getAttribute('aria-label') || document.getElementById(s.getAttribute('aria-labelledby'))?.textContent.trim())")
    assert page.evaluate("document.querySelector('#data-count').getAttribute('aria-live')") == 'polite'
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("() => { for (const s of document.querySelectorAll('select')) s.parentNode.replaceWith(s) }")
    assert unnamed(page) == ['combobox']*4    # names that are taken away are missed


def test_a_screen_reader_hears_what_was_chosen(whole, show):
    page = show(whole[1])
    said, button, points = page.get_by_role('status').and_(page.locator('#panel-said')), page.locator('#clusters button').nth(1), page.locator('#map .pt')
    assert said.inner_text() == '' and button.get_attribute('aria-controls') == points.first.get_attribute('aria-controls') == 'panel'
    button.press('Enter')
    assert said.inner_text() == 'The details show: Cluster 1' and button.get_attribute('aria-pressed') == 'true'
    points.nth(2).press('Enter')
    assert said.inner_text() == f'The details show: Low-level principle {whole[0].low[2].id}'
    assert [p.get_attribute('aria-pressed') for p in points.all()] == ['true' if i == 2 else 'false' for i in range(points.count())] and button.get_attribute('aria-pressed') == 'false'
    button.click()
    assert points.nth(2).get_attribute('aria-pressed') == 'false'


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
    assert page.evaluate("document.activeElement.className") == 'text'    # the button is gone; its place is not
    assert 'x'*100_000 in page.locator('#record').inner_text() and page.evaluate("document.querySelector('#record').scrollWidth <= document.querySelector('#record').clientWidth")
    page.keyboard.press('Escape')
    said = page.locator('#data-list').inner_text()
    for h in (HOSTILE[0], HOSTILE[1], HOSTILE[2], 'nul ␀ and bell ␇', 'half \ufffd a character', '😀 עברית', '{{data}} ${window.ran = 1}'): assert h in said, h
    assert page.locator('h1').inner_text() == '<img src=x onerror=alert(1)>'
    for i in range(page.locator('#clusters button').count()): page.locator('#clusters button').nth(i).click()
    for i in range(0, 40, 5): page.locator('#drop-list button.open').nth(i).click(); page.keyboard.press('Escape')
    marks = page.locator('#drop-list .m > bdi')
    assert marks.count() == 40 and any('\u202e' in t for t in marks.all_text_contents())    # what turns the direction turns it in its place alone
    page.locator('#drop-list button.open').first.click()
    assert page.locator('#record .tag + bdi').inner_text().startswith('because')
    page.keyboard.press('Escape')
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


def records(report): return json.loads(gzip.decompress(base64.b64decode(report.packed()[0])))

def test_private_knowledge_keeps_the_page_private(tmp_path, show):
    secret = 'the vault of the house opens at nine with the blue key of the gardener'
    write_text(tmp_path/'k.txt', secret)
    r = make(tmp_path/'run', 30, 5, K=('k12',), sets=[f'knowledge.source={tmp_path/"k.txt"}', 'boundary.trusted=["localhost"]'])
    path = Report(r).write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text()
    assert 'Made with private knowledge: keep this page as private as the run' in page and secret not in page
    D = records(Report(r))
    assert secret not in json.dumps(D) and ['k12'] in [q[3] for q in D['requests']]
    # dropped for it: the reason and the place stay, the text does not
    drops = [Dropped('may not leave', '13 words in a row of private knowledge', Instance(f'Tell me about {secret}'), secret, r.instances[0].origin, nearest_text=secret)]
    write_records(r.folder/'dropped.jsonl', drops)
    D = records(report := Report(Run(r.folder)))
    assert secret not in json.dumps(D) and D['reasons'] == ['may not leave'] and D['detail'] == ['13 words in a row of private knowledge; its text is left out here'] and D['requests'][D['q'][-1]][0] == 'generate'
    # where it surfaces in the data, it is there, and no sentence denies it
    write_records(r.folder/'instances.jsonl', [Instance('When does the vault open?', '', secret, r.instances[0].origin), *r.instances[1:]])
    page = show(Report(Run(r.folder)).write())
    page.locator('#data-list button.open').first.click()
    said = page.locator('#record').inner_text()
    assert secret in said and 'their own text is not repeated here; what was made from them may be' in said.lower() and 'not in this page' not in said.lower()


@pytest.mark.parametrize('set', ['boundary.terms=names.txt', 'boundary.patterns=["ACME-[0-9]+"]'])
def test_words_that_may_not_leave_keep_the_page_private(tmp_path, set):
    report = Report(make(tmp_path/'run', 30, 5, sets=[set]))
    path = report.write()
    page = path.read_text()
    assert report.private and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert 'has words or patterns that may not leave: keep this page as private as the run' in page and 'none, but words that may not leave' in page
    assert 'ACME' not in page and 'names.txt' not in page


@pytest.mark.parametrize('set', ['M_g.base_url="http://u:S3CR@T3@h/v1"', 'M_g.base_url="http://u:p/S3CR@h/v1"', 'M_g.base_url="http://h/v1?api_key=S3CR"', 'M_g.sampling={extra_headers={Authorization="Bearer S3CR"}}', 'M_L.api_key_env=S3CR_KEY'])
def test_the_settings_on_the_page_hold_no_secret(tmp_path, set):
    r = make(tmp_path/'run', 30, 5, sets=['M_g.model=a-model', set])
    page = Report(r).html()
    assert 'S3CR' in (r.folder/'psi.toml').read_text() and 'S3CR' not in page and '[M_g]' in page and 'a-model' in page
    assert 'without what tells of private things, or of one machine alone' in page


@pytest.mark.parametrize('name', ['instances.jsonl', 'psi.toml', 'report', 'html'])
def test_a_report_takes_the_place_of_no_data(tmp_path, name):
    r = make(tmp_path/'run', 30, 5)
    had = {p.name: p.read_bytes() for p in r.folder.iterdir()}
    with pytest.raises(ConfigError, match='should end in .html'): Report(r).write(r.folder/name)
    assert {p.name: p.read_bytes() for p in r.folder.iterdir()} == had
    assert Report(r).write(tmp_path/'page.HTM').exists()


@pytest.mark.parametrize('lengths, want', [((3, 101), 'median 52 words, shortest 3, longest 101'), ((7,), 'median 7 words, shortest 7, longest 7'), ((1, 2, 3, 4, 5), 'median 3 words, half of them 2 to 4, longest 5'), ((1, 1, 1, 500), 'median 1 words, half of them 1 to 126, longest 500')])
def test_lengths_are_those_of_the_data(lengths, want):
    assert f'aria-label="output: {want}"' in lengths_view([Instance('a', '', ' '.join(['w']*n)) for n in lengths]).body

def test_texts_without_a_word_are_counted_as_such():
    view = lengths_view([Instance('a b c', '', w) for w in ('', 'one', 'w '*40)]).body
    assert '<title>0 to 2 words: 2</title>' in view and '<title>1 to 2 words' not in view
    assert '<title>0 words: 1</title>' not in view and '<title>3 words: 3</title>' in view


@pytest.mark.parametrize('lacks', ['none', 'shorter', 'other', 'turned'])
def test_a_map_that_does_not_fit_is_not_shown(tmp_path, show, lacks):
    r = make(tmp_path/'run', 60, 20)
    file, lines = r.folder/'principles_low.jsonl', (r.folder/'principles_low.jsonl').read_text().splitlines(True)
    if lacks == 'none': file.unlink()
    else: file.write_text(''.join(dict(shorter=lines[:-1], other=[*lines[:-1], json.dumps(dict(text='Another one')) + '\n'], turned=lines[::-1])[lacks]))
    report = Report(Run(r.folder))
    assert any('does not fit principles_low.jsonl' in m for m in report.missing()) and records(report)['clusters'] is None
    page = show(report.write())
    assert page.locator('.pt').count() == 0 and page.locator('#clusters button').count() == 6
    page.locator('#clusters button').first.click()
    assert r.principles[0].text in page.locator('#panel').inner_text() and 'Cluster' not in page.locator('#panel').inner_text()


def spoil(folder, how):
    "One file of a run, as a hand or a cut may leave it"
    clusters = json.loads((folder/'clusters.json').read_text())
    if how == 'no origin': (folder/'dropped.jsonl').open('a').write(json.dumps(dict(reason='too short', text='abc')) + '\n')
    if how == 'cut': (folder/'clusters.json').write_text(json.dumps(clusters)[:100])
    if how == 'a list': (folder/'clusters.json').write_text('[]')
    if how == 'too far': clusters['clusters'][0]['members'][0] = 999
    if how == 'short map': clusters['xy'].pop()
    if how == 'in none':
        for c in clusters['clusters']:
            if 1 in c['members']: i = c['members'].index(1); c['members'].pop(i); c['weights'].pop(i)
    if how == 'fewer': clusters['clusters'] = clusters['clusters'][:2]
    if how in ('too far', 'short map', 'in none', 'fewer'): (folder/'clusters.json').write_text(json.dumps(clusters))
    if how == 'manifest': (folder/'manifest.json').write_text('[]')
    if how == 'settings': (folder/'manifest.json').write_text('{"settings": [], "versions": []}')

@pytest.mark.parametrize('how, want', [('no origin', ''), ('cut', 'cannot be read as clusters'), ('a list', 'cannot be read as clusters'), ('too far', 'cannot be read as clusters'), ('short map', 'cannot be read as clusters'), ('in none', ''), ('fewer', ''), ('manifest', 'Versions: not recorded'), ('settings', 'Versions: not recorded')])
def test_odd_files_still_have_a_report(tmp_path, show, how, want):
    r = make(tmp_path/'run', 60, 20)
    spoil(r.folder, how)
    page = show(Report(Run(r.folder)).write())
    assert page.locator('#data-count').inner_text().startswith('60 instances') and want in page.content()
    if how == 'no origin': assert page.locator('#drop-count').inner_text().startswith('21 dropped')
    if how == 'in none': assert page.locator('#map .pt').count() == len(r.low) - 1 and '1 in none and not on the map' in page.content()
    if how == 'fewer': assert '>2<' not in principles_view(r.principles, Run(r.folder).clusters).body

@pytest.mark.parametrize('how', ['cut', 'a list', 'too far', 'short map'])
def test_clusters_that_cannot_be_read_are_told_in_one_line(tmp_path, how):
    r = make(tmp_path/'run', 30, 5)
    spoil(r.folder, how)
    with pytest.raises(DataError, match='clusters.json: cannot be read as clusters; delete it') as e: Run(r.folder).clusters
    assert len(str(e.value).splitlines()) == 1

def test_settings_that_are_no_table_are_told_in_one_line(whole, tmp_path):
    shutil.copytree(whole[0].folder, tmp_path/'run')
    (tmp_path/'run'/'manifest.json').write_text('{"settings": []}')
    with pytest.raises(DataError, match='manifest.json: its settings are no table'): Run(tmp_path/'run').audit()


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
    done = subprocess.run([*psi, str(whole[0].folder), '--out', str(whole[0].folder/'instances.jsonl')], capture_output=True, text=True)
    assert done.returncode == 1 and 'should end in .html' in done.stderr and len(done.stderr.splitlines()) == 1 and len(Run(whole[0].folder).instances) == 60
    done = subprocess.run([*psi, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and 'is not a run of psi' in done.stderr and len(done.stderr.splitlines()) == 1
