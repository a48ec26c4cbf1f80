"""What psi.train costs beside a bare loop: the same model, lessons, batches, autocast, AdamW, clipping. In one run, alternating, a process each.

    python bench/train.py                              gemma3-270m-base in bfloat16 on all cores, 3 x (3 + 1) steps of 16 instances; about ten minutes, 14 GB
    python bench/train.py --model smollm2-135m-instruct --steps 2 --repeat 1
    python bench/train.py --ways psi bare trl          also psi with trl's own loss in place of its head for processors

Tokens are those of the lessons, padding not counted. The first step of each process is not counted. The bare loop is what one writes with torch and transformers alone:
it takes psi's batches in psi's order, asks the model for its loss and steps; nothing is logged, checked or written.
"""
import argparse, json, os, resource, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path


def lessons(a):
    from psi.base import load_tokenizer
    from psi.core import packaged_seeds, read_instances
    from psi.recipe import Recipe, lesson_order, make_lessons
    recipe = Recipe(epochs=1., batch=a.batch, per_device=8, max_length=a.max_length, precision=a.precision, template='alpaca')
    tokenizer = load_tokenizer(a.model)
    instances = (read_instances(a.data) if a.data else packaged_seeds())[:a.batch*(a.steps + 1)]
    if len(instances) < a.batch*(a.steps + 1): sys.exit(f'{len(instances)} instances are too few for {a.steps} + 1 steps of {a.batch}; give more by --data')
    found = make_lessons(instances, tokenizer, recipe)
    return instances, tokenizer, recipe, found, lesson_order(found.lengths, recipe)


def bare(a):
    "torch and transformers, and nothing else in the loop"
    import torch
    from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup
    from psi.base import base_folder
    from psi.recipe import split_batch
    _, tokenizer, recipe, found, steps = lessons(a)
    model = AutoModelForCausalLM.from_pretrained(base_folder(a.model), dtype=torch.float32).train()
    opt = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0., fused=True)
    each = split_batch(recipe)[0]
    rate, times, counts = get_cosine_schedule_with_warmup(opt, 1, len(steps)), [], []
    for step in steps:
        start = time.perf_counter()
        graded = sum(len(found.tokens[i][0]) - found.tokens[i][1] for i in step if i < len(found))
        for k in range(0, len(step), each):
            rows = [found.tokens[i] for i in step[k:k + each] if i < len(found)]
            if not rows: continue
            n = max(len(ids) for ids, _ in rows)
            ids = torch.tensor([r + [tokenizer.pad_token_id]*(n - len(r)) for r, _ in rows])
            mask = torch.tensor([[1]*len(r) + [0]*(n - len(r)) for r, _ in rows])
            labels = torch.tensor([[-100]*p + r[p:] + [-100]*(n - len(r)) for r, p in rows])
            with torch.autocast('cpu', torch.bfloat16, enabled=recipe.precision == 'bf16'):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=graded, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        opt.step(); rate.step(); opt.zero_grad()
        times.append(time.perf_counter() - start); counts.append(sum(found.lengths[i] for i in step if i < len(found)))
    return times, counts


def psi(a, own_head=True):
    import psi.train as t
    if not own_head: t.lean_head = lambda model: False
    instances, _, recipe, _, _ = lessons(a)
    with tempfile.TemporaryDirectory() as tmp:
        t._export = lambda work, trainer, seconds: None     # the steps are measured, not the writing of half a gigabyte
        log = t.train(instances, a.model, Path(tmp)/'out', recipe, device='cpu').log
    ends, tokens = [x['seconds'] for x in log], [x['tokens'] for x in log]
    return [b - a for a, b in zip([0, *ends], ends)], [b - a for a, b in zip([0, *tokens], tokens)]


def measure(way, argv):
    done = subprocess.run([sys.executable, __file__, *argv, '--child', way], capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='gemma3-270m-base')
    p.add_argument('--data', help='a file of instances; default: the packaged seeds')
    p.add_argument('--batch', type=int, default=16, help='instances a step, eight at once')
    p.add_argument('--steps', type=int, default=3, help='that are counted; one more goes before')
    p.add_argument('--repeat', type=int, default=3)
    p.add_argument('--max-length', type=int, default=512)
    p.add_argument('--precision', default='bf16', choices=['bf16', 'fp32'])
    p.add_argument('--ways', nargs='+', default=['psi', 'bare'])
    p.add_argument('--child', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child:
        times, counts = {'psi': psi, 'bare': bare, 'trl': lambda a: psi(a, False)}[a.child](a)
        print(json.dumps(dict(rate=sum(counts[1:])/sum(times[1:]), tokens=sum(counts[1:]), gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6))); sys.exit()
    found = {w: [] for w in a.ways}
    for i in range(a.repeat):
        for w in a.ways if i % 2 == 0 else a.ways[::-1]:
            found[w].append(m := measure(w, sys.argv[1:])); print(f"{w:5} {m['rate']:7.1f} tokens/s, peak {m['gb']:.1f} GB", file=sys.stderr, flush=True)
    base = statistics.median(m['rate'] for m in found.get('bare', found[a.ways[0]]))
    print(f"{a.model}, {a.precision}, {found[a.ways[0]][0]['tokens']} tokens a run, {a.repeat} runs, median\n\n| way | tokens/s | ratio | lowest | highest | peak GB |\n|:--|--:|--:|--:|--:|--:|")
    for w, ms in found.items():
        r = [m['rate'] for m in ms]
        print(f"| {w} | {statistics.median(r):.1f} | {statistics.median(r)/base:.2f} | {min(r):.1f} | {max(r):.1f} | {max(m['gb'] for m in ms):.1f} |")
