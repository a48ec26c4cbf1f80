"""What the boundary costs: indexing private knowledge, reading a request, auditing a journal; beside the plain way, in one run.

    python bench/boundary.py                 100 MB of knowledge, 20,000 requests to audit; about ten minutes, 3 GB
    python bench/boundary.py --mb 10 --audit 2000

The knowledge is made of Alpaca's sentences, one word in five replaced; the requests are prompts of Table 6 with Dolly's instances, about 2,000 tokens
(1,500 words) each, without personal data, as clearing leaves them. The peer is the plain way to the same end: a Python set of the hashes of all runs of eight lower-case words. It knows
neither other spacing nor look-alikes. Each index is built in a process of its own; its memory is what that process peaks at, less what it had before.
"""
import argparse, json, os, random, re, resource, statistics, subprocess, sys, tempfile, time
from pathlib import Path

SHARED = Path(os.environ.get('PSI_SHARED') or Path(__file__).resolve().parents[2]/'shared')


def material(path, mb, folder):
    "A text file of so many megabytes"
    from psi.core import read_instances
    rng = random.Random(0)
    sentences = [s for x in read_instances(path) for t in (x.instruction, x.input, x.output) for s in re.split(r'(?<=[.!?])\s+', t) if len(s.split()) > 3]
    words = sorted({w for s in sentences[:50_000] for w in s.split()})
    size, out = 0, folder/f'knowledge-{mb}.txt'
    with open(out, 'w') as f:
        while size < mb * 1e6:
            text = ' '.join(w if rng.random() < .8 else rng.choice(words) for s in rng.sample(sentences, 12) for w in s.split()) + '\n\n'
            size += f.write(text)
    return out


def prompts(instances, n, seed=0):
    "Prompts of about 1,500 words, each of other instances"
    from psi.prompts import reflect_prompt
    rng, out = random.Random(seed), []
    for _ in range(n):
        some, words = [], 0
        while words < 1400:
            x = rng.choice(instances); some.append(x); words += len(f'{x.instruction} {x.input} {x.output}'.split())
        out.append(reflect_prompt(some))
    return out


def plain(path):
    "The peer: hashes of all runs of eight words, and a look at each run of a text"
    known = set()
    split = re.compile(r'[^\W_]+').findall
    for paragraph in path.read_text().split('\n\n'):
        w = split(paragraph.lower())
        known.update(hash(tuple(w[i:i + 8])) for i in range(len(w) - 7))
    def look(text):
        w = split(text.lower())
        return [i for i in range(len(w) - 7) if hash(tuple(w[i:i + 8])) in known]
    return look


def guard(path):
    "psi's: the knowledge, the index, and the check of a request, personal data included"
    from psi.boundary import Guard
    from psi.journal import Request
    from psi.knowledge import Knowledge
    g, r = Guard(Knowledge(path)), Request('')
    g.find('')
    return lambda text: g.check(r, {'model': 'large', 'messages': [{'role': 'user', 'content': text}]})


def child(way, path, asked):
    "In a process of its own: seconds to build, peak megabytes, milliseconds a request"
    asked = json.loads(Path(asked).read_text())
    if way == 'guard': import psi.boundary, psi.knowledge   # start-up is not counted
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    look = {'guard': guard, 'plain': plain}[way](Path(path))
    built = time.perf_counter() - start
    times = []
    for text in asked:
        start = time.perf_counter(); look(text); times.append(1000*(time.perf_counter() - start))
    times = sorted(times[len(times)//10:])   # the first ones warm up
    print(json.dumps(dict(built=built, mb=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)/1024, ms=statistics.median(times), p95=times[int(.95*len(times))])))


def measure(way, path, asked):
    done = subprocess.run([sys.executable, __file__, '--child', way, str(path), str(asked)], capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout)


def audited(path, asked, folder):
    "Seconds to audit a journal of these requests"
    from psi.audit import audit, read_log
    from psi.boundary import Guard
    from psi.journal import Journal, Reply, Request, _call
    from psi.knowledge import Knowledge
    journal, log = Journal(folder/'journal.sqlite'), folder/'audit.jsonl'
    g, rows = Guard(log=log), []
    for i, text in enumerate(asked):
        r, body = Request(text, 'reflect', i), {'model': 'large', 'messages': [{'role': 'user', 'content': text}]}
        g.sent(f'{i:064x}', r, body, {'run': 0, 'redacted': {}})
        rows.append(_call(f'{i:064x}', r, body, Reply('ok'), ''))
    journal._commit(rows)
    start = time.perf_counter()
    found = audit(journal.rows(), read_log(log), Guard(Knowledge(path)))
    return time.perf_counter() - start, found


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--mb', type=int, default=100, help='of knowledge')
    p.add_argument('--audit', type=int, default=20_000, help='requests in the journal that is audited; 0 leaves it out')
    p.add_argument('--texts', default=SHARED/'data'/'alpaca'/'alpaca_data.json.gz', help='a file of instances that psi reads: the knowledge')
    p.add_argument('--asked', default=SHARED/'data'/'dolly'/'dolly_3k.json', help='another: the requests')
    p.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: child(*a.child); sys.exit()
    from psi.core import read_instances
    from psi.boundary import Guard
    instances = Guard().clear(x for x in read_instances(a.asked) if len(f'{x.input} {x.output}'.split()) < 400).instances
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        print('| knowledge, MB | way | index, s | peak MB | ms a request | 95% under, ms |\n|--:|:--|--:|--:|--:|--:|')
        for mb in dict.fromkeys((min(10, a.mb), a.mb)):
            path = material(a.texts, mb, tmp)
            (tmp/'asked.json').write_text(json.dumps(prompts(instances, 200)))
            for way in ('guard', 'plain') if mb <= 10 else ('guard',):
                m = measure(way, path, tmp/'asked.json')
                print(f"| {mb} | {way} | {m['built']:.1f} | {m['mb']:,.0f} | {m['ms']:.2f} | {m['p95']:.2f} |", flush=True)
        if a.audit:
            seconds, found = audited(path, prompts(instances, a.audit, 1), tmp)
            print(f'\naudit of {found.requests:,} requests ({found.size/1e6:.0f} MB) against {a.mb} MB: {seconds:.0f} s; canaries {found.planted.total() - found.unseen.total()} of {found.planted.total()}; longest run {found.longest} words; this process peaked at {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024:,.0f} MB')
            print(f'{len(found.leaks)} of the requests share a run of 8 words by chance')
