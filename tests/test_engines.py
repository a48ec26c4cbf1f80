"Real weights in a real engine: as a run starts it, and behind an address of its own"
import os, re, signal, subprocess, sys, threading, time
import pytest
from psi.core import EngineError
from psi.journal import Journal
from psi.lm import LM
from psi.local import Engine, WEIGHTS, local_lm, models_dir
from psi.config import read_config
from psi.pipeline import run

SMALL = 'smollm2-135m-instruct'
pytestmark = pytest.mark.skipif(not (models_dir()/WEIGHTS[SMALL].file).exists(), reason=f'no weights here: psi fetch {SMALL}')
SETS = [f'M_g.model={SMALL}', 'generate.principles=none', 'generate.n=2', 'generate.per_request=8', 'generate.threshold=1', 'M_g.concurrency=2', 'M_g.context=2048',
        'M_g.sampling={temperature = 0.7, max_tokens = 500}', 'generate.patience=40']


@pytest.fixture(scope='module')
def served():
    "The address of `psi serve` in another process"
    code = 'import sys; from psi.cli import main; sys.argv[0] = "psi"; main()'
    p = subprocess.Popen([sys.executable, '-c', code, 'serve', SMALL, '--port', '0', '--concurrency', '2', '--context', '2048'], stdout=subprocess.PIPE, text=True)
    yield re.search(r'http://\S+', p.stdout.readline())[0]
    p.terminate(); p.wait(30)


def test_the_same_run_here_and_by_base_url_alone(served, tmp_path):
    here = run(read_config(None, [*SETS, 'name=here']), runs=tmp_path)
    there = run(read_config(None, [*SETS, 'name=there', f'M_g.base_url={served}']), runs=tmp_path)
    assert len(here.instances) == len(there.instances) == 2
    rows = {r.folder.name: r.journal() for r in (here, there)}
    asked = {k: {(x['index'], x['key']) for x in j.rows()} for k, j in rows.items()}
    assert asked['here'] & asked['there'], 'the same requests have the same names in both journals'
    for j in rows.values(): j.close()


def test_a_run_that_was_here_goes_on_there(served, tmp_path):
    "The address is not a part of what a run is"
    first = run(read_config(None, [*SETS, 'name=moves']), runs=tmp_path)
    again = run(read_config(None, [*SETS, 'name=moves', f'M_g.base_url={served}']), runs=tmp_path)
    assert again.instances == first.instances


def test_an_engine_closes_and_opens_again():
    lm = local_lm(SMALL, 'completion', Journal(), concurrency=1, context=256, max_tokens=4, temperature=0.)
    one = lm('The sun is')
    lm.close()
    two = lm('The moon is')
    lm.close()
    assert one.text and two.text and lm('The sun is') == one     # from the journal: nothing is opened for it
    assert lm.engine._process is None


def test_usage_is_counted():
    lm = local_lm(SMALL, 'completion', context=256, max_tokens=5, temperature=0.)
    r = lm('One two three four')
    lm.close()
    assert r.completion_tokens == 5 and r.finish_reason == 'length' and not r.finished and r.prompt_tokens >= 4 and r.seconds > 0 and r.model == SMALL


def gone(pid):
    "Has this process ended? A zombie has"
    try: return open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[0] == 'Z'
    except OSError: return True


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end: time.sleep(.02)
    return what()


def test_an_engine_that_dies_ends_the_work_and_is_started_anew():
    lm = local_lm(SMALL, 'completion', concurrency=2, context=1024, max_tokens=900, ignore_eos=True, temperature=0.)
    said = []
    def ask():
        try: lm(['The sea', 'The sky'])
        except EngineError as e: said.append(str(e))
    t = threading.Thread(target=ask); t.start()
    assert until(lambda: lm.engine._process and lm._open and lm._open[2].in_flight)
    lm.engine._process.send_signal(signal.SIGKILL)
    t.join(20)
    assert said and 'its engine has ended (exit code -9)' in said[0], said
    lm.sampling['max_tokens'] = 3
    assert lm('The sun').completion_tokens == 3
    lm.close()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks into /proc')
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_no_engine_outlives_its_owner(how, tmp_path):
    "A run in the middle of a batch is cut: the run ends within a second, and so does its engine"
    code = 'import sys; from psi.cli import main; sys.argv[0] = "psi"; main()'
    sets = [x for s in SETS + ['name=cut', 'generate.n=40'] for x in ('--set', s)]
    (tmp_path/'psi.toml').touch()
    p = subprocess.Popen([sys.executable, '-c', code, 'run', *sets], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    children = lambda: open(f'/proc/{p.pid}/task/{p.pid}/children').read().split()
    assert until(lambda: p.poll() is None and children(), 20)
    engine = children()[0]
    time.sleep(1.5)   # it writes
    began = time.monotonic()
    p.send_signal(how)
    out = p.communicate(timeout=30)[0]
    took = time.monotonic() - began
    assert until(lambda: gone(engine), 5)
    if how == signal.SIGINT: assert took < 2 and p.returncode == 130 and 'goes on' in out, (took, out)   # a second, and as much again for a busy machine
