"""psi's diversity filter beside Alpaca's own procedure, on the same texts, in one run.

    python bench/diversity.py                       Alpaca's 52,002 instructions after Self-Instruct's 175 seeds
    python bench/diversity.py --texts mine.jsonl    any file that psi reads

Alpaca's procedure is the `rouge-score` package: its tokenizer, and its `_score_lcs` for each new instruction with everything kept so far, in this
process (`peer`) and with a pool of two (`peer, pool`). It is measured at small sizes, and extrapolated to the others by the number of pairs that it would
have to compare, at the seconds a pair of its largest run; the table says which figures are so. psi's figures are measured at every size, reading the words included, each run in a process of its own that is held to one core.
The decisions of both are compared where both were made.
"""
import argparse, json, math, os, random, re, resource, statistics, subprocess, sys, time
from functools import partial
from multiprocessing import Pool
from pathlib import Path

SHARED = Path(os.environ.get('PSI_SHARED') or Path(__file__).resolve().parents[2]/'shared')


def texts(path, large=0):
    "The instructions of a file; beyond them, where more are wanted, its inputs, the sentences of its outputs, and changed copies of all"
    from psi.core import read_instances
    found = read_instances(path)
    out = [x.instruction for x in found]
    if large <= len(out): return out
    seen = set(out)
    for x in found:
        for t in (x.input, *re.split(r'(?<=[.!?])\s+|\n+', x.output)):
            if len(t.split()) > 3 and t not in seen: seen.add(t); out.append(t)
    return (out + noisy(out[:large - len(out)])[1::2])[:large]


def peer(seeds, stream, pool=None):
    "Alpaca's loop: seconds, and of each text whether it is kept, its highest score, and who has it"
    from rouge_score import rouge_scorer
    tokenize = rouge_scorer.RougeScorer(['rougeL'], use_stemmer=False)._tokenizer.tokenize
    start = time.perf_counter()
    kept, out = [tokenize(t) for t in seeds], []
    for t in stream:
        words = tokenize(t)
        score = partial(rouge_scorer._score_lcs, words)
        scores = pool.map(score, kept) if pool else map(score, kept)
        scores = [s.fmeasure for s in scores]
        best = max(scores, default=0.)
        out.append((best <= .7, best, scores.index(best) if scores else None))
        if best <= .7: kept.append(words)
    return time.perf_counter() - start, out


def noisy(stream):
    "Beside each text one that is close to it, so that there is something to drop"
    rng, out = random.Random(0), []
    for t in stream:
        w = t.split()
        for _ in range(rng.choice([0, 1, 2, 3])):
            if w: w[rng.randrange(len(w))] = rng.choice(['the', 'a', 'some', 'other', 'text'])
        out += [t, ' '.join(w)]
    return out


def child(a):
    "One run of psi in a process of its own"
    all = texts(a.texts, a.n[0])[:a.n[0]]
    seeds = texts(a.seeds)
    from psi.diversity import DiversityFilter
    began = time.perf_counter()
    DiversityFilter(compiled=a.child == 'compiled')   # compiled code is read back from the disk here
    ready = time.perf_counter() - began
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    f = DiversityFilter(against=seeds, compiled=a.child == 'compiled')
    got = f.admit_all(all)
    took = time.perf_counter() - start
    pool, compared = len(seeds), 0
    for x in got: compared += pool; pool += x.kept
    out = dict(seconds=took, n=len(all), compared=compared, ready=ready, mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024, before=base/1024, kept=len(f), dropped=sum(not x.kept for x in got))
    if a.child == 'compiled' and f._index.seen[0]: out['pairs'] = f._index.seen.tolist()
    if a.twenty:
        f, more = DiversityFilter(against=seeds + all[:20_000]), all[20_000:]
        times = []
        for i in range(0, 2000, 20):
            start = time.perf_counter(); f.admit_all(more[i:i+20]); times.append(time.perf_counter() - start)
        out['twenty'] = statistics.median(times)
    print(json.dumps(out))


def psi(a, n, way='compiled', twenty=False):
    "Median of some runs"
    run = [sys.executable, __file__, '--child', way, '--texts', a.texts, '--seeds', a.seeds, '--n', str(n), *['--twenty'] * twenty]
    pin = lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}) if hasattr(os, 'sched_setaffinity') else None
    got = [json.loads(subprocess.run(run, check=True, capture_output=True, text=True, preexec_fn=pin).stdout) for _ in range(a.repeat if way == 'compiled' else min(3, a.repeat))]
    return {k: v if isinstance(v := got[0][k], list) else statistics.median(g[k] for g in got) for k in got[0]}


def exponent(sizes, seconds):
    "Of a power law through the first and the last"
    return math.log(seconds[-1]/seconds[0]) / math.log(sizes[-1]/sizes[0])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--texts', default=str(SHARED/'data/alpaca/alpaca_data.json.gz')); p.add_argument('--seeds', default=str(SHARED/'data/self_instruct/seed_tasks.jsonl'))
    p.add_argument('--n', type=int, nargs='*', default=[5_000, 20_000, 52_002], help='sizes')
    p.add_argument('--large', type=int, default=400_000, help='one more size, filled up with inputs, sentences of outputs and changed copies; 0 leaves it out')
    p.add_argument('--peer', type=int, nargs='*', default=[500, 1_000, 2_000], help='sizes at which the peer is measured'); p.add_argument('--repeat', type=int, default=5)
    p.add_argument('--child', help=argparse.SUPPRESS); p.add_argument('--twenty', action='store_true', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return child(a)
    seeds, stream = texts(a.seeds), texts(a.texts)
    sizes = [n for n in a.n if n <= len(stream)] or [len(stream)]
    small = [n for n in a.peer if n <= len(stream)] or [len(stream)]
    from psi.diversity import DiversityFilter
    print(f'{Path(a.texts).name}: {len(stream):,} instructions after {len(seeds)} seeds\n')
    alone = [peer(seeds, stream[:n]) for n in small]
    with Pool(2) as two: pooled = [peer(seeds, stream[:n], two)[0] for n in small]
    mixed = noisy(stream[:small[-1]//3])
    want = peer(seeds, mixed)[1]
    same = [tuple(x)[:3] for x in DiversityFilter(against=seeds).admit_all(mixed)] == [(True, None, None) if k else (k, s, i) for k, s, i in want]
    compared = sum(len(seeds) + i for i in range(small[-1])) if all(k for k, _, _ in alone[-1][1]) else sum(len(seeds) + sum(k for k, _, _ in alone[-1][1][:i]) for i in range(small[-1]))
    each = alone[-1][0]/compared, pooled[-1]/compared
    print(f'peer, measured: ' + '; '.join(f'{n:,}: {t:.1f} s alone, {u:.1f} s with a pool' for n, (t, _), u in zip(small, alone, pooled)))
    print(f'a pair: {each[0]*1e6:.1f} us alone, {each[1]*1e6:.1f} us with a pool; of {len(mixed):,} texts, {len(mixed)//2:,} of them changed copies, both drop {sum(not k for k, _, _ in want):,}: decisions, scores and neighbours are {"all the same" if same else "DIFFERENT"}\n')
    print('| instructions | psi, s | us a text | peak MB | without numba, s | peer, h (extrapolated) | peer with a pool of 2, h (extrapolated) | psi is times faster | without numba |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|')
    ours = {}
    for n in sizes:
        fast, slow = psi(a, n, twenty=n == max(sizes) and n >= 22_000), psi(a, n, 'plain')
        hours = [e * fast['compared'] / 3600 for e in each]
        ours[n] = fast
        print(f'| {n:,} | {fast["seconds"]:.3f} | {fast["seconds"]/n*1e6:.1f} | {fast["mb"]:.0f} | {slow["seconds"]:.1f} | {hours[0]:.2f} | {hours[1]:.2f} | {hours[0]*3600/fast["seconds"]:,.0f} | {hours[0]*3600/slow["seconds"]:,.0f} |', flush=True)
    if a.large > len(stream):
        big = psi(a, a.large)
        print(f'| {big["n"]:,.0f} (with sentences and changed copies) | {big["seconds"]:.3f} | {big["seconds"]/big["n"]*1e6:.1f} | {big["mb"]:.0f} | | | | | |')
    last = ours[max(sizes)]
    if len(sizes) > 1: print(f'\npsi grows with n^{exponent(sizes, [ours[n]["seconds"] for n in sizes]):.2f}, the peer with the number of pairs')
    print(f'start (numba, compiled code from the disk) {last["ready"]:.2f} s and {last["before"]:.0f} MB')
    if 'twenty' in last: print(f'20 new ones against 20,000: {last["twenty"]*1000:.2f} ms (median of 100)')
    if 'pairs' in last:
        met, once, signed, over = last['pairs']
        print(f'pairs of {max(sizes):,}: {last["compared"]:,.0f}; met in a list {met:,}; not ruled out by length or place {once:,}; nor by signature, so computed {signed:,}; above the threshold {over:,}')


if __name__ == '__main__': main()
