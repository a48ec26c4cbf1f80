"What all tests share: which psi is under test, and where the data that is not in the repository stands"
import os
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent

def pytest_configure(config):
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
