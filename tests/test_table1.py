"Table 1: one command, killed at any moment, ends in one document, and every figure of it can be counted again. PSI_KILLS sets how many kills are tried"
import csv, json, math, multiprocessing, os, random, re, signal, subprocess, sys, threading, time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
import pytest
from psi.benchmarks import BENCHMARKS
from psi.core import ConfigError, DataError
from psi.evaluate import read_evaluation
from psi.experiments.plan import plan
from psi.experiments.result import PAPER, Table1, paper_table
from psi.experiments.scale import SCALES, read_scale, rows_of
from psi.experiments.table1 import table1, typed
from psi.folder import Run
from psi.journal import Journal
from psi.lm import scripted
from script import script

pytest.importorskip('trl'), pytest.importorskip('lm_eval')
KILLS, CONTEXT = int(os.environ.get('PSI_KILLS', 4)), multiprocessing.get_context('forkserver')
GAPS = [dict(sentence=f'The {a} did not fit into the {b} because the _ was too large.', option1=a, option2=b, answer=str(1 + i % 2)) for i, (a, b) in enumerate((x, y) for x in ('cup', 'book', 'shoe', 'lamp') for y in ('box', 'bag', 'drawer'))]
LIES = [dict(question=f'Can {x} fly?', mc1_targets={f'The {x} can not.': 1, f'The {x} can fly.': 0}, mc2_targets={f'The {x} can not.': 1, f'The {x} can fly.': 0}) for x in ('cows', 'stones', 'chairs', 'trees')]
quietly = lambda line: None


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A base model to practise on, and two small benchmarks in the files that they really have"
    from psi.base import practice_model
    root = tmp_path_factory.mktemp('table1')
    practice_model(root/'tiny')
    for d in ('winogrande', 'truthfulqa', 'alpaca'): (root/'data'/d).mkdir(parents=True)
    for name, rows in (('train_xl', GAPS[6:]), ('dev', GAPS[:6])): (root/'data/winogrande'/f'{name}.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    (root/'data/truthfulqa/mc_task.json').write_text(json.dumps(LIES))
    (root/'data/alpaca/mine.json').write_text(json.dumps([dict(instruction=f'Say {i}.', input='', output=f'{i} it is.') for i in range(30)]))
    return root


def small(home, url, *sets, rows='["base", "alpaca", "psi"]'):
    "Settings of a comparison that takes seconds"
    return ['name=mine', f'rows={rows}', f'models=["{home}/tiny"]', 'M_L.model=script', 'writer.model=script', 'M_g.small.model=script', f'M_L.base_url={url}', f'writer.base_url={url}', f'M_g.small.base_url={url}', 'n=12',
            'run.carbon.measure=false', 'row.psi-small.generate.principles=zephyr-7b-beta', 'measure.benchmarks=["winogrande", "truthfulqa", "gpqa"]', 'measure.limit=4', 'recipe.lr=0.005', 'recipe.batch=8', 'device=cpu', *sets]

def steady(doc):
    "All but times, and the tokens of requests that were in flight when something was cut"
    rows = [{k: v for k, v in r.items() if k != 'took'} for r in doc['rows']]
    less = lambda xs: [{k: v for k, v in x.items() if k not in ('seconds', 'kwh')} for x in xs]
    return json.loads(json.dumps(doc | dict(rows=rows, trainings=less(doc['trainings']), scores=less(doc['scores']))))


def writes(prompt, body):
    "The script's lists, other ones where principles stand in the prompt"
    return script(prompt, body | dict(seed=f"{body.get('seed')}/{len(prompt)}"))


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    "The sums of one thread are the same each time, and here as in the children"
    import torch
    torch.set_num_threads(1)
    before, os.environ['OMP_NUM_THREADS'] = os.environ.get('OMP_NUM_THREADS'), '1'
    CONTEXT.set_forkserver_preload(['trl.trainer.sft_trainer', 'datasets', 'lm_eval.evaluator', 'psi.experiments.table1', 'psi.train', 'test_table1'])
    yield
    os.environ.pop('OMP_NUM_THREADS') if before is None else os.environ.update(OMP_NUM_THREADS=before)


@pytest.fixture(scope='module')
def server():
    asked, lock = [], threading.Lock()
    def answer(prompt, body):
        with lock: asked.append(prompt)
        return writes(prompt, body)
    with scripted(answer) as url: yield url, asked


@pytest.fixture(scope='module')
def whole(home, server):
    "A comparison that nobody disturbed"
    sets = small(home, server[0])
    return table1(read_scale('smoke', sets), home/'data', home/'runs', home/'results', command=typed('smoke', sets), said=quietly)


def test_whole(whole, home):
    doc = whole.doc
    assert [r['name'] for r in whole.rows] == ['base', 'alpaca-small', 'psi-small'] and not whole.failed
    assert {(r['name'], r['n']) for r in whole.rows} == {('base', 0), ('alpaca-small', 12), ('psi-small', 12)}
    assert [(t['row'], t['seed']) for t in doc['trainings']] == [(r, s) for r in ('alpaca-small', 'psi-small') for s in (0, 1)] and all(t['steps'] == 2 and t['instances'] == 12 for t in doc['trainings'])
    assert len(doc['scores']) == (1 + 2*2)*2 and doc['benchmarks'] == ['winogrande', 'truthfulqa'] and list(doc['not_measured']) == ['gpqa']
    for r in whole.rows[1:]: assert r['took']['M_L']['low'] == 0 < r['took']['M_g']['low'] and r['counts']['kept'] == 12
    assert Table1.read(home/'results/table1-mine.json').doc == doc


def test_counts_and_tokens_are_those_of_the_runs(whole, home):
    for r in whole.rows[1:]:
        found = Run(home/'runs/table1-mine'/r['name'])
        assert len(found.instances) == r['n'] and found.waterfall() == r['counts'] and found.ledger().tokens.low == r['took']['M_g']['low']
        made = [dict(instruction=x.instruction, input=x.input, output=x.output) for x in found.instances]
        assert len(r['examples']) == 3 and all(x in made for x in r['examples']) and r['marks'] == {} and r['principles'] == [p.text for p in found.principles] and bool(r['principles']) == (r['name'] == 'psi-small') and whole.examples(1).count(f"| `{r['name']}` |") == 1


def test_figures_are_those_of_the_answers(whole, home):
    "Means, errors and paired differences, counted once more from every answer that was kept"
    def answers(row, seed, b):
        e = read_evaluation(home/'runs/table1-mine/trained'/row/'tiny'/('base' if seed is None else f'seed-{seed}')/'eval')
        key, task = dict(winogrande=('acc', 'winogrande'), truthfulqa=('acc', 'truthfulqa_mc2'))[b]
        return {r['doc']: json.loads(r['result'])[key] for r in e.samples(b) if r['task'] == task}
    mean = lambda xs: sum(xs)/len(xs)
    error = lambda xs: math.sqrt(sum((x - mean(xs))**2 for x in xs)/(len(xs) - 1)/len(xs))
    for b in whole.benchmarks:
        of = {r: [answers(r, s, b) for s in (0, 1)] for r in ('alpaca-small', 'psi-small')}
        for r, seeds in of.items():
            m = whole.mean(r, b)
            assert m['mean'] == pytest.approx(mean([mean(list(a.values())) for a in seeds])) and m['stderr'] == pytest.approx(error([mean(list(a.values())) for a in seeds])) and m['seeds'] == 2
        d = [mean([a[q] for a in of['psi-small']]) - mean([a[q] for a in of['alpaca-small']]) for q in of['psi-small'][0]]
        found = whole.difference('psi-small', b)
        assert b == 'winogrande' or any(d), 'nothing to tell apart'     # TruthfulQA's are probabilities
        assert found['value'] == pytest.approx(mean(d)) and found['stderr'] == pytest.approx(error(d)) and found['n'] == len(d) == 4
        assert found['seed_stderr'] == pytest.approx(error([mean([a[q] - b[q] for q in a]) for a, b in zip(of['psi-small'], of['alpaca-small'])]))
        assert whole.mean('base', b)['mean'] == pytest.approx(mean(list(answers('base', None, b).values()))) and whole.mean('base', b)['stderr'] is None
    over = whole.mean('psi-small', 'overall')
    assert over['mean'] == pytest.approx(mean([whole.mean('psi-small', b)['mean'] for b in whole.benchmarks]))


def test_the_table_shows_the_document(whole):
    text = whole._repr_markdown_()
    lines = [[c.strip() for c in line.strip('|').split('|')] for line in text.split('\n\n')[0].splitlines()[2:]]
    for cells, r in zip(lines, whole.rows, strict=True):
        assert cells[:2] == [r['title'], r['writer']]
        for cell, b in zip(cells[2:5], (*whole.benchmarks, 'overall')):
            m, d = whole.mean(r['name'], b), whole.difference(r['name'], b)
            assert cell.split()[0] == f'{100*m["mean"]:.1f}' and (m['stderr'] is None or cell.split()[2] == f'{100*m["stderr"]:.1f}')
            assert (d is None) == (not re.search('[↑↓=]', cell))
    assert 'GPQA: not measured' in text and 'Zephyr-7B' in text


def test_nothing_of_this_machine(whole, home):
    text = (home/'results/table1-mine.json').read_text()
    assert str(home) not in text and '127.0.0.1' not in text and os.uname().nodename not in text and 'http://' not in text
    assert '--set n=12' in whole.doc['command'] and whole.doc['machine']['cores'] >= 1 and whole.doc['versions']['torch']


def test_the_command_is_shown_without_what_is_nobodys_business(tmp_path):
    (tmp_path/'here.gguf').write_text('')
    for x, there in (('M_g.small={model="m", base_url="http://gpu7.intern:8000/v1"}', 'M_g.small.model=m'), ('run.boundary.patterns=["PROJECT-[0-9]+"]', None), ('M_g.small.model=/home/somebody/q.gguf', '--set M_g.small.model=q.gguf'),
                     (f'models=["{tmp_path}/here.gguf"]', 'models=["here.gguf"]'), ('M_g.small.sampling.top_p=.5', 'top_p = 0.5'), ('name=mine', '--set name=mine'), ('recipe.lr=1e-4', 'recipe.lr=0.0001')):
        said = typed('laptop', [x])
        assert not [w for w in ('gpu7', 'PROJECT', 'somebody', str(tmp_path), 'http') if w in said] and (there in said if there else said == 'psi experiment table1 --scale laptop --data DATA'), said


def test_what_failed_is_told_without_addresses_and_folders(home):
    from types import SimpleNamespace
    from psi.core import EngineError
    from psi.experiments.table1 import _Work
    w = SimpleNamespace(home=home/'runs', data=None)
    for said, want in (('http://gpu7.intern:8000/v1: no engine answers there; start it', 'an address: no engine answers there; start it'), ('/srv/models/base: is not a model', 'base: is not a model'), (f'{home}/runs/pool/x.jsonl:3: not JSON', 'pool/x.jsonl:3: not JSON'),
                       ('3/4 of them, and/or more', '3/4 of them, and/or more'), ('owner/name is not on the hub', 'owner/name is not on the hub')):
        assert _Work.plain(w, EngineError(said)) == want


def test_overall_is_compared_seed_by_seed():
    "A seed that only one of the two has been trained with changes nothing"
    from types import SimpleNamespace
    from psi.evaluate import Score
    from psi.experiments.table1 import _differences
    def score(b, v): return Score(b, dict(acc=dict(value=v, stderr=None), mc2=dict(value=v, stderr=None)), 1, 1, values={'': {'0': v}})
    w = SimpleNamespace(rows=[SimpleNamespace(name='psi', against='alpaca'), SimpleNamespace(name='alpaca', against='')], scale=SimpleNamespace(models=['m']))
    scores = {('psi', 'm', 0): dict(winogrande=score('winogrande', .5), truthfulqa=score('truthfulqa', .4)), ('alpaca', 'm', 0): dict(winogrande=score('winogrande', .3), truthfulqa=score('truthfulqa', .4)),
              ('alpaca', 'm', 1): dict(winogrande=score('winogrande', 1.), truthfulqa=score('truthfulqa', 1.))}
    found = {d['benchmark']: d for d in _differences(w, scores, ['winogrande', 'truthfulqa'])}
    assert found['overall']['value'] == pytest.approx(.1) == pytest.approx((found['winogrande']['value'] + found['truthfulqa']['value'])/2) and found['overall']['seeds'] == 1
    del scores['psi', 'm', 0]['truthfulqa']
    assert 'overall' not in {d['benchmark'] for d in _differences(w, scores, ['winogrande', 'truthfulqa'])}


def test_what_can_be_told_at_once_is(home, server, tmp_path):
    "A base model that is not there, before any data; a folder that was measured with files, without them"
    with pytest.raises(ConfigError, match='smollm9'): table1(read_scale('smoke', small(home, server[0], 'models=["smollm9"]')), home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    with pytest.raises(ConfigError, match="device is 'gpu'"): table1(read_scale('smoke', small(home, server[0], 'device=gpu')), home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    assert not (tmp_path/'runs/table1-mine/alpaca-small').exists() and not (tmp_path/'results').exists()


def test_what_is_missing_is_told(whole):
    "A row without a seed, a row with one of two, a base model that nobody measured, a benchmark in which all are wrong, an error over seeds that makes a difference none"
    less = lambda keep: Table1(whole.doc | dict(means=[m | dict(seeds=1 if m['row'] == 'alpaca-small' else m['seeds']) for m in whole.doc['means'] if keep(m)]))
    text = less(lambda m: m['row'] not in ('psi-small', 'base'))._repr_markdown_()
    assert '`psi-small`, tiny: 0 of 2 seeds so far' in text and '`alpaca-small`, tiny: 1 of 2 seeds so far' in text and '`base`, tiny: not measured yet' in text and 'so far' not in whole._repr_markdown_()
    wrong = [x | dict(value=0., stderr=0., note='3 replies were cut off') if x['benchmark'] == 'winogrande' else x | dict(stderr=.05) for x in whole.doc['scores']]
    text = Table1(whole.doc | dict(scores=wrong))._repr_markdown_()
    assert 'WinoGrande: every model has none of 4 right' in text and 'WinoGrande: 3 replies were cut off' in text and 'by 5.0 points' in text and 'every model has' not in whole._repr_markdown_()
    d = lambda of: Table1(whole.doc | dict(differences=[x | dict(value=.1, stderr=.04, seed_stderr=of) for x in whole.doc['differences']])).verdict()
    assert 'above Alpaca on 2, below on 0, equal on 0' in d(.01) and '(+10.0 ± 4.1)' in d(.01) and 'together: none' in d(.04)


def test_the_precision_is_what_a_setting_comes_to(home, tmp_path):
    from psi.experiments.table1 import _claim, _how
    s = lambda dtype, *sets: read_scale('smoke', small(home, 'http://localhost:1/v1', f'measure.dtype={dtype}', *sets))
    best = _how(s('best'))['dtype']
    _claim(tmp_path, s('best'), {}, _how(s('best')))
    _claim(tmp_path, s(best, 'device=""'), {}, _how(s(best)) | dict(torch=_how(s(best))['torch'].partition('+')[0] + '+other'))    # the same, said otherwise
    known = json.loads((tmp_path/'table1.json').read_text())
    for file, how, says in ((known | dict(how={k: v for k, v in known['how'].items() if k != 'head'}), dict(head='float32'), 'with head as the weights are, now it is float32'), ({k: v for k, v in known.items() if k != 'how'} | dict(settings=known['settings'] | {'measure.dtype': 'float16'}), {}, "measure.dtype = 'float16'")):
        (tmp_path/'table1.json').write_text(json.dumps(file))
        with pytest.raises(ConfigError, match=says): _claim(tmp_path, s('best'), {}, _how(s('best')) | how)
    (tmp_path/'table1.json').write_text(json.dumps(known))
    for other in {'float32', 'bfloat16'} - {best}:
        with pytest.raises(ConfigError, match=f'with dtype {best}, now it is {other}'): _claim(tmp_path, s(other), {}, _how(s(other)))


def test_scores_are_of_the_data_that_is_there(home, server, tmp_path):
    "Where a row's data is not what its models were trained on, they are trained again"
    go = lambda said: table1(read_scale('smoke', small(home, server[0], 'train_seeds=[0]', rows='["alpaca"]')), home/'data', tmp_path/'runs', tmp_path/'results', said=said)
    first, said = go(quietly), []
    done = next((tmp_path/'runs').rglob('done.json'))
    done.write_text(json.dumps(json.loads(done.read_text()) | dict(data='of another')))
    again = go(said.append)
    assert steady(again.doc) == steady(first.doc) and sum('made anew' in x for x in said) == 1 and any('seed 0: ' in x for x in said) and 'of another' not in done.read_text()
    record = done.parent/'model'/'train.json'     # as where it was cut before the last benchmark
    record.write_text(json.dumps(json.loads(record.read_text()) | dict(data=dict(sha256='of another'))))
    done.unlink()
    said.clear()
    again = go(said.append)
    assert steady(again.doc) == steady(first.doc) and not again.failed and sum('made anew' in x for x in said) == 1 and done.exists()
    done.write_text('{"meas')
    assert [x for x in go(quietly).failed if 'done.json: not what psi wrote' in x and '\n' not in x]
    for f in sorted(done.parent.rglob('*'), reverse=True): f.rmdir() if f.is_dir() else f.unlink()    # as it says
    again = go(quietly)
    assert steady(again.doc) == steady(first.doc) and not again.failed


def test_the_hub_is_another_source_than_files(whole, home, server):
    with pytest.raises(ConfigError, match='measured with other files'): table1(read_scale('smoke', small(home, server[0])), None, home/'runs', home/'results', said=quietly)


def test_weights_are_deleted_and_nothing_is_done_twice(whole, home, server):
    assert not list((home/'runs/table1-mine/trained').rglob('*.safetensors')) and not list((home/'runs/table1-mine/trained').rglob('tokenizer.json'))
    said = []
    del server[1][:]
    again = table1(read_scale('smoke', small(home, server[0])), home/'data', home/'runs', home/'results', command=whole.doc['command'], said=said.append)
    assert again.doc == whole.doc and not server[1] and not [s for s in said if 'seed' in s]


def test_other_settings_are_refused(whole, home, server):
    for change, what in (('measure.limit=5', 'measure.limit = 4, now it is 5'), ('train_seeds=[0, 1, 2]', 'train_seeds'), ('n=11', 'n = 12'), ('recipe.epochs=2', 'recipe.epochs'), ('M_g.small.sampling.top_p=0.5', 'M_g.small.sampling')):
        with pytest.raises(ConfigError, match=re.escape(what)) as e: table1(read_scale('smoke', small(home, server[0], change)), home/'data', home/'runs', home/'results', said=quietly)
        assert '--set name=NAME' in str(e.value) and '\n' not in str(e.value)


def _go(heard, sets, home, where):
    "What a process of its own does; what it says goes to a file"
    said = os.open(heard, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1); os.dup2(said, 2)
    table1(read_scale('smoke', sets), home/'data', where/'runs', where/'results', command=typed('smoke', sets))
    os._exit(0)


def test_killed_at_any_moment(whole, home, server, tmp_path):
    "During data, training, measuring, and between"
    sets, url = small(home, server[0]), server[0]
    trained = tmp_path/'runs/table1-mine/trained'
    def count(pattern): return len(list(trained.glob(f'*/*/*/{pattern}')))
    moments = [lambda: len(server[1]) > 1, lambda: count('model/log.jsonl') > 0, lambda: count('eval/journal.sqlite') > 1, lambda: count('done.json') > 2, lambda: count('model/model.safetensors') > 0]
    rng, kills = random.Random(0), 0
    for i in range(KILLS):
        now = moments[i % len(moments)]
        del server[1][:]
        p = CONTEXT.Process(target=_go, args=(str(tmp_path/'heard'), sets, home, tmp_path), daemon=True); p.start()
        began, had = time.monotonic(), now()
        while p.exitcode is None and (not now() or had and time.monotonic() - began < 4*rng.random()) and time.monotonic() - began < 120: time.sleep(.002)
        time.sleep(rng.random()*.05)
        if p.exitcode is None: os.kill(p.pid, signal.SIGKILL); kills += 1
        p.join(60)
    assert kills
    p = CONTEXT.Process(target=_go, args=(str(tmp_path/'heard'), sets, home, tmp_path), daemon=True); p.start(); p.join(300)
    assert p.exitcode == 0, (tmp_path/'heard').read_text()
    doc = Table1.read(tmp_path/'results/table1-mine.json').doc
    assert steady(doc) == steady(whole.doc)
    for r in doc['rows'][1:]: assert r['took']['M_g']['low'] == Run(tmp_path/'runs/table1-mine'/r['name']).ledger().tokens.low > 0     # what was asked ahead is counted, too
    assert not list(trained.rglob('*.safetensors'))


def test_a_row_that_fails_does_not_stop_the_others(home, server, tmp_path):
    "Its cells are question marks with the reason beneath; run again, it is tried again"
    url, scale = server[0], lambda *s: read_scale('smoke', small(home, server[0], 'train_seeds=[0]', 'measure.benchmarks=["winogrande"]', *s))
    with scripted(lambda prompt, body: (400, {'error': {'message': 'no such model'}})) as refuses:
        t = table1(scale(f'row.psi-small.M_g.base_url={refuses}'), home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    row = next(r for r in t.rows if r['name'] == 'psi-small')
    assert 'no such model' in row['why'] and row['n'] == 0 and row['took'] is None and t.mean('psi-small', 'winogrande') is None and t.mean('alpaca-small', 'winogrande')['seeds'] == 1
    assert '127.0.0.1' not in json.dumps(t.doc) and str(tmp_path) not in json.dumps(t.doc)
    text = t._repr_markdown_()
    assert '| PSI | script | ? | ? | ? | ? |' in text and f'PSI (`psi-small`): {row["why"]}' in text and t.failed and t.difference('psi-small', 'winogrande') is None
    t = table1(scale(), home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    assert not t.failed and t.mean('psi-small', 'winogrande')['seeds'] == 1


def test_a_benchmark_that_fails_is_no_zero(home, server, tmp_path):
    "A damaged file is told at once, a failure on the way keeps the weights"
    data = tmp_path/'data'
    (data/'winogrande').mkdir(parents=True); (data/'gsm8k').mkdir()
    for f in (home/'data/winogrande').iterdir(): (data/'winogrande'/f.name).write_bytes(f.read_bytes())
    for f in ('train', 'test'): (data/'gsm8k'/f'{f}.jsonl').write_text('{"question": \n')
    t = table1(read_scale('smoke', small(home, server[0], 'train_seeds=[0]', 'measure.benchmarks=["winogrande", "gsm8k"]', rows='["base"]')), data, tmp_path/'runs', tmp_path/'results', said=quietly)
    assert 'not JSON' in t.doc['not_measured']['gsm8k'] and str(tmp_path) not in t.doc['not_measured']['gsm8k'] and t.benchmarks == ['winogrande'] and 'GSM8K: not measured' in t._repr_markdown_()


def test_a_failure_on_the_way_keeps_the_weights(home, server, tmp_path, monkeypatch):
    import psi.evaluate as E
    from psi.core import EngineError
    real = E._Evaluator.measure
    def fails(self, b, *a):
        if b.name == 'truthfulqa': raise EngineError('the machine is out of breath')
        return real(self, b, *a)
    go = lambda: table1(read_scale('smoke', small(home, server[0], 'train_seeds=[0]', rows='["base", "alpaca"]')), home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    monkeypatch.setattr(E._Evaluator, 'measure', fails)
    t = go()
    assert {s['why'] for s in t.doc['scores'] if s['benchmark'] == 'truthfulqa'} == {'the machine is out of breath'} and t.mean('alpaca-small', 'overall') is None and t.mean('alpaca-small', 'winogrande') and 'out of breath' in t._repr_markdown_()
    assert list((tmp_path/'runs').rglob('model.safetensors'))
    monkeypatch.setattr(E._Evaluator, 'measure', real)
    t = go()
    assert not t.failed and t.mean('alpaca-small', 'overall')['seeds'] == 1 and not list((tmp_path/'runs').rglob('model.safetensors'))


def test_only(home, server, tmp_path):
    go = lambda only, *s: table1(read_scale('smoke', small(home, server[0], 'train_seeds=[0]', 'measure.benchmarks=["winogrande"]', 'keep_models=true', *s)), home/'data', tmp_path/'runs', tmp_path/'results', only, said=quietly)
    t = go(['alpaca-small'])
    assert not t.failed and t.mean('base', 'winogrande') is None and t.mean('alpaca-small', 'winogrande') and [r['why'] for r in t.rows] == ['', '', 'left out by --only']
    assert list((tmp_path/'runs').rglob('model.safetensors'))     # they were to be kept
    t = go(['base'], 'keep_models=false')
    assert t.mean('base', 'winogrande') and t.mean('alpaca-small', 'winogrande')
    with pytest.raises(ConfigError, match='they are base, alpaca-small, psi-small'): go(['psi'])


def command(home, where, url, *args):
    code = 'import sys; from psi.cli import main; sys.argv[0] = "psi"; main()'
    sets = [x for s in small(home, url) for x in ('--set', s)]
    return subprocess.Popen([sys.executable, '-c', code, 'experiment', 'table1', '--scale', 'smoke', '--data', str(home/'data'), *sets, *args], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def test_ctrl_c_and_two_at_once(home, tmp_path):
    def slow(prompt, body): time.sleep(.5); return script(prompt, body)
    with scripted(slow) as url:
        p = command(home, tmp_path, url, '--set', 'n=200')
        while not (tmp_path/'runs/table1-mine/alpaca-small/journal.sqlite').exists() and p.poll() is None: time.sleep(.05)
        second = command(home, tmp_path, url, '--set', 'n=200')
        said = second.communicate(timeout=120)[1]
        assert second.returncode == 1 and 'another psi is at work' in said and 'Traceback' not in said, said
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=60)[1]
    assert p.returncode == 130 and 'the same command goes on' in said and 'Traceback' not in said, said


def test_a_dry_run_writes_no_comparison(home, tmp_path):
    with scripted(script) as url:
        p = command(home, tmp_path, url, '--dry-run', '--requests', '2')
        out, said = p.communicate(timeout=300)
    assert p.returncode == 0, said
    assert not (tmp_path/'results').exists() and not (tmp_path/'runs/table1-mine/table1.json').exists()
    assert '4 trainings' in out and '5 evaluations' in out and re.search(r'\| psi-small \|.*\d', out) and 'generate.n = 12' in out


def test_a_plan_says_what_each_row_would_take(home, tmp_path):
    "Rows that start from the pool are forecast before there is one; a row that cannot be is told, and stops no other"
    with scripted(everything) as url, scripted(lambda prompt, body: (400, {'error': {'message': 'no such model'}})) as refuses:
        p = plan(read_scale('smoke', small(home, url, f'row.alpaca-small.M_g.base_url={refuses}', 'pool=20', rows='["base", "alpaca_large", "alpagasus", "evol_instruct", "alpaca", "psi"]')), home/'data', tmp_path/'runs', 2, quietly)
    tokens = {n: o.total('tokens').mid for n, o in p.outlooks.items() if not isinstance(o, str)}
    assert tokens.keys() == {'pool', 'alpagasus', 'evol-instruct', 'psi-small'} and all(v > 0 for v in tokens.values())
    assert [x.stage for x in p.outlooks['alpagasus'].parts] == ['rate'] and p.outlooks['alpagasus'].parts[0].requests.mid == 20
    assert 'no such model' in p.outlooks['alpaca-small'] and p.outlooks['alpaca-large'] == 'no requests: a share of the pool' and 'no such model' in p._repr_markdown_()


def test_scales_are_what_the_paper_says():
    "Section 5: twenty thousand instances, the two base models, the recipe of A.7, six benchmarks whole; every row of Table 1 is there"
    s = read_scale('paper')
    rows = [r for r in rows_of(s) if r.kind != 'pool']
    assert (s.n, s.measure.limit, s.measure.benchmarks) == (20_000, 0, list(BENCHMARKS)) and len(s.models) == 2
    psi = next(r for r in rows if r.kind == 'psi').config
    assert (psi.reflect.T, psi.reflect.size, psi.M_L.model) == (10, 10, 'gpt-3.5-turbo')
    want = [(m, w.split('-')[0].lower()) for m, w, _ in PAPER['Gemma-2B']]
    assert len(rows) == len(want) == 9 and {r.title for r in rows} == {m for m, _ in want}
    laptop = read_scale('laptop')
    assert laptop.n >= 100 and laptop.pool >= 1.5*laptop.n and laptop.measure.limit >= 60 and laptop.measure.prefix_cache and len(laptop.train_seeds) == 3 and {'winogrande', 'truthfulqa', 'mmlu', 'gsm8k'} <= set(laptop.measure.benchmarks)


def test_the_papers_figures(shared):
    "Word for word, with the arrows that are printed there"
    text = (shared/'paper'/'psi.md').read_text()
    printed = re.sub(r'<[^>]*>|[${}*_\\ ]|uparrow|downarrow|↑|↓', '', text)
    for rows in PAPER.values():
        for method, writer, values in rows:
            assert re.search('.*?'.join(re.escape(f'{v:.1f}') for v in values), printed), (method, writer)
    assert '| PSI | Llama3-8B | 39.9 ↓1.0 |' in paper_table()


def everything(prompt, body):
    "A writer, a judge and a rewriter in one"
    rng = random.Random(f"{body.get('seed')}{prompt[-200:]}")
    if 'Rate the' in prompt: return f'{rng.randrange(11)/2}\nAs it is.'
    if 'Task after:' in prompt: return 'Explain ' + ' '.join(''.join(rng.choices('abcdef', k=4)) for _ in range(5)) + '.'
    return 'Yes.' if 'Does the second ask' in prompt else writes(prompt, body)


def test_every_row(home, tmp_path):
    "All methods, one pool: equal counts, what was shared, each row's share, and the row that M_L made is M_L's"
    with scripted(everything) as url:
        s = read_scale('smoke', small(home, url, 'train_seeds=[0]', 'measure.benchmarks=["winogrande"]', 'pool=20', rows='["base", "alpaca_large", "alpagasus", "evol_instruct", "alpaca", "psi"]'))
        t = table1(s, home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    assert not t.failed, t.failed
    by = {r['name']: r for r in t.doc['rows']}
    assert {n: r['n'] for n, r in by.items()} == {'base': 0, 'pool': 20} | dict.fromkeys(('alpaca-large', 'alpagasus', 'evol-instruct', 'alpaca-small', 'psi-small'), 12)
    took = {n: (r['took']['M_L']['low'], r['took']['M_g']['low']) for n, r in by.items() if r['took']}
    pool = took['pool'][0]
    assert took['pool'][1] == 0 and took['alpaca-large'] == (pytest.approx(pool*12/20), 0) and took['alpagasus'][0] > pool and took['alpagasus'][1] == 0 and took['evol-instruct'][0] > 0 and took['evol-instruct'][1] == 0
    assert took['alpaca-small'][0] == took['psi-small'][0] == 0 < took['alpaca-small'][1]
    assert t.doc['shared'] == dict(n=20, rows=['alpaca-large', 'alpagasus', 'evol-instruct']) and 'pool' not in [r['name'] for r in t.rows]
    chosen = {n: {(x.instruction, x.input) for x in Run(tmp_path/'runs/table1-mine'/n).instances} for n in ('pool', 'alpaca-large', 'alpagasus', 'evol-instruct')}
    assert chosen['alpaca-large'] < chosen['pool'] and chosen['alpagasus'] < chosen['pool'] and not chosen['evol-instruct'] & chosen['pool']
    assert all(t.mean(r['name'], 'winogrande')['seeds'] == 1 for r in t.rows)
    scores = [x.score for x in Run(tmp_path/'runs/table1-mine/alpagasus').scores]
    assert {n: sum(r['marks'].values()) for n, r in by.items() if r['marks']} == dict(alpagasus=20) and by['alpagasus']['marks'] == {f'{s:g}': scores.count(s) for s in sorted(set(scores))}

def test_private_instances_are_not_shown():
    from types import SimpleNamespace
    from psi.core import Instance
    from psi.experiments.table1 import _examples
    made = [Instance(f'Task {i}', '', 'x'*(700*(i == 1))) for i in range(9)]
    found = _examples(SimpleNamespace(private=False, instances=made))
    assert len(found) == 3 and all(len(x['output']) < 600 for x in found) and found == _examples(SimpleNamespace(private=False, instances=made))
    assert _examples(SimpleNamespace(private=True, instances=made)) == [] == _examples(SimpleNamespace(private=False, instances=made[1:2]))


def test_killed_in_the_data_of_any_row(home, tmp_path):
    "While lists are written, judged, evolved, and read for principles: the same table, and no reply that was kept is asked for again"
    asked, lock = [], threading.Lock()
    def slowly(prompt, body):
        with lock: asked.append(body)
        time.sleep(.01)
        return everything(prompt, body)
    kept = lambda runs: [(c['request'], j.parent.name, c['stage'], c['index']) for j in sorted(runs.glob('table1-mine/*/journal.sqlite')) for c in Journal(j, repair=False).rows()]
    with scripted(slowly) as url:
        sets = small(home, url, 'train_seeds=[0]', 'measure.benchmarks=["winogrande"]', 'pool=20', 'writer.model=author', 'row.psi-small.generate.principles=low', 'row.psi-small.expand.n=15', rows='["base", "alpaca_large", "alpagasus", "evol_instruct", "alpaca", "psi"]')
        whole = table1(read_scale('smoke', sets), home/'data', tmp_path/'whole/runs', tmp_path/'whole/results', command=typed('smoke', sets), said=quietly)
        assert not whole.failed, whole.failed
        kills, had = 0, []
        for row in ('pool', 'alpagasus', 'evol-instruct', 'alpaca-small', 'psi-small', ''):
            del asked[:]
            p = CONTEXT.Process(target=_go, args=(str(tmp_path/'heard'), sets, home, tmp_path/'cut'), daemon=True); p.start()
            at, began = tmp_path/'cut/runs/table1-mine'/row, time.monotonic()
            while row and p.exitcode is None and not ((at/'journal.sqlite').exists() and len(asked) > 2) and time.monotonic() - began < 120: time.sleep(.002)
            if row and p.exitcode is None: os.kill(p.pid, signal.SIGKILL); kills += 1
            p.join(300)
            with lock: assert not [(h[1:], row) for b in asked for h in had if h[0] == b], row
            had = kept(tmp_path/'cut/runs')
        assert p.exitcode == 0, (tmp_path/'heard').read_text()
    assert kills >= 4 and steady(Table1.read(tmp_path/'cut/results/table1-mine.json').doc) == steady(whole.doc)


def test_what_ablations_share_is_asked_once(home, tmp_path):
    "PSI without sampling begins with PSI's own requests: they are in its ledger, and no engine heard them twice"
    asked, lock = [], threading.Lock()
    def heard(prompt, body):
        with lock: asked.append((body['seed'], prompt))
        return everything(prompt, body)
    from psi.experiments.table1 import _share
    from psi.pipeline import run
    with scripted(heard) as url:
        sets = [x for x in small(home, url, 'ablations=true', 'M_g.small.concurrency=1', 'M_g.small.adapt=false', rows='["psi"]') if 'zephyr' not in x]
        rows = {r.name: r for r in rows_of(read_scale('smoke', sets), tmp_path)}
        full, less = rows['psi-small'], rows['psi-small-no-sample']
        assert less.twin == 'psi-small' and less.shares == ('expand',) and rows['psi-small-no-cluster'].shares == ('expand', 'reflect') and rows['psi-small-no-initial'].shares == ()
        one = run(full.config, runs=tmp_path/'table1-mine', said=quietly)
        n = len(asked)
        (tmp_path/'table1-mine'/less.name).mkdir()
        Journal(tmp_path/'table1-mine'/less.name/'journal.sqlite').close()     # killed before it was given anything
        _share(tmp_path/'table1-mine', less, replace(full, config=full.config.model_copy(update=dict(seed=7))))   # another run: nothing of it is this one's
        with closing(Journal(tmp_path/'table1-mine'/less.name/'journal.sqlite')) as j: assert not j.rows() and not j.energy()
        _share(tmp_path/'table1-mine', less, full)
        other = run(less.config, 'reflect', tmp_path/'table1-mine', quietly)
    assert other.initial == one.initial and len(asked) == len(set(asked)) and [e.requests for e in other.ledger()['expand']] == [e.requests for e in one.ledger()['expand']]
    assert len(asked) == n + sum(e.requests for e in other.ledger()['reflect'])


def test_published_data(home, server, tmp_path):
    "A file below --data is drawn from; nothing is known of its making"
    s = read_scale('smoke', small(home, server[0], 'train_seeds=[0]', 'measure.benchmarks=["winogrande"]', 'imported.mine.title=Mine', 'imported.mine.data=["alpaca/mine.json"]', rows='["imported"]'))
    t = table1(s, home/'data', tmp_path/'runs', tmp_path/'results', said=quietly)
    row, = t.rows
    assert (row['n'], row['kind'], t.failed) == (12, 'imported', []) and t.mean('mine', 'winogrande')['seeds'] == 1
    assert row['took'] is None or row['took']['kg']['lacks'] or row['took']['M_L']['lacks']
