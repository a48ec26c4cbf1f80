"What a server can do to a client: each fault alone, then all of them together"
import asyncio, gc, json, socket, sqlite3, threading, time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import pytest
from psi.core import DataError, EngineError
from psi.journal import Journal, Request, _trouble
from psi.lm import LM, scripted

GOOD = {'model': 'm', 'choices': [{'message': {'content': 'here'}, 'finish_reason': 'stop'}], 'usage': {'prompt_tokens': 3, 'completion_tokens': 1}}


@contextmanager
def engine(behave, models=None):
    "A server whose every answer is written by hand: behave(handler, how many came before) sends it"
    came = []
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        def log_message(self, *a): pass
        def send(self, status=200, body=GOOD, **headers):
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for k, v in ({'Content-Type': 'application/json', 'Content-Length': len(raw)} | {k.replace('_', '-'): v for k, v in headers.items()}).items(): self.send_header(k, str(v))
            self.end_headers(); self.wfile.write(raw)
        def do_GET(self): models(self) if models else self.send_error(404)
        def do_POST(self):
            came.append((time.monotonic(), json.loads(self.rfile.read(int(self.headers['Content-Length'])))))
            behave(self, len(came) - 1)
    class Server(ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 256
        def handle_error(self, *a): pass
    server = Server(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}/v1', came
    finally: server.shutdown(); server.server_close()


def reset(h):
    h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    h.connection.close(); h.close_connection = True

def hang(h): h.send_response(200); h.send_header('Content-Length', '500'); h.end_headers(); h.wfile.write(b'{"id": '); h.wfile.flush(); time.sleep(3)

def drip(h):
    h.send_response(200); h.send_header('Content-Length', '500'); h.end_headers()
    for _ in range(30): h.wfile.write(b' '); h.wfile.flush(); time.sleep(.1)

FAULTS = {
    '429': lambda h: h.send(429, {'error': {'message': 'slow down'}}),
    '500': lambda h: h.send(500, {'error': {'message': 'oh'}}),
    '502': lambda h: h.send(502, b'<html>bad gateway</html>', Content_Type='text/html'),
    '503 while it loads': lambda h: h.send(503, {'error': {'message': 'Loading model'}}),
    '408': lambda h: h.send(408, {}),
    'reset': reset,
    'cut JSON': lambda h: h.send(body=json.dumps(GOOD).encode()[:40]),
    'a body shorter than promised': lambda h: (h.send(body=b'{"x": 1}', Content_Length=100), reset(h)),
    'a page instead of JSON': lambda h: h.send(body=b'<html>hello</html>', Content_Type='text/html'),
    'an array': lambda h: h.send(body=[]),
    'no choices': lambda h: h.send(body=GOOD | {'choices': []}),
    'choices that are no objects': lambda h: h.send(body=GOOD | {'choices': ['here'], 'usage': 3}),
    'no text': lambda h: h.send(body=GOOD | {'choices': [{'message': {'content': None}}]}),
    'hung': hang,
    'a drop at a time': drip,
}


@pytest.mark.parametrize('fault', FAULTS)
def test_each_fault_passes_and_is_written_down(fault):
    with engine(lambda h, n: FAULTS[fault](h) if n < 2 else h.send()) as (url, came):
        lm = LM('m', url, timeout=.5)
        reply = lm(Request('hello', 'stage', 7))
        lm.close()
    assert (reply.text, reply.attempts, len(came)) == ('here', 3, 3)
    failed = lm.journal.failures()
    assert [(f['stage'], f['index'], f['attempt']) for f in failed] == [('stage', 7, 1), ('stage', 7, 2)] and all(f['reason'] for f in failed)
    if fault in ('hung', 'a drop at a time'): assert failed[1]['seconds'] < failed[0]['seconds'] + .45     # the time of this try alone, not of both
    if fault in ('no choices', 'no text'): assert [f['completion_tokens'] for f in failed] == [1, 1]     # what a bad answer cost is known


@pytest.mark.parametrize('status,word', [(400, 'correct the settings'), (401, 'refuses the key'), (402, 'pay'), (403, 'refuses the key'), (404, 'correct the name'), (422, 'correct the settings')])
def test_what_will_not_pass_stops_at_once(status, word):
    with engine(lambda h, n: h.send(status, {'error': {'message': 'key sk-planted-99 is not good'}})) as (url, came):
        lm = LM('m', url, api_key='sk-planted-99', concurrency=2)
        with pytest.raises(EngineError, match=word) as e: lm([f'prompt {i}' for i in range(50)])
    assert 'planted' not in str(e.value) and '\n' not in str(e.value) and len(came) <= 4


def test_a_prompt_that_is_too_long_takes_no_other_along():
    def answer(prompt, body): return (400, {'error': {'message': 'the request exceeds the available context size, 9 of 8 tokens'}}) if 'long' in prompt else prompt
    with scripted(answer) as url: replies = LM('m', url)(['a', 'long', 'b'])
    assert [r.text for r in replies] == ['a', '', 'b'] and 'context size' in replies[1].error


def test_the_quota_is_used_up():
    with engine(lambda h, n: h.send(429, {'error': {'message': 'You exceeded your current quota', 'code': 'insufficient_quota'}})) as (url, came):
        with pytest.raises(EngineError, match='quota'): LM('m', url)('hello')
    assert len(came) == 1


def test_retry_after_is_kept():
    with engine(lambda h, n: h.send(429, {}, Retry_After='1') if n == 0 else h.send()) as (url, came): LM('m', url)('hello')
    assert came[1][0] - came[0][0] >= 1
    with engine(lambda h, n: h.send(429, {}, Retry_After='86400')) as (url, came):
        with pytest.raises(EngineError, match='86400 s'): LM('m', url)('hello')


def test_what_finally_fails_is_a_reply_and_is_asked_again_next_time():
    sick = [True]
    def answer(prompt, body): return (500, {'error': {'message': 'oh'}}) if prompt == 'b' and sick[0] else prompt.upper()
    journal = Journal()
    with scripted(answer) as url:
        replies = LM('m', url, journal=journal, retries=2)(['a', 'b', 'c'])
        assert [r.text for r in replies] == ['A', '', 'C'] and replies[1].error == 'HTTP 500 (3 tries)' and replies[1].attempts == 3
        sick[0] = False
        assert [r.text for r in LM('m', url, journal=journal)(['a', 'b', 'c'])] == ['A', 'B', 'C']
    assert len(journal.failures()) == 3


def test_an_engine_that_goes_away_is_waited_for(capfd):
    up = [True]
    def behave(h, n):
        if n == 20: up[0] = False; threading.Timer(1.5, lambda: up.__setitem__(0, True)).start()
        h.send() if up[0] else reset(h)
    with engine(behave) as (url, came): replies = LM('m', url, concurrency=8, retries=3)([f'p {i}' for i in range(100)])
    assert all(r.text == 'here' for r in replies)
    said = capfd.readouterr().err
    assert 'failures in a row' in said and 'answers again' in said
    assert len(came) < 200      # it was not stormed while it was away


def test_an_engine_that_stays_away_ends_the_work_with_all_kept():
    with engine(lambda h, n: h.send() if n < 10 else reset(h)) as (url, came):
        lm = LM('m', url, concurrency=4, give_up=1)
        with pytest.raises(EngineError, match='run the same again'): lm([f'p {i}' for i in range(100)])
    assert len(lm.journal) >= 9
    with engine(lambda h, n: h.send()) as (url, came):
        again = LM('m', url, concurrency=4, journal=lm.journal)
        assert len(again([f'p {i}' for i in range(100)])) == 100 and len(came) == 100 - again.tally.known


def test_an_engine_that_loads_is_waited_for():
    seen = []
    def models(h): seen.append(1); h.send(503, {'error': {'message': 'Loading model'}}) if len(seen) < 4 else h.send(body={'data': [{'id': 'm'}]})
    with engine(lambda h, n: h.send(), models) as (url, came): assert LM('m', url)('hello').text == 'here'
    assert len(seen) == 4


def test_the_same_question_at_once_is_asked_once():
    with engine(lambda h, n: (time.sleep(.05), h.send())) as (url, came): assert len(LM('m', url)(['same'] * 20)) == 20
    assert len(came) == 1


def test_who_stops_listening_takes_nothing_from_another():
    asked, go = [], threading.Event()
    def reply(prompt, body):
        asked.append(prompt); go.wait(10)
        return f'to {prompt}'
    with scripted(reply) as url:
        lm = LM('m', url, concurrency=4)
        first, second = lm.stream(['a', 'b', 'c']), lm.stream(['z', 'b', 'c'])
        got = []
        def listen(s, n): got.extend(next(s)[1].text for _ in range(n))
        threads = [threading.Thread(target=listen, args=x) for x in ((first, 1), (second, 3))]
        for t in threads: t.start()
        while len(asked) < 4: time.sleep(.01)
        while len(lm._flying) < 4 or not all(f.waiting == 2 for k, f in list(lm._flying.items()) if k in {lm.key(Request(p)) for p in 'bc'}): time.sleep(.01)
        go.set(); threads[0].join(); first.close(); threads[1].join(); second.close()
        lm.close()
    assert sorted(got) == ['to a', 'to b', 'to c', 'to z'] and sorted(asked) == ['a', 'b', 'c', 'z']


def test_a_stream_that_is_left_is_called_back():
    held, asked = threading.Event(), []
    def reply(prompt, body):
        asked.append(prompt)
        if prompt != 'quick': held.wait(10)
        return prompt
    with scripted(reply) as url:
        lm = LM('m', url, concurrency=4)
        stream = lm.stream(['quick', 'b', 'c'])
        assert next(stream)[1].text == 'quick'
        stream.close()
        while lm._flying or lm._open[2].in_flight: time.sleep(.01)
        held.set(); lm.close()
    assert len(lm.journal) == 1


def test_closed_while_asking_says_so():
    held = threading.Event()
    with scripted(lambda prompt, body: held.wait(10) and '') as url:
        lm, said = LM('m', url, concurrency=2, retries=0), []
        def ask():
            try: lm(['a', 'b', 'c'])
            except EngineError as e: said.append(str(e))
        t = threading.Thread(target=ask); t.start()
        while len(lm._flying) < 3: time.sleep(.01)
        lm.close(); held.set(); t.join(10)
    assert said and 'closed while' in said[0]


def test_what_fails_after_the_end_is_not_heard_of(caplog):
    "The first refusal ends the work while others are being refused; asyncio must not complain about those"
    for _ in range(30):
        with scripted(lambda prompt, body: (404, {'error': {'message': 'no such model'}})) as url:
            lm = LM('m', url, concurrency=16)
            with pytest.raises(EngineError, match='does not know the model'): lm(map(str, range(40)))
            lm.close()
    gc.collect()
    assert not [r for r in caplog.records if r.name == 'asyncio'], caplog.text


def test_never_more_in_flight_than_said():
    now, most = [0], [0]
    def answer(prompt, body):
        now[0] += 1; most[0] = max(most[0], now[0]); time.sleep(.01); now[0] -= 1
        return prompt
    with scripted(answer) as url: LM('m', url, concurrency=5)([f'{i}' for i in range(60)])
    assert 1 < most[0] <= 5


def test_a_limit_of_requests_a_minute():
    with engine(lambda h, n: h.send()) as (url, came): LM('m', url, rpm=1200)([f'{i}' for i in range(20)])
    assert came[-1][0] - came[0][0] >= 19 * .05 * .9


def test_works_inside_a_running_loop():
    async def main(url): return await LM('m', url).agenerate(['a', 'b']), LM('m', url)('c')
    with scripted(lambda p, b: p.upper()) as url: many, one = asyncio.run(main(url))
    assert [r.text for r in many] == ['A', 'B'] and one.text == 'C'


def test_replies_stream_before_all_are_there():
    "The last reply is held back until the first has been handed over: a client that waits for all would wait for ever"
    first = threading.Event()
    def answer(prompt, body):
        if prompt == '9' and not first.wait(30): return 'nobody took the first'
        return prompt
    with scripted(answer) as url:
        replies = []
        for r, reply in LM('m', url, concurrency=4).stream(map(str, range(10))): first.set(); replies.append(reply.text)
    assert replies == [str(i) for i in range(10)]


def test_a_full_disk_is_told_and_what_was_there_is_there(tmp_path):
    class Full(Journal):
        def _commit(self, rows):
            if len(self) >= 5: raise _trouble(self.path, sqlite3.OperationalError('database or disk is full'))
            super()._commit(rows)
    with scripted(lambda p, b: p) as url:
        with pytest.raises(DataError, match='make room'): LM('m', url, concurrency=1, journal=Full(tmp_path/'j.sqlite'))([f'{i}' for i in range(20)])
        assert len(j := Journal(tmp_path/'j.sqlite')) == 5
        LM('m', url, journal=j)([f'{i}' for i in range(20)])
    assert len(j) == 20


def test_old_keys_stay():
    "A change of what names a request would make every journal there is worthless: here are two names, by hand"
    assert LM('m', mode='completion', temperature=0.5).key(Request('Name a bird.', seed=3, stop=('x',))) == '24289bc630c9c71bc7c858d61db0775fce60a32ccceb6d4a7f75f217fad3f17f'
    assert LM('m', weights='abc').key(Request('Name a bird.')) == 'fd9d350a0df30785015da43c18b7f02fc4718154ba561661e31fd087676be47c'


def test_two_threads_open_it_once():
    opened = []
    with scripted(lambda prompt, body: prompt) as url:
        def address(): opened.append(1); time.sleep(.2); return url
        lm, got = LM('m', address), []
        threads = [threading.Thread(target=lambda p: got.append(lm(p).text), args=(p,)) for p in 'abcd']
        for t in threads: t.start()
        for t in threads: t.join()
        lm.close()
    assert sorted(got) == list('abcd') and len(opened) == 1
