"What the meter promises when things go wrong: nothing sent, nothing written elsewhere, no silent zero, nothing counted twice"
import json, math, os, random, re, signal, sqlite3, subprocess, sys, textwrap, threading, time, types
from contextlib import closing
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
import psi.meter
from psi.core import ConfigError, DataError
from psi.journal import Journal, Reply, Request
from psi.meter import Meter, _Interval, _Part, measured

codecarbon = pytest.importorskip('codecarbon')
HERE = str(Path(psi.meter.__file__).parent.parent)
REALS = 'cpu', 'gpu', 'ram'


class Watts:
    "A part that draws so many watts; `script` says for a reading what it gives instead"
    def __init__(self, watts, script=()): self.watts, self.script, self.n = watts, dict(script), -1
    def measure_power_and_energy(self, last_duration):
        self.n += 1
        v = self.script.get(self.n, self.watts*last_duration/3.6e6)
        if isinstance(v, Exception): raise v
        return None, v


def parts(cpu=(), gpu=(), ram=()):
    return [_Part('cpu', 'CPU by RAPL', Watts(60, cpu)), _Part('gpu', 'GPU by NVML', Watts(300, gpu)), _Part('ram', 'RAM by size, 20 W', Watts(20, ram))]

def metered(journal, found=None, **options):
    m = Meter(journal, **options)
    m._find = lambda: found() if callable(found) else parts() if found is None else found
    return m

def script(text, tmp_path, **env):
    "A Python process with psi's path"
    path = os.pathsep.join(filter(None, [HERE, os.environ.get('PYTHONPATH', '')]))
    return subprocess.Popen([sys.executable, '-c', textwrap.dedent(text)], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': path, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def ends(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    return out, err


# the journal

def old_journal(path):
    "A journal as it was before energy was kept"
    with closing(Journal(path)) as j:
        for i in range(5): j.put(f'k{i}', Request('?', 's', i), {}, Reply(str(i)))
        j.db.execute('DROP TABLE energy')
    return path

def calls(path):
    with closing(sqlite3.connect(path)) as db: return db.execute('SELECT * FROM calls').fetchall()

def test_an_old_journal_gets_the_table_and_keeps_its_calls(tmp_path):
    path, told = old_journal(tmp_path/'j.sqlite'), []
    before = calls(path)
    with closing(Journal(path, said=told.append)) as j:
        assert j.energy() == []
        j.put_energy(1., 'expand', 'm', 1e-6, 0., None, 'x')
    with closing(Journal(path, said=told.append)) as j: assert j.energy('expand')[0]['ram'] is None and len(j) == 5 and j.energy('generate') == []
    assert calls(path) == before and not told

numbers = st.none() | st.floats()

@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.text(st.characters(codec='utf-8', exclude_characters='\0')), numbers, numbers, numbers), max_size=6))
def test_whatever_is_written_is_read_and_is_sound(tmp_path_factory, rows):
    path, told = tmp_path_factory.mktemp('j')/'j.sqlite', []
    with closing(Journal(path)) as j:
        for s, stage, *kwh in rows: j.put_energy(s, stage, 'm', *kwh, 'how')
    with closing(Journal(path, said=told.append)) as j: got = j.energy()
    assert not told
    assert [[r['seconds'], r['stage'], *(r[p] for p in REALS)] for r in got] == [[s, stage, *(None if v is None or math.isnan(v) else v for v in kwh)] for s, stage, *kwh in rows]

def test_sound_intervals_survive_damage(tmp_path):
    path, rng, told = tmp_path/'j.sqlite', random.Random(1), []
    with closing(Journal(path)) as j:
        for i in range(40):
            j.put(f'k{i}', Request('?', 's', i), {}, Reply(f'Answer {i}. '*40))
            j.put_energy(10, f'stage {i % 3}', 'm', i*1e-6, 0, None if i % 4 else 2., 'CPU by RAPL', 1790000000 + 10*i)
        whole = [tuple(r.values()) for r in j.energy()]
    raw, kept = path.read_bytes(), []
    for trial in range(16):
        hurt = tmp_path/f'hurt{trial}.sqlite'
        broken, rows = bytearray(raw), [m.start() for m in re.finditer(rb'stage \d', raw)]
        broken[rng.choice(rows) + rng.randrange(30) if trial % 2 else rng.randrange(len(raw))] ^= 1 << rng.randrange(8)     # every other one hits an interval
        hurt.write_bytes(broken)
        with closing(Journal(hurt, said=told.append)) as j:
            got = [tuple(r.values()) for r in j.energy()]
            assert set(got) <= set(whole) and len(got) == len(set(got)), trial
            j.put_energy(1., 'new')
            kept.append((len(got), len(j)))
    assert len(told) > 8 and min(e for e, _ in kept) >= 20 and sum(e for e, _ in kept)/16 > 38 and min(c for _, c in kept) >= 20

def test_every_byte_of_the_tables_name(tmp_path):
    "A table that is not found would look like an old journal's, and its rows would be passed over: SQLite knows better"
    path, told = tmp_path/'j.sqlite', []
    with closing(Journal(path)) as j: j.put_energy(1., 'expand', cpu=1.)
    raw = path.read_bytes()
    places = [i for i in range(4096) if raw[i:i + 6].lower() == b'energy']
    assert len(places) == 3      # the name, its table, and the statement
    for n, at in enumerate(i + k for i in places for k in range(6)):
        hurt, broken = tmp_path/f'h{n}.sqlite', bytearray(raw)
        broken[at] ^= 1 << n % 6; hurt.write_bytes(broken)
        with closing(Journal(hurt, said=told.append)) as j: assert [r['cpu'] for r in j.energy()] == [1.], at

def test_a_killed_journals_log_is_salvaged(tmp_path):
    j = Journal(tmp_path/'live.sqlite')
    for i in range(30): j.put_energy(10, 'expand', cpu=i/10)
    log, copy = bytearray(Path(f'{j.path}-wal').read_bytes()), tmp_path/'copy.sqlite'
    copy.write_bytes(Path(j.path).read_bytes())
    log[45] ^= 255
    Path(f'{copy}-wal').write_bytes(log)
    with closing(Journal(copy, said=lambda line: None)) as c: assert [r['cpu'] for r in c.energy()] == [r['cpu'] for r in j.energy()]
    j.close()


# what is read

def test_one_row_a_stage_and_each_of_its_own(tmp_path):
    j = Journal(tmp_path/'j.sqlite')
    with metered(j, every=60) as m:
        assert m.ready(10)
        with m.stage('expand', 'large'):
            time.sleep(.05)
            with m.stage('inner'): time.sleep(.05)
            time.sleep(.05)
        with m.stage('moment'): pass
        m.now('generate', 'small'); m.now('generate', 'small'); time.sleep(.05)
        assert [s for r in j.energy() if (s := r['stage']) in ('expand', 'inner')] == ['expand', 'inner', 'expand']     # they are on the disk when the next begins
    assert all(r['seconds'] >= .01 for r in j.energy() if r['stage'] == 'moment')   # on a busy machine it may be one
    rows = [r for r in j.energy() if r['stage'] not in ('', 'moment')]
    assert [(r['stage'], r['model']) for r in rows] == [('expand', 'large'), ('inner', ''), ('expand', 'large'), ('generate', 'small')]
    for r in rows:
        for p, watts in zip(REALS, (60, 300, 20)): assert r[p] == pytest.approx(watts*r['seconds']/3.6e6, rel=1e-6)
        assert r['how'] == 'CPU by RAPL; GPU by NVML; RAM by size, 20 W'
    assert m.kwh == pytest.approx(measured(j.energy()).kwh, rel=1e-12)
    assert sum(r['seconds'] for r in j.energy()) == pytest.approx(m._ended - m._began, abs=.05)
    ends_at = [r['at'] for r in j.energy()]
    assert ends_at == sorted(ends_at) and abs(ends_at[-1] - time.time()) < 60

def test_rows_come_while_a_stage_lasts():
    j = Journal()
    with metered(j, every=.05) as m, m.stage('long'):
        until = time.time() + 20
        while len(j.energy('long')) < 3 and time.time() < until: time.sleep(.01)
        assert len(j.energy('long')) >= 3 and m.kwh > 0 and 0 < m.share <= 1

readings = st.sampled_from([math.nan, -1e-6, math.inf, OSError('lost')]) | st.floats(1e-9, 1e-3)

@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(readings, readings, readings, st.sampled_from(['', 'a', 'b', None])), min_size=1, max_size=12))
def test_known_is_summed_and_unknown_is_none(steps):
    "Whatever the parts give: the rows cover the time, hold what was read, and None for what was not"
    j, told = Journal(), []
    m = Meter(j, said=told.append)
    m._parts = [_Part(p, p, Watts(0, {i: s[k] for i, s in enumerate(steps)})) for k, p in enumerate(REALS)]
    m._open = _Interval(0.)
    good = lambda v: not isinstance(v, Exception) and 0 <= v < math.inf
    for i, (*_, stage) in enumerate(steps): m._change(i + 1., (stage, '')) if stage is not None else m._advance(i + 1.)
    m._cut()
    rows = j.energy()
    assert sum(r['seconds'] for r in rows) == len(steps)
    for k, p in enumerate(REALS):
        known = [s[k] for s in steps if good(s[k])]
        assert math.fsum(r[p] for r in rows if r[p] is not None) == pytest.approx(math.fsum(known), rel=1e-9)
        assert sum(r['seconds'] for r in rows if r[p] is None) == len(steps) - len(known)
        assert all((r[p] is None) == (f'{p.upper()}: no reading since' in r['how']) for r in rows)
    assert len(told) == sum(any(not good(s[k]) for s in steps) for k in range(3))     # once each
    total = math.fsum(s[k] for s in steps for k in range(3) if good(s[k]))
    assert measured(rows).kwh == pytest.approx(m.kwh, rel=1e-9) if any(good(v) for s in steps for v in s[:3]) else m.kwh is None
    assert m.kwh is None or m.kwh == pytest.approx(total, rel=1e-9)

def test_nothing_but_zeros_is_no_reading():
    p = _Part('gpu', 'GPU by NVML', Watts(0))
    assert [p.read(t) for t in (.1, .3, .6, 1.6)] == [0., 0., None, None] and 'nothing but 0' in p.words()
    assert _Part('cpu', 'x', Watts(0), rests=True).read(100.) == 0.     # a process that waits
    assert _Part('gpu', 'no GPU', fixed=0.).read(100.) == 0.


# real codecarbon, made-up counters

@pytest.fixture
def fresh():
    from codecarbon.core import hardware_cache
    hardware_cache.clear_cache()
    yield
    hardware_cache.clear_cache()

@pytest.fixture
def nvml(monkeypatch, fresh):
    "A made-up driver with one card that draws 300 W; `card.gone` is an error that every call raises from then on"
    from codecarbon.core import gpu, gpu_nvidia
    card = types.SimpleNamespace(gone=None, counter=True, began=time.perf_counter(), offset=0)
    class NVMLError(Exception): pass
    def answer(value):
        def call(*_):
            if card.gone: raise card.gone
            return value() if callable(value) else value
        return call
    def count():
        if not card.counter: raise NVMLError('Not Supported')
        return int(300e3*(time.perf_counter() - card.began)) + card.offset
    fake = types.SimpleNamespace(NVMLError=NVMLError, NVMLError_NotSupported=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetName=answer('Made-up 1'), nvmlDeviceGetUUID=answer('GPU-1'), nvmlDeviceGetEnforcedPowerLimit=answer(400e3), nvmlDeviceGetTotalEnergyConsumption=answer(count), nvmlDeviceGetPowerUsage=answer(300e3),
        nvmlDeviceGetMemoryInfo=answer(types.SimpleNamespace(total=1, free=1, used=0)), nvmlDeviceGetUtilizationRates=answer(types.SimpleNamespace(gpu=50)))
    for k, v in dict(pynvml=fake).items(): monkeypatch.setattr(gpu_nvidia, k, v)
    for k, v in dict(pynvml=fake, PYNVML_AVAILABLE=True, is_nvidia_system=lambda: True).items(): monkeypatch.setattr(gpu, k, v)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    card.NVMLError = NVMLError
    return card

def read(p, *waits):
    out = []
    for w in waits: time.sleep(w); out.append(p.read(time.perf_counter()))
    return out

def gpu_part():
    [p] = [p for p in psi.meter._parts('machine') if p.name == 'gpu']
    p.since = time.perf_counter()
    return p

def test_a_card_is_counted(nvml):
    p = gpu_part(); begin = p.since
    used = read(p, .1, .2)
    assert p.words() == 'GPU by NVML' and sum(used) == pytest.approx(300*(p.since - begin)/3.6e6, rel=.1)

@pytest.mark.parametrize('kind', ['driver', 'other'])
def test_a_card_that_disappears_is_none(nvml, kind):
    "codecarbon takes it for a card of 0 W and says so in its log alone"
    p = gpu_part()
    assert read(p, .1)[0] > 0
    nvml.gone = nvml.NVMLError('GPU is lost') if kind == 'driver' else OSError('no such device')
    gone = read(p, .3, .3)
    assert gone[-1] is None and 'GPU: no reading since' in p.words() and (kind == 'other' or gone == [None]*2)
    nvml.gone = None
    assert read(p, .1, .1)[-1] > 0 and p.words() == 'GPU by NVML'

def test_a_counter_that_goes_backwards(nvml):
    p = gpu_part()
    nvml.offset = -10**9
    assert all(v is None or 0 <= v < 1e-3 for v in read(p, .1, .1))

def test_a_card_without_a_counter_says_so(nvml):
    nvml.counter = False
    p = gpu_part(); begin = p.since
    assert p.words() == 'GPU by NVML, power once a second' and read(p, .2)[0] == pytest.approx(300*(p.since - begin)/3.6e6, rel=.05)

def test_hidden_cards_are_no_cards(nvml, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    p = gpu_part()
    assert (p.words(), p.read(100.)) == ('no GPU for this process', 0.)

def test_a_driver_that_does_not_answer_is_not_no_gpu(monkeypatch, fresh):
    from codecarbon.core import gpu
    monkeypatch.setattr(gpu, 'is_nvidia_system', lambda: True)
    monkeypatch.setattr(gpu, 'PYNVML_AVAILABLE', False)
    monkeypatch.setattr(gpu, 'AMDSMI_AVAILABLE', False)
    p = gpu_part()
    assert p.read(100.) is None and 'GPU not read' in p.words()

def test_a_card_the_system_has_but_nobody_reads(monkeypatch, tmp_path):
    monkeypatch.setattr(psi.meter, 'Path', lambda p: tmp_path if 'nvidia' in p else tmp_path/'none')
    kwh, how = psi.meter._no_gpu()
    assert kwh is None and 'nvidia-smi' in how

@pytest.fixture
def rapl(tmp_path):
    "A made-up /sys/class/powercap with one package"
    from codecarbon.external.hardware import CPU
    at = tmp_path/'intel-rapl/intel-rapl:0'
    at.mkdir(parents=True)
    for name, text in dict(name='package-0', energy_uj='1000000', max_energy_range_uj='10000000').items(): (at/name).write_text(text)
    hw = CPU(str(tmp_path), 'intel_rapl', 'made up', 65, rapl_dir=str(tmp_path/'intel-rapl'))
    hw.start()
    return at/'energy_uj', _Part('cpu', psi.meter._cpu_how(hw, 'machine', None, {}), hw)

def test_rapl(rapl):
    file, p = rapl
    joules = lambda micro: (file.write_text(str(micro)), p.read(p.since + .1))[1]      # too short to wonder about a zero
    assert joules(4_600_000) == pytest.approx(1e-6, rel=1e-5) and p.words() == 'CPU by RAPL'    # 3.6 J
    assert joules(1_000_000) == pytest.approx(6.4/3.6e6, rel=1e-5)                              # over the top, from 10 J to 0
    assert joules('') is None and 'CPU: no reading since' in p.words()
    assert joules(2_000_000) is None                                                            # nothing to compare it with
    assert joules(5_600_000) == pytest.approx(1e-6, rel=1e-5) and p.words() == 'CPU by RAPL'
    file.unlink()
    assert p.read(p.since + .1) is None

def test_it_agrees_with_codecarbons_own_tracker(nvml):
    "The same second, measured by both: memory and a made-up card"
    j = Journal()
    tracker = codecarbon.OfflineEmissionsTracker(**psi.meter._ALONE, force_cpu_power=50)
    with Meter(j, every=60) as m:
        assert m.ready(30)
        tracker.start()
        with m.stage('both'): time.sleep(.5)
        tracker.stop()
    theirs, [ours] = tracker.final_emissions_data, j.energy('both')
    assert ours['gpu']/ours['ram'] == pytest.approx(theirs.gpu_energy/theirs.ram_energy, rel=.05)
    for p in ('gpu', 'ram'): assert .95*ours[p] < getattr(theirs, f'{p}_energy') < 3*ours[p], p     # it starts a little earlier and ends a little later

def test_the_watts_of_the_data_sheet(fresh, monkeypatch):
    from codecarbon.core import cpu
    monkeypatch.setattr(cpu, 'is_rapl_available', lambda: False)
    given, = [p for p in psi.meter._parts('machine', 65.) if p.name == 'cpu']
    assert given.words() == 'CPU load x TDP 65 W'
    process = {p.name: p.words() for p in psi.meter._parts('process')}
    assert 'RAM by size of this process' == process['ram'] and 'load x TDP' in process['cpu']


def test_what_psi_starts_is_counted_with_it(fresh, monkeypatch):
    "The embedded engine is a child process"
    from codecarbon.core import cpu
    monkeypatch.setattr(cpu, 'is_rapl_available', lambda: False)
    p, = [p for p in psi.meter._parts('process', 1000.) if p.name == 'cpu']
    child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    try:
        time.sleep(.2); read(p, 0.)       # it is seen for the first time
        used, = read(p, .4)
    finally: child.kill(); child.wait()
    resting = read(p, .2, .2)[-1]
    assert used > 50*.4/3.6e6 and resting < used/3


@pytest.mark.skipif(not Path('/proc/cpuinfo').exists(), reason='no such file here')
def test_the_chips_name_is_the_one_that_codecarbon_finds(tmp_path):
    out, _ = ends(script("""
    import psi.meter, cpuinfo
    real = cpuinfo.get_cpu_info
    psi.meter._name_the_chip()
    from codecarbon.core.util import detect_cpu_model
    assert cpuinfo.get_cpu_info is real
    given = detect_cpu_model()
    detect_cpu_model.cache_clear()
    print(given == detect_cpu_model() != '')
    """, tmp_path))
    assert out.endswith('True\n')


# codecarbon itself is the trouble

@pytest.mark.parametrize('how', ['missing', 'does not start', 'changed'])
def test_without_codecarbon_the_work_goes_on(how, monkeypatch, capsys):
    if how == 'missing': monkeypatch.setitem(sys.modules, 'codecarbon', None)
    if how == 'does not start':
        def broken(self): raise OSError('no such thing as hardware')
        monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, '_ensure_hardware_ready', broken)
    if how == 'changed': monkeypatch.setattr(codecarbon, 'OfflineEmissionsTracker', lambda **_: types.SimpleNamespace(get_detected_hardware=dict))
    j = Journal()
    with Meter(j) as m:
        m.ready(10)
        with m.stage('expand'): time.sleep(.03)
        assert m.kwh is None and m.share == 0. and 'not measured' in m.how
    assert [r['stage'] for r in j.energy() if r['stage']] == ['expand'] and all(r[p] is None for r in j.energy() for p in REALS)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith('energy: not measured') and {'missing': 'pip install codecarbon', 'does not start': 'no such thing', 'changed': '_hardware'}[how] in said[0]

HOSTILE = dict(output_methods='csv,api', save_to_file='true', save_to_api='true', api_key='k', emissions_endpoint='{url}', api_endpoint='{url}', allow_multiple_runs='false', prometheus_url='{host}', save_to_prometheus='true',
    output_file='emissions.csv', output_dir='.', log_level='debug', pue='7', force_ram_power='5000', force_cpu_power='9000', electricitymaps_api_token='t', experiment_id='e', measure_power_secs='1', tracking_mode='process', country_iso_code='FRA')
WATCHED = '''
    import sys, time, json
    seen = []
    def watch(event, args):
        if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto'): seen.append([event, str(args[1:])])
        if event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+') and isinstance(args[0], str) and '__pycache__' not in args[0]: seen.append([event, str(args[0])])
    sys.addaudithook(watch)
'''

@pytest.fixture
def hostile(tmp_path):
    "A machine where everything tells codecarbon to call and to write"
    import socket
    server = socket.create_server(('127.0.0.1', 0))
    arrived, url = [], f'http://127.0.0.1:{server.getsockname()[1]}'
    def serve():
        while True:
            try: conn, _ = server.accept()
            except OSError: return
            arrived.append(1); conn.close()
    threading.Thread(target=serve, daemon=True).start()
    for name in ('home', 'cwd', 'tmp'): (tmp_path/name).mkdir()
    values = {k: v.format(url=url, host=url[7:]) for k, v in HOSTILE.items()}
    text = '[codecarbon]\n' + ''.join(f'{k}={v}\n' for k, v in values.items())
    for name in ('home', 'cwd'): (tmp_path/name/'.codecarbon.config').write_text(text)
    env = dict(HOME=str(tmp_path/'home'), USERPROFILE=str(tmp_path/'home'), TMPDIR=str(tmp_path/'tmp'), **{f'CODECARBON_{k.upper()}': v for k, v in values.items()})
    yield arrived, env, tmp_path, lambda: sorted(p.name for d in ('home', 'cwd', 'tmp') for p in (tmp_path/d).rglob('*') if p.name != '.codecarbon.config')
    server.close()

def test_nobody_calls_and_nobody_writes(hostile):
    arrived, env, tmp_path, left = hostile
    out, err = ends(script(WATCHED + '''
    from psi.journal import Journal
    from psi.meter import Meter
    with Meter(j := Journal(), every=.2) as m:
        assert m.ready(30)
        with m.stage('x'): time.sleep(.7)
    print(json.dumps([seen, m.how, j.energy('x')]))
    ''', tmp_path/'cwd', **env))
    seen, how, rows = json.loads(out)
    assert not arrived and not [s for s in seen if s[1] != '/dev/null'] and left() == [] and err == ''
    ram = {r['ram']*3.6e6/r['seconds'] for r in rows}
    assert max(ram) < 1000 and '9000 W' not in how and 'process' not in how      # neither their watts nor their PUE nor their mode

def test_no_setting_is_left_to_be_looked_up():
    "A setting that a later codecarbon adds has to be given a value here, too"
    import inspect
    from codecarbon.emissions_tracker import BaseEmissionsTracker, OfflineEmissionsTracker
    known = {n for c in (BaseEmissionsTracker, OfflineEmissionsTracker) for n, p in inspect.signature(inspect.unwrap(c.__init__)).parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    old = {n for n in known if n.startswith('save_to_')} | {'co2_signal_api_token'}      # not read where their successors are given
    assert known - old - {'self', 'tracking_mode', 'force_cpu_power', 'output_dir'} == set(psi.meter._ALONE)

def test_that_configuration_is_hostile_indeed(hostile):
    arrived, env, tmp_path, left = hostile
    ends(script('''
    import codecarbon, time
    tracker = codecarbon.OfflineEmissionsTracker()
    tracker.start(); time.sleep(.1); tracker.stop()
    ''', tmp_path/'cwd', **env))
    assert arrived and 'emissions.csv' in left()

def test_a_broken_configuration_is_named(tmp_path):
    (tmp_path/'.codecarbon.config').write_text('no section at all\n')
    out, err = ends(script('''
    from psi.journal import Journal
    from psi.meter import Meter
    with Meter(Journal()) as m: m.ready(30)
    ''', tmp_path, HOME=str(tmp_path)))
    assert len(err.splitlines()) == 1 and '.codecarbon.config' in err and 'Traceback' not in err, err


# kills, forks, threads

LONG = '''
    import time, psi.meter, sys
    from psi.journal import Journal
    from psi.meter import Meter, _Part
    class Watts:
        def measure_power_and_energy(self, last_duration): return None, 60*last_duration/3.6e6
    m = Meter(Journal('j.sqlite'), every=EVERY)
    m._find = lambda: [_Part(p, p, Watts()) for p in ('cpu', 'gpu', 'ram')]
    with m, m.stage('long'):
        m.ready(); print('ready', flush=True)
        time.sleep(60)
'''

def rows_of(path, n, process):
    "Wait until another process has written that many rows"
    until = time.time() + 30
    while time.time() < until and process.poll() is None:
        with closing(sqlite3.connect(f'file:{path}?mode=ro', uri=True)) as db: found = db.execute('SELECT count(*) FROM energy').fetchone()[0]
        if found >= n: return
        time.sleep(.02)
    raise AssertionError(f'no {n} rows: {process.communicate()}')

def test_a_kill_loses_the_last_interval_and_a_second_run_adds_to_the_first(tmp_path):
    p = script(LONG.replace('EVERY', '.1'), tmp_path)
    assert p.stdout.readline() == 'ready\n'
    rows_of(tmp_path/'j.sqlite', 4, p)
    p.kill(); p.communicate()
    told = []
    with closing(Journal(tmp_path/'j.sqlite', said=told.append)) as j:
        first = j.energy()
        assert len(first) >= 4 and not told
        with metered(j, every=60) as m:
            assert m.ready(10) and m.kwh >= measured(first).kwh
            with m.stage('again'): time.sleep(.05)
        assert j.energy()[:len(first)] == first and m.kwh == pytest.approx(measured(j.energy()).kwh, rel=1e-12)

def test_ctrl_c_loses_nothing(tmp_path):
    p = script(LONG.replace('EVERY', '60'), tmp_path)
    assert p.stdout.readline() == 'ready\n'
    time.sleep(.3)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=30)
    assert 'KeyboardInterrupt' in err
    with closing(Journal(tmp_path/'j.sqlite')) as j: assert sum(r['seconds'] for r in j.energy('long') if r['cpu']) >= .29

def test_a_work_that_fails_is_still_measured():
    j = Journal()
    with pytest.raises(ZeroDivisionError), metered(j) as m, m.stage('expand'):
        m.ready(10); time.sleep(.03); 1/0
    assert [r['stage'] for r in j.energy() if r['cpu'] and r['stage']] == ['expand'] and not psi.meter._running and 'PSI_METER' not in os.environ

def test_before_it_is_ready_the_work_does_not_wait():
    j, go = Journal(), threading.Event()
    with metered(j, lambda: (go.wait(10), parts())[1]) as m:
        with m.stage('early', 'a'): time.sleep(.03)
        m.now('next'); time.sleep(.03)
        assert not m.ready(0) and m.how == 'not ready yet' and m.kwh is None and j.energy() == []
        go.set(); assert m.ready(10); time.sleep(.03)
    early, *later = [r for r in j.energy() if r['stage']]
    assert (early['stage'], early['model'], early['cpu'], early['how']) == ('early', 'a', None, 'not ready yet') and early['seconds'] == pytest.approx(.03, abs=.02)
    assert [(r['stage'], r['cpu'] is None) for r in later] == [('next', True), ('next', False)]
    assert measured(j.energy()).unread >= .06 and 0 < m.share < 1

def test_two_meters_in_a_process_are_one():
    j, other = Journal(), Journal()
    with metered(j) as m:
        m.ready(10)
        with metered(other) as inner, inner.stage('inner', 'x'): time.sleep(.03); assert inner.how == m.how and inner.kwh == m.kwh and m._now == ('inner', 'x')
        assert m._now == ('', '') and m._mine()        # the end of the inner one is not the end
        with pytest.raises(ConfigError, match='already'): m.__enter__()
    assert other.energy() == [] and 'inner' in {r['stage'] for r in j.energy()}
    with metered(other) as m: assert m.ready(10)      # and afterwards another may
    assert other.energy()

def test_a_meter_can_be_used_again():
    j = Journal()
    m = metered(j)
    for stage in ('one', 'two'):
        with m, m.stage(stage): m.ready(10); time.sleep(.02)
    assert [r['stage'] for r in j.energy() if r['cpu'] and r['stage']] == ['one', 'two'] and m.kwh == pytest.approx(measured(j.energy()).kwh)

def test_threads_may_say_what_runs():
    j = Journal()
    with metered(j) as m:
        m.ready(10)
        def work(i):
            for k in range(10): m.now(f'{i}', f'{k}')
        for t in (threads := [threading.Thread(target=work, args=(i,)) for i in range(4)]): t.start()
        for t in threads: t.join()
    assert sum(r['seconds'] for r in j.energy()) == pytest.approx(m._ended - m._began, abs=.05)
    assert m.kwh == pytest.approx(measured(j.energy()).kwh or m.kwh)

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
def test_a_forked_child_does_not_count(tmp_path):
    p = script(LONG.split('    with m,')[0].replace('EVERY', '60') + '''
    import os
    with m:
        m.ready(); m.now('parent'); time.sleep(.05)
        if (pid := os.fork()) == 0:
            m.now('child'); m.__exit__()
            with Meter(Journal('child.sqlite')) as mine, mine.stage('child'): print(mine.how, mine.kwh, m.how, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        import subprocess
        print(subprocess.run([sys.executable, '-c', 'from psi.journal import Journal; from psi.meter import Meter\\nwith Meter(Journal("child.sqlite")) as m: print(m.how)'], capture_output=True, text=True).stdout, os.getpid())
    print(sorted({r['stage'] for r in m.journal.energy()}), Journal('child.sqlite').energy())
    ''', tmp_path)
    out, err = ends(p)
    first, second, pid, last = out.split('\n', 2)[0], out.splitlines()[1], out.splitlines()[2].strip(), out.splitlines()[3]
    assert first == f'measured by process {pid}, not here None cpu; gpu; ram' and second == f'measured by process {pid}, not here' and last == "['', 'parent'] []" or last == "['parent'] []", out

def test_ranks_of_a_launcher(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    with metered(Journal()) as m: assert 'local rank 0' in m.how and not m._mine()
    with metered(Journal(), tracking='process') as m: assert m._mine()
    monkeypatch.setenv('LOCAL_RANK', '0')
    with metered(Journal()) as m: assert m._mine()

def test_a_mark_that_was_left_behind(monkeypatch):
    gone = subprocess.Popen([sys.executable, '-c', '']); gone.wait()
    for mark in (f'{psi.meter.platform.node()}:{gone.pid}', 'elsewhere:1', 'nonsense'):
        monkeypatch.setenv('PSI_METER', mark)
        with metered(Journal()) as m: assert m._mine(), mark


# the rest

def test_a_reading_that_hangs_does_not_hang_the_work(capsys):
    class Hangs:
        go = threading.Event()
        def measure_power_and_energy(self, last_duration): self.go.wait(20); return None, 1e-6
    j = Journal()
    with metered(j, [_Part('gpu', 'GPU', Hangs())]) as m:
        m.ready(10)
        m.now('expand')                # comes back while the reading does not
        assert not Hangs.go.is_set()
        Hangs.go.set()

def test_what_cannot_be_written_is_written_later(capsys):
    j, full = Journal(), [True]
    real = j.put_energy
    def put(**row):
        if full[0]: raise DataError('j: the disk is full; make room')
        real(**row)
    j.put_energy = put
    with metered(j, every=60) as m:
        m.ready(10)
        for s in 'ab':
            with m.stage(s): time.sleep(.02)
        assert j.energy() == []
        full[0] = False
    assert [r['stage'] for r in j.energy() if r['stage']] == ['a', 'b']
    assert capsys.readouterr().err.count('disk is full') == 1

def test_a_fault_of_the_meter_itself_is_said_and_written(capsys):
    j, faults = Journal(), [ZeroDivisionError('a fault')]
    real = j.put_energy
    def put(**row):
        if faults: raise faults.pop()
        real(**row)
    j.put_energy = put
    with metered(j, every=60) as m:
        m.ready(10)
        for s in 'ab':
            with m.stage(s): time.sleep(.02)
        assert 'a fault' in m.how
    assert [(r['stage'], r['cpu']) for r in j.energy()][-1] == ('b', None) or [(r['stage'], r['cpu']) for r in j.energy()][-2] == ('b', None)
    assert 'a fault' in capsys.readouterr().err

def test_a_fault_at_the_very_end_does_not_hang(capsys):
    j = Journal()
    def put(**row): raise ZeroDivisionError('a fault')
    with metered(j, every=60) as m: m.ready(10); time.sleep(.03); j.put_energy = put
    assert 'a fault' in m.how and 'does not come back' not in capsys.readouterr().err

def test_what_is_never_written_is_said(capsys):
    j = Journal()
    def put(**row): raise DataError('j: the disk is full; make room')
    j.put_energy = put
    with metered(j, every=60) as m:
        m.ready(10)
        with m.stage('a'): time.sleep(.02)
    assert 'intervals could not be written and are lost' in capsys.readouterr().err

def test_off_costs_nothing():
    code = 'import sys\nfrom psi.meter import Meter\nwith Meter.off() as m, m.stage("x"): m.now("y")\nimport threading\nprint(m.kwh, m.share, m.how, m.ready(), threading.active_count(), "codecarbon" in sys.modules, "pandas" in sys.modules)'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, [HERE, os.environ.get('PYTHONPATH', '')]))}).stdout
    assert out == 'None None not measured False 1 False False\n'

@pytest.mark.parametrize('options, told', [(dict(every=0), 'every=0'), (dict(every='10'), "every='10'"), (dict(every=math.nan), 'every=nan'), (dict(tracking='gpu'), 'tracking='), (dict(tdp=0), 'tdp=0'), (dict(tdp=math.inf), 'tdp=inf')])
def test_bad_settings(options, told):
    with pytest.raises(ConfigError, match=told): Meter(Journal(), **options)
