"What a user can do wrong: one line that says where, what and how to mend it, exit code 1, and nothing half-written"
import os, re, subprocess, sys
from pathlib import Path
import pytest
from psi.lm import scripted
from script import script

PSI = 'import sys; sys.argv[0] = "psi"; from psi.cli import main; main()'
GOOD = '{"id": "a", "instruction": "Name a bird that swims.", "instances": [{"input": "", "output": "A duck."}]}\n'


def psi(cwd, *args, env={}):
    return subprocess.run([sys.executable, '-c', PSI, *map(str, args)], cwd=cwd, capture_output=True, text=True, env={**os.environ, 'TERM': 'dumb', **env}, timeout=120)


def complaint(cwd, *args, env={}):
    "The one line that psi says"
    done = psi(cwd, *args, env=env)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith('psi: '), done.stderr
    return lines[0]


@pytest.fixture
def here(tmp_path):
    (tmp_path/'psi.toml').write_text('name = "x"\nseeds = "seeds.jsonl"\n[expand]\nexamples = 1\n[generate]\nexamples = 1\n')
    (tmp_path/'seeds.jsonl').write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize('content, says', [
    (None, ['seeds.jsonl: no such file', 'check the name']),
    (b'', ['seeds.jsonl: holds no instances', 'add at least one']),
    (b'\n\n', ['seeds.jsonl: holds no instances']),
    (GOOD.encode() * 2 + b'{"instruction": "Name', ['seeds.jsonl line 3: not JSON', 'mend or delete']),
    (GOOD.encode() + b'[1, 2]\n', ['seeds.jsonl line 2', 'is not a record']),
    (GOOD.encode() + b'{"input": "x", "output": "y"}\n', ['seeds.jsonl line 2: no instruction', 'add one or delete']),
    (GOOD.encode() + b'{"instruction": "  ", "output": "y"}\n', ['seeds.jsonl line 2: no instruction']),
    (GOOD.encode() + '{"instruction": "Grüße"}\n'.encode('latin1'), ['seeds.jsonl line 2: byte 0xfc is not UTF-8', 'save the file as UTF-8']),
    (GOOD.encode('utf-16'), ['seeds.jsonl line 1: byte 0x', 'not UTF-8']),
    (b'\x00\x01\x02', ['seeds.jsonl line 1']),
    (b'{"instruction": "a", "instances": [3]}\n', ['seeds.jsonl line 1']),
    (b'{"messages": [{"role": "user", "content": "a"}]}\n', ['seeds.jsonl line 1', 'the turns are user']),
])
def test_seeds(here, content, says):
    (here/'seeds.jsonl').unlink()
    if content is not None: (here/'seeds.jsonl').write_bytes(content)
    line = complaint(here, 'run')
    for s in says: assert s in line
    assert not list(here.rglob('*.sqlite')) and not (here/'runs/x/psi.toml').exists()


@pytest.mark.parametrize('text, says', [
    ('name = "x"\n[expnd]\nn = 3\n', ['psi.toml line 2', 'expnd', 'did you mean expand']),
    ('[M_g]\nmodell = "x"\n', ['psi.toml line 2', 'modell', 'did you mean model']),
    ('[generate]\nn = 0\n', ['psi.toml line 2', 'generate.n is 0']),
    ('[generate]\nn = "ten"\n', ['psi.toml line 2', "generate.n is 'ten'"]),
    ('[M_g]\n\nmode = "poem"\n', ['psi.toml line 3', "'chat' or 'completion'"]),
    ('name = "../x"\n', ['psi.toml line 1', 'name is']),
    ('name = \n', ['psi.toml: not TOML', 'line 1']),
    ('M_g = 3\n', ['psi.toml line 1', 'M_g']),
    ('[M_g]\nmodel = "qwen2.5-coder-0.5b"\n', ['unknown model', 'did you mean qwen2.5-coder-0.5b-instruct']),
    ('[generate]\nprinciples = "zephyr"\n', ["generate.principles is 'zephyr'", 'zephyr-7b-beta']),
    ('[expand]\nn = 99\n', ['reflect.T x reflect.size = 10 x 10 needs 100 instances, expand.n is 99', 'raise expand.n']),
    ('seeds = "seeds.txt"\n', ['seeds.txt: no such file']),
])
def test_config(here, text, says):
    (here/'psi.toml').write_text(text)
    line = complaint(here, 'run')
    for s in says: assert s in line


def test_no_config(tmp_path): assert 'psi init' in complaint(tmp_path, 'run')
def test_config_that_is_there(here): assert 'is there already' in complaint(here, 'init')
def test_unknown_stage(here): assert "until is 'dance'; the stages of this run are expand" in complaint(here, 'run', '--until', 'dance')
def test_set_without_value(here): assert 'KEY=VALUE' in complaint(here, 'run', '--set', 'seed')
def test_set_without_name(here): assert "'a b' is not the name of a setting" in complaint(here, 'run', '--set', 'a b=3')
def test_set_a_name_with_dots(here): assert 'prices.gpt-3.5-turbo.prompt is -1' in complaint(here, 'run', '--set', 'prices."gpt-3.5-turbo".prompt=-1')


def test_engine_not_reachable(here):
    line = complaint(here, 'run', '--set', 'M_g.base_url=http://127.0.0.1:9/v1', '--set', 'M_g.model=x')
    assert 'http://127.0.0.1:9/v1: no engine answers there' in line and 'base_url' in line


def test_model_that_the_address_does_not_have(here):
    with scripted(lambda p, b: (404, {'error': {'message': 'The model x does not exist'}})) as url:
        assert "does not know the model 'x'" in complaint(here, 'run', '--set', f'M_g.base_url={url}', '--set', 'M_g.model=x')


def test_no_key(here):
    line = complaint(here, 'run', '--set', 'M_g.base_url=openai', '--set', 'M_g.model=gpt-3.5-turbo', env={'OPENAI_API_KEY': ''})
    assert 'OPENAI_API_KEY' in line


def test_weights_with_a_wrong_sum(here):
    (here/'models').mkdir()
    (here/'models/SmolLM2-135M-Instruct.Q4_1.gguf').write_bytes(b'not these')
    line = complaint(here, 'run', '--set', 'M_g.model=smollm2-135m-instruct', env={'PSI_MODELS': str(here/'models')})
    assert 'has sha256' in line and 'was expected' in line and 'delete it' in line


def test_weights_that_are_no_model(here):
    (here/'bad.gguf').write_bytes(b'rubbish')
    assert 'should be a GGUF file' in complaint(here, 'run', '--set', 'M_g.model=bad.gguf')


def test_an_engine_that_was_compiled_for_another_processor(here):
    (here/'any.gguf').write_bytes(b'any')
    (here/'built').mkdir()
    (here/'built/xllamacpp.py').write_text("""
import os, signal
class CommonParams:
    def __init__(self): self.model = self.cpuparams = self.cpuparams_batch = type('P', (), {})()
def Server(params): os.kill(os.getpid(), signal.SIGILL)
""")
    line = complaint(here, 'run', '--set', 'M_g.model=any.gguf', env={'PYTHONPATH': str(here/'built')})
    assert 'xllamacpp' in line and 'fail on this machine' in line and 'GGUF' not in line


def test_folder_of_another_run(here):
    with scripted(script) as url:
        sets = ['--set', f'M_g.base_url={url}', '--set', 'M_g.model=x', '--set', 'generate.principles=none', '--set', 'generate.n=5']
        assert psi(here, 'run', *sets).returncode == 0
        before = {p: p.read_bytes() for p in (here/'runs').rglob('*.json*')}
        assert 'generate.n was 5, now it is 6' in complaint(here, 'run', *sets, '--set', 'generate.n=6')
        (here/'seeds.jsonl').write_text(GOOD.replace('swims', 'dives'))
        assert 'the seeds have changed' in complaint(here, 'run', *sets)
        assert before == {p: p.read_bytes() for p in (here/'runs').rglob('*.json*')}
        for broken in ('{', '[]', '{"settings": []}'):
            (manifest := next((here/'runs').rglob('manifest.json'))).write_text(broken)
            assert 'manifest.json: not' in complaint(here, 'run', *sets) and manifest.read_text() == broken
        manifest.unlink()
        (here/'seeds.jsonl').write_text(GOOD)
        assert psi(here, 'run', *sets).returncode == 0
        assert [p.name for p in before if p.read_bytes() != before[p]] in ([], ['carbon.json'])   # it has cost a little more


def test_folder_that_is_no_run(here):
    (here/'runs/x').mkdir(parents=True)
    (here/'runs/x/diary.txt').write_text('dear diary')
    assert 'is not a run of psi (it holds diary.txt)' in complaint(here, 'run')
    assert {p.name for p in (here/'runs/x').iterdir()} - {'.lock'} == {'diary.txt'}
    assert 'no psi.toml' in complaint(here, 'show', 'runs/x')


def test_unwritable_folder(here):
    (here/'runs').write_text('a file where a folder should be')
    assert 'cannot be written' in complaint(here, 'run')


def test_two_at_once(here):
    from filelock import FileLock
    (here/'runs/x').mkdir(parents=True)
    with FileLock(here/'runs/x/.lock'): assert 'another psi is at work' in complaint(here, 'run')


def test_examples_more_than_seeds(here):
    with scripted(script) as url:
        line = complaint(here, 'run', '--set', f'M_g.base_url={url}', '--set', 'M_g.model=x', '--set', 'expand.examples=3')
    assert 'expand.examples is 3, but there are only 1 seeds' in line


def test_a_model_that_gives_nothing_useful(here):
    with scripted(lambda p, b: 'I am only a small model.') as url:
        line = complaint(here, 'run', '--set', f'M_g.base_url={url}', '--set', 'M_g.model=x', '--set', 'expand.patience=5')
    assert 'expand: 5 requests in a row gave nothing to keep, 0 of 200 so far' in line and 'no output 5' in line
