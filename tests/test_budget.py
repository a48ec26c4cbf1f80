"Limits: nothing is sent beyond them, nothing that was paid for is lost, and a raised limit goes on as if there had been none"
import time
from zlib import crc32
import pytest
from psi.budget import Budget, most_tokens
from psi.core import BudgetError, ConfigError
from psi.journal import Journal, Request
from psi.ledger import Ledger, Price
from psi.lm import LM, scripted
from psi.meter import Meter
from psi.folder import Run
from psi.pipeline import run
from psi.spending import Spending, make_budget
from script import script
from test_run import RESULTS, config, results, whole   # noqa: F401


def asked(url, limit, concurrency=4, journal=None, n=60, **kw):
    "Ask until the budget says no; the model, the error, the replies that came"
    lm = LM('m', url, concurrency=concurrency, journal=journal, max_tokens=40, **kw)
    lm.budget = make_budget(dict(tokens=limit), Spending(Ledger([]), [lm], [], Meter.off()))
    got = []
    try:
        for r, reply in lm.stream(f'how many are {i}?' for i in range(n)): got.append(reply.text)
        why = ''
    except BudgetError as e: why = str(e)
    lm.close()
    return lm, why, got


@pytest.mark.parametrize('concurrency', [1, 4, 32])
@pytest.mark.parametrize('limit', [130, 777, 1500])
def test_never_beyond(concurrency, limit):
    def reply(prompt, body): n = crc32(prompt.encode()); time.sleep(.002*(n % 4)); return 'word ' * (n % 30 + 1)
    with scripted(reply) as url: lm, why, got = asked(url, limit, concurrency, n=300)
    used, one = lm.tally.prompt_tokens + lm.tally.completion_tokens, most_tokens(lm.body(Request('how many are 299?')))
    assert limit - one < used <= limit and f'budget.tokens is {limit:,}' in why and 'all replies so far are kept' in why and '\n' not in why
    assert len(lm.journal) == lm.tally.answered >= len(got)   # what was paid for is kept, also what nobody has read yet


def test_a_raised_limit_goes_on(tmp_path):
    with scripted(lambda prompt, body: prompt.upper()) as url:
        _, _, free = asked(url, 0)
        journal = Journal(tmp_path/'j.sqlite')
        for limit in (100, 150, 120): lm, why, got = asked(url, limit, journal=journal); assert why and free[:len(got)] == got
        known = len(journal)
        lm, why, got = asked(url, 0, journal=journal)
        assert got == free and not why and lm.tally.known >= known and lm.tally.answered == 60 - known
        journal.close()


def test_failed_tries_count(tmp_path):
    "A reply that is cut off and asked for again is paid for twice"
    def reply(prompt, body): return (200, dict(choices=[dict(finish_reason='length' if body['max_tokens'] < 100 else 'stop', message=dict(content='x'))], usage=dict(prompt_tokens=10, completion_tokens=body['max_tokens'])))
    with scripted(reply) as url: lm, why, got = asked(url, 1000, longer=2)
    t = lm.tally
    assert t.lost_tokens == t.answered*(10 + 40 + 10 + 80) and 1000 - 3*20 - 280 < t.prompt_tokens + t.completion_tokens + t.lost_tokens <= 1000 and why


@pytest.mark.parametrize('part', [.1, .5, .9])
def test_half_a_run(whole, tmp_path, part):
    "Stopped within one request of the limit, and gone on with to the same bytes; the ledger is that of an uncut run"
    need = whole.ledger()
    limit = int(part*need.tokens.low)
    with scripted(script) as url:
        with pytest.raises(BudgetError, match='budget.tokens is') as e: run(config(url, f'budget.tokens={limit}'), runs=tmp_path)
        assert 'raise it in the config or by --set' in str(e.value)
        used = Run(tmp_path/'run').ledger().tokens.low
        c = config(url)
        most = 2000 + max(most_tokens(r['request']) for r in whole.journal().rows())
        assert limit - most < used <= limit
        again = run(config(url, 'budget.tokens=10_000_000'), runs=tmp_path)
    assert results(again.folder) == results(whole.folder)
    a, b = again.ledger(), need
    assert [(x.stage, x.model) for x in a.entries if x.requests] == [(x.stage, x.model) for x in b.entries if x.requests]


@pytest.mark.parametrize('limit, settings', [('money=.002', ['prices={script = {prompt = 1, completion = 2}}']), ('kgco2e=.00004', ['carbon.measure=false']), ('seconds=.3', [])])
def test_other_limits(whole, tmp_path, monkeypatch, limit, settings):
    if 'kg' in limit: monkeypatch.setattr('psi.setup.is_at_home', lambda m: False)   # so that the paper's 2.9 Wh a request count
    def slow(prompt, body): time.sleep(.03); return script(prompt, body)
    if 'kg' in limit: limit = 'kgco2e=.005'
    with scripted(slow) as url:
        with pytest.raises(BudgetError, match=f'budget.{limit.partition("=")[0]} is'): run(config(url, f'budget.{limit}', *settings), runs=tmp_path)
        assert results(run(config(url, *settings), runs=tmp_path).folder) == results(whole.folder)


def test_a_budget_of_money_needs_prices():
    with pytest.raises(ConfigError, match='budget.money needs the price of script .M_L.; add it to prices'): config('http://localhost:1/v1', 'budget.money=1')
    for bad in ('budget.tokens=-1', 'prices={script = {prompt = -1, completion = 2}}', 'prices={script = {prompt = 1}}', 'budget.tonkens=5'):
        with pytest.raises(ConfigError) as e: config('http://localhost:1/v1', bad)
        assert bad.partition('=')[0] in str(e.value) and '\n' not in str(e.value)


def test_clustering_is_not_begun_beyond_a_limit(tmp_path):
    with scripted(script) as url:
        run(config(url), until='reflect', runs=tmp_path)
        with pytest.raises(BudgetError, match='budget.seconds'): run(config(url, 'budget.seconds=.001'), runs=tmp_path)
    assert not (tmp_path/'run'/'clusters.json').exists()
