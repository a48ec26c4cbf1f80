"The paper's table to the digit; grids as codecarbon has them, ecologits' energy as ecologits has it; nothing is zero in silence"
import json, logging, math, os, subprocess, sys
import pytest
from hypothesis import given, settings, strategies as st
from psi import carbon
from psi.carbon import (DEVICE_WATTS, INSTANCES, KG_A_KWH, WH_A_REQUEST, Estimate, Grid, device_energy, elsewhere, emissions, grid, plot_table_2, request_energy, scaled, table_2)
from psi.core import ConfigError

# Table 2 as printed
PRINTED = {'AlpaGasus': (5_345_600, None, '40.72'), 'WizardLM': (7_834_077, None, '34.74'), 'Alpaca w/ GPT4': (3_033_669, None, '1.74'), 'PSI': (18_264, 3_934_321, '0.49')}
amounts = st.floats(0, 1e9)

# --- the arithmetic

def test_table_2_to_the_digit():
    assert {r.method: (r.tokens_large, r.tokens_small, f'{r.kg:.2f}') for r in table_2()} == PRINTED
    assert [r.requests for r in table_2()] == [58_500, 49_920, 2_500, 10] and [r.device_hours for r in table_2()] == [0, 0, 0, 8]

def test_table_2_is_computed():
    rows = table_2()
    assert [r.kg for r in table_2(intensity=2*KG_A_KWH)] == pytest.approx([2*r.kg for r in rows])
    assert [r.kwh for r in table_2(wh=0, watts=1000)] == [0, 0, 0, 8]
    shown = rows._repr_markdown_()
    for method, (large, small, kg) in PRINTED.items(): assert f'| {method} | {large:,} | {f"{small:,}" if small else "-"} |' in shown and f'| {kg} |' in shown

def test_by_hand():
    assert emissions(2) == 2*.24 and emissions(1, .5, 1.5) == .75
    assert request_energy(1000) == 2.9 and request_energy(10, 1) == .01 and device_energy(3600) == .25 and device_energy(60, 60_000) == 1
    assert (WH_A_REQUEST, KG_A_KWH, DEVICE_WATTS, INSTANCES) == (2.9, .24, 250, 20_000)

@given(amounts, amounts, st.floats(0, 10), st.floats(1, 3))
def test_emissions_are_linear(a, b, intensity, pue):
    e = lambda kwh: emissions(kwh, intensity, pue)
    assert e(a + b) == pytest.approx(e(a) + e(b)) and e(a) >= emissions(a, intensity)

BAD = [-1, -1e-300, float('nan'), float('inf'), '3', None, True, 10**400, [1]]
@pytest.mark.parametrize('bad', BAD)
def test_bad_numbers(bad):
    for call, name in ((lambda: emissions(bad), 'kwh'), (lambda: emissions(1, bad), 'intensity'), (lambda: emissions(1, pue=bad), 'pue'), (lambda: request_energy(bad), 'requests'), (lambda: request_energy(1, bad), 'wh'),
                       (lambda: device_energy(bad), 'seconds'), (lambda: device_energy(1, bad), 'watts'), (lambda: Grid(bad), 'intensity'), (lambda: Grid(pue=bad), 'pue'), (lambda: Grid().kg(bad), 'kwh'),
                       (lambda: Estimate(bad, 1., ''), 'low'), (lambda: Estimate(0., bad, ''), 'high')):
        with pytest.raises(ConfigError, match=f'^{name} = ') as e: call()
        assert '\n' not in str(e.value)

def test_pue_below_one():
    for call in (lambda: emissions(1, pue=.99), lambda: Grid(pue=.5), lambda: grid(pue=0), lambda: grid('FRA', pue=.9)):
        with pytest.raises(ConfigError, match='1 or more'): call()

# --- among the paper's rows

@given(st.floats(1e-9, 1e3), st.integers(1, 10**6))
def test_scaled(kg, n):
    assert scaled(kg, n)*n == pytest.approx(kg*INSTANCES) and scaled((kg, 2*kg), n) == (scaled(kg, n), scaled(2*kg, n)) and scaled(None, n) is None

def words(fig): return '\n'.join(t.get_text() for t in fig.axes[0].texts), '\n'.join(t.get_text() for t in fig.axes[0].get_yticklabels())

def test_plot():
    fig = plot_table_2({'mine': .003, 'partly': (.001, .05), 'lost': None}, instances=400)
    said, labels = words(fig)
    assert fig.axes[0].get_xscale() == 'log'
    assert said.splitlines() == ['40.72', '34.74', '1.74', '0.49', '0.15', '0.05 to 2.50', '?']
    assert labels.count('400 instances, scaled to 20,000') == 2 and 'not known' in labels
    hatched = [p for p in fig.axes[0].patches if p.get_hatch()]
    assert len(hatched) == 2 and len(fig.axes[0].patches) == 7, 'runs are told by more than colour; a range has an open part'

def test_plot_of_the_paper_alone_and_of_20000():
    assert words(plot_table_2())[0].splitlines() == [p[2] for p in PRINTED.values()]
    assert 'scaled' not in words(plot_table_2({'mine': 1.}))[1] and '1.00' in words(plot_table_2({'mine': 1.}))[0]

@pytest.mark.parametrize('runs, instances, said', [({'x': 0.}, None, 'above 0'), ({'x': -1.}, None, 'x, kg'), ({'x': (3., 1.)}, 5, 'lower end first'), ({'x': float('nan')}, None, 'x, kg'),
    ({'x': 1.}, 0, 'instances'), ({'x': 1.}, -3, 'instances'), ({'x': 1., 'z': 1.}, {'z': 3}, "lack 'x'")])
def test_plot_refuses(runs, instances, said):
    with pytest.raises(ConfigError, match=said): plot_table_2(runs, instances)

# --- grids

@pytest.fixture(scope='module')
def mixes():
    from codecarbon.input import DataSource
    return DataSource().get_global_energy_mix_data()

def test_default_is_the_papers():
    assert grid() == Grid() == Grid(.24, 1., Grid().source) and 'US West' in grid().source
    assert grid(pue=1.3).kg(10) == pytest.approx(3.12)

def test_every_country_has_its_grams(mixes):
    zero = []
    for iso, mix in mixes.items():
        try: g = grid(iso)
        except ConfigError as e: zero.append(mix['carbon_intensity']); assert 'which no grid emits' in str(e); continue
        assert 0 < g.intensity == pytest.approx(mix['carbon_intensity']/1000) and str(mix['year']) in g.source and mix['country_name'] in g.source
    assert not any(zero) and len(zero) < 5

@pytest.mark.parametrize('kg', [0., -1., float('nan')])
def test_a_table_that_says_nothing_is_not_believed(monkeypatch, kg):
    data, _ = carbon._codecarbon()
    monkeypatch.setattr(carbon, '_codecarbon', lambda: (data, lambda *a: kg))
    with pytest.raises(ConfigError, match='which no grid emits'): grid('FRA')

def test_kilograms_not_grams_nor_pounds():
    assert .01 < grid('FRA').intensity < .15 < grid('USA').intensity < .6 < grid('IND').intensity < 1.2
    assert .1 < grid('USA', 'California').intensity < .3 and grid('USA', 'Wyoming').intensity > .5

def test_names_of_places(mixes):
    assert grid('fr') == grid('FRA') == grid(' france ') == grid('FR')
    assert grid('Russia') == grid('RUS') == grid('Russian Federation')
    assert grid("Côte d'Ivoire") == grid('CIV')
    assert grid('USA', 'CA') == grid('US', 'california') == grid('United States', 'US-CA') != grid('USA')
    assert grid('CAN', 'QC') == grid('CA', 'Québec') == grid('Canada', 'quebec') == grid('CAN', 'CA-QC')
    assert grid('CHN', 'BJ') == grid('China', 'Beijing') and grid('SWE', 'SE3') == grid('SE', 'se3') and '2025' in grid('NOR', 'NO2').source
    assert 'year is not told' in grid('CAN', 'Ontario').source and '2023' in grid('USA', 'Texas').source

def test_every_region_by_every_name(caplog):
    data, _ = carbon._codecarbon()
    for iso in ('USA', 'CAN', 'CHN', 'SWE', 'NOR', 'FIN'):
        known = carbon._regions(data, iso)
        whole = grid(iso)
        for name in known:
            g = grid(iso, name)
            assert 0 < g.intensity < 1.2 and known[name][0] in g.source and g.source != whole.source
    assert len({carbon._regions(data, 'USA')[n][0] for n in carbon._regions(data, 'USA')}) == 51
    assert not caplog.records

@pytest.mark.parametrize('kw, said', [(dict(country='Frnace'), 'France .FRA.'), (dict(country='Atlantis'), 'not known'), (dict(country='XYZ'), 'not known'), (dict(country='  '), 'not known'), (dict(country='USA', region='Californa'), 'near it: california'),
    (dict(country='USA', region='_unit'), 'not known'), (dict(country='USA', region='usa'), 'not known'), (dict(country='SWE', region='NO1'), 'not known'), (dict(country='CHN', region='Tibet'), 'not known'),
    (dict(country='France', region='Paris'), 'no regions of France'), (dict(region='Texas'), 'of which country'), (dict(region='Texas', intensity=.1), 'of which country'),
    (dict(intensity=-.1), 'intensity = -0.1'), (dict(intensity=float('nan')), 'intensity = nan'), (dict(country='FRA', intensity='low'), "intensity = 'low'")])
def test_grid_refuses(kw, said):
    with pytest.raises(ConfigError, match=said) as e: grid(**kw)
    assert '\n' not in str(e.value)

def test_own_intensity():
    assert grid(intensity=.1) == Grid(.1, 1., 'as given')
    assert grid('Atlantis', 'North', .1, 1.1) == Grid(.1, 1.1, 'as given for North, Atlantis')
    assert grid(intensity=0).kg(5) == 0     # somebody said so

# --- elsewhere

def ecologits_itself(provider, name, calls):
    "One question a call"
    from ecologits.tracers.utils import llm_impacts
    got = [llm_impacts(provider, name, t, math.inf if s is None else s).usage.energy.value for t, s in calls]
    return tuple(sum(getattr(v, end, v) for v in got) for end in ('min', 'max'))

calls = st.lists(st.tuples(st.integers(0, 10_000), st.none() | st.floats(0, 600)), min_size=1, max_size=6)
models = ['openai/gpt-3.5-turbo', 'openai/gpt-4', 'openai/gpt-4o-mini', 'mistralai/mistral-large-latest', 'anthropic/claude-haiku-4-5', 'huggingface_hub/meta-llama/Meta-Llama-3-8B-Instruct']
@settings(deadline=None)
@given(calls, st.sampled_from(models))
def test_as_ecologits_says(calls, model):
    provider, name = model.split('/', 1)
    from ecologits.model_repository import models as known
    assert known.find_model(provider, name)
    e = elsewhere(name, calls, provider)
    assert (e.low, e.high) == pytest.approx(ecologits_itself(provider, name, calls), rel=1e-8, abs=1e-18) and e.calls == len(calls) and not e.parts
    assert model in e.how and "provider's PUE is in it" in e.how

def test_two_lines_describe_every_model():
    from ecologits.model_repository import models as known
    for m in known.list_models():
        at = m.provider.value, m.name
        assert carbon._lines(*at), at
        assert (e := elsewhere(m.name, [(777, 3.3)], at[0])).low == pytest.approx(ecologits_itself(*at, [(777, 3.3)])[0], rel=1e-8) and 0 < e.low <= e.high
        assert all(w.message.rstrip('.') in e.how for w in m.warnings) and ('a range' in e.how) == (e.high > e.low)

def test_where_lines_do_not_fit_every_call_is_asked(monkeypatch):
    monkeypatch.setattr(carbon, '_ask', lambda provider, name, t, s: (1e-9*t**2, 2e-9*t**2))
    carbon._lines.cache_clear()
    try: e = elsewhere('gpt-4o', [(10, 1.), (20, None)])
    finally: carbon._lines.cache_clear()
    assert (e.low, e.high) == pytest.approx((500e-9, 1000e-9))

def test_names_of_models():
    how = lambda *a: elsewhere(a[0], [(100, 1.)], *a[1:]).how
    assert all('openai/gpt-4o,' in how(*a) for a in [('gpt-4o',), ('openai/gpt-4o',), ('openrouter/openai/gpt-4o',), ('GPT-4o',), ('gpt-4o', 'openai'), ('gpt-4o', 'OpenAI')])
    assert 'gpt-4o-2024-08-06' in how('gpt-4o-2024-08-06') and 'gpt-35-turbo' in how('gpt-35-turbo')     # a dated one, an alias
    for a in [('gpt-4o-1999-01-01',), ('gpt-4', 'anthropic'), ('zephyr-7b-beta',), ('',), ('gpt',)]: assert "the paper's constant of 2.9 Wh a request: ecologits does not know" in how(*a)

def test_a_name_of_several_providers(monkeypatch):
    from types import SimpleNamespace as N
    two = [N(name='m', provider=N(value=p)) for p in ('openai', 'cohere')]
    monkeypatch.setattr(carbon, '_ecologits', lambda: (None, N(list_models=lambda: two)))
    assert 'several providers, openai, cohere: say which' in elsewhere('m', [(1, 1.)]).how
    assert carbon._find('cohere/m', '')[0] is two[1] and carbon._find('m', 'openai')[0] is two[0]

def test_constant():
    e = elsewhere('nobody-knows-it', [(100, 1.), (None, None)])
    assert e.low == e.high == request_energy(2) and e.calls == 2 and 'does not know nobody-knows-it' in e.how
    assert elsewhere('nobody-knows-it', [(1, 1.)], wh=1).low == .001 and "a given constant of 1 Wh" in elsewhere('nobody-knows-it', [(1, 1.)], wh=1).how

def test_lost_token_counts():
    e = elsewhere('gpt-4o', [(100, 1.), (None, 2.), (200, None), (None, None)])
    known = elsewhere('gpt-4o', [(100, 1.), (200, None)])
    assert (e.low, e.high) == pytest.approx((known.low + .0058, known.high + .0058)) and [p.calls for p in e.parts] == [2, 2] and 'the tokens are not known' in e.how
    assert elsewhere('gpt-4o', [(None, 1.)]).how == "the paper's constant of 2.9 Wh a request: the tokens are not known"

def test_no_calls():
    e = elsewhere('gpt-4o', [])
    assert e.low == e.high == e.calls == 0 and 'no calls of gpt-4o' in e.how
    assert e + e == e and e + elsewhere('x', [(1, 1.)]) == elsewhere('x', [(1, 1.)]) == elsewhere('x', [(1, 1.)]) + e

@pytest.mark.parametrize('call', [(-1, 1.), (1, -1.), (float('nan'), 1.), (1, float('nan')), ('9', 1.), (1, float('inf'))])
def test_elsewhere_refuses(call):
    with pytest.raises(ConfigError, match='tokens = |seconds = '): elsewhere('gpt-4o', [(1, 1.), call])

estimates = st.builds(lambda low, more, how, n: Estimate(low, low + more, how, n), st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from('abcd'), st.integers(0, 1000))
@given(st.lists(estimates, min_size=1, max_size=6))
def test_sums_keep_what_they_are_made_of(parts):
    total = sum(parts)
    assert (total.low, total.high) == pytest.approx((sum(p.low for p in parts), sum(p.high for p in parts))) and total.calls == sum(p.calls for p in parts)
    hows = {p.how for p in parts if p.calls or p.high}
    assert {p.how for p in total.parts or [total]} >= hows and sum(p.high for p in total.parts or [total]) == pytest.approx(total.high)
    assert all(f'| {how} |' in total._repr_markdown_() for how in hows)

def test_not_added_to_what_was_measured():
    e = Estimate(1., 2., 'guess')
    for wrong in (lambda: e + 1., lambda: 1. + e, lambda: e + 0, lambda: sum([.5, e]), lambda: False + e, lambda: 1 + e):
        with pytest.raises(TypeError): wrong()
    assert sum([e, e]) == Estimate(2., 4., 'guess', 2) and e.kg() == (.24, .48) and e.kg(grid('FRA').intensity)[1] == pytest.approx(2*grid('FRA').intensity)
    with pytest.raises(ConfigError, match='lower end'): Estimate(2., 1., '')

# --- a good guest

def fresh(code):
    "What a fresh interpreter prints"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done

def test_light_quiet_offline():
    done = fresh('''
import sys, json, logging, socket
logging.basicConfig(level=0)
import psi.carbon as c
heavy = {'codecarbon', 'ecologits', 'matplotlib', 'pandas', 'pycountry'} & sys.modules.keys()
c.table_2(), c.grid(), c.grid(intensity=.1, country='FRA')
heavy |= {'codecarbon', 'ecologits', 'matplotlib', 'pandas', 'pycountry'} & sys.modules.keys()
tried = []
def no(*a, **k): tried.append(repr(a)); raise OSError('no network')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = no
kg = c.grid('USA', 'Texas').intensity
said = c.elsewhere('gpt-4', [(10, 1.)]).how
print(json.dumps([sorted(heavy), tried, kg, said, logging.getLoggerClass().__name__, logging.getLogger('ecologits').disabled]))
''')
    heavy, tried, kg, said, kind, disabled = json.loads(done.stdout)
    assert (heavy, tried, kind, disabled) == ([], [], 'Logger', False) and kg > 0 and 'has not been released' in said
    assert 'not been released' not in done.stderr and 'ecologits' not in done.stderr

@pytest.mark.parametrize('name, call', [('codecarbon', "c.grid('FRA')"), ('ecologits', "c.elsewhere('gpt-4o', [(1, 1.)])")])
def test_a_package_is_missing(name, call):
    done = fresh(f'''
import sys; sys.modules['{name}'] = None
import psi.carbon as c
try: {call}
except c.ConfigError as e: print(e)
''')
    assert f'{name} is not installed: pip install {name}' in done.stdout
