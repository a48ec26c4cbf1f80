"What all tests share: which psi is under test, and where the data that is not in the repository stands"
import os, shutil
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
QUIET = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()

def pytest_configure(config):
    own_cores(os.environ.get('PYTEST_XDIST_WORKER', ''), int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1)))
    the_installed_one()

def own_cores(worker:str, workers:int):
    "Tests run side by side, and each process has cores of its own: threads of two models on one core wait for each other at every step"
    if not worker or not hasattr(os, 'sched_setaffinity'): return
    if mine := sorted(os.sched_getaffinity(0))[int(worker[2:])::workers]: os.sched_setaffinity(0, mine)

def the_installed_one():
    "`make test` tests the package as it installs; a stray import from the source tree would hide what the wheel lacks"
    if os.environ.get('PSI_TEST_INSTALLED') != '1': return
    import psi
    home = Path(psi.__file__).resolve()
    if home.is_relative_to(ROOT/'psi'):
        raise pytest.UsageError(f'PSI_TEST_INSTALLED=1, but psi comes from the source tree ({home}): put the installed one first on PYTHONPATH')

@pytest.fixture(scope='session')
def shared() -> Path:
    "The folder of data that is too large, or not ours, to be in the repository: $PSI_SHARED, else `shared` beside the repository"
    path = Path(os.environ.get('PSI_SHARED') or ROOT.parent/'shared')
    if not path.is_dir(): pytest.skip(f'no folder {path}: set PSI_SHARED to the one that holds the seeds and benchmarks')
    return path

@pytest.fixture(scope='module')   # not of the session: an open one stands in the way of other tests' asyncio
def browser():
    "Chromium, if there is one"
    play = pytest.importorskip('playwright.sync_api', reason='playwright drives the browser')
    if not (chromium := shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')): pytest.skip('no Chromium on this machine')
    with play.sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=QUIET)
        yield b
        b.close()
