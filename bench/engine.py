"""psi's client and a raw loop on the same real engine, in one run.

    python bench/engine.py                     the 135M model, as many requests in flight as the engine has slots
    python bench/engine.py --slots 1 2 4 8     which number of slots is best here?

Both send the same prompts, with the same seeds, to an engine of their own; the raw loop is threads and `urllib`, with nothing written down.
They take turns, and the ratio is the median of all turns, beside the lowest and the highest: one engine on a shared machine differs by some percent from
one minute to the next, whoever asks.
"""
import argparse, json, statistics, tempfile, time, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from psi.core import packaged_seeds
from psi.journal import Journal, Request
from psi.lm import LM
from psi.local import Engine


def requests(n, tokens):
    "Short prompts, so that the time goes into writing"
    seeds = packaged_seeds()
    return [Request(f'{seeds[i % len(seeds)].instruction}\n\nAnswer {i}:', index=i, seed=i) for i in range(n)], dict(temperature=.8, max_tokens=tokens)


def raw(url, model, asked, sampling, slots):
    "Threads and urllib"
    def one(r):
        body = {'model': model, 'prompt': r.prompt, 'seed': r.seed, 'stop': list(r.stop), **sampling}
        req = urllib.request.Request(f'{url}/completions', json.dumps(body).encode(), {'Content-Type': 'application/json'})
        return json.load(urllib.request.urlopen(req))['usage']['completion_tokens']
    with ThreadPoolExecutor(slots) as pool:
        start = time.perf_counter()
        return sum(pool.map(one, asked)), time.perf_counter() - start


def psi(url, model, asked, sampling, slots):
    "LM, with its journal on the disk"
    with tempfile.TemporaryDirectory() as folder:
        lm = LM(model, url, 'completion', slots, Journal(Path(folder)/'journal.sqlite'), adapt=False, **sampling)
        lm.open()   # bench/lm.py measures the start
        start = time.perf_counter()
        tokens, took = sum(r.completion_tokens for r in lm(asked)), time.perf_counter() - start
        lm.close(); lm.journal.close()
    return tokens, took


def measure(model, slots, n, tokens, repeat):
    "Tokens a second of both, turn by turn; each run has an engine of its own, so that no cache is handed on"
    asked, sampling = requests(n, tokens)
    rates = {raw: [], psi: []}
    for turn in range(repeat):
        for client in (raw, psi) if turn % 2 else (psi, raw):
            with Engine(model, slots, 2048) as engine:
                url = engine.address()
                raw(url, engine.model, requests(1, 4)[0], {'max_tokens': 1}, 1)
                made, took = client(url, engine.model, asked, sampling, slots)
                rates[client].append(made / took)
    return rates[raw], rates[psi]


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='smollm2-135m-instruct')
    p.add_argument('--slots', type=int, nargs='*', default=[4]); p.add_argument('--n', type=int, default=24, help='requests')
    p.add_argument('--tokens', type=int, default=120, help='of a reply, at the most'); p.add_argument('--repeat', type=int, default=3)
    a = p.parse_args()
    print(f'{a.model}, {a.n} requests of at most {a.tokens} tokens, {a.repeat} turns\n\n| slots | raw loop, tokens/s | psi, tokens/s | ratio | lowest | highest |\n|--:|--:|--:|--:|--:|--:|')
    for slots in a.slots:
        loop, ours = measure(a.model, slots, a.n, a.tokens, a.repeat)
        ratios = sorted(y/x for x, y in zip(loop, ours))
        print(f'| {slots} | {statistics.median(loop):.1f} | {statistics.median(ours):.1f} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} |', flush=True)
