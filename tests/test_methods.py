"Every method by one command: exactly n, resumable, with a ledger that counts what its source took"
import base64, gzip, json, random, re, shutil, signal, subprocess, sys, time
from contextlib import closing
from pathlib import Path
import pytest
from psi.config import read_config
from psi.core import BoundaryError, ConfigError, DataError, Instance, write_instances
from psi.datacard import Told, dataset_card
from psi.estimate import estimate, sure
from psi.folder import Run
from psi.ledger import Ledger
from psi.lm import scripted
from psi.pipeline import run
from psi.push import check
from psi.reflect import most_tokens
from psi.report import Report
from psi.setup import digest, stages_of
from script import script

POOL = [Instance(f'Say the number {i} aloud.', '', f'It is {i}.') for i in range(30)]
FILES = 'source.jsonl', 'source.json', 'scores.jsonl', 'initial.jsonl', 'principles_low.jsonl', 'principles.jsonl', 'instances.jsonl', 'dropped.jsonl', 'cleared.jsonl'
quiet = lambda line: None


def reply(prompt, body):
    "A judge, an author of harder tasks, and whoever writes lists"
    rng = random.Random(f"{body.get('seed')}{prompt[-200:]}")
    words = lambda n: ' '.join(''.join(rng.choices('abcdefgh', k=5)) for _ in range(n))
    if prompt.startswith('Below are a task and an answer'): return f'{rng.choice([1, 2.5, 3, 4, 4.5, 5])}\nSo it is.' if rng.random() > .1 else 'A fine answer.'
    if 'Task before:' in prompt: return f'{words(4)} with {words(1)}?'
    if 'Here are two tasks' in prompt: return 'yes' if rng.random() > .2 else 'no'
    if 'Insights' in prompt or 'high level' in prompt or prompt.endswith('Instruction:'): return script(prompt, body)
    return f'The answer is {words(3)}.'


@pytest.fixture(scope='module')
def url():
    with scripted(reply) as u: yield u

@pytest.fixture(scope='module')
def pool(url, tmp_path_factory):
    "A run by Alpaca's method, for others to start from"
    return run(config(url, 'name=pool', 'method=alpaca', 'generate.n=30'), runs=tmp_path_factory.mktemp('pool'), said=quiet)

@pytest.fixture
def file(tmp_path): return write_instances(POOL, tmp_path/'pool.json', bare=True)

def config(url, *sets): return read_config(None, ['name=run', 'M_L.model=script', 'M_g.model=script', f'M_L.base_url={url}', f'M_g.base_url={url}', 'carbon.measure=false', 'reflect.T=3', 'reflect.size=5', 'expand.n=30', *sets])
def results(r): return {n: (r.folder/n).read_bytes() for n in FILES if (r.folder/n).exists()}
def asked(r, *stages):
    with closing(r.journal()) as j: return [c for c in j.rows() if c['stage'] in stages]
def said(c): return c['request'].get('prompt') or c['request']['messages'][-1]['content']

METHODS = {
    'alpaca': ['method=alpaca', 'generate.n=20'], 'imported': ['method=imported', 'generate.n=12'],
    'alpagasus': ['method=alpagasus', 'generate.n=8', 'alpagasus.dimension=helpfulness'], 'alpagasus-alone': ['method=alpagasus', 'generate.n=8', 'source.n=20'],
    'evol': ['method=evol_instruct', 'generate.n=20'], 'evol-alone': ['method=evol_instruct', 'generate.n=20', 'source.n=4', 'evol_instruct.rounds=2'],
    'low': ['generate.principles=low', 'generate.n=20'], 'seeds': ['generate.principles=low', 'reflect.data=seeds', 'generate.n=20'], 'all': ['generate.principles=low', 'reflect.sample=false', 'generate.n=20']}
def sets_of(name, pool): return METHODS[name] + ([f'source.data={pool.folder}'] if name in ('imported', 'alpagasus', 'evol') else [])


@pytest.mark.parametrize('name', METHODS)
def test_each_method_makes_exactly_n_and_comes_back_from_its_journal(name, url, pool, tmp_path):
    c = config(url, *sets_of(name, pool))
    r = run(c, runs=tmp_path, said=quiet)
    assert len(r.instances) == c.generate.n == len({x.id for x in r.instances})
    for s in set(r.stages) & {'source', 'expand', 'generate', 'rate', 'evolve'}:
        counts = r.waterfall(s)
        assert counts['candidates'] == sum(v for k, v in counts.items() if k != 'candidates') > 0, s
    assert r.waterfall()['kept'] == c.generate.n
    assert sum(e.requests for e in r.ledger().entries if not e.stage.startswith('source')) == len(asked(r, 'expand', 'generate', 'reflect', 'rate', 'evolve', 'compare', 'answer'))
    made = results(r)
    for p in r.folder.iterdir():
        if p.name not in ('journal.sqlite', 'audit.jsonl'): p.unlink()
    again = run(config('http://127.0.0.1:9/v1', *sets_of(name, pool)), runs=tmp_path, said=quiet)     # nobody is there, and nobody is needed
    assert len(made) >= 2 and results(again) == made and again.instances == r.instances


@pytest.mark.parametrize('name', ['alpagasus-alone', 'evol', 'all'])
def test_concurrency_and_stops_do_not_change_a_byte(name, url, pool, tmp_path):
    sets = sets_of(name, pool)
    one = run(config(url, *sets, 'M_L.concurrency=1', 'M_g.concurrency=1'), runs=tmp_path/'one', said=quiet)
    c = config(url, *sets, 'M_L.concurrency=16', 'M_g.concurrency=16')
    for stage in stages_of(c):
        other = run(c, stage, tmp_path/'steps', said=quiet)
        assert (other.folder/'instances.jsonl').exists() == (stage == stages_of(c)[-1])
    assert results(other) == results(one)
    with pytest.raises(ConfigError, match=f'until is .nowhere.; the stages of this run are {", ".join(stages_of(c))}'): run(c, 'nowhere', tmp_path/'steps', quiet)


RUN = '''
import sys
from psi.config import read_config
from psi.pipeline import run
run(read_config(None, sys.argv[2:]), runs=sys.argv[1])
'''

@pytest.mark.parametrize('name', ['alpagasus-alone', 'evol-alone'])
def test_killed_in_the_middle_it_ends_with_the_same_bytes(name, pool, tmp_path):
    names = []
    def slow(prompt, body):
        names.append(body); time.sleep(.03)
        return reply(prompt, body)
    with scripted(slow) as u:
        sets = [*METHODS[name], 'name=run', 'M_L.model=script', 'M_g.model=script', f'M_L.base_url={u}', f'M_g.base_url={u}', 'carbon.measure=false']
        whole = run(read_config(None, sets), runs=tmp_path/'whole', said=quiet)
        needed = len(names)
        p = subprocess.Popen([sys.executable, '-c', RUN, tmp_path/'cut', *sets], stderr=subprocess.PIPE, text=True)
        while len(names) < needed*3//2 and p.poll() is None: time.sleep(.005)
        p.send_signal(signal.SIGKILL); p.wait()
        assert not (tmp_path/'cut/run/instances.jsonl').exists()
        with closing(Run(tmp_path/'cut/run').journal()) as j: had, start = [c['request'] for c in j.rows()], len(names)
        p = subprocess.run([sys.executable, '-c', RUN, tmp_path/'cut', *sets], stderr=subprocess.PIPE, text=True)
        assert p.returncode == 0, p.stderr
    assert results(Run(tmp_path/'cut/run')) == results(whole)
    assert had and names[start:] and not [body for body in names[start:] if body in had], 'what the journal had was asked for again'


def test_without_initial_the_seeds_are_reflected_on(url, pool, tmp_path):
    r = run(config(url, *METHODS['seeds']), runs=tmp_path, said=quiet)
    known = {x.id for x in r.seeds}
    assert not r.initial and not asked(r, 'expand', 'summarize') and len(asked(r, 'reflect')) == 3
    assert all(len(p.origin.parents) == 5 and set(p.origin.parents) <= known for p in r.low)
    assert any(x.instruction in said(asked(r, 'reflect')[0]) for x in r.seeds)
    with pytest.raises(ConfigError, match='needs 160 instances, there are 120 seeds'): run(config(url, *METHODS['seeds'], 'reflect.T=16', 'reflect.size=10', 'name=more'), runs=tmp_path, said=quiet)


def test_without_sampling_there_is_one_request_with_what_fits(url, pool, tmp_path):
    sets = METHODS['all'] + ['M_L.context=900', 'M_L.sampling={max_tokens = 300}']
    r = run(config(url, *sets), runs=tmp_path, said=quiet)
    c, = asked(r, 'reflect')
    shown = r.low[0].origin.parents
    assert 1 <= len(shown) < 30 and list(shown) == [x.id for x in r.initial[:len(shown)]] and most_tokens(said(c)) <= 600 < most_tokens(said(c)) + 60
    with pytest.raises(ConfigError, match='M_L.context was 900, now it is 1400'): run(config(url, *sets, 'M_L.context=1400'), runs=tmp_path, said=quiet)
    with pytest.raises(ConfigError, match='not one instance fits'): run(config(url, *sets, 'M_L.context=320', 'name=narrow'), runs=tmp_path, said=quiet)


def test_without_clustering_the_low_level_principles_are_followed(url, pool, tmp_path):
    r = run(config(url, *METHODS['low']), runs=tmp_path, said=quiet)
    assert r.principles == r.low and r.clusters is None and not asked(r, 'summarize')
    for c in asked(r, 'generate'): assert all(p.text in said(c) for p in r.low)
    up = r.ancestors(r.instances[0].id)
    assert len(up) == len({x.id for x in up}) and {p.id for p in r.low} <= {x.id for x in up}
    assert 'cluster' not in r._repr_markdown_() and not any('yet' in m for m in Report(r).missing())


def test_none_and_alpaca_ask_the_same(url, tmp_path):
    a, b = run(config(url, 'name=a', 'method=alpaca', 'generate.n=20'), runs=tmp_path, said=quiet), run(config(url, 'name=b', 'generate.principles=none', 'generate.n=20'), runs=tmp_path, said=quiet)
    read = 1 + max(x.origin.request for x in a.instances)   # how many are asked ahead of that hangs on the moment
    keys = [{c['index']: c['key'] for c in asked(r, 'generate') if c['index'] < read} for r in (a, b)]
    assert a.instances == b.instances and keys[0] == keys[1] and len(keys[0]) == read > 1


def test_a_run_of_an_older_psi_goes_on(url, tmp_path):
    c = config(url, 'generate.principles=low', 'generate.n=20')
    r = run(c, runs=tmp_path, said=quiet)
    m = json.loads((r.folder/'manifest.json').read_text())
    assert m['stages']['reflect'] == digest('reflect', {'T': 3, 'size': 5}, [x.id for x in r.initial], 0, m['weights'])     # as it was before there were switches
    for k in [k for k in m['settings'] if k == 'method' or k in ('reflect.data', 'reflect.sample') or k.startswith(('source.', 'alpagasus.', 'evol_instruct.'))]: del m['settings'][k]
    (r.folder/'manifest.json').write_text(json.dumps(m))
    lines = []
    run(config('http://127.0.0.1:9/v1', 'generate.principles=low', 'generate.n=20'), runs=tmp_path, said=lines.append)
    assert lines == [f'{s}: done before' for s in ('expand', 'reflect', 'generate')]     # and nothing was to be cleared again
    with pytest.raises(ConfigError, match="reflect.data was 'initial', now it is 'seeds'"): run(config(url, 'generate.principles=low', 'generate.n=20', 'reflect.data=seeds'), runs=tmp_path, said=quiet)


@pytest.mark.parametrize('sets, complaint', [
    (['method=imported'], 'needs source.data'), (['method=wizardlm'], "method is 'wizardlm'"), (['source.n=5'], 'starts from the seeds'),
    (['method=alpagasus', 'generate.n=9'], 'needs source.n'), (['method=alpagasus', 'generate.n=9', 'source.n=8'], 'raise source.n'),
    (['method=alpaca', 'generate.principles=zephyr-7b-beta'], 'has no principles'), (['alpagasus.threshold=7'], 'alpagasus.threshold is 7'), (['reflect.data=all'], "reflect.data is 'all'")])
def test_a_config_that_cannot_be_is_refused(sets, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)) as e: read_config(None, sets)
    assert '\n' not in str(e.value)


def test_a_source_that_cannot_be_is_refused(url, pool, file, tmp_path):
    imp = lambda *sets: run(config(url, 'method=imported', *sets), runs=tmp_path, said=quiet)
    with pytest.raises(DataError, match='no such file'): imp(f'source.data={tmp_path}/nowhere.json')
    with pytest.raises(DataError, match='30 different instances'): imp(f'source.data={file}', 'generate.n=31')
    (tmp_path/'begun').mkdir(); (tmp_path/'begun/psi.toml').write_text('name = "begun"')
    with pytest.raises(DataError, match='finish it'): imp(f'source.data={tmp_path}/begun')
    assert not (tmp_path/'run/psi.toml').exists()
    imp(f'source.data={file}', 'generate.n=5')
    with pytest.raises(ConfigError, match='the folder of this very run'): imp(f'source.data={tmp_path}/run', 'generate.n=5')
    with pytest.raises(DataError, match='judge'): run(config(url, 'name=strict', 'method=alpagasus', f'source.data={file}', 'generate.n=28', 'alpagasus.threshold=4.5'), runs=tmp_path, said=quiet)


def test_a_source_that_has_changed_is_another_run_and_one_that_is_gone_is_not_missed(url, file, tmp_path):
    c = config(url, 'method=alpagasus', f'source.data={file}', 'source.n=20', 'generate.n=5')
    r = run(c, runs=tmp_path, said=quiet)
    moved = file.rename(tmp_path/'moved.json')
    lines = []
    assert run(config('http://127.0.0.1:9/v1', 'method=alpagasus', f'source.data={moved}', 'source.n=20', 'generate.n=5'), runs=tmp_path, said=lines.append).instances == r.instances
    assert lines == ['source: done before', 'rate: done before']
    assert run(c, runs=tmp_path, said=quiet).instances == r.instances and r.taken['of'] == 30
    write_instances([Instance(f'Write the number {i}.', '', f'{i}') for i in range(30)], file, bare=True)
    with pytest.raises(ConfigError, match='what stands at source.data has changed'): run(c, runs=tmp_path, said=quiet)


def test_the_ledger_counts_the_share_of_the_source(url, pool, file, tmp_path):
    r = run(config(url, *sets_of('evol', pool)), runs=tmp_path, said=quiet)
    book, whole, share = r.ledger(), pool.ledger(), 5/30
    assert (r.taken['n'], r.taken['of'], len(r.source)) == (5, 30, 5)
    source, own = book['source/generate'], book['evolve']
    assert len(source) == len(own) == 1 and [e.stage for e in book.entries] == ['source/generate', 'evolve']     # one row for its three kinds of request
    assert own[0].requests == len(asked(r, 'evolve', 'compare', 'answer'))
    assert source[0].completion.low == pytest.approx(share*whole.sum('completion').low) and source[0].requests == round(share*whole['generate'][0].requests)
    assert book.tokens.low == pytest.approx(share*whole.tokens.low + Ledger(own).tokens.low) and book.per()['tokens'].low == pytest.approx(book.tokens.low/20*1000)
    second = run(config(url, 'name=second', 'method=imported', f'source.data={r.folder}', 'generate.n=10'), runs=tmp_path, said=quiet).ledger()
    assert [e.stage for e in second.entries] == ['source/source/generate', 'source/evolve'] and second.tokens.low == pytest.approx(book.tokens.low/2)
    unknown = run(config(url, 'name=file', 'method=alpagasus', f'source.data={file}', 'generate.n=5'), runs=tmp_path, said=quiet).ledger()
    assert unknown['source'][0].prompt.text() == '?' and unknown.tokens.text().startswith('≥') and 'what making the source data took' in unknown.tokens.lacks
    assert json.loads((tmp_path/'run/carbon.json').read_text())['entries'][0]['stage'] == 'source/generate'
    told = json.loads((tmp_path/'run/source.json').read_text())
    told['ledger'][0] |= dict(measured=dict(low=2., high=2., lacks=[]), kg=dict(low=.5, high=.5, lacks=[]))
    (tmp_path/'run/source.json').write_text(json.dumps(told))
    kg = lambda *sets: Run(tmp_path/'run').ledger(read_config(tmp_path/'run/psi.toml', sets) if sets else None)['source/generate'][0].kg
    assert (kg().low, kg().high) == (pytest.approx(.5*share), pytest.approx(.5*share))     # as it was counted there
    assert (kg('carbon.intensity=0.01').low, kg('carbon.intensity=0.01').high) == (pytest.approx(2*.01*share), pytest.approx(2*.01*share))     # at another place


def test_what_the_ledger_says_does_not_depend_on_the_source_being_there(url, tmp_path):
    a = run(config(url, 'name=a', 'method=alpaca', 'generate.n=20'), runs=tmp_path, said=quiet)
    b = run(config(url, 'name=b', 'method=imported', f'source.data={a.folder}', 'generate.n=10'), runs=tmp_path, said=quiet)
    tokens = b.ledger().tokens
    shutil.rmtree(a.folder)
    assert Run(b.folder).ledger().tokens == tokens == run(config(url, 'name=b', 'method=imported', f'source.data={a.folder}', 'generate.n=10'), runs=tmp_path, said=quiet).ledger().tokens


def test_an_evolved_instance_leads_back_to_its_source_and_its_seeds(url, tmp_path):
    r = run(config(url, *METHODS['evol-alone']), runs=tmp_path, said=quiet)
    sources, seeds = {x.id for x in r.source}, {x.id for x in r.seeds}
    for x in r.instances:
        up = {y.id for y in r.ancestors(x.id)}
        assert x.origin.stage == 'evolve' and re.fullmatch(r'[a-z ]+, round \d+', x.origin.how) and len(up & sources) == 1 and up & seeds
    assert any(x.origin.how.endswith('round 2') for x in r.instances)
    assert {x.id for x in r.instances} <= {y.id for s in r.source for y in r.descendants(s.id)}


def test_alpagasus_keeps_what_its_judge_liked_best_unchanged(url, pool, tmp_path):
    r = run(config(url, *sets_of('alpagasus', pool)), runs=tmp_path, said=quiet)
    score, kept = {s.id: s.score for s in r.scores}, {x.id for x in r.instances}
    assert len(r.scores) == len(r.source) == 30 and all(x in r.source for x in r.instances)
    assert min(score[i] for i in kept) >= max(s for i, s in score.items() if i not in kept and s is not None)
    assert {d.instance.id for d in r.dropped if d.reason == 'no score'} == {i for i, s in score.items() if s is None}
    assert all('Rate the helpfulness' in said(c) for c in asked(r, 'rate'))


def test_an_estimate_is_made_of_what_the_method_asks(url, pool, tmp_path):
    look = lambda name, *sets: {p.stage: p for p in estimate(config(url, f'name={name}', *sets_of(name, pool), *sets), 4, tmp_path, quiet).parts}
    assert set(look('alpaca')) == {'generate'}
    gas, evol = look('alpagasus'), look('evol')
    assert gas['rate'].requests == sure(30)
    assert list(evol) == ['evolve', 'compare', 'answer'] and evol['evolve'].requests.mid >= evol['compare'].requests.mid >= evol['answer'].requests.mid >= 20
    assert list(look('alpagasus-alone')) == ['generate', 'rate'] and list(look('low')) == ['expand', 'reflect', 'generate'] and list(look('seeds')) == ['reflect', 'generate']
    assert look('all')['reflect'].requests == sure(1)
    with pytest.raises(ConfigError, match='asks no model, so there is nothing to estimate'): look('imported')


SECRET = 'The vault on the third floor opens with the brass key that hangs behind the portrait of the founder'

def test_the_judge_and_the_author_see_only_what_was_cleared(url, tmp_path):
    (tmp_path/'k.txt').write_text(SECRET + ' and nobody else knows of it. ' + ' '.join(f'word{i}' for i in range(300)))
    def leaky(prompt, body):
        text = reply(prompt, body)
        return text.replace('\n5. Input:\n<noinput>', f'\n5. Input:\n{SECRET}', 1) if prompt.endswith('Instruction:') else text
    with scripted(leaky) as u:
        K = [f'knowledge.source={tmp_path}/k.txt', 'knowledge.words=100', 'knowledge.overlap=10', 'source.n=20', 'generate.n=8']
        for method in ('alpagasus', 'evol_instruct'):
            r = run(config(u, f'name={method}', f'method={method}', *K), runs=tmp_path, said=quiet)
            held = [x for x in r.source if SECRET in x.input]
            assert held and len(r.instances) == 8 and not any(SECRET in said(c) for c in asked(r, 'rate', 'evolve', 'compare', 'answer'))
            assert {d.instance.id for d in r.dropped if d.reason == 'may not leave'} == {x.id for x in held} and r.audit().clean and r.private
        other = lambda *sets: run(config(u, 'name=other', f'source.data={r.folder}', 'generate.n=4', *sets), runs=tmp_path, said=quiet)
        with pytest.raises(BoundaryError, match='made with private knowledge'): other('method=alpagasus')     # in another run, which is told nothing of K
        shutil.rmtree(tmp_path/'other')
        (tmp_path/'k2.txt').write_text(' '.join(f'other{i}' for i in range(300)))
        with pytest.raises(BoundaryError, match='knowledge.source') as e: other('method=alpagasus', f'knowledge.source={tmp_path}/k2.txt')     # another K is not that K
        assert SECRET not in str(e.value) and not asked(Run(tmp_path/'other'), 'rate')
        shutil.rmtree(tmp_path/'other')
        taken = other('method=imported')
        termed = other('method=imported', 'name=termed', 'boundary.patterns=["PROJECT-[0-9]+"]')
    assert 'No example is shown' in termed.card(told=Told(license='mit')).read_text() and 'was not compared' in dataset_card(termed)
    some = next(x for x in taken.instances if x.origin.knowledge)
    assert set(taken.places(some.origin.knowledge).values()) == {''}
    assert taken.private and (taken.folder.stat().st_mode & 0o77) == 0
    card = taken.card(told=Told(license='mit')).read_text()
    assert 'Made with private knowledge' in card and 'No example is shown' in card
    with pytest.raises(BoundaryError, match='had private knowledge'): check(taken)


def test_a_report_and_a_card_speak_of_what_was_left_out(url, pool, tmp_path):
    of = {}
    for name in ('low', 'seeds', 'all'):
        r = run(config(url, f'name={name}', *METHODS[name]), runs=tmp_path, said=quiet)
        of[name] = Report(r).html().split('<script', 1)[0], dataset_card(r)
    for name, (page, card) in of.items():
        assert f'{len(Run(tmp_path/name).principles)} low-level principles' in page and 'high-level principles, so' not in page and 'became one high-level principle' not in page
        assert ('small subsets of the seeds' in page) == ('reads the seeds and says' in card) == (name == 'seeds')
        assert ('as many as one request holds of the initial instances' in page) == ('as many of them as fit' in card) == (name == 'all')


def test_a_setting_that_follows_from_another_is_not_blamed(url, tmp_path):
    run(config(url, *METHODS['all']), 'reflect', tmp_path, quiet)
    with pytest.raises(ConfigError, match=r'reflect\.sample was False, now it is True'): run(config(url, 'generate.principles=low', 'generate.n=20'), runs=tmp_path, said=quiet)


def test_what_was_deleted_is_made_again(url, pool, tmp_path):
    "Each file of a run by itself: the same bytes come back, and nobody is asked again"
    for name in ('imported', 'alpagasus', 'evol', 'all'):
        sets, again = config(url, f'name={name}', *sets_of(name, pool)), lambda: run(sets, runs=tmp_path, said=quiet)
        r = again()
        want, calls, book = results(r), len(r.journal()), r.ledger().to_dict()
        for f in want:
            if f == 'dropped.jsonl': continue     # of all stages; it is no stage's own
            (r.folder/f).unlink()
            r = again()
            assert results(r) == want and len(r.journal()) == calls and r.ledger().to_dict()['entries'] == book['entries'], (name, f)
    (r := Run(tmp_path/'imported')).folder.joinpath('source.json').unlink()
    assert Run(r.folder).ledger().data.sum('kg').lacks     # and until then it is not for nothing


def test_candidates_without_words_are_read_back(tmp_path):
    "What was dropped is read by the next run, however little of it there is"
    def reply_with_nothing(prompt, body): return reply(prompt, body) + '\n###\n99. Instruction:\n99. Input:\n<noinput>\n99. Output:\nYes.'
    with scripted(reply_with_nothing) as u:
        r = run(config(u, 'method=alpaca', 'generate.n=5'), runs=tmp_path, said=quiet)
        assert r.waterfall()['no instruction'] and {d.instance.output for d in r.dropped if d.reason == 'no instruction'} == {'Yes.'}
        want, calls = results(r), len(r.journal())
        (r.folder/'instances.jsonl').unlink()
        r = run(config(u, 'method=alpaca', 'generate.n=5'), runs=tmp_path, said=quiet)
    assert results(r) == want and len(r.journal()) == calls
    with (r.folder/'dropped.jsonl').open('a') as f: f.write('{"why": "psi did not write this"}\n')
    with pytest.raises(DataError, match=r'dropped\.jsonl line [0-9]+: not a record as psi writes it'): run(config(u, 'method=alpaca', 'generate.n=5'), runs=tmp_path, said=quiet)


def test_another_programs_origin_is_none_of_ours(url, tmp_path):
    (tmp_path/'mixed.jsonl').write_text(''.join(json.dumps(dict(instruction=f'Say {i}.', output=f'{i}', origin=o)) + '\n' for i, o in enumerate(['alpaca', {'dataset': 'x'}, None, 3, ['a'], {'stage': 'generate', 'odd': 1}])))
    r = run(config(url, 'method=imported', f'source.data={tmp_path}/mixed.jsonl', 'generate.n=6'), runs=tmp_path, said=quiet)
    assert [x.output for x in r.instances] == list('012345') and {x.origin.stage for x in r.instances} == {'source'}


def test_a_rule_that_would_stop_psis_own_words_is_told_at_once(url, pool, tmp_path):
    (tmp_path/'terms.txt').write_text('Norway\n')
    with pytest.raises(ConfigError, match="psi's own prompts"): run(config(url, *sets_of('evol', pool), f'boundary.terms={tmp_path}/terms.txt'), runs=tmp_path, said=quiet)


def test_a_report_and_a_card_speak_of_the_method(url, pool, tmp_path):
    for name, words in (('alpaca', "Alpaca's method"), ('imported', 'Taken from data that were there before'), ('alpagasus', 'the method of AlpaGasus'), ('evol', 'Evol-Instruct, the method of WizardLM')):
        r = run(config(url, f'name={name}', *sets_of(name, pool)), runs=tmp_path, said=quiet)
        card, page = dataset_card(r), Report(r).html()
        assert words in card and '## The principles' not in card and 'principle-based self-instruct ("' not in card
        assert '<section id="principles" hidden' in page and '{{' not in page.split('<script', 1)[0] and 'principle' not in page.split('id="waterfall"')[1].split('</section>')[0]
        assert 'principle' not in r._repr_markdown_() and 'cluster' not in r._repr_markdown_() and not any('yet' in m for m in Report(r).missing())
        assert ('Seeds: 120' in card) == (name == 'alpaca') and ('Source: ' in card) == (name != 'alpaca')
        assert str(tmp_path) not in card and str(pool.folder.parent) not in card and str(pool.folder.parent) not in page
        told = json.loads(gzip.decompress(base64.b64decode(Report(r).packed()[0])))
        assert told['scores'] == {x.id: ['' if x.score is None else f'{x.score:g}', x.why] for x in r.scores} and bool(r.scores) == (name == 'alpagasus') and told['level'] == 'high'
        assert (f'The scores of the judge: {len(r.instances)} of {len(r.scores)} instances' in page) == (name == 'alpagasus')


def test_the_command_does_it_all(url, pool, tmp_path, monkeypatch, capsys):
    from psi.cli import main
    def psi(*args):
        monkeypatch.setattr(sys, 'argv', ['psi', *map(str, args)])
        with pytest.raises(SystemExit) as e: main()
        return e.value.code or 0, capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    for method in ('alpagasus', 'imported', 'evol_instruct', 'alpaca'): assert psi('init', f'{method}.toml', '--method', method)[0] == 0 and read_config(f'{method}.toml').method == method
    more = [x for s in ('M_L.model=script', f'M_L.base_url={url}', 'carbon.measure=false', 'generate.n=8', 'source.n=0', f'source.data={pool.folder}') for x in ('--set', s)]
    code, out = psi('run', 'alpagasus.toml', *more)
    assert code == 0 and 'low score' in out and 'per 1,000 accepted' in out
    folder = 'runs/alpagasus'
    assert 'AlpaGasus' in psi('show', folder)[1] and 'source 0' not in psi('show', folder, '--trace', Run(folder).instances[0].id)[1]
    for args in (['carbon', folder], ['audit', folder], ['report', folder], ['card', folder], ['generate', folder, '--to', 'alpaca']): assert psi(*args)[0] == 0, args
    assert len(json.loads(Path(folder, 'alpaca.json').read_text())) == 8
