"The map of the method: is it well-formed, legible, complete, and what the stored pages show?"
import json, re
from pathlib import Path
from xml.etree import ElementTree
import pytest
from psi.core import ConfigError
from psi.method import STAGES, in_latex, method_map, stages_table

ROOT, SVG = Path(__file__).resolve().parent.parent, '{http://www.w3.org/2000/svg}'
NAMES = [s.name for s in STAGES]


def tree(stage='', **how): return ElementTree.fromstring(method_map(stage, **how).svg)
def boxes(root): return {g.get('data-stage'): g for g in root.iter(f'{SVG}g')}
def said(e): return ''.join(e.itertext())


@pytest.mark.parametrize('stage', ['', *NAMES])
def test_it_is_a_picture_that_can_be_read_aloud(stage):
    root = tree(stage)
    assert root.tag == f'{SVG}svg' and root.get('role') == 'img' and root.get('viewBox')
    assert root.find(f'{SVG}title').text and all(n in root.find(f'{SVG}desc').text for n in NAMES)
    assert (stage in root.find(f'{SVG}title').text) and not root.findall(f'.//{SVG}style') and not root.findall(f'.//{SVG}script')


@pytest.mark.parametrize('stage', NAMES)
def test_a_stage_is_lit_alone_and_not_by_colour_alone(stage):
    def frame(g): return float(g.find(f'{SVG}rect').get('stroke-width', 1))
    drawn = boxes(tree(stage))
    assert list(drawn) == NAMES
    assert [n for n, g in drawn.items() if g.find(f"{SVG}circle[@class='here']") is not None] == [stage]
    assert all((frame(g) > 2) == (n == stage) for n, g in drawn.items())


def test_without_a_stage_none_is_lit():
    assert not tree().findall(f".//{SVG}circle") and all(g.find(f'{SVG}rect').get('stroke-width') is None for g in boxes(tree()).values())


def test_labels():
    "Each box has its name, what it gives, and who works there; the picture has what a person brings, and the wall"
    for s in STAGES:
        text = said(boxes(tree())[s.name])
        assert s.name in text and s.model.replace('_', '') in text
        assert s.name == 'carbon' or re.sub(r'[$_^]', '', s.gives) in text
    assert {'Dseed', 'K', 'PL', 'PH', 'Dt', 'at home', 'large model', 'K never passes the wall'} <= {said(t) for t in tree().iter(f'{SVG}text')}


def luminance(colour):
    colour = colour.lstrip('#')
    if len(colour) == 3: colour = ''.join(c*2 for c in colour)
    part = [int(colour[i:i+2], 16)/255 for i in (0, 2, 4)]
    return sum(w*(c/12.92 if c <= .03928 else ((c+.055)/1.055)**2.4) for w, c in zip((.2126, .7152, .0722), part))


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light+.05)/(dark+.05)


@pytest.mark.parametrize('stage', ['', *NAMES])
def test_every_text_stands_out_from_what_lies_under_it(stage):
    assert round(contrast('#000', '#ffffff')) == 21
    root = tree(stage)
    under, seen = [], 0
    for e in root.iter():                     # in the order of painting
        if e.tag == f'{SVG}rect': under.append([float(e.get(k)) for k in ('x', 'y', 'width', 'height')] + [e.get('fill')])
        if e.tag == f'{SVG}text':
            x, y = float(e.get('x')), float(e.get('y')) - 3
            ground = [r[4] for r in under if r[0] <= x <= r[0]+r[2] and r[1] <= y <= r[1]+r[3]][-1]
            assert contrast(e.get('fill') or root.get('fill'), ground) >= 4.5, (said(e), e.get('fill'), ground)
            seen += 1
    assert seen > 30


def test_on_a_phone_letters_keep_nine_pixels():
    "358 px is what a page of 390 px leaves"
    root = tree()
    sizes = [float(e.get('font-size')) for e in root.iter() if e.get('font-size')] + [float(m) for m in re.findall(r'font:italic (\d+)px', method_map().svg)]
    assert min(sizes) * 358 / float(root.get('viewBox').split()[2]) >= 9


def test_no_name_or_address_that_two_maps_would_share():
    svg = method_map('expand').svg
    assert ' id=' not in svg and 'href' not in svg and svg.count('http') == 1   # the namespace
    assert '\n\n' not in svg and len(svg) < 8000


def test_width_keeps_the_shape():
    wide = tree(width=920)
    assert float(wide.get('width')) / float(wide.get('height')) == pytest.approx(float(tree().get('width')) / float(tree().get('height')), abs=.01)


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="stage is 'Expand'; it is one of expand, boundary"): method_map('Expand')


def test_the_stages_of_a_run_are_on_the_map_in_their_order():
    from psi.pipeline import STAGES as RUN
    shown = [next(i for i, s in enumerate(STAGES) if n in (s.name, s.also)) for n in RUN]
    assert shown == sorted(shown) and len(set(shown)) == len(RUN)
    for n in RUN: assert method_map(n).svg


def test_the_table_has_every_stage_and_its_page():
    table = stages_table('nbs/')
    for s in STAGES: assert f'[{s.name}](nbs/{s.notebook}.ipynb)' in table and ((ROOT/f'nbs/{s.notebook}.ipynb').exists() or not (ROOT/'nbs').is_dir())
    assert len({line.count('|') for line in table.splitlines()}) == 1
    assert in_latex('$D_seed$, 5$ and $K$') == r'$\mathcal{D}_{seed}$, 5$ and $\mathcal{K}$'


@pytest.mark.skipif(not (ROOT/'nbs').is_dir(), reason='no notebooks beside the tests')
@pytest.mark.parametrize('notebook', ['index', '00_method'])
def test_the_tables_that_stand_as_text_are_those_of_the_rows(notebook):
    cells = json.loads((ROOT/f'nbs/{notebook}.ipynb').read_text(encoding='utf-8'))['cells']
    assert any(stages_table() in ''.join(c['source']) for c in cells if c['cell_type'] == 'markdown'), stages_table()


def shown(notebook, source):
    "The stored picture of the cell that draws it"
    cells = json.loads((ROOT/f'nbs/{notebook}.ipynb').read_text(encoding='utf-8'))['cells']
    at = next(i for i, c in enumerate(cells) if c['cell_type'] == 'code' and source in ''.join(c['source']).splitlines())
    return at, ''.join(cells[at]['outputs'][0]['data']['image/svg+xml'])


@pytest.mark.skipif(not (ROOT/'nbs').is_dir(), reason='no notebooks beside the tests')
@pytest.mark.parametrize('stage', STAGES, ids=NAMES)
def test_the_page_of_a_stage_opens_with_the_map_of_today(stage):
    at, svg = shown(stage.notebook, f"method_map('{stage.name}')")
    assert at <= 2 and svg == method_map(stage.name).svg


@pytest.mark.skipif(not (ROOT/'nbs').is_dir(), reason='no notebooks beside the tests')
def test_home_readme_and_the_page_of_the_method_show_the_map_of_today():
    whole = method_map(width=620).svg
    assert shown('index', 'method_map(width=620)')[1] == whole and shown('00_method', 'method_map(width=620)')[1] == whole
    assert [p.read_text(encoding='utf-8') for p in sorted((ROOT/'nbs/images').glob('index-*.svg'))] == [whole]
    assert '![The method of PSI](nbs/images/index-1.svg)' in (ROOT/'README.md').read_text(encoding='utf-8')
