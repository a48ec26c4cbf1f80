"Real weights in a real engine: in the process, and behind an address of its own"
import os, re, subprocess, sys
import pytest
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
    assert lm.engine._server is None


def test_usage_is_counted():
    lm = local_lm(SMALL, 'completion', context=256, max_tokens=5, temperature=0.)
    r = lm('One two three four')
    lm.close()
    assert r.completion_tokens == 5 and r.finish_reason == 'length' and not r.finished and r.prompt_tokens >= 4 and r.seconds > 0 and r.model == SMALL
