"What a run took: the same however it was cut, nothing unknown as zero, nothing twice"
import json, math
import pytest
from hypothesis import given, settings, strategies as st
from psi.carbon import Grid, elsewhere
from psi.core import ConfigError
from psi.journal import _CALL, Journal, Reply, Request, _crc
from psi.ledger import Amount, Ledger, Price, busy, cost, is_here, make_ledger, total
from psi.lm import scripted
from psi.pipeline import run
from script import script
from test_run import config, whole   # noqa: F401

STAGES = [('expand', 'small', 'ab'*32), ('reflect', 'gpt-3.5-turbo', ''), ('generate', 'small', 'ab'*32), ('evaluate/gsm8k', '', 'cd'*32)]
count = st.one_of(st.none(), st.integers(0, 10**6))
call = st.tuples(st.sampled_from(STAGES), count, count, count, st.floats(0, 1e4).map(lambda x: round(x, 3)), st.floats(0, 1e6).map(lambda x: round(x, 3)))
kwh = st.one_of(st.none(), st.floats(0, 1))
reading = st.tuples(st.sampled_from(STAGES), st.floats(.1, 100), st.floats(0, 1e6), kwh, kwh, kwh)


def put(journal, i, c):
    (stage, model, weights), read, cached, wrote, seconds, at = c
    row = f'key {i}', stage, i, weights, json.dumps({'model': model}), json.dumps(vars(Reply('x', prompt_tokens=read, cached_tokens=cached, completion_tokens=wrote, seconds=seconds))), at
    journal._commit([(_CALL, (*row, _crc(row)))])


@settings(max_examples=60, deadline=None)
@given(st.lists(call, max_size=12), st.lists(reading, max_size=6), st.data())
def test_cut_anywhere_it_is_the_same(tmp_path_factory, calls, readings, data):
    "Any split of a run into sittings, calls that were read twice among them"
    one, folder = Journal(), tmp_path_factory.mktemp('cut')
    for i, c in enumerate(calls): put(one, i, c)
    for (s, m, _), sec, at, *parts in readings: one.put_energy(sec, s, m, *parts, 'a way', at)
    todo = data.draw(st.permutations([('call', i) for i in range(len(calls))] + [('energy', i) for i in range(len(readings))])) if calls or readings else []
    while todo:
        n = data.draw(st.integers(1, len(todo)))
        j = Journal(folder/'j.sqlite')
        for kind, i in todo[:n]:
            if kind == 'call': put(j, i, calls[i]); put(j, i, calls[i])
            else: (s, m, _), sec, at, *parts = readings[i]; j.put_energy(sec, s, m, *parts, 'a way', at)
        j.close(); todo = todo[n:]
    many = Journal(folder/'j.sqlite')
    a, b = (make_ledger([j], 7, Grid(.3, 1.2), {'small': Price(1, 2)}, electricity=.2) for j in (one, many))
    many.close()
    assert a.entries == b.entries and a.tokens == b.tokens and a.per() == b.per()
    assert a.tokens.low == sum((c[1] or 0) + (c[3] or 0) for c in calls)


def test_runs_that_were_killed(whole, tmp_path):
    "Every stage in a sitting of its own, at other addresses, and once more at the end: requests and tokens are those of an uncut run"
    for until in ('expand', 'reflect', 'summarize', 'generate', 'generate'):
        with scripted(script) as url: r = run(config(url, 'M_L.concurrency=1', 'M_g.concurrency=1'), until=until, runs=tmp_path)
    a, b = ({(e.stage, e.model): (e.requests, e.failed, e.prompt, e.cached, e.completion) for e in x.ledger().entries if e.requests} for x in (r, whole))
    assert a == b and json.loads((r.folder/'carbon.json').read_text())['accepted'] == 60


def test_where_it_ran_decides():
    j = Journal()
    put(j, 0, (STAGES[0], 100, 0, 50, 2., 10.)); put(j, 1, (STAGES[1], 100, 0, 50, 2., 20.))
    book = make_ledger([j])
    here, there = book['expand'][0], book['reflect'][0]
    assert here.estimated is None and here.measured.text() == '?' and 'energy that was not measured' in here.kg.lacks
    assert there.estimated == elsewhere('gpt-3.5-turbo', [(50, 2.)]) and there.kg.low > 0 and not there.kg.lacks and not there.measured.lacks
    assert '?' in book._repr_markdown_() and 'not known, and not in the sums: energy that was not measured' in book._repr_markdown_()
    other = make_ledger([j], here=lambda stage, weights: True)['reflect'][0]
    assert other.estimated is None and other.kg.text() == '?'


def test_a_meter_that_missed_a_moment_and_one_that_missed_much():
    for missed, known in ((1., True), (30., False)):
        j = Journal()
        j.put_energy(missed, 'train', 'm', None, None, None, 'not ready yet', 10.)
        j.put_energy(100. - missed, 'train', 'm', .01, 0., .002, 'RAPL', 100.)
        e, = make_ledger([j]).entries
        assert math.isclose(e.measured.low, .012) and bool(e.measured.lacks) is not known and e.how == ('RAPL',)
    assert '≥ 0.012' in make_ledger([j])._repr_markdown_()


def test_failed_tries_are_paid_for():
    j = Journal()
    put(j, 0, (STAGES[1], 100, 20, 50, 2., 10.))
    import asyncio
    asyncio.run(j.failed('k', Request('', 'reflect', 0), 'cut off', 3., dict(prompt_tokens=90, completion_tokens=40)))
    e, = make_ledger([j], prices={'gpt-3.5-turbo': Price(1., 2., .5)}).entries
    assert (e.requests, e.failed, e.prompt.low, e.completion.low) == (1, 1, 190, 90) and math.isclose(e.money.low, (170*1 + 20*.5 + 90*2)/1e6)


def test_headline():
    j = Journal()
    for i in range(10): put(j, i, (STAGES[0], 100, 0, 50, 2., 10.*i))
    for i in range(10, 15): put(j, i, (STAGES[3], 5000, 0, 50, 2., 10.*i))
    book = make_ledger([j], accepted=30)
    assert book.per()['tokens'].low == 50_000 and make_ledger([j]).per() is None   # evaluation is no part of making data
    assert '50,000 tokens per 1,000 accepted instances' in book._repr_markdown_() and 'evaluate/gsm8k' in book._repr_markdown_()


def test_amounts():
    known, unknown = Amount(5), Amount(lacks=('x',))
    assert (known + unknown).text() == '≥ 5' and unknown.text() == '?' and (known*2).text() == '10' and total([]) == Amount()
    assert busy([(5, 6), (0, 1)]) == 2 and busy([(0, 10), (2, 3)]) == 10
    assert is_here('0'*64) and not is_here('address 0123') and not is_here('')
    for bad in (-1, float('nan'), float('inf'), '3', True):
        with pytest.raises(ConfigError, match='what a million tokens cost'): Price(bad, 1)


@pytest.mark.parametrize('setting, said', [('carbon.country="Atlantis"', 'not known to codecarbon'), ('carbon.pue=.5', 'greater than or equal to 1'), ('carbon.intensity=-1', 'greater than or equal to 0'), ('carbon.region="Texas"', 'of which country')])
def test_places_that_are_not(setting, said):
    with pytest.raises(ConfigError, match=said) as e: config('http://localhost:1/v1', setting)
    assert str(e.value).startswith(f'--set: {setting.partition("=")[0]} ') and '\n' not in str(e.value) and '{' not in str(e.value)


def test_training_and_evaluation_are_in_it(whole, tmp_path):
    "Under their own stages, from their own journals; the headline is that of the data alone"
    import shutil
    pytest.importorskip('trl'); pytest.importorskip('lm_eval'); pytest.importorskip('codecarbon')
    from psi.base import practice_model
    from psi.evaluate import evaluate
    from psi.folder import Run
    from psi.recipe import Recipe
    from psi.train import train
    from test_evaluate import GAPS, write
    write(tmp_path/'data'/'winogrande'/'train_xl.jsonl', GAPS[5:]); write(tmp_path/'data'/'winogrande'/'dev.jsonl', GAPS[:5])
    shutil.copytree(whole.folder, tmp_path/'run')
    before, quietly = whole.ledger(), lambda line: None
    tiny = practice_model(tmp_path/'tiny')
    made = train(tmp_path/'run', tiny, tmp_path/'run'/'model', Recipe(epochs=1., batch=8, max_length=160), said=quietly, device='cpu')
    evaluate(tmp_path/'run'/'model', tmp_path/'data', tmp_path/'run'/'eval', ['winogrande'], device='cpu', said=quietly)
    book = Run(tmp_path/'run').ledger()
    (trained,), (asked,) = book['train'], book['evaluate/winogrande']   # one row each
    assert trained.model == 'tiny' and trained.measured.high > 0 and trained.requests == 0 and asked.requests > 0 and asked.measured.high > 0 and asked.model == 'model'
    assert book.per() == before.per() and book.tokens.low > before.tokens.low
    assert 'kgCO2e (' in (tmp_path/'run/model/README.md').read_text() and 'paper\'s constant' in made.record['carbon']


def test_a_stage_that_was_measured_in_part():
    "Ten seconds of readings are not the energy of a thousand"
    j = Journal()
    for i in range(10): put(j, i, (STAGES[0], 100, 0, 50, 100., 100.*(i + 1)))
    j.put_energy(10., 'expand', 'small', .01, 0., .001, 'RAPL', 1000.)
    e, = make_ledger([j]).entries
    assert e.measured.lacks and '≥' in make_ledger([j])._repr_markdown_()


def test_one_model_by_two_names():
    "A GGUF is asked by its stem, the meter may know its path; an evaluated model has no name in its calls"
    j = Journal()
    put(j, 0, (STAGES[0], 100, 0, 50, 10., 10.)); put(j, 1, (STAGES[3], 100, 0, 0, 10., 20.))
    j.put_energy(10., 'expand', '/home/x/small.gguf', .01, 0., .001, 'RAPL', 10.); j.put_energy(10., 'evaluate/gsm8k', 'mine', .01, 0., .001, 'RAPL', 20.)
    book = make_ledger([j])
    assert [(e.stage, e.model, e.requests, bool(e.measured.lacks)) for e in book.entries] == [('expand', 'small', 1, False), ('evaluate/gsm8k', 'mine', 1, False)]


def test_here_and_there():
    "The grid of this machine is not that of a provider; an address on this machine is not elsewhere"
    j = Journal()
    put(j, 0, (STAGES[1], 100, 0, 500, 10., 10.))
    here, norway = make_ledger([j], grid=Grid(.5)), make_ledger([j], grid=Grid(.02))
    assert here.sum('kg') == norway.sum('kg') != make_ledger([j], far=.02).sum('kg')
    put(j, 1, (('evaluate/gsm8k', 'm', 'here address 0123'), 100, 0, 500, 10., 20.))
    assert make_ledger([j])['evaluate/gsm8k'][0].estimated is None
