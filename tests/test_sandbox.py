"Hostile programs, each in the middle of good ones: they harm nobody, and pass only by reaching their last line"
import os, re, signal, socket, subprocess, sys, threading, time
from pathlib import Path
import pytest
from psi.core import ConfigError
from psi import sandbox
from psi.sandbox import Outcome, run_code, sandbox_kind

MARK = f'psi-test-{os.getpid()}'
GOOD = 'def f(x): return x + 1\n\ndef check(f):\n    assert f(1) == 2\n\ncheck(f)'
BAD = GOOD.replace('== 2', '== 3')
LOOP = 'while True: pass'
NO = {'failed', 'timed out', 'out of memory', 'killed', 'did not finish'}

# name: (program, the reasons that it may end with). One that notices that it was stopped passes: it asserts that.
ATTACKS = {
    'fork bomb':       ('import os\nwhile True: os.fork()', NO),
    'stubborn fork bomb': ('import os\nwhile True:\n    try: os.fork()\n    except OSError: pass', {'timed out'}),
    'bomb of a shell': ("import subprocess\nsubprocess.run([\"/bin/sh\", \"-c\", \"f(){ f|f& }; f; wait\"])\nimport time; time.sleep(100)", {'timed out', 'failed'}),
    'number of processes': ('import os, time\nn = 0\ntry:\n    while n < 200:\n        if not os.fork(): time.sleep(100)\n        n += 1\nexcept OSError: pass\nassert n < 40, n', {'passed'}),
    'memory':          ("x = []\nwhile True: x.append(' '*10_000_000)", {'out of memory', 'timed out'}),
    'caught memory':   ("x = []\nwhile True:\n    try: x.append(' '*10_000_000)\n    except MemoryError: pass", {'timed out', 'out of memory'}),
    'memory of many':  ("import os, time\nfor i in range(16):\n    if not os.fork():\n        x = b'x'*(80 << 20); time.sleep(100)\ntime.sleep(100)", {'out of memory', 'timed out'}),
    'shared memory':   ("import mmap, os, time\nfor i in range(10):\n    if not os.fork():\n        m = mmap.mmap(-1, 100 << 20); m.write(b'x'*(50 << 20)); time.sleep(100)\ntime.sleep(100)", {'out of memory', 'timed out'}),
    'uncounted memory': ("import ctypes, os\nc = ctypes.CDLL(None)\nassert c.shmget(0, 1 << 24, 0o1600) == -1 and c.msgget(0, 0o1600) == -1\ntry: os.memfd_create('x')\nexcept OSError: pass\nelse: assert False", {'passed'}),
    'loop':            (LOOP, {'timed out'}),
    'deaf loop':       ('import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n' + LOOP, {'timed out'}),
    'loop in C':       ('sum(range(10**15))', {'timed out'}),
    'many loops':      ('import os\nfor i in range(8): os.fork()\n' + LOOP, {'timed out', 'failed'}),
    'sleep':           ('import time\ntime.sleep(1e6)', {'timed out'}),
    'stopped':         ('import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)', {'timed out'}),
    'network':         ("import socket\nfor a in (('127.0.0.1', {port}), ('{ip}', {port}), ('1.1.1.1', 53)):\n    try: socket.create_connection(a, 1)\n    except OSError: continue\n    assert False, a", {'passed'}),
    'abstract socket': ("import socket\ns = socket.socket(socket.AF_UNIX)\ntry: s.connect('\\0{name}')\nexcept OSError: pass\nelse: assert False", {'passed'}),
    'socket file':     ("import socket\ns = socket.socket(socket.AF_UNIX)\ntry: s.connect('{tmp}/sock')\nexcept OSError: pass\nelse: assert False", {'passed'}),
    'names':           ("import socket\ntry: socket.getaddrinfo('localhost.localdomain.example', 80)\nexcept OSError: pass\nelse: assert False\nassert socket.gethostname() == 'sandbox'", {'passed'}),
    'deleting':        ("import os, shutil\nfor p in {files!r}:\n    assert not os.path.exists(p), p\n    try: os.unlink(p)\n    except OSError: pass\nfor p in {folders!r}: shutil.rmtree(p, ignore_errors=True)\nshutil.rmtree('/', ignore_errors=True)", NO | {'passed'}),
    'writing':         ("import os, stat\nbad = []\nfor d, sub, files in os.walk('/'):\n    del sub[30:]\n    if d.startswith(('/tmp', '/dev/shm')): continue\n    for p in [d + '/{mark}'] + [d + '/' + f for f in files[:1] if d[:5] != '/proc' and stat.S_ISREG(os.lstat(d + '/' + f).st_mode)]:\n        try: os.close(os.open(p, os.O_WRONLY | os.O_CREAT)); bad.append(p)\n        except OSError: pass\nassert not bad, bad", {'passed'}),
    'renaming':        ("import os\nfor a in ('/usr', '/proc', '/tmp', '/dev'):\n    try: os.rename(a, a + '2')\n    except OSError: continue\n    assert False, a\ntry: os.chmod('/usr/bin', 0o777)\nexcept OSError: pass\nelse: assert False", {'passed'}),
    'filling /tmp':    ("import os\nn = 0\nfor d in ('/tmp', '/dev/shm'):\n    try:\n        for i in range(1000):\n            with open(d + '/%d' % i, 'wb') as f: n += f.write(bytes(1 << 20))\n    except OSError: pass\nassert n <= 90 << 20, n", {'passed'}),
    'many files':      ("n = 0\ntry:\n    while n < 100_000: open('/tmp/%d' % n, 'w').close(); n += 1\nexcept OSError: pass\nassert n < 10_000, n", {'passed', 'timed out'}),
    'a large file':    ("with open('/tmp/x', 'wb') as f:\n    try: f.truncate(1 << 40)\n    except OSError: pass\n    else: assert False", {'passed'}),
    'kill all':        ('import os\nos.kill(-1, 9)', NO | {'passed'}),
    'kill the parent': ("import os, time\nfor s in (9, 15, 19):\n    for p in (1, os.getppid()):\n        try: os.kill(p, s)\n        except OSError: pass\ntime.sleep(.2)", {'passed'}),
    'kill the group':  ('import os, signal\nos.killpg(0, signal.SIGKILL)', {'killed'}),
    'environment':     ("import glob, os\nkey = 'sk-' + '{mark}'\nassert key not in str(os.environ)\nfor p in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline') + glob.glob('/proc/*/task/*/environ'):\n    try: assert key.encode() not in open(p, 'rb').read(), p\n    except OSError: pass\nassert len(glob.glob('/proc/[0-9]*')) <= 3", {'passed'}),
    'secrets':         ("import os\nfor p in {files!r} + ['/etc/shadow', '/etc/passwd', os.path.expanduser('~/.ssh'), {repo!r} + '/settings.ini', {repo!r} + '/.git']:\n    assert not os.path.exists(p), p", {'passed'}),
    'by a link':       ("import os\nfor i, p in enumerate({files!r}):\n    os.symlink(p, '/tmp/l%d' % i)\n    try: open('/tmp/l%d' % i)\n    except OSError: continue\n    assert False, p\nfor p in ('/proc/1/root', '/proc/1/cwd', '/proc/self/root/..'):\n    for q in {files!r}: assert not os.path.exists(p + q)", {'passed'}),
    'looking into others': ("import ctypes, os\nc = ctypes.CDLL(None)\nassert c.ptrace(16, 1, 0, 0) == -1 and c.ptrace(16, os.getppid(), 0, 0) == -1\nfor p in ('/proc/1/mem', '/proc/1/environ', '/proc/1/fd/0', '/proc/kcore', '/dev/mem', '/dev/kmsg', '/proc/sysrq-trigger'):\n    try: open(p, 'rb+' if 'sysrq' in p else 'rb').read(1)\n    except OSError: continue\n    assert False, p", {'passed'}),
    'more rights':     ("import ctypes, os\nc = ctypes.CDLL(None)\nassert os.getuid() and os.geteuid() and os.getgid()\nfor f in (lambda: os.setuid(0), lambda: os.chroot('/tmp'), lambda: os.mknod('/tmp/d', 0o60666, os.makedev(254, 0))):\n    try: f()\n    except OSError: continue\n    assert False\nassert c.unshare(0x10000000) == -1 and c.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1\nassert not any(int(l.split()[1], 16) for l in open('/proc/self/status') if l[:6] in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'))", {'passed'}),
    'gigabytes said':  ("import sys\nfor i in range(2000): sys.stdout.write('x'*1_000_000); sys.stderr.write('x'*1_000_000)", {'passed', 'timed out'}),
    'a daemon':        ("import ctypes, os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n        ctypes.CDLL(None).prctl(15, b'{comm}', 0, 0, 0); time.sleep(1000)\n    os._exit(0)\ntime.sleep(.1)", {'passed'}),
    'threads left':    ("import threading, time\nfor i in range(3): threading.Thread(target=time.sleep, args=(1000,)).start()", {'passed'}),
    'exit':            ('import sys\nsys.exit(0)\nassert False', {'did not finish'}),
    'hard exit':       ('import os\nos._exit(0)', {'did not finish'}),
    'exit function':   ('raise SystemExit', {'did not finish'}),
    'exec':            ("import os\nos.execv('/bin/true', ['true'])", {'did not finish'}),
    'interrupt':       ('raise KeyboardInterrupt', {'failed'}),
    'own exception':   ('class E(BaseException): pass\nraise E', {'failed'}),
    'bad exception':   ('import os\nclass E(BaseException):\n    def __str__(self): os._exit(0)\n    __repr__ = __str__\nraise E', {'did not finish'}),
    'exception group': ("try: raise ExceptionGroup('a', [ValueError(1)])\nexcept* ValueError: pass\nassert 0" if sys.version_info >= (3, 11) else 'assert 0', {'failed'}),
    'patched':         ('import builtins, os, sys, unittest\nos.write = os._exit = lambda *a: 0\nbuiltins.BaseException = builtins.AssertionError = builtins.Exception = int\nbuiltins.exec = print\nunittest.TestCase.assertEqual = lambda *a: None\nassert 1 == 2', {'failed', 'did not finish'}),
    'at the exit':     ('import atexit, os\natexit.register(os._exit, 0)\nassert 0', {'failed'}),
    'other output':    ("import io, sys\nsys.stdout = sys.stderr = io.StringIO()\nprint('passed')\nassert 0", {'failed'}),
    'said on all pipes': ("import os\nfor fd in range(64):\n    for text in (b'passed', b'ready\\n', b'[\"passed\", \"\", 0.1]\\n'):\n        try: os.write(fd, text)\n        except OSError: pass\nos._exit(0)", {'did not finish'}),
    'searching the password': ("""import gc, os, sys
found, seen, todo = [], set(), [sys._getframe(), *gc.get_objects()]
f = sys._getframe()
while f: todo += [f.f_locals, f.f_globals, f.f_code.co_consts]; f = f.f_back
while todo and len(seen) < 200_000:
    x = todo.pop()
    if id(x) in seen: continue
    seen.add(id(x))
    if type(x) in (bytes, bytearray) and len(x) == 16: found.append(bytes(x))
    todo += gc.get_referents(x)
for x in found:
    for fd in range(3, 64):
        try: os.write(fd, x + b'passed')
        except OSError: pass
os._exit(0)""", {'did not finish'}),
    'jumping':         ("import sys\nf = sys._getframe(1)\ndef jump(frame, event, arg):\n    for line in range(frame.f_code.co_firstlineno, frame.f_lineno + 1):\n        try: frame.f_lineno = line; break\n        except ValueError: pass\n    return jump\nf.f_trace = jump\nsys.settrace(jump)\nassert 0", {'failed', 'did not finish', 'timed out', 'killed'}),
    'closed':          ('import os\nos.closerange(0, 256)', {'did not finish', 'failed'}),
    'recursion':       ('def f(): f()\nf()', {'failed'}),
    'deep recursion':  ('import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()', {'failed', 'killed', 'out of memory', 'timed out'}),
    'deep stack':      ('class A:\n    def __getattr__(self, k): return repr(self)\n    def __repr__(self): return str([self])\nimport sys\nsys.setrecursionlimit(10**9)\nrepr(A())', {'failed', 'killed', 'out of memory', 'timed out'}),
    'segmentation fault': ('import ctypes\nctypes.string_at(0)', {'killed'}),
    'abort':           ('import os\nos.abort()', {'killed'}),
    'reading':         ('input()', {'failed'}),
    'reading all':     ("import sys\nassert sys.stdin.read() == ''", {'passed'}),
    'NUL':             ('x = 1\0', {'failed'}),
    'surrogate':       ('x = "\ud800"', {'failed'}),
    'other alphabets': ("é, 名 = 'naïve', '🙂'\nassert é + 名 == 'naïve🙂'", {'passed'}),
    'a cookie':        ("# -*- coding: latin-1 -*-\nassert len('é') == 1", {'passed'}),
    'no program':      ('', {'passed'}),
    'no Python':       ('def f(:', {'failed'}),
    'huge text':       ('# ' + 'x'*30_000_000 + '\nassert 0', {'failed'}),
    'deep text':       ('('*100_000 + ')'*100_000, {'failed', 'killed', 'out of memory'}),
}

WAYS = [pytest.param(k, marks=pytest.mark.skipif(not sandbox._way(k), reason=f'no sandbox of the kind {k} on this machine')) for k in ('bwrap', 'namespaces')]

def called(name):
    "Processes of this name"
    def of(p):
        try: return p.read_text().strip()
        except OSError: return ''
    return [p for p in Path('/proc').glob('[0-9]*/comm') if of(p) == name]

class Host:
    "What a program may want to harm, and whether it has"
    def __init__(self, tmp:Path, kind:str):
        self.tmp, self.met, home, repo = tmp, [], Path.home(), Path(__file__).resolve().parent.parent
        self.files = [d/f'.{MARK}' for d in (home, Path('/tmp'), Path.cwd(), repo, tmp) if os.access(d, os.W_OK)]
        self.servers = [socket.create_server(('0.0.0.0', 0)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        self.servers[1].bind(f'\0{MARK}{kind}'); self.servers[2].bind(f'{tmp}/sock')
        for s in self.servers:
            s.listen()
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()
        os.chmod(tmp/'sock', 0o777)
        for f in self.files: f.write_text('precious')   # the last thing that could fail
        self.fields = dict(port=self.servers[0].getsockname()[1], ip=self.ip(), mark=MARK, name=MARK + kind, comm=MARK[-15:], tmp=str(tmp), repo=str(repo),
            files=[str(f) for f in self.files], folders=[str(home), str(repo), str(tmp)])

    def serve(self, server):
        while True:
            try: self.met.append(server.accept())
            except OSError: return
    def ip(self):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.connect(('192.0.2.1', 9)); return s.getsockname()[0]
        except OSError: return '127.0.0.1'
    def fill(self, program): return re.sub(r'\{(port|ip|mark|name|comm|tmp|repo|files!r|folders!r|repo!r)\}', lambda m: (repr if '!' in m[1] else str)(self.fields[m[1].split('!')[0]]), program)
    def left(self):
        "Processes that should be gone"
        return called(self.fields['comm'])
    def close(self):
        for s in self.servers: s.close()
        for f in self.files: f.unlink(missing_ok=True)

@pytest.fixture(scope='module', params=WAYS)
def ran(request, tmp_path_factory):
    "All attacks in one run, a good program before and behind each"
    host = Host(tmp_path_factory.mktemp('host'), request.param)
    (patch := pytest.MonkeyPatch()).setenv('OPENAI_API_KEY', f'sk-{MARK}')
    programs = [GOOD]
    for program, _ in ATTACKS.values(): programs += [host.fill(program), GOOD]
    try:
        host.before = {p.name for p in host.tmp.iterdir()}
        yield dict(zip(ATTACKS, (out := run_code(programs, timeout=.8, memory=400 << 20, kind=request.param, workers=4))[1::2])), out[::2], host
    finally:
        patch.undo()
        host.close()

@pytest.mark.parametrize('name', ATTACKS)
def test_attack(ran, name):
    assert ran[0][name].reason in ATTACKS[name][1], ran[0][name]
    assert ran[0][name].passed == (ran[0][name].reason == 'passed')

def test_good_ones_are_unharmed(ran):
    assert [o.reason for o in ran[1]] == ['passed']*(len(ATTACKS) + 1)

def test_host_is_unharmed(ran):
    host = ran[2]
    assert all(f.read_text() == 'precious' for f in host.files)
    assert {p.name for p in host.tmp.iterdir()} == host.before
    assert host.met == []
    for _ in range(40):
        if not host.left(): break
        time.sleep(.05)
    assert host.left() == []
    children = Path(f'/proc/self/task/{os.getpid()}/children')
    assert not children.exists() or children.read_text().split() == []

@pytest.mark.parametrize('kind', WAYS)
def test_humaneval(kind, shared):
    import gzip, json
    tasks = [json.loads(line) for line in gzip.open(shared/'data/humaneval/HumanEval.jsonl.gz')]
    def with_body(body): return [t['prompt'] + (body or t['canonical_solution']) + '\n' + t['test'] + f"\ncheck({t['entry_point']})" for t in tasks]
    start = time.monotonic()
    assert [o for o in run_code(with_body(''), kind=kind) if not o.passed] == []
    if kind == sandbox_kind(): assert [o for o in run_code(with_body('    pass\n'), kind=kind) if o.passed] == []
    assert time.monotonic() - start < 180

@pytest.mark.parametrize('kind', WAYS)
def test_what_is_said(kind):
    "The reason and the detail are for people"
    programs = [GOOD, BAD, 'x = [1, 2]\nx[5]', 'import sys\nsys.exit(3)', 'import os\nos._exit(7)', 'import os\nos.abort()', 'import numpy\nassert numpy.ones(3).sum() == 3', 'import psi', 'import sys\nassert sys.modules[__name__].__dict__ is globals()\nif __name__ == "__main__": input()']
    out = run_code(programs, kind=kind, workers=1)
    assert [o.reason for o in out] == ['passed', 'failed', 'failed', 'did not finish', 'did not finish', 'killed', 'passed', 'failed', 'passed']
    assert out[1].detail == 'AssertionError (line 4: assert f(1) == 3)' and out[2].detail == 'IndexError: list index out of range (line 2: x[5])'
    assert '3' in out[3].detail and '7' in out[4].detail and out[5].detail == 'SIGABRT' and 'psi' in out[7].detail
    assert all(0 < o.seconds < 5 for o in out)

@pytest.mark.parametrize('kind', WAYS)
def test_same_again(kind):
    "The order of a set of words is the same in each run, so a score can be had again"
    which = [f'assert hash("word") % 8 == {i}' for i in range(8)]
    first = run_code(which, kind=kind)
    assert sum(o.passed for o in first) == 1 and [o.passed for o in run_code(which, kind=kind)] == [o.passed for o in first]

@pytest.mark.parametrize('kind', WAYS)
def test_interrupted(kind):
    "Ctrl-C ends the programs, too"
    comm = f'{MARK[-9:]}-{kind[:3]}'
    code = f"from psi.sandbox import run_code\nrun_code(['import ctypes, time; ctypes.CDLL(None).prctl(15, b\"{comm}\", 0, 0, 0); time.sleep(100)']*4, kind={kind!r}, timeout=60)"
    def busy(): return called(comm)
    for sign in signal.SIGINT, signal.SIGKILL:
        p = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))   # a background job of a shell ignores it
        for _ in range(200):
            if busy(): break
            time.sleep(.05)
        assert busy()
        p.send_signal(sign)
        assert p.wait(10) != 0
        for _ in range(100):
            if not busy(): break
            time.sleep(.05)
        assert not busy()

def test_no_sandbox(monkeypatch):
    "Refused in one line, unless the caller insists"
    monkeypatch.setattr(sandbox, '_way', lambda kind: None)
    assert sandbox_kind() == ''
    with pytest.raises(ConfigError, match='unsafe-run-code') as e: run_code([GOOD])
    assert '\n' not in str(e.value)
    out = run_code([GOOD, BAD, LOOP, 'import sys; sys.exit(0)', 'import os; os._exit(0)', "import os\nassert 'HOME' not in os.environ or os.environ['HOME'] == '/tmp'", 'import time; time.sleep(100)',
        "x = ' '*1_000_000_000", 'import os, time\nif os.fork() == 0: time.sleep(1000)'], timeout=1, memory=400 << 20, unsafe=True)
    assert [o.reason for o in out] == ['passed', 'failed', 'timed out', 'did not finish', 'did not finish', 'passed', 'timed out', 'out of memory', 'passed']

def test_refused_where_the_kernel_allows_nothing():
    "As in many containers: no new namespaces, and bubblewrap does not help"
    code = f"from psi import sandbox\nsandbox._forbid()\nprint(repr(sandbox.sandbox_kind()))\nprint(sandbox.run_code([{GOOD!r}], unsafe=True)[0].reason)\nsandbox.run_code([{GOOD!r}])"
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    if sandbox_kind(): assert p.stdout.split() == ["''", 'passed'], p.stderr[-500:]
    assert 'unsafe=True' in p.stderr.splitlines()[-1]

@pytest.mark.skipif(not sandbox._way('namespaces'), reason='no sandbox of the kind namespaces on this machine')
def test_without_proc(monkeypatch):
    "Some containers do not let /proc be mounted"
    guest = sandbox._guest()
    assert (without := guest.replace(b"'proc', 15,", b"'none', 15,")) != guest
    monkeypatch.setattr(sandbox, '_guest', lambda: without)
    out = run_code(["import os\nassert not os.listdir('/proc')", BAD, ATTACKS['stubborn fork bomb'][0]], kind='namespaces', timeout=1)
    assert [o.reason for o in out] == ['passed', 'failed', 'timed out']

def test_bad_calls():
    for bad in (lambda: run_code(GOOD), lambda: run_code([GOOD], timeout=0), lambda: run_code([GOOD], memory=10)):
        with pytest.raises(ConfigError): bad()
    if sandbox_kind(): assert run_code([]) == []
