"A look ahead: what it says comes true, it keeps to the boundary, and it asks no more than it may"
import json, random
import pytest
from psi.core import ConfigError, DataError
from psi.estimate import Guess, Probe, _whole, candidates_needed, estimate, mean, rare, share
from psi.journal import Reply
from psi.lm import scripted
from psi.folder import Run
from psi.pipeline import run
from test_run import config

WORDS = 'lake moon tree door fish rain milk coal sand bird road king lamp seed wool iron'.split()


def writer(words=16, tasks=14, fails=0.):
    "A model with so many words; some of its tasks have no output"
    def reply(prompt, body):
        rng = random.Random(f"{body['seed']}/{prompt[-80:]}")
        if 'Insights' in prompt: return 'Insights:\n' + '\n'.join(f'- Say which {w} of number {rng.randrange(99)} a task should have.' for w in ('input', 'output', 'length'))
        if 'high level' in prompt: return f'Give number {rng.randrange(999)} as an example.'
        word = lambda: rng.choice(WORDS[:words])
        n = 4 + rng.randint(tasks - 2, tasks + 2)
        return ' ' + '\n'.join(f'{i}. Instruction: Describe the {word()} {word()} {word()} {word()}.\n{i}. Input:\n<noinput>\n{i}. Output:\n{"" if rng.random() < fails else word()}' for i in range(4, n))[16:]
    return reply


@pytest.mark.parametrize('how, n, near', [(dict(), 60, .25), (dict(fails=.4), 60, .25), (dict(words=10), 60, .4), (dict(), 300, .8)])
def test_it_comes_true(tmp_path, how, n, near):
    "What the run takes lies within the two ends, and is near the likeliest; the less so, the more the candidates resemble each other"
    found = []
    for seed in range(3):
        with scripted(writer(**how)) as url:
            c = config(url, f'generate.n={n}', f'seed={seed}', f'name=run{seed}', 'carbon.measure=false', 'M_L.concurrency=1', 'M_g.concurrency=1')
            ahead = estimate(c, 5, tmp_path, said=lambda line: None).total('tokens')
            took = run(c, runs=tmp_path, said=lambda line: None).ledger().tokens.low
        found.append((ahead.low*.95 <= took <= ahead.high*1.05, abs(ahead.mid - took)/took, ahead, took))
    assert sum(ok for ok, *_ in found) >= 2 and all(off <= near for _, off, *_ in found), found


def test_no_more_than_it_may_and_no_trace_in_the_run(tmp_path):
    with scripted(writer()) as url:
        c = config(url, 'carbon.measure=false', 'budget.tokens=2000')
        o = estimate(c, 2, tmp_path, said=lambda line: None)
        again = estimate(c, 2, tmp_path, said=lambda line: None)
    folder, = (tmp_path/'estimates').iterdir()
    journal = Run(folder).journal()
    assert all(len(journal.rows(s)) <= 2 for s in ('expand', 'reflect', 'summarize', 'generate'))
    journal.close()
    assert not (tmp_path/'run').exists() and [p.tokens for p in again.parts] == [p.tokens for p in o.parts]   # the second asked nothing
    text = o._repr_markdown_()
    assert 'budget.tokens = 2000: the run would stop after about' in text and '| ? |' in text and 'nine of ten' in text
    assert Run(folder).audit().clean


def test_a_model_that_has_not_so_much_to_say(tmp_path):
    with scripted(writer(words=3)) as url: o = estimate(config(url, 'generate.n=20_000', 'carbon.measure=false'), 3, tmp_path, said=lambda line: None)
    assert o.total('tokens').high == float('inf') and '∞' in o._repr_markdown_() and 'cannot tell whether this model has 20,000 different things to say' in o._repr_markdown_()
    file, = tmp_path.glob('estimates/*/outlook.json')
    assert json.loads(file.read_text(), parse_constant=pytest.fail)['total']['tokens']['high'] is None   # JSON knows no infinity


def test_given_principles_need_no_large_model(tmp_path):
    with scripted(writer()) as url: o = estimate(config(url, 'generate.principles="none"', 'M_L.base_url="http://127.0.0.1:9/v1"', 'carbon.measure=false'), 2, tmp_path, said=lambda line: None)
    assert [p.stage for p in o.parts] == ['generate']


def test_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match='requests is 0'): estimate(config('http://127.0.0.1:9/v1'), 0, tmp_path)
    with scripted(lambda prompt, body: 'nothing') as url:
        with pytest.raises((ConfigError, DataError)) as e: estimate(config(url, 'carbon.measure=false'), 2, tmp_path, said=lambda line: None)
    assert '\n' not in str(e.value)


def test_numbers():
    assert candidates_needed(10, .5) == 20 and candidates_needed(10, 0) == float('inf') and candidates_needed(10**6, .5, .01) == float('inf')
    assert _whole(Guess(1, 10, 200)).high == 200 and _whole(Guess(1, 10, 201)).high == float('inf')
    a, b = share(3, 10), share(30, 100)
    assert a.low < b.low < .3 < b.high < a.high and share(0, 5).low == 0 and share(5, 5).high > .999
    assert rare(0, 1000).low == 0 and rare(0, 1000).high < .004 and rare(10, 1000).low < .01 < rare(10, 1000).high
    assert mean([4.]) == Guess(2, 4, 8) and mean([4., 4., 4.]) == Guess(4, 4, 4)
    for values in ([1, 2, 3, 4, 5], [100, 1, 1, 1, 1]): assert 0 <= mean(values).low <= sum(values)/5 <= mean(values).high


def test_prompts_are_known_beforehand():
    "Five prompts of a hundred differ from the rest; what is known of all of them takes the place of what was drawn"
    replies = [Reply('a', prompt_tokens=100, cached_tokens=50, completion_tokens=10), Reply('', error='no'), Reply('b', prompt_tokens=400, completion_tokens=10)]
    p = Probe('expand', 'm', replies, usual=(2., 7., .5))
    assert p.used == [(200., 100., 10), (200., 0., 10)] and p.tokens == Guess(210, 210, 210)
    assert Probe('expand', 'm', replies).tokens.mid == 260


def test_long_seeds_among_short_ones(tmp_path):
    "Whether the first few requests show long examples or short ones makes no difference to what a prompt is expected to have"
    from psi.core import Instance
    seeds = [Instance(f'Describe the {w} of number {i}.' + ' It is old.'*(200 if i % 5 == 0 else 1), '', w) for i, w in enumerate(WORDS*2)]
    (tmp_path/'seeds.jsonl').write_text('\n'.join(json.dumps(dict(instruction=s.instruction, input=s.input, output=s.output)) for s in seeds))
    mids = []
    for seed in range(4):
        with scripted(writer()) as url: o = estimate(config(url, f'seeds={tmp_path/"seeds.jsonl"}', f'seed={seed}', 'carbon.measure=false', 'generate.principles="none"', 'M_g.concurrency=1'), 2, tmp_path/f'{seed}', said=lambda line: None)
        part, = o.parts
        mids.append(part.tokens.mid/part.requests.mid)
    assert max(mids) < 1.35*min(mids), mids


def test_the_same_boundary_as_a_run(tmp_path):
    "What a run holds back, the estimate holds back; and no seed leaves as it is"
    secret = 'the blue ledger of the harbour master lists nine crates of amber and two of walnut wood'
    patient = 'the patient of ward seven complained of a humming sound behind the left ear since Tuesday'
    (tmp_path/'k.txt').write_text(' '.join([secret]*3))
    def reply(prompt, body):
        if 'Insights' in prompt or 'high level' in prompt: return writer()(prompt, body)
        rng = random.Random(body['seed'])
        return f' Retell number {rng.randrange(999)}.\n4. Input:\n{secret} {patient}\n4. Output:\nx\n' + '\n'.join(f'{i}. Instruction: Describe {rng.choice(WORDS)} {rng.randrange(999)}.\n{i}. Input:\n<noinput>\n{i}. Output:\n{patient if i == 5 else "y"}' for i in range(5, 12))
    prompts = {}
    for how in ('estimate', 'run'):
        with scripted(reply) as url:
            c = config(url, f'knowledge.source={tmp_path/"k.txt"}', 'knowledge.words=40', 'knowledge.overlap=10', 'M_g.mode=completion', f'name={how}', 'carbon.measure=false', 'expand.n=40', 'reflect.T=4', 'reflect.size=4', 'M_L.concurrency=1', 'M_g.concurrency=1')
            if how == 'run': folder = run(c, until='reflect', runs=tmp_path, said=lambda line: None).folder
            else: estimate(c, 3, tmp_path, said=lambda line: None); folder, = (tmp_path/'estimates').iterdir()
        r = Run(folder)
        journal = r.journal()
        prompts[how] = [str(x['request']) for s in ('reflect', 'summarize') for x in journal.rows(s)]
        journal.close()
        assert prompts[how] and not any(t in p for p in prompts[how] for t in ('humming sound behind', 'nine crates of amber'))
        assert not any(x.instruction in p for p in prompts[how] for x in r.seeds if len(x.instruction) > 30)


def test_more_at_once_than_were_tried(tmp_path):
    "Nobody knows whether an engine keeps up with more than the probe had"
    import threading, time
    one = threading.Lock()
    def slow(prompt, body):
        with one: time.sleep(.02)
        return writer()(prompt, body)
    with scripted(slow) as url:
        c = config(url, 'M_g.concurrency=32', 'M_L.concurrency=32', 'generate.n=400', 'carbon.measure=false', 'generate.threshold=1', 'generate.principles=none')
        ahead = estimate(c, 5, tmp_path, said=lambda line: None).total('seconds')
        start = time.monotonic(); run(c, runs=tmp_path, said=lambda line: None); took = time.monotonic() - start
    assert ahead.low <= took <= 2*ahead.high and abs(ahead.mid - took) < .6*took, (ahead, took)


def test_engines_that_do_not_tell_and_replies_that_are_cut(tmp_path):
    def silent(prompt, body): return (200, dict(choices=[dict(finish_reason='stop', message=dict(content=writer()(prompt, body)))]))
    with scripted(silent) as url: o = estimate(config(url, 'carbon.measure=false'), 2, tmp_path, said=lambda line: None)
    assert o.total('tokens') is None and o.total('money') is None and '| ? |' in o._repr_markdown_()
