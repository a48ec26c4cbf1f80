"Limits: nothing is sent beyond them, nothing that was paid for is lost, and a raised limit goes on as if there had been none"
import time
from zlib import crc32
import pytest
from psi.budget import Budget, most_tokens
from psi.core import BudgetError, ConfigError
from psi.journal import Journal, Request
from psi.config import read_config
from psi.ledger import Ledger, Price, make_ledger
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
    lost = t.lost_prompt + t.lost_completion
    assert lost == t.answered*(10 + 40 + 10 + 80) and 1000 - 3*20 - 280 < t.prompt_tokens + t.completion_tokens + lost <= 1000 and why


@pytest.mark.parametrize('part', [.1, .5, .9])
def test_half_a_run(whole, tmp_path, part):
    "Stopped within one request of the limit, and gone on with to the same bytes; the ledger is that of an uncut run"
    need = whole.ledger()
    limit = int(part*need.tokens.low)
    with scripted(script) as url:
        one = 'M_L.concurrency=1', 'M_g.concurrency=1'   # so that nothing is asked ahead that is then not needed
        with pytest.raises(BudgetError, match='budget.tokens is') as e: run(config(url, *one, f'budget.tokens={limit}'), runs=tmp_path)
        assert 'raise it in the config or by --set' in str(e.value)
        used = Run(tmp_path/'run').ledger().tokens.low
        most = 2000 + max(most_tokens(r['request']) for r in whole.journal().rows())
        assert limit - most < used <= limit
        again = run(config(url, *one, 'budget.tokens=10_000_000'), runs=tmp_path)
    assert results(again.folder) == results(whole.folder)
    a, b = ({(x.stage, x.model): (x.requests, x.failed, x.prompt, x.completion) for x in y.ledger().entries if x.requests} for y in (again, whole))
    assert a == b


@pytest.mark.parametrize('limit, settings', [('money=.002', ['prices={script = {prompt = 1, completion = 2}}']), ('kgco2e=.005', []), ('seconds=.3', [])])
def test_other_limits(whole, tmp_path, monkeypatch, limit, settings):
    if 'kg' in limit: monkeypatch.setattr('psi.setup.is_at_home', lambda m: False)   # so that the paper's 2.9 Wh a request count
    def slow(prompt, body): time.sleep(.03); return script(prompt, body)
    with scripted(slow) as url:
        with pytest.raises(BudgetError, match=f'budget.{limit.partition("=")[0]} is'): run(config(url, f'budget.{limit}', *settings), runs=tmp_path)
        assert results(run(config(url, *settings), runs=tmp_path).folder) == results(whole.folder)


def test_a_budget_of_money_needs_prices():
    with pytest.raises(ConfigError, match='^config: budget.money needs the price of script .M_L.; add it to prices'): config('http://localhost:1/v1', 'budget.money=1')
    for bad in ('budget.tokens=-1', 'prices={script = {prompt = -1, completion = 2}}', 'prices={script = {prompt = 1}}', 'budget.tonkens=5'):
        with pytest.raises(ConfigError) as e: config('http://localhost:1/v1', bad)
        assert bad.partition('=')[0] in str(e.value) and '\n' not in str(e.value)


def test_clustering_is_not_begun_beyond_a_limit(tmp_path):
    with scripted(script) as url:
        run(config(url), until='reflect', runs=tmp_path)
        with pytest.raises(BudgetError, match='budget.seconds'): run(config(url, 'budget.seconds=.001'), runs=tmp_path)
    assert not (tmp_path/'run'/'clusters.json').exists()


def test_nothing_leaves_after_the_stop():
    "A request that would fit does not slip in behind one that did not: what the server saw is in the journal"
    seen = []
    def reply(prompt, body): seen.append(prompt); time.sleep(.05); return 'word ' * 10
    with scripted(reply) as url:
        lm = LM('m', url, concurrency=3, max_tokens=20)
        lm.budget = make_budget(dict(tokens=200), Spending(Ledger([]), [lm], [], Meter.off()))
        with pytest.raises(BudgetError): lm(['h'*300, 'A'*3000, 'B'*250])
        time.sleep(.3)
        lm.close()
    assert len(seen) == len(lm.journal) == 1


def test_an_engine_that_does_not_tell():
    "It is charged what its requests may take at the most"
    def reply(prompt, body): return (200, dict(choices=[dict(finish_reason='stop', message=dict(content='x'))]))
    with scripted(reply) as url: lm, why, got = asked(url, 1000)
    assert why and lm.tally.answered < 30 and 1000 - 60 < lm.tally.untold <= 1000


def test_money_of_tries_that_were_cut_off():
    def reply(prompt, body): return (200, dict(choices=[dict(finish_reason='length' if body['max_tokens'] < 100 else 'stop', message=dict(content='x'))], usage=dict(prompt_tokens=10, completion_tokens=body['max_tokens'])))
    with scripted(reply) as url:
        lm, prices = LM('m', url, concurrency=4, max_tokens=40, longer=2), dict(m=Price(1., 2.))
        lm.budget = make_budget(dict(money=.002), Spending(Ledger([]), [], [lm], Meter.off(), prices))
        with pytest.raises(BudgetError, match='budget.money'): lm([f'how many are {i}?' for i in range(100)])
        lm.close()
    assert 0 < make_ledger([lm.journal], prices=prices).sum('money').low <= .002


def test_carbon_that_nobody_measures():
    with pytest.raises(ConfigError, match='budget.kgco2e needs carbon.measure = true'): read_config(None, ['budget.kgco2e=1', 'carbon.measure=false'])
    with scripted(lambda prompt, body: 'x') as url:
        lm = LM('m', url)
        spending = Spending(Ledger([]), [lm], [], Meter.off())
        lm.budget, lm.emitted = make_budget(dict(kgco2e=1.), spending), spending.emitted
        with pytest.raises(BudgetError, match='how much is used cannot be known here'): lm('hello')
        assert lm.kg() is None and 'kgCO2e' not in lm.pulse()
        lm.close()
