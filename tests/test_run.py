"A run, whatever happens to it: order of replies, kills, another address"
import shutil, signal, subprocess, sys, time
import pytest
from psi.core import ConfigError, EngineError, Instance, Principle
from psi.lm import LM, scripted
from psi.config import ModelConfig, read_config
from psi.folder import Run
from psi.pipeline import run
from psi.setup import make_lm
from script import script

SMALL = ['expand.n=40', 'reflect.T=4', 'generate.n=60', 'M_L.model=script', 'M_g.model=script', 'name=run']
RESULTS = 'initial.jsonl', 'principles_low.jsonl', 'clusters.json', 'principles.jsonl', 'instances.jsonl', 'dropped.jsonl'


def config(url, *sets): return read_config(None, [*SMALL, f'M_L.base_url={url}', f'M_g.base_url={url}', *sets])
def results(folder, names=RESULTS): return {n: (folder/n).read_bytes() for n in names}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "One uncut run, one request at a time"
    runs = tmp_path_factory.mktemp('runs')
    with scripted(script) as url: return run(config(url, 'M_L.concurrency=1', 'M_g.concurrency=1'), runs=runs)


def test_concurrency_does_not_change_a_byte(whole, tmp_path):
    with scripted(script) as url: other = run(config(url, 'M_L.concurrency=16', 'M_g.concurrency=16'), runs=tmp_path)
    assert results(other.folder) == results(whole.folder)


def test_counts_add_up_and_every_parent_is_known(whole):
    assert len(whole.instances) == 60 and len(whole.initial) == 40
    for stage in ('expand', 'generate'):
        counts = whole.waterfall(stage)
        assert counts['candidates'] == sum(v for k, v in counts.items() if k != 'candidates') > 0
    known = {x.id for x in (*whole.seeds, *whole.initial, *whole.low, *whole.principles)}
    for x in (*whole.initial, *whole.low, *whole.principles, *whole.instances): assert x.origin.parents and set(x.origin.parents) <= known
    for d in whole.dropped:
        assert d.origin and (d.reason != 'too similar' or d.score > .7 and d.nearest_text)


def test_candidates_are_all_that_the_replies_held(whole):
    "Counted anew from the journal: instances and dropped together hold each task of each reply that was read"
    journal = whole.journal()
    for stage, kept in (('expand', whole.initial), ('generate', whole.instances)):
        dropped = [d for d in whole.dropped if d.origin.stage == stage]
        last = max(x.origin.request for x in (*kept, *dropped))
        tasks = sum(r['reply']['text'].count('Output:') for r in journal.rows(stage) if r['index'] <= last)
        assert tasks == len(kept) + len(dropped)
    journal.close()


def test_provenance_runs_both_ways(whole):
    x = whole.instances[-1]
    up = whole.ancestors(x.id)
    assert any(isinstance(y, Principle) and y.origin.stage == 'reflect' for y in up) and any(isinstance(y, Instance) and y.origin is None for y in up)
    for y in up[:5] + up[-5:]: assert x.id in {z.id for z in whole.descendants(y.id)}


RUN = '''
import sys
from psi.config import read_config
from psi.pipeline import run
run(read_config(None, sys.argv[2:]), runs=sys.argv[1])
'''


def start(url, runs, *sets):
    return subprocess.Popen([sys.executable, '-c', RUN, str(runs), *SMALL, f'M_L.base_url={url}', f'M_g.base_url={url}', *sets], stderr=subprocess.PIPE, text=True)


def test_killed_at_any_time_it_ends_with_the_same_bytes(tmp_path):
    sets = 'generate.principles=zephyr-7b-beta', 'generate.n=300'
    names = 'principles.jsonl', 'instances.jsonl', 'dropped.jsonl'
    asked = []
    def slow(prompt, body):
        asked.append(body['seed'])
        time.sleep(.05)
        return script(prompt, body)
    with scripted(slow) as url:
        uncut = run(config(url, *sets), runs=tmp_path/'uncut')
        needed = len(asked)
        asked.clear()
        for kill_after in (1, 5, 11):
            before, p = len(asked), start(url, tmp_path/'cut', *sets)
            while len(asked) - before < kill_after and p.poll() is None: time.sleep(.01)
            p.send_signal(signal.SIGKILL); p.wait()
            assert not (tmp_path/'cut/run/instances.jsonl').exists()
        p = start(url, tmp_path/'cut', *sets)
        assert p.wait(120) == 0, p.stderr.read()
    assert results(tmp_path/'cut/run', names) == results(uncut.folder, names)
    assert len(asked) <= needed + 3*4 + 2*4     # at most what was in flight at each kill was asked again, and what the last lines ran ahead


def test_results_lost_the_journal_gives_them_back(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path/'run')
    for p in (tmp_path/'run').iterdir():
        if p.name != 'journal.sqlite': p.unlink()
    run(config('http://127.0.0.1:9/v1'), runs=tmp_path)     # nobody is there, and nobody is needed
    assert results(tmp_path/'run') == results(whole.folder)


def test_until_then_on_is_the_same_as_at_once(whole, tmp_path):
    with scripted(script) as url:
        for stage in ('expand', 'reflect', 'summarize'): run(config(url), stage, tmp_path)
        assert not (tmp_path/'run/instances.jsonl').exists()
        run(config(url), runs=tmp_path)
    assert results(tmp_path/'run') == results(whole.folder)


def test_no_key_in_any_file(tmp_path, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-secret-123')
    with scripted(script) as url: r = run(config(url, 'generate.principles=none', 'generate.n=3'), runs=tmp_path)
    for p in r.folder.rglob('*'):
        if p.is_file(): assert b'sk-secret-123' not in p.read_bytes(), p


def test_an_engine_that_refuses_one_request_does_not_end_the_run(tmp_path):
    "A prompt longer than the context is a dropped candidate, with the engine's own words"
    asked = []
    def fussy(prompt, body):
        asked.append(1)
        return (400, {'error': {'message': 'too long by 7 tokens'}}) if len(asked) == 2 else script(prompt, body)
    with scripted(fussy) as url: r = run(config(url, 'M_g.concurrency=1', 'generate.principles=none', 'generate.n=25'), runs=tmp_path)
    refused = [d for d in r.dropped if d.reason == 'request failed']
    assert len(r.instances) == 25 and [d.detail for d in refused] == ['too long by 7 tokens']


def test_replies_without_choices_or_text_are_asked_again():
    asked = []
    def shy(prompt, body):
        asked.append(1)
        body = dict(id='x', object='x', created=0, model='m', choices=[dict(index=0, message=dict(role='assistant', content=None), finish_reason='stop')] * (len(asked) == 2))
        return 'here' if len(asked) == 3 else (200, body)
    with scripted(shy) as url: reply = LM('m', url)('hello')
    assert (reply.text, reply.attempts, len(asked)) == ('here', 3, 3)


def test_busy_engines_are_asked_again_and_forbidding_ones_are_not():
    asked = []
    def busy(prompt, body):
        asked.append(1)
        return 'here' if len(asked) > 2 else (429, {'error': {'message': 'slow down'}})
    with scripted(busy) as url: assert LM('m', url)('hello').text == 'here'
    with scripted(lambda p, b: (401, {'error': {'message': 'wrong key sk-secret-123'}})) as url:
        with pytest.raises(EngineError, match='refuses the key') as e: LM('m', url, api_key='sk-secret-123')('hello')
    assert 'secret' not in str(e.value)


def test_each_provider_gets_its_own_key_and_errors_name_where_it_comes_from(monkeypatch, tmp_path):
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-of-another')
    ask = lambda url, **how: make_lm(ModelConfig(model='m', base_url=url, **how))('hello')
    with scripted(lambda p, b: (401, {'error': {'message': 'no'}})) as url:
        with pytest.raises(ConfigError, match='OTHER_KEY: this environment variable is not set'): ask(url, api_key_env='OTHER_KEY')
        monkeypatch.setenv('OTHER_KEY', 'sk-x')
        with pytest.raises(EngineError, match='the right one into the environment variable OTHER_KEY'): ask(url, api_key_env='OTHER_KEY')
        (tmp_path/'key').write_text('sk-y\n')
        with pytest.raises(EngineError, match='the right one into the file .*key'): ask(url, api_key_file=str(tmp_path/'key'))
        with pytest.raises(ConfigError, match='cannot be read'): ask(url, api_key_file=str(tmp_path/'none'))


def test_ctrl_c_says_how_to_go_on(tmp_path):
    (tmp_path/'psi.toml').write_text('name = "x"\n[generate]\nprinciples = "none"\nn = 100\n')
    asked = []
    def slow(prompt, body):
        asked.append(1)
        time.sleep(.2)
        return script(prompt, body)
    code = 'import sys; sys.argv[0] = "psi"; from psi.cli import main; main()'
    with scripted(slow) as url:
        args = [sys.executable, '-c', code, 'run', '--set', f'M_g.base_url={url}', '--set', 'M_g.model=x']
        p = subprocess.Popen(args, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        while len(asked) < 6 and p.poll() is None: time.sleep(.01)
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=30)[1]
        assert p.returncode == 130 and 'the same command goes on' in said and 'Traceback' not in said, said
        done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(Run(tmp_path/'runs/x').instances) == 100
