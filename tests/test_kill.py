"Kill it at any moment, as often as you like: the same bytes, and nothing paid twice. PSI_KILLS sets how many runs are tried"
import hashlib, json, os, random, signal, subprocess, sys, threading, time
from contextlib import closing
import pytest
from psi.journal import Journal
from psi.lm import scripted
from psi.pipeline import Run
from script import script

RUNS = int(os.environ.get('PSI_KILLS', 4))
KEY = 'sk-planted-key-0451'
SETS = ['generate.principles=zephyr-7b-beta', 'generate.n=5000', 'generate.threshold=1', 'M_L.model=script', 'M_g.model=script', 'name=run', 'M_g.concurrency=8', 'M_g.adapt=false']
NAMES = 'principles.jsonl', 'instances.jsonl', 'dropped.jsonl'
CODE = '''
import sys
from psi.cli import main
sys.argv = ["psi", "run", *sys.argv[1:]]
main()
'''


def start(folder, url):
    (folder/'psi.toml').touch()
    sets = [x for s in (*SETS, f'M_L.base_url={url}', f'M_g.base_url={url}') for x in ('--set', s)]
    return subprocess.Popen([sys.executable, '-c', CODE, *sets], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, 'OPENAI_API_KEY': KEY},
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def name(body):
    "The key of a request, from what came over the wire"
    return hashlib.sha256(json.dumps([1, 'completion', '', body], sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@pytest.fixture(scope='module')
def server():
    asked, lock = [], threading.Lock()
    def answer(prompt, body):
        with lock: asked.append(name(body))
        return script(prompt, body)
    with scripted(answer) as url: yield url, asked


@pytest.fixture(scope='module')
def whole(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    url, asked = server
    p = start(folder, url)
    out = p.communicate(timeout=120)[0]
    assert p.returncode == 0, out
    assert len(asked) > 200
    return {n: (folder/'runs/run'/n).read_bytes() for n in NAMES}, tokens(folder)


def tokens(folder):
    "Key of each request in the journal -> tokens read and written"
    with closing(Journal(folder/'runs/run/journal.sqlite')) as j: return {r['key']: (r['reply']['prompt_tokens'], r['reply']['completion_tokens']) for r in j.rows()}


def no_key(folder):
    for p in folder.rglob('*'):
        if p.is_file(): assert KEY.encode() not in p.read_bytes(), p


@pytest.mark.parametrize('trial', range(RUNS))
def test_killed(trial, server, whole, tmp_path):
    rng, (url, asked) = random.Random(trial), server
    how, out = (signal.SIGINT if trial % 4 == 3 else signal.SIGKILL), ''
    for _ in range(rng.randint(1, 5)):
        del asked[:]
        path = tmp_path/'runs/run/journal.sqlite'
        had = set(Journal(path)._known) if path.exists() else set()
        p = start(tmp_path, url)
        stop, began = rng.choice([rng.randint(1, 250), 0]) if how == signal.SIGKILL else rng.randint(1, 250), time.monotonic()   # Python itself may not have started yet: a kill may come then, a Ctrl-C seldom does
        while p.poll() is None and (len(asked) < stop if stop else time.monotonic() - began < rng.random() * 1.5): time.sleep(.002)
        time.sleep(rng.random() * .02)
        p.send_signal(how); out += p.communicate(timeout=30)[0]
        assert not had & set(asked), 'a reply that was in the journal was asked for again'
        if path.exists():
            lost = set(asked) - set(Journal(path)._known)
            assert len(lost) <= 2*8, 'more was lost than was in flight, or on its way to the disk'
    del asked[:]
    had = set(Journal(path)._known) if path.exists() else set()
    p = start(tmp_path, url)
    out += p.communicate(timeout=120)[0]
    assert p.returncode == 0, out
    assert not had & set(asked)
    assert {n: (tmp_path/'runs/run'/n).read_bytes() for n in NAMES} == whole[0]
    mine, book = tokens(tmp_path), Run(tmp_path/'runs/run').ledger()
    assert len(mine.keys() ^ whole[1].keys()) <= 2*8, 'the runs differ by more than what was asked ahead'
    both = mine | whole[1]     # the same request took the same in both
    assert sum(e.requests for e in book.entries) == len(mine) and book.tokens.low == sum(sum(both[k]) for k in mine)
    no_key(tmp_path)
    assert KEY not in out and 'Traceback' not in out


def test_interrupt_ends_within_a_second(server, tmp_path):
    url, asked = server
    del asked[:]
    p = start(tmp_path, url)
    while len(asked) < 40 and p.poll() is None: time.sleep(.01)
    began = time.monotonic()
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=30)[0]
    assert time.monotonic() - began < 2 and p.returncode == 130 and 'goes on' in out, out     # a second, and as much again for a busy machine


def test_two_at_once_on_one_folder(server, tmp_path):
    url, asked = server
    del asked[:]
    first = start(tmp_path, url)
    while not asked and first.poll() is None: time.sleep(.01)
    second = start(tmp_path, url)
    out = second.communicate(timeout=30)[0]
    assert second.returncode == 1 and 'another psi is at work' in out and str(first.pid) in out, out
    assert first.wait(120) == 0


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root may make a small disk')
def test_a_full_disk(server, whole, tmp_path):
    url, asked = server
    disk = tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=400k', 'psi-test', disk], capture_output=True).returncode: pytest.skip('no tmpfs can be mounted here')
    try:
        p = start(disk, url)
        out = p.communicate(timeout=120)[0]
        assert p.returncode == 1 and 'make room' in out and 'Traceback' not in out, out
        subprocess.run(['mount', '-o', 'remount,size=64m', disk], check=True)
        had = set(Journal(disk/'runs/run/journal.sqlite')._known)
        assert had
        del asked[:]
        p = start(disk, url)
        out = p.communicate(timeout=120)[0]
        assert p.returncode == 0 and not had & set(asked), out
        assert {n: (disk/'runs/run'/n).read_bytes() for n in NAMES} == whole[0]
    finally: subprocess.run(['umount', '-l', disk])


@pytest.mark.parametrize('damage', ['flipped', 'cut short'])
def test_a_damaged_journal(damage, server, whole, tmp_path):
    url, asked = server
    del asked[:]
    p = start(tmp_path, url)
    while len(asked) < 150 and p.poll() is None: time.sleep(.01)
    p.kill(); p.communicate()
    path = tmp_path/'runs/run/journal.sqlite'
    Journal(path).close()     # the log goes into the file
    raw, had = bytearray(path.read_bytes()), len(Journal(path))
    if damage == 'flipped':
        at = raw.index(b'Instruction:', len(raw)//2)
        raw[at] ^= 1
    else: del raw[len(raw)*2//3:]
    for end in ('-wal', '-shm'): path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(raw)
    del asked[:]
    p = start(tmp_path, url)
    out = p.communicate(timeout=120)[0]
    assert p.returncode == 0 and 'damaged' in out and 'sound replies are kept' in out, out
    kept = int(out.split(' sound replies')[0].split()[-1])
    assert kept == had - 1 if damage == 'flipped' else had/3 < kept < had, (kept, had, out)
    assert (tmp_path/'runs/run/journal.damaged-1.sqlite').read_bytes() == raw
    assert {n: (tmp_path/'runs/run'/n).read_bytes() for n in NAMES} == whole[0]
