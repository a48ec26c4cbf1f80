"""What rating answers costs in psi beside the harness by itself: the same questions, prompts, model and precision, a process each.

    python bench/evaluate.py --data FOLDER             gemma3-270m-base in float32 on all cores, eight questions of each of three benchmarks; about fifteen minutes
    python bench/evaluate.py --data FOLDER --model smollm2-135m-instruct --limit 4 --benchmarks truthfulqa

FOLDER holds the benchmarks' own files. Loading the model is not counted, building the prompts is, in all of them alike. `harness` is lm-evaluation-harness with its own class for transformers models, one answer at a time as is its default;
`psi` leaves out probabilities that nobody reads; `psi, prefix cache` reads what the answers to a question begin with once.
"""
import argparse, json, statistics, subprocess, sys, time
from pathlib import Path

WAYS = {'harness': None, 'psi': dict(), 'psi, prefix cache': dict(prefix_cache=True)}


def asked(a, name):
    from psi.benchmarks import BENCHMARKS, read_benchmark, tasks
    from psi.evaluate import _sampled
    documents = read_benchmark(name, a.data)
    if not documents: sys.exit(f'{a.data}: holds no {name}')
    chosen, drawn, _ = _sampled(BENCHMARKS[name], tasks(name, documents), a.limit, 0)
    return chosen, drawn


def measure(a, way):
    from psi.answers import Kept, hushed, transformers_lm
    from psi.evaluate import _asked
    from psi.journal import Journal
    from lm_eval.models.huggingface import HFLM
    with hushed():
        lm, what = transformers_lm(a.model, a.dtype, 'cpu')
        if WAYS[way] is None: lm = HFLM(lm.model, tokenizer=lm.tokenizer, batch_size=1)
        out = {}
        for name in a.benchmarks:
            chosen, drawn = asked(a, name)
            asker = lm if WAYS[way] is None else Kept(lm, Journal(), what, name=name, **WAYS[way])
            start = time.perf_counter()
            rows = _asked(asker, chosen, drawn, False)
            out[name] = dict(seconds=time.perf_counter() - start, rated=[x[0][0] for t in sorted(rows) for r in rows[t] for x in r['resps']])
    return out


def child(way):
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], '--child', way], stdout=subprocess.PIPE, text=True)
    if done.returncode: sys.exit(done.returncode)     # it has said why
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help="folder of the benchmarks' own files")
    p.add_argument('--model', default='gemma3-270m-base')
    p.add_argument('--benchmarks', nargs='+', default=['truthfulqa', 'winogrande', 'mmlu'])
    p.add_argument('--limit', type=int, default=8, help='questions of each')
    p.add_argument('--dtype', default='float32', choices=['auto', 'float32', 'bfloat16'])
    p.add_argument('--repeat', type=int, default=1)
    p.add_argument('--child', choices=list(WAYS), help=argparse.SUPPRESS)
    a = p.parse_args()
    if not Path(a.data).is_dir(): p.error(f'{a.data}: no such folder')
    if a.child: print(json.dumps(measure(a, a.child))); sys.exit()
    found = {w: [] for w in WAYS}
    for i in range(a.repeat):
        for w in list(WAYS)[::1 if i % 2 == 0 else -1]:
            found[w].append(m := child(w)); print(f'{w}: ' + ', '.join(f"{b} {x['seconds']:.1f} s" for b, x in m.items()), file=sys.stderr, flush=True)
    print(f'{a.model}, {a.dtype}, {a.limit} questions of each, median of {a.repeat}\n\n| benchmark | answers rated | ' + ' | '.join(f'{w}, s | ratio' for w in WAYS) + ' | furthest from the harness |\n|:--|--:|' + '--:|--:|'*len(WAYS) + '--:|')
    for b in a.benchmarks:
        s = {w: statistics.median(m[b]['seconds'] for m in ms) for w, ms in found.items()}
        theirs = found['harness'][0][b]['rated']
        far = {w: max(abs(x - y) for x, y in zip(theirs, found[w][0][b]['rated'], strict=True)) for w in WAYS if w != 'harness'}
        print(f'| {b} | {len(theirs)} | ' + ' | '.join(f"{v:.1f} | {s['harness']/v:.2f}" for v in s.values()) + ' | ' + ', '.join(f'{v:.1g}' for v in far.values()) + ' |')
