"Attempts to get private knowledge to the large model: none may arrive, and each must end in a drop, a redaction or a BoundaryError that does not tell the secret"
import http.server, json, random, re, socket, subprocess, sys, threading, unicodedata
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from psi.audit import audit, longest_runs, Plain, read_log
from psi.boundary import Cleared, Guard, body_hash, demand_cleared, home, keep_home
from psi.cluster import Clustering
from psi.config import read_config
from psi.core import BoundaryError, ConfigError, DataError, EngineError, Instance, Origin, Principle, PsiError, packaged_seeds
from psi.expand import expand
from psi.generate import generate
from psi.journal import Journal, Reply, Request
from psi.knowledge import Knowledge
from psi.lm import LM, scripted
from psi.folder import Run
from psi.pipeline import run
from psi.reflect import reflect
from psi.structured import structured
from psi.summarize import summarize
from psi.verbatim import Verbatim, letters
from script import script

MANUAL = '''The Corvane pump must be primed with distilled water before every start, and never with water from the tap.

A dry start destroys the graphite seal within eleven seconds. Replace the seal after four hundred hours of work, or when the housing is hotter than seventy one degrees.

Sensor seven reports a wrong pressure whenever the bypass valve stands open; close the valve, wait for two minutes, and read the sensor again.

To drain the pump, unscrew the brass plug under the motor, tilt the frame by thirty degrees, and let the rest of the oil run into a flat pan.'''
RUN = 'dry start destroys the graphite seal within eleven seconds'
CYRILLIC = str.maketrans('aeopcxsi', 'аеорсхѕі')

def fields(ws, *cuts): return [' '.join(ws[a:b]) for a, b in zip((0, *cuts), (*cuts, len(ws)))]

DRESSES = { # words of K -> instruction, input, output
'verbatim':          lambda ws: ('Repeat this.', ' '.join(ws), 'Done.'),
'in the instruction': lambda ws: ('Is it true that ' + ' '.join(ws) + '?', '', 'Yes.'),
'in the output':     lambda ws: ('Say what the book says.', '', ' '.join(ws)),
're-cased':          lambda ws: ('Repeat this.', ' '.join(ws).upper(), 'Done.'),
're-punctuated':     lambda ws: ('Repeat this.', '; '.join(w.strip('.,;') for w in ws), 'Done.'),
'unspaced':          lambda ws: ('Repeat this.', ''.join(ws), 'Done.'),
'spaced out':        lambda ws: ('Repeat this.', ' '.join(' '.join(w) for w in ws), 'Done.'),
'hyphens':           lambda ws: ('Repeat this.', '-'.join(ws), 'Done.'),
'look-alikes':       lambda ws: ('Repeat this.', ' '.join(ws).translate(CYRILLIC), 'Done.'),
'full width':        lambda ws: ('Repeat this.', ''.join(chr(ord(c) + 0xfee0) if c.isascii() and c.isalpha() else c for c in ' '.join(ws)), 'Done.'),
'invisible':         lambda ws: ('Repeat this.', '\u200b'.join(' '.join(ws)), 'Done.'),
'marks':             lambda ws: ('Repeat this.', '\u0336'.join(' '.join(ws)), 'Done.'),
'over two fields':   lambda ws: tuple([*fields(ws, len(ws)//2), 'Done.']),
'over three fields': lambda ws: tuple(fields(ws, len(ws)//3, 2*len(ws)//3)),
'backwards fields':  lambda ws: (f'{" ".join(ws[len(ws)//2:])}', '', ' '.join(ws[:len(ws)//2])),
'list':              lambda ws: ('Put these in order.', '\n'.join(f'- {w}' for w in ws), 'Done.'),
'markdown':          lambda ws: ('Repeat this.', ' '.join(f'**{w}**' for w in ws), 'Done.'),
}


def squeezed(text):
    "Letters and digits of a text, undisguised: written apart from psi's own way, as a check on it"
    text = re.sub(r'(?m)^(?:\d+\. ?)?(?:Instruction|Input|Output):|<noinput>', ' ', text.translate({v: chr(k) for k, v in CYRILLIC.items()}))
    return ''.join(c for c in unicodedata.normalize('NFKD', text).casefold() if c.isalnum())

def windows(text, n=8):
    "Each run of n words of K, in letters"
    words = re.findall(r'\w+', text)
    return {squeezed(' '.join(words[i:i + n])) for i in range(len(words) - n + 1)}

SECRETS = windows(MANUAL)
def secret(text): return [w for w in SECRETS if w in squeezed(text)]

def texts_of(v): return [v] if isinstance(v, str) else [t for w in (v.values() if isinstance(v, dict) else v) for t in texts_of(w)] if isinstance(v, dict | list) else []


class Recorder:
    "An M_L that remembers every byte"
    def __init__(self): self.bodies, self.fail = [], 0
    def __call__(self, prompt, body):
        self.bodies.append(body)
        if self.fail: self.fail -= 1; return 500, {'error': {'message': 'try again'}}
        return script(prompt, body)
    @property
    def leaked(self): return [s for b in self.bodies for s in secret('\n'.join(texts_of(b)))]


class Adversary:
    "An M_g that repeats what it was shown of K in some dress, and writes other tasks beside"
    def __init__(self, dress): self.dress, self.seen = dress, 0
    def __call__(self, prompt, body):
        rng = random.Random(body.get('seed'))
        words = (re.findall(r'does not have the material\.\n\n(.*?)\n\nList of', prompt, re.S) or [''])[0].split()
        self.seen += len(words) > 20
        word = lambda: ''.join(rng.choices('abcdefghijklmnop', k=5))
        tasks = [(f'{rng.choice(["Count", "Name", "Sort", "Rank"])} {word()} {word()} {word()} {word()}.', '', word()) for _ in range(6)]
        if words:
            at = rng.randrange(max(len(words) - 16, 1))
            a, b, c = self.dress(words[at:at + 16])
            tasks.insert(2, (f'{a} No. {rng.randrange(10**6)}' if a.endswith('.') else a, b, c))
        text = '\n'.join(f'###\n{i}. Instruction: {a}\n{i}. Input:\n{b or "<noinput>"}\n{i}. Output:\n{c}' for i, (a, b, c) in enumerate(tasks, 4))
        return text.partition('Instruction:')[2] if 'prompt' in body else text


@pytest.fixture
def manual(tmp_path):
    (tmp_path/'manual.md').write_text(MANUAL)
    return tmp_path/'manual.md'

def config(manual, M_L, M_g, *sets):
    return read_config(None, ['expand.n=30', 'reflect.T=4', 'reflect.size=5', 'generate.n=30', 'M_L.model=large', 'M_g.model=small', 'name=run', f'knowledge.source={manual}', 'knowledge.words=60', 'knowledge.overlap=10',
                              f'M_L.base_url={M_L}', f'M_g.base_url={M_g}', *sets])

def guard_and_model(url, policy='drop', **more):
    journal = Journal()
    return Guard([MANUAL], policy=policy), LM('large', url, journal=journal, **more)


# K itself

def test_knowledge_cannot_be_asked(manual):
    K, M_L = Knowledge(manual), LM('large', 'http://127.0.0.1:1/v1')
    for attempt in (lambda: M_L(K), lambda: M_L(K[0]), lambda: M_L([K[0]]), lambda: Request(K[0]), lambda: Request('x', turns=(('user', K[0]),)), lambda: list(M_L.stream(iter(K))),
                    lambda: reflect(M_L, K), lambda: reflect(M_L, list(K)), lambda: summarize(M_L, K, None), lambda: summarize(M_L, list(K), None),
                    lambda: Guard(K).clear(K), lambda: Guard(K).clear(list(K)), lambda: structured(M_L, [K[0]], dict)):
        with pytest.raises(BoundaryError) as e: attempt()
        assert not secret(str(e.value)) and re.search('knowledge|cleared', str(e.value), re.I)


def test_knowledge_in_a_string_shows_nothing(manual):
    K = Knowledge(manual)
    for text in (str(K), repr(K), f'{K}', str(K[0]), repr(K[0]), f'{K[0]:>90}', '%s' % K[0], str([K[0]]), repr({'a': K[0]}), K._repr_markdown_()): assert not secret(text) and 'pump' not in text


def made(*texts): return Instance(*texts, origin=Origin('expand', 0, 0, knowledge=('k0',)))

def test_an_instance_made_with_knowledge_must_be_cleared_whatever_its_text():
    M_L = LM('large', 'http://127.0.0.1:1/v1')
    harmless = [made(f'Name the number {i}.', '', str(i)) for i in range(4)]
    with pytest.raises(BoundaryError, match='reflect: instance i[0-9a-f]{12} was made with private knowledge and has not been cleared'): reflect(M_L, harmless, T=2, size=2)
    cleared = Guard([MANUAL]).clear(harmless).instances
    with pytest.raises(BoundaryError, match='has no guard'): reflect(M_L, cleared, T=2, size=2)
    with pytest.raises(BoundaryError, match='made by Guard.clear alone'): Cleared('a', 'b', 'c')
    with pytest.raises(BoundaryError, match='made by Guard.clear alone'): replace(cleared[0], output=RUN)
    for seal in (object(), Guard(), Guard([MANUAL])):
        with pytest.raises(BoundaryError): Cleared('a', 'b', 'c', seal=seal)
    with pytest.raises(BoundaryError, match='this guard knows of none'): Guard().clear(harmless)
    with pytest.raises(BoundaryError, match='has no guard that knows'): reflect(Guard().watch(LM('large', 'http://127.0.0.1:1/v1')), cleared, T=2, size=2)


# D_initial, echoed

@pytest.mark.parametrize('policy', ['drop', 'redact'])
@pytest.mark.parametrize('dress', DRESSES)
def test_what_M_g_echoes_does_not_reach_M_L(dress, policy, manual, tmp_path):
    M_L, M_g = Recorder(), Adversary(DRESSES[dress])
    with scripted(M_L) as large, scripted(M_g) as small: r = run(config(manual, large, small, f'boundary.policy={policy}'), until='reflect', runs=tmp_path/'runs', said=lambda line: None)
    assert M_g.seen and M_L.bodies and not M_L.leaked
    withheld = [d for d in r.dropped if d.reason == 'may not leave']
    sent = '\n'.join(t for b in M_L.bodies for t in texts_of(b))
    assert withheld and '<WITHHELD>' not in sent if policy == 'drop' else '<WITHHELD>' in sent and not withheld
    assert all(re.fullmatch(r'\d+ words in a row of private knowledge', d.detail) for d in withheld)
    assert not r.audit().leaks and r.audit().clean


def test_block_stops_the_run_without_telling(manual, tmp_path):
    M_L = Recorder()
    with scripted(M_L) as large, scripted(Adversary(DRESSES['look-alikes'])) as small, pytest.raises(BoundaryError) as e:
        run(config(manual, large, small, 'boundary.policy=block'), runs=tmp_path/'runs', said=lambda line: None)
    assert not M_L.bodies and 'overlap' in str(e.value) and not secret(str(e.value))


def test_a_whole_run_with_knowledge_and_no_socket_to_anywhere_else(manual, tmp_path):
    "In a process of its own: an audit hook sees every connection and every name that is looked up, by whatever library"
    M_L, M_g = Recorder(), Adversary(DRESSES['verbatim'])
    code = f'''
import sys
ok, met = set({{PORTS}}), []
def hook(event, args):
    if event in ('socket.connect', 'socket.sendto') and isinstance(args[1], tuple) and not (args[1][0] in ('127.0.0.1', '::1') and args[1][1] in ok): met.append((event, args[1]))
    if event == 'socket.getaddrinfo' and args[0] not in ('127.0.0.1', '::1', 'localhost', None): met.append((event, args[0]))
    if met: raise OSError(f'blocked: {{met[-1]}}')
sys.addaudithook(hook)
from psi.config import read_config
from psi.pipeline import run
r = run(read_config({str(tmp_path/"psi.toml")!r}), runs={str(tmp_path/"runs")!r})
assert len(r.instances) == 30, len(r.instances)
a = r.audit()
assert a.clean and a.requests > 4, a
print('met', met)
'''
    from psi.config import to_toml
    with scripted(M_L) as large, scripted(M_g) as small:
        (tmp_path/'psi.toml').write_text(to_toml(config(manual, large, small)))
        ports = [int(re.search(r':(\d+)/', u)[1]) for u in (large, small)]
        done = subprocess.run([sys.executable, '-c', code.replace('{PORTS}', str(ports)).replace('{{', '{').replace('}}', '}')], capture_output=True, text=True)
    assert done.returncode == 0 and 'met []' in done.stdout, done.stderr[-2000:]
    assert not M_L.leaked and {'reflect', 'summarize'} <= {r['stage'] for r in Run(tmp_path/'runs'/'run').journal().rows()}
    assert not secret(done.stdout + done.stderr)
    assert not secret((tmp_path/'runs'/'run'/'audit.jsonl').read_text())


def test_every_instance_names_what_it_was_shown(manual, tmp_path):
    with scripted(Recorder()) as large, scripted(Adversary(DRESSES['verbatim'])) as small: r = run(config(manual, large, small, 'boundary.data=true'), runs=tmp_path/'runs', said=lambda line: None)
    ids = {c.id for c in Knowledge(manual, words=60, overlap=10)}
    for x in (*r.initial, *r.instances): assert x.origin.knowledge and set(x.origin.knowledge) <= ids
    for p in (*r.low, *r.principles): assert not p.origin.knowledge and all(not i.startswith('k') for i in p.origin.parents)
    assert r.surfaced() == [] and any(d.reason == 'may not leave' and d.origin.stage == 'generate' for d in r.dropped)


def test_surfaced_in_the_data(manual, tmp_path):
    with scripted(Recorder()) as large, scripted(Adversary(DRESSES['in the output'])) as small: r = run(config(manual, large, small), runs=tmp_path/'runs', said=lambda line: None)
    found = r.surfaced()
    assert found and found == sorted(found, key=lambda s: -s.words) and all(secret(s.text) and s.words >= 8 for s in found)
    assert {s.id for s in found} == {x.id for x in r.instances if secret(f'{x.instruction} {x.input} {x.output}')}


# prompts, turns, retries

ASKED = [Request(f'Please improve: {RUN}.'), Request('Go on.', turns=(('user', 'Hello.'), ('assistant', RUN.upper()))), Request(' '.join(RUN.split()[4:]), turns=(('user', ' '.join(RUN.split()[:4])),)),
         Request('Short.', stop=(RUN,)), Request('Fill it in.', schema={'type': 'object', 'description': RUN})]

@pytest.mark.parametrize('r', ASKED, ids=['prompt', 'turn', 'over turns', 'stop', 'schema'])
def test_no_part_of_a_request_carries_it(r):
    M_L = Recorder()
    with scripted(M_L) as url:
        for policy in 'drop', 'redact', 'block':
            guard, lm = guard_and_model(url, policy)
            guard.watch(lm)
            try: reply = lm(r)
            except BoundaryError as e: assert policy == 'block' and 'overlap' in str(e) and not secret(str(e))
            else: assert policy != 'block' and (policy == 'redact' or re.match('withheld by the boundary: .* words in a row', reply.error) and not secret(reply.error) and lm.tally.withheld == 1)
    assert not M_L.leaked


def test_retries_and_longer_replies_send_what_was_checked():
    M_L = Recorder(); M_L.fail = 3
    with scripted(M_L) as url:
        guard, lm = guard_and_model(url, 'redact', max_tokens=5, longer=2)
        guard.watch(lm)
        lm(ASKED[0])
    assert len(M_L.bodies) == 4 and not M_L.leaked and all('<WITHHELD>' in b['messages'][0]['content'] for b in M_L.bodies)


def test_a_correction_turn_is_guarded(tmp_path):
    M_L = Recorder()
    with scripted(lambda prompt, body: M_L(prompt, body) and f'no JSON, but {RUN}') as url:
        guard, lm = guard_and_model(url)
        guard.watch(lm)
        structured(lm, ['Give me JSON.'], {'type': 'object', 'required': ['a']})
    assert M_L.bodies and not M_L.leaked


def test_a_baseline_that_asks_M_L_itself_is_guarded():
    "Whatever code holds the LM: the guard is in it"
    M_L = Recorder()
    def evolve(lm, instances): return lm(f'Rewrite this into a harder one: {x.instruction}\n{x.input}\n{x.output}' for x in instances)
    with scripted(M_L) as url:
        guard, lm = guard_and_model(url)
        replies = evolve(guard.watch(lm), [made(*dress(MANUAL.split()[20:36])) for dress in DRESSES.values()] + [made('Name a bird.', '', 'Wren.')])
    assert not M_L.leaked and len(M_L.bodies) < len(replies) and M_L.bodies


def test_principles_that_repeat_knowledge_are_withheld():
    M_L = Recorder()
    low = [Principle(f'Say that a {RUN}.'), Principle('Say what the output should hold.')]
    one = Clustering.from_dict({**_clustering(2)})
    with scripted(M_L) as url:
        guard, lm = guard_and_model(url)
        with pytest.raises(EngineError) as e: summarize(guard.watch(lm), low, one)
    assert not M_L.bodies and 'withheld by the boundary' in str(e.value) and not secret(str(e.value))

def _clustering(n):
    from psi.cluster import cluster
    c = cluster([Principle(f'Say number {i} to the reader.') for i in range(n)], embedder=lambda texts: np.eye(max(n, 3))[:len(texts)])
    return c.to_dict()


# M_g elsewhere

def test_a_remote_M_g_is_refused_before_anything_is_sent_or_written(manual, tmp_path, monkeypatch):
    monkeypatch.setenv('OPENAI_BASE_URL', 'http://93.184.216.34/v1')
    for url in ('http://93.184.216.34:8000/v1', 'https://api.openai.invalid/v1', 'openai', 'http://[2606:2800:220:1::]/v1', 'http://0.0.0.0:8000/v1', 'http://user.invalid:1/v1'):
        with pytest.raises(BoundaryError) as e: run(config(manual, 'http://127.0.0.1:1/v1', url), runs=tmp_path/'runs', said=lambda line: None)
        assert 'address' in str(e.value) or 'not on this machine' in str(e.value)
    assert not [p for p in (tmp_path/'runs').rglob('*') if p.is_file() and not p.name.startswith('.')]
    with pytest.raises(BoundaryError): expand(LM('small', 'http://93.184.216.34:8000/v1'), packaged_seeds(), knowledge=Knowledge(manual))
    with pytest.raises(BoundaryError): generate(LM('small', 'http://93.184.216.34:8000/v1'), [], packaged_seeds(), knowledge=Knowledge(manual))


def test_a_name_is_what_it_resolves_to(monkeypatch):
    answers = {'localhost': '127.0.0.1', 'my-local-box': '10.1.2.3', 'two-faced': '127.0.0.1'}
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, port, *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (answers[host], port))])
    assert home('http://localhost:8000/v1') == 'http://127.0.0.1:8000/v1'
    with pytest.raises(BoundaryError, match='10.1.2.3'): home('http://my-local-box:8000/v1')
    pinned = home('http://two-faced:8000/v1')
    answers['two-faced'] = '93.184.216.34'
    assert pinned == 'http://127.0.0.1:8000/v1'   # it cannot lead elsewhere any more
    assert home('http://my-local-box:8000/v1', ['my-local-box:8000']) == 'http://my-local-box:8000/v1'
    with pytest.raises(BoundaryError): home('http://my-local-box:8000/v1', ['my-local-box:8001'])
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, port, *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (ip, port)) for ip in ('127.0.0.1', '93.184.216.34')])
    with pytest.raises(BoundaryError): home('http://both:8000/v1')


@contextmanager
def raw_server(answer):
    "A server that answers any request by a function of its path: status, headers, body; and remembers the bodies"
    got = []
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def go(self):
            got.append(f'{self.command} {self.path} ' + self.rfile.read(int(self.headers.get('Content-Length') or 0)).decode(errors='replace'))
            status, headers, body = answer(self.path)
            self.send_response(status)
            for k, v in {'Content-Length': str(len(body)), **headers}.items(): self.send_header(k, v)
            self.end_headers(); self.wfile.write(body)
        do_GET = do_POST = do_CONNECT = go
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}', got
    finally: server.shutdown(); server.server_close()


def test_no_proxy_gets_to_see_it(manual, monkeypatch):
    with raw_server(lambda path: (502, {}, b'')) as (proxy, got), scripted(Adversary(DRESSES['verbatim'])) as small:
        for name in ('HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy'): monkeypatch.setenv(name, proxy)
        for name in ('NO_PROXY', 'no_proxy'): monkeypatch.delenv(name, raising=False)
        assert len(expand(LM('small', small), packaged_seeds(), n=6, knowledge=Knowledge(manual)).instances) == 6
    assert not got


def test_no_redirect_takes_it_elsewhere(manual):
    with raw_server(lambda path: (200, {}, b'{}')) as (elsewhere, got):
        with raw_server(lambda path: (404, {}, b'') if 'models' in path else (307, {'Location': f'{elsewhere}/v1/chat/completions'}, b'')) as (small, _):
            with pytest.raises(EngineError): expand(LM('small', f'{small}/v1'), packaged_seeds(), n=6, knowledge=Knowledge(manual))
    assert not got


def test_what_was_connected_before_is_connected_anew(manual, monkeypatch):
    lm = LM('small', 'http://127.0.0.1:9/v1')
    with scripted(Adversary(DRESSES['verbatim'])) as small:
        lm.base_url = small
        lm('Hello.')
        assert lm._open
        keep_home(lm)
        assert not lm._open
        lm.base_url = 'http://93.184.216.34/v1'   # changed behind its back
        with pytest.raises(BoundaryError): lm('Hello again.')


def test_one_LM_is_not_both(manual):
    lm = LM('both', 'http://127.0.0.1:9/v1')
    Guard([MANUAL]).watch(lm)
    with pytest.raises(BoundaryError, match='make another LM for M_g'): expand(lm, packaged_seeds(), knowledge=Knowledge(manual))
    other = keep_home(LM('both', 'http://127.0.0.1:9/v1'))
    with pytest.raises(BoundaryError, match='make another LM for M_L'): Guard([MANUAL]).watch(other)


def test_the_engines_echo_is_not_shown(manual, tmp_path, capfd):
    "An engine at home may repeat its prompt in an error; psi does not pass that on"
    def echo(prompt, body): return 400, {'error': {'message': f'bad request: {prompt[-1500:]}'}}
    for status in (400, 403, 422, 429, 500):
        with scripted(lambda prompt, body: (status, echo(prompt, body)[1])) as small, pytest.raises(PsiError) as e:
            expand(LM('small', small, retries=1, give_up=1), packaged_seeds(), n=6, patience=2, examples=0, knowledge=Knowledge(manual, words=30, overlap=8))
        assert not secret(str(e.value)), status
    out = capfd.readouterr()
    assert not secret(out.out + out.err)


# the index

words = st.lists(st.sampled_from('red blue green one two three four five six pump valve seal oil été Straße миру мир 水 漢字 x 7 3.5 can\'t re-do'.split()), min_size=1, max_size=40)

@settings(max_examples=150, deadline=None)
@given(words, words, st.integers(0, 30), st.integers(8, 14), st.sampled_from([' ', ', ', '\n', ' - ', '. ', '']), st.sampled_from([str, str.upper, str.title, str.swapcase]))
def test_any_run_of_eight_words_is_found(k, other, at, n, sep, case):
    text = ' '.join(k)
    x = letters(text)
    at = min(at, max(len(k) - n, 0))
    piece = k[at:at + n]
    found = Verbatim([text]).find(f'{" ".join(other)} ## {case(sep.join(piece))} ## {" ".join(other)}')
    if len(letters(' '.join(piece)).word) >= 8 and (sep or len(letters(''.join(piece)).codes) >= 30): assert found and max(r.words for r in found) >= min(len(letters(' '.join(piece)).word), 8)


@settings(max_examples=100, deadline=None)
@given(words, words)
def test_found_is_exactly_what_is_shared(k, other):
    "Against a search of every run in every place"
    a, b = letters(' '.join(k)), letters(' '.join(other))
    ends = [*a.word.tolist(), len(a.codes)]
    runs = [a.codes[ends[i]:ends[i + 8]].tolist() for i in range(len(a.word) - 7)]
    row = b.codes.tolist()
    words_in = lambda i, l: sum(i <= w < i + l for w in b.word)   # a run of few letters must have words in both
    expected = any(row[i:i + len(r)] == r and (len(r) >= 16 or 2*words_in(i, len(r)) >= 8) for r in runs for i in range(len(row)))
    assert bool(Verbatim([' '.join(k)]).find(' '.join(other))) == expected


def test_added_later_is_found_too():
    v = Verbatim([MANUAL])
    assert v.find(RUN) and not v.find('the rules of the house forbid to feed the grey cat at night')
    v.add(['The rules of the house forbid to feed the grey cat at night.'])
    assert v.find(RUN) and v.find('the rules of the house forbid to feed the grey cat at night')[0].words == 13


@pytest.mark.parametrize('text', ['', ' ', '\ud800', '\U0010ffff', 'a', '水'*9, '0'*5000, 'word '*5000, '\u0336'*100, '🅿'*20, '\U000e0061'*30])
def test_odd_texts_are_texts(text):
    v = Verbatim([text, text + ' x'])
    v.find(text); v.find(text*3)
    Guard([text]).find(text)


# clearing

def test_an_input_with_knowledge_is_protected_as_a_whole():
    a = made('Summarise.', f'Our notes. {RUN}. Blue pumps of the northern hall were sold to a man in a grey coat.', 'A seal breaks.')
    b = made('Who bought pumps?', '', 'Blue pumps of the northern hall were sold to a man in a grey coat.')
    assert [x.id for x in Guard([MANUAL]).clear([b]).instances] == [b.id]
    assert Guard([MANUAL]).clear([b, a]).instances == []   # whichever comes first
    c = Guard([MANUAL], policy='redact').clear([a, b]).instances
    assert c[0].input == '<WITHHELD>' and c[1].output == '<WITHHELD>.'


def test_cleared_instances_keep_their_id_and_lose_personal_data(tmp_path):
    from psi.anonymize import Anonymizer
    people = Anonymizer(tmp_path/'placeholders.json')
    a, b = made('Write to jane.doe@example.com.', '', 'Dear JANE.DOE@example.com'), made('Who is at jane.doe@example.com?', '', 'Jane.')
    c = Guard([MANUAL], anonymizer=people).clear([a, b]).instances
    assert [x.id for x in c] == [a.id, b.id] and [x.instruction for x in c] == ['Write to <EMAIL_1>.', 'Who is at <EMAIL_1>?'] and c[0].output == 'Dear <EMAIL_1>'
    assert 'example.com' in (tmp_path/'placeholders.json').read_text() and (tmp_path/'placeholders.json').stat().st_mode & 0o77 == 0
    assert Guard([MANUAL], anonymizer=False).clear([a]).instances[0].instruction == a.instruction


def test_terms_and_patterns(tmp_path):
    (tmp_path/'terms.txt').write_text('# ours\nProject Halcyon\nÆgir\n')
    M_L = Recorder()
    from psi.boundary import read_terms
    with scripted(M_L) as url:
        for text in ('what of PROJECT  halcyon?', 'what of project-halcyon', 'Ask aegir.', 'CV-2207 it is'):
            for policy in 'drop', 'redact', 'block':
                guard, lm = Guard((), policy=policy, terms=read_terms(tmp_path/'terms.txt'), patterns=[r'CV-\d{4}']), LM('large', url)
                try: reply = guard.watch(lm)(text)
                except BoundaryError as e: assert policy == 'block' and re.search('terms [12]|patterns 1', str(e)) and not re.search('halcyon|gir|2207', str(e), re.I)
        sent = ' '.join(t for b in M_L.bodies for t in texts_of(b))
    assert sent.count('<WITHHELD>') == 4 and not re.search('halcyon|gir|2207', sent, re.I)
    for bad in (dict(patterns=['(']), dict(terms=['...']), dict(policy='x'), dict(n=1), dict(knowledge='text')):
        with pytest.raises(ConfigError): Guard(**bad)
    with pytest.raises(ConfigError, match='terms'): read_terms(tmp_path/'nowhere.txt')


def test_halcyon_days_are_no_part_of_a_longer_word():
    guard = Guard((), terms=['cat'])
    assert not guard.find('concatenate the scattered catalogue') and guard.find('the CAT sat') and guard.find('cat')


# the record, and the audit

def test_nothing_leaves_without_a_record(tmp_path):
    M_L = Recorder()
    with scripted(M_L) as url:
        guard = Guard([MANUAL], log=tmp_path/'no'/'folder'/'audit.jsonl')
        with pytest.raises(DataError, match='nothing leaves without a record'): guard.watch(LM('large', url))('Hello.')
    assert not M_L.bodies


def test_the_record_matches_what_was_received(tmp_path):
    M_L, log = Recorder(), tmp_path/'audit.jsonl'
    with scripted(M_L) as url:
        lm = Guard([MANUAL], policy='redact', log=log).watch(LM('large', url, journal=Journal(tmp_path/'j.sqlite')))
        lm([Request(f'Number {i}.' + (f' {RUN} ' if i % 3 == 0 else '') + ('me@example.com' if i % 2 else ''), 'reflect', i) for i in range(20)])
        lm([Request('Number 1.me@example.com', 'reflect', 1)])   # the journal has it: nothing is sent
    rows = lm.journal.rows()
    assert len(read_log(log)) == len(M_L.bodies) == 20 and not M_L.leaked
    assert sorted(json.dumps(b, sort_keys=True) for b in M_L.bodies) == sorted(json.dumps(r['request'], sort_keys=True) for r in rows)
    by = {r['index']: r for r in read_log(log)}
    assert by[0]['run'] >= 9 and by[0]['redacted'] == {'WITHHELD': 1} and by[1]['redacted'] == {'EMAIL': 1} and by[2] | {'run': 0, 'redacted': {}} == by[2]
    a = audit(rows, read_log(log), Guard([MANUAL]))
    assert a.clean and a.unanswered == 0 and a.size == sum(r["bytes"] for r in read_log(log)) and a.requests == 20 and a.redacted == {'WITHHELD': 7, 'EMAIL': 10} and a.planted.total() == 30
    assert audit(rows, read_log(log)[1:], Guard([MANUAL])).unrecorded == ['reflect 0']
    tampered = [dict(r, request=json.loads(json.dumps(r['request']).replace('Number 2', RUN))) for r in rows]
    bad = audit(tampered, read_log(log), Guard([MANUAL]))
    assert bad.leaks == [('reflect 2', '9 words in a row of private knowledge')] and bad.unrecorded == ['reflect 2'] and not secret(bad._repr_markdown_())


def test_the_second_scan_finds_what_a_blind_first_one_does_not(monkeypatch):
    rows = [dict(key='k', stage='reflect', index=0, request={'messages': [{'role': 'user', 'content': RUN}]})]
    monkeypatch.setattr(Verbatim, 'find', lambda self, text: [])
    a = audit(rows, [], Guard([MANUAL]))
    assert not a.clean and a.leaks == [('reflect 0', '9 words in a row of private knowledge, by the second scan alone')] and a.unseen.total() == a.planted.total() > 0


@settings(max_examples=60, deadline=None)
@given(words, words, st.integers(2, 6))
def test_longest_runs_against_a_plain_search(k, other, n):
    from psi.audit import plain_words
    a, b = plain_words(' '.join(k)), plain_words(' '.join(other))
    best = max((m for m in range(1, len(b) + 1) for i in range(len(b) - m + 1) for j in range(len(a) - m + 1) if b[i:i + m] == a[j:j + m]), default=0)
    each, longest = longest_runs([' '.join(other)], Plain([' '.join(k)]), n)
    assert longest >= best and each[0] >= (best if best >= n else 0)
    if best < n: assert longest == best and each == [0]


def test_psi_audit_command(manual, tmp_path):
    M_L = Recorder()
    with scripted(M_L) as large, scripted(Adversary(DRESSES['in the output'])) as small: r = run(config(manual, large, small), runs=tmp_path/'runs', said=lambda line: None)
    psi = lambda *a: subprocess.run([sys.executable, '-c', 'from psi.cli import main; main()', 'audit', str(r.folder), *a], capture_output=True, text=True)
    fine = psi()
    assert fine.returncode == 0 and 'canaries found | 30 of 30' in fine.stdout and '**verdict** | clean' in fine.stdout, fine.stdout + fine.stderr
    data = psi('--data')
    assert data.returncode == 1 and f'**{len(r.surfaced())} of 30 instances** repeat private knowledge' in data.stdout
    journal = r.journal()
    journal.put('x'*64, Request('', 'reflect', 99), {'model': 'large', 'messages': [{'role': 'user', 'content': RUN.title()}]}, Reply('ok'))
    journal.close()
    leak = psi()
    assert leak.returncode == 1 and '**LEAK**: 1 of' in leak.stdout and 'reflect 99' in leak.stdout and not secret(leak.stdout + leak.stderr)
    manual.write_text(MANUAL + '\n\nOne more line about the pump.')
    changed = psi()
    assert changed.returncode == 1 and 'is not what this run had' in changed.stderr and changed.stderr.count('\n') == 1
    (tmp_path/'copy.md').write_text(MANUAL)
    assert '**LEAK**' in psi('--knowledge', str(tmp_path/'copy.md')).stdout


def test_changed_knowledge_or_terms_are_another_run(manual, tmp_path):
    (tmp_path/'terms.txt').write_text('Halcyon')
    with scripted(Recorder()) as large, scripted(Adversary(DRESSES['verbatim'])) as small:
        c = config(manual, large, small, f'boundary.terms={tmp_path/"terms.txt"}')
        run(c, until='clear', runs=tmp_path/'runs', said=lambda line: None)
        (tmp_path/'terms.txt').write_text('Halcyon\nAlcyone')
        with pytest.raises(ConfigError, match='boundary.terms: the content has changed'): run(c, runs=tmp_path/'runs', said=lambda line: None)
        (tmp_path/'terms.txt').write_text('Halcyon')
        manual.write_text(MANUAL + ' ')
        manual.write_text(MANUAL.replace('eleven', 'twelve'))
        with pytest.raises(ConfigError, match='knowledge.source: the content has changed'): run(c, runs=tmp_path/'runs', said=lambda line: None)


def test_cut_and_resumed_it_clears_the_same(manual, tmp_path):
    def go(runs, untils):
        M_L = Recorder()
        with scripted(M_L) as large, scripted(Adversary(DRESSES['verbatim'])) as small:
            for until in untils: r = run(config(manual, large, small, 'M_L.concurrency=1'), until=until, runs=runs, said=lambda line: None)
        assert not M_L.leaked
        return {n: (r.folder/n).read_bytes() for n in ('initial.jsonl', 'cleared.jsonl', 'principles.jsonl', 'instances.jsonl', 'dropped.jsonl')}, len(M_L.bodies)
    assert go(tmp_path/'a', ['generate']) == go(tmp_path/'b', ['expand', 'clear', 'reflect', 'reflect', 'summarize', 'generate', 'generate'])


def test_nothing_may_leave(manual, tmp_path):
    with scripted(Recorder()) as large, scripted(Adversary(DRESSES['verbatim'])) as small, pytest.raises(EngineError, match='0 of 30 so far .dropped: may not leave'):
        run(config(manual, large, small, 'boundary.patterns=["Count|Name|Sort|Rank|Repeat"]', 'expand.patience=3'), runs=tmp_path/'runs', said=lambda line: None)


def test_relevant_pieces(manual, tmp_path):
    "Chosen by the embedder; the same whatever is in flight"
    def go(name, *sets):
        with scripted(Recorder()) as large, scripted(Adversary(DRESSES['verbatim'])) as small:
            return run(config(manual, large, small, f'name={name}', 'knowledge.choose=relevant', 'knowledge.words=20', *sets), until='expand', runs=tmp_path/'runs', said=lambda line: None)
    a, b = go('a', 'M_g.concurrency=1'), go('b', 'M_g.concurrency=8')
    assert [x.origin for x in a.initial] == [x.origin for x in b.initial] and (a.folder/'knowledge.npy').exists()
    places = a.places({k for x in a.initial for k in x.origin.knowledge})
    assert places and all(re.fullmatch(r'manual.md line \d+', p) for p in places.values())
    assert a.folder.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize('sets, says', [(['knowledge.source=nowhere.md'], 'no such file or folder'), (['boundary.n=1'], 'boundary.n is 1'), (['knowledge.overlap=60'], 'less than words'), (['knowledge.overlap=3'], 'knowledge.overlap is 3, boundary.n is 8'),
    (['boundary.terms=nowhere.txt'], 'the terms cannot be read'), (['boundary.patterns=["("]'], 'patterns 1: not a regular expression'), (['boundary.policy=hope'], "'drop', 'redact' or 'block'"), (['boundary.trusted=gpu'], 'valid list'),
    (['knowledge.columns=["x"]', 'knowledge.source=DIR/t.csv'], "no column 'x'"), (['M_g.base_url=localhost:8000/v1'], 'is no address'), (['M_g.base_url=http://localhost:x/v1'], 'is no address'), (['boundary.spacy_model=DIR/none'], 'spacy_model')])
def test_mistakes_are_told_in_one_line_and_nothing_is_written(sets, says, manual, tmp_path):
    (tmp_path/'t.csv').write_text('a,b\n1,2\n')
    with pytest.raises(PsiError) as e: run(config(manual, 'http://127.0.0.1:1/v1', 'http://127.0.0.1:1/v1', *(s.replace('DIR', str(tmp_path)) for s in sets)), runs=tmp_path/'runs', said=lambda line: None)
    assert says in str(e.value) and '\n' not in str(e.value) and not (tmp_path/'runs'/'run'/'manifest.json').exists()


# what a reviewer found

RUSSIAN = 'Насос следует заполнить дистиллированной водой перед каждым пуском, иначе графитовое уплотнение будет разрушено за одиннадцать секунд работы всухую.'
GREEK = 'Η αντλία πρέπει να γεμίζεται με αποσταγμένο νερό πριν από κάθε εκκίνηση, αλλιώς η σφράγιση γραφίτη καταστρέφεται σε λίγα δευτερόλεπτα.'
SERBIAN = 'Пумпу треба напунити дестилованом водом пре сваког покретања, иначе ће се заптивка од графита уништити за неколико секунди рада на суво.'
UKRAINIAN = 'Компʼютер насоса слід вимкнути перед кожним запуском, бо інакше пам’ять датчика буде стерта за кілька секунд роботи без води.'
TURKISH = 'Pompayı her çalıştırmadan önce damıtılmış suyla doldurun, yoksa grafit conta on bir saniye içinde kuru çalışmadan bozulur ve ısınır.'

@pytest.mark.parametrize('text', [RUSSIAN, GREEK, SERBIAN, UKRAINIAN, TURKISH, MANUAL], ids=['Russian', 'Greek', 'Serbian', 'Ukrainian', 'Turkish', 'English'])
def test_case_is_folded_in_any_alphabet(text):
    v = Verbatim([text])
    whole = len(letters(text).word)
    for case in (str.upper, str.lower, str.title, str.swapcase, str.casefold):
        assert sum(r.words for r in v.find(case(text))) >= whole, case
    rows = [dict(key='k', stage='reflect', index=0, request={'messages': [{'role': 'user', 'content': 'What makes a good task? Say it in one line.'}]})]
    a = audit(rows, [dict(key='k', hash=body_hash(rows[0]['request'])[0], redacted={})], Guard([text]))
    assert a.clean and a.planted.total() == 30, a


def test_every_letter_is_the_same_in_small_and_capital():
    from psi.verbatim import fold
    f = lambda s: ''.join(map(fold, s))
    assert not [c for c in map(chr, range(0x110000)) if not 0xd800 <= ord(c) < 0xe000 and not f(c) == f(c.upper()) == f(c.lower()) == f(c.casefold())]


@pytest.mark.parametrize('between', ['\u3164', '\u115f', '\u02bc', '\u02b9', '\u0640', '\u30fc', '\u00ad', '\u2060', '_', '\t'])
def test_nothing_that_cannot_be_seen_hides_a_run(between):
    for text in (between.join(RUN), f' {between} '.join(RUN.split())): assert Verbatim([RUN]).find(text), text
    assert Verbatim(['ten by four boxes hold exactly forty six of them']).find('ten by four bo×es hold e⨯actly forty si× of them')


def test_runs_over_two_pieces_are_known(tmp_path):
    words = ' '.join(f'{a}{b}{c}' for a in 'ptks' for b in 'aeiou' for c in 'nmrl').split()
    random.Random(0).shuffle(words)
    (tmp_path/'k.md').write_text('# One\n\n' + ' '.join(words[:40]) + '\n\n# Two\n\n' + ' '.join(words[40:]))
    guard = Guard(Knowledge(tmp_path/'k.md', words=20, overlap=8))
    assert all(guard.find(' '.join(words[i:i + 8])) for i in range(32)) and all(guard.find(' '.join(words[i:i + 8])) for i in range(40, len(words) - 8))
    assert guard.find(f'{" ".join(words[36:40])} Two {" ".join(words[40:44])}')   # over a heading
    with pytest.raises(ConfigError, match='must share 8 words or more'): Guard(Knowledge(tmp_path/'k.md', words=20, overlap=3))


def test_knowledge_with_labels_of_its_own(tmp_path):
    (tmp_path/'t.csv').write_text('Pump,Input,Output\nCorvane,valve opens at nine bar,oil runs into the lower pan\nMarbel,lever is pulled down twice,juice leaves by the brass pipe\n')
    K = Knowledge(tmp_path/'t.csv', overlap=8)
    for echo in (K[0].text, K[0].text.replace('\n', ' '), K[0].text.replace('\n', ', ').upper()): assert Guard(K).find(echo)
    assert Guard(['Close the red valve.\nInput: of the pump must be dry.']).find('Close the red valve. Input: of the pump must be dry.')


def test_the_names_of_a_schemas_fields_are_read():
    M_L = Recorder()
    with scripted(M_L) as url:
        for policy in 'drop', 'redact', 'block':
            guard, lm = guard_and_model(url, policy)
            try: reply = guard.watch(lm)(Request('Fill it in.', schema={'type': 'object', 'properties': {RUN: {'type': 'string'}}}))
            except BoundaryError: assert policy == 'block'
            else: assert 'withheld by the boundary' in reply.error
    assert not M_L.bodies


def test_roles_and_types_are_nobodys_words():
    M_L = Recorder()
    with scripted(M_L) as url:
        lm = Guard([MANUAL], terms=['user', 'object', 'reply'], patterns=[r'user\s+\w+']).watch(LM('large', url))
        assert not lm(Request('Fill it in.', schema={'type': 'object'})).error and len(M_L.bodies) == 1
    body = dict(M_L.bodies[0])
    assert audit([dict(key='k', stage='', index=0, request=body)], [dict(key='k', hash=body_hash(body)[0], redacted={})], Guard([MANUAL], terms=['user'])).clean


def test_a_malformed_answer_shows_nothing_of_the_prompt(manual):
    "An engine at home that answers with garbage made of its prompt"
    def garbage(kind, text):
        return {'status': f'HTTP/1.1 {text}\r\n\r\n', 'header': f'HTTP/1.1 200 OK\r\n{text}\r\n\r\n', 'length': f'HTTP/1.1 200 OK\r\nContent-Length: {text}\r\n\r\n{{}}', 'chunk': f'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{text}\r\n'}[kind].encode()
    for kind in ('status', 'header', 'length', 'chunk'):
        server = socket.create_server(('127.0.0.1', 0))
        def serve():
            while True:
                try: c, _ = server.accept()
                except OSError: return
                with c:
                    if b'GET' in c.recv(1 << 16)[:4]: c.sendall(b'HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
                    else: c.sendall(garbage(kind, RUN))
        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(PsiError) as e: expand(LM('small', f'http://127.0.0.1:{server.getsockname()[1]}/v1', retries=0, give_up=1), packaged_seeds(), n=6, patience=1, knowledge=Knowledge(manual))
        server.close()
        assert not secret(str(e.value)) and '\n' not in str(e.value), kind


@pytest.mark.parametrize('odd', [{'prompt_tokens': 'x'}, {'prompt_tokens_details': [1]}, {'completion_tokens': None}, 'x', [1]])
def test_odd_usage_is_no_error(odd):
    def reply(prompt, body): return 200, {'choices': [{'message': {'content': 'half a character: \ud800'}, 'finish_reason': 'stop'}], 'usage': odd}
    with scripted(reply) as url: assert LM('x', url)('Hi').text == 'half a character: ?'


@pytest.mark.parametrize('K', ['# Table\n\n| part | torque | note |\n|---|---|---|\n' + '\n'.join(f'| bolt {i} | {i*7} Nm | size {i} |' for i in range(30)), '- ' + '\n- '.join('one two three four five six seven eight'.split()), 'x = (a + b) * c - d / e ; y = f - g ** h % i // j',
    '水泵在每次启动之前必须注入蒸馏水，干启动会在十一秒内损坏石墨密封圈，更换密封圈需要专用工具。', '☐ open ☐ valve ☐ three ☐ times ☐ and ☐ wait ☐ for ☐ oil ☐ to ☐ run', 'one two three four five six seven eight', 'Chapter one ........ 3\nChapter two ........ 9\nChapter three of the book ........ 12'])
def test_no_false_alarms_on_honest_runs(K):
    rows = [dict(key='k', stage='reflect', index=0, request={'messages': [{'role': 'user', 'content': 'What makes a good task? Say it in one line.'}]})]
    log = [dict(key='k', hash=body_hash(rows[0]['request'])[0], redacted={})]
    a = audit(rows, log, Guard([K]))
    assert a.clean and a.planted.total() == 30, a.verdict
    assert audit(rows, log, Guard(['too short'])).clean and audit(rows, log, Guard()).clean and audit([], [], Guard([K])).planted.total() == 30


def test_a_torn_line_of_the_record(tmp_path):
    log = tmp_path/'audit.jsonl'
    with scripted(Recorder()) as url:
        lm = Guard([MANUAL], log=log).watch(LM('large', url))
        lm('One.')
        whole = log.read_bytes()
        log.write_bytes(whole + whole[:20])   # cut by a kill in the middle of the next line
        assert len(read_log(log)) == 1
        lm('Two.')
    assert len(read_log(log)) == 2 and audit(lm.journal.rows(), read_log(log), Guard([MANUAL])).clean
    log.write_bytes(whole.replace(b'"redacted": {}', b'"redacted": 5'))
    with pytest.raises(DataError, match='line 1: is not a line that a guard wrote'): read_log(log)


def test_the_data_guard_is_the_same_cut_or_uncut(manual, tmp_path):
    def go(runs, untils):
        with scripted(Recorder()) as large, scripted(Adversary(DRESSES['verbatim'])) as small:
            for until in untils: r = run(config(manual, large, small, 'M_L.concurrency=1', 'boundary.data=true'), until=until, runs=runs, said=lambda line: None)
        return {n: (r.folder/n).read_bytes() for n in ('instances.jsonl', 'dropped.jsonl')}
    assert go(tmp_path/'a', ['generate']) == go(tmp_path/'b', ['summarize', 'generate'])


def test_changed_terms_are_told_by_the_audit(manual, tmp_path):
    (tmp_path/'terms.txt').write_text('Halcyon')
    with scripted(Recorder()) as large, scripted(Adversary(DRESSES['verbatim'])) as small: r = run(config(manual, large, small, f'boundary.terms={tmp_path/"terms.txt"}'), until='reflect', runs=tmp_path/'runs', said=lambda line: None)
    assert r.audit().clean
    (tmp_path/'terms.txt').write_text('task')
    with pytest.raises(DataError, match='boundary.terms'): r.audit()
    (r.folder/'manifest.json').write_text('{')
    with pytest.raises(DataError, match='manifest.json'): r.audit()


def test_rules_that_would_stop_everything_are_refused(manual, tmp_path):
    (tmp_path/'terms.txt').write_text('Halcyon\nassistant')
    with pytest.raises(ConfigError, match="boundary.terms 2: is found in psi's own prompts"): run(config(manual, 'http://127.0.0.1:1/v1', 'http://127.0.0.1:1/v1', f'boundary.terms={tmp_path/"terms.txt"}'), runs=tmp_path/'runs', said=lambda line: None)


def test_a_pattern_that_never_ends_is_told():
    with pytest.raises(BoundaryError, match='patterns 1: takes more than'): Guard(patterns=['(a|aa)+c']).find('a'*80 + ' c')


def test_https_names_are_not_taken_on_trust(monkeypatch):
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, port, *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', port))])
    with pytest.raises(BoundaryError, match='over https'): home('https://rebind.example/v1')
    assert home('https://localhost:8443/v1') and home('https://127.0.0.1:8443/v1') and home('https://rebind.example/v1', ['rebind.example'])
    assert home('http://[2001:db8::1]:8000/v1', ['[2001:db8::1]:8000'])


@pytest.mark.parametrize('bad', [lambda: keep_home(LM('x', 'http://gpu:80/v1'), 'gpu:80'), lambda: Guard(terms='abc'), lambda: Guard(patterns='abc'), lambda: Guard(patterns=['a{99999999999999}']), lambda: Guard(patterns=[3]), lambda: Guard(None), lambda: Guard([b'x']).find('x'),
    lambda: Guard(5), lambda: home('http://[::1'), lambda: home(''), lambda: home('file:///x')])
def test_mistakes_in_python_are_told(bad):
    with pytest.raises(PsiError): bad()


def test_a_prompt_with_knowledge_is_made_for_a_model_at_home_only(manual):
    from psi.expand import task_request
    with pytest.raises(BoundaryError): task_request(0, LM('x', 'http://93.184.216.34/v1'), packaged_seeds(), knowledge=Knowledge(manual))
    for r in (lambda: Request('x', stop=(Knowledge(manual)[0],)), lambda: Request('x', schema={'d': [Knowledge(manual)[0]]})):
        with pytest.raises(BoundaryError): r()


def test_personal_data_anywhere_in_a_request():
    M_L = Recorder()
    with scripted(M_L) as url: Guard().watch(LM('large', url))(Request('Hi.', stop=('jane@example.com',), schema={'type': 'object', 'description': 'of jane@example.com'}))
    assert 'example.com' not in json.dumps(M_L.bodies)


def test_many_terms_are_no_burden():
    terms = [f'{a}{b}{c}{d}' for a in 'bcdfg' for b in 'aeiou' for c in 'klmnp' for d in ('ra', 'to', 'mi')]
    text = ' '.join(f'word{i} {terms[i % len(terms)]}' for i in range(1000))
    found = Guard(terms=terms).find(text)
    assert len(found) == 1000 and {f.rule for f in found} == {f'terms {i}' for i in range(1, len(terms) + 1)}
