"""What measuring costs: the same task with and without psi's meter, wall and processor time. In one run, alternating, a process each.

    python bench/meter.py                              busy and idle tasks of 60 s, three pairs each; twelve minutes
    python bench/meter.py --seconds 5 --repeat 1
    python bench/meter.py --tracking process --every 1

The busy task is a fixed number of hashes on one core, as many as take --seconds without the meter at the first try; the idle one sleeps. Measuring begins before the task and ends after it,
so finding out what can be read (once a process) and the last row are in it. The journal is a file in the folder for temporary files. Processor time is that of the process and of what it started.
"""
import argparse, hashlib, json, resource, statistics, subprocess, sys, tempfile, time
from pathlib import Path


def work(rounds):
    block = bytes(65536)
    for _ in range(rounds): hashlib.sha256(block).digest()


def cpu_seconds():
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def child(a, way, task, rounds):
    from psi.journal import Journal
    from psi.meter import Meter
    with tempfile.TemporaryDirectory() as tmp:
        journal = Journal(Path(tmp)/'journal.sqlite')
        wall, cpu = time.perf_counter(), cpu_seconds()
        with Meter(journal, a.every, a.tracking) if way == 'with' else Meter.off() as m, m.stage(task):
            {'busy': lambda: work(rounds), 'idle': lambda: time.sleep(a.seconds), 'start': m.ready}[task]()
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        print(json.dumps(dict(wall=wall, cpu=cpu, rows=len(journal.energy()), share=m.share, how=m.how)))
        journal.close()


def measure(way, task, rounds, argv):
    done = subprocess.run([sys.executable, __file__, *argv, '--child', way, task, str(rounds)], capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seconds', type=float, default=60., help='that a task takes')
    p.add_argument('--repeat', type=int, default=3, help='pairs')
    p.add_argument('--every', type=float, default=10., help='seconds between rows')
    p.add_argument('--tracking', default='machine', choices=['machine', 'process'])
    p.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: child(a, a.child[0], a.child[1], int(a.child[2])); sys.exit()
    probe = min(measure('without', 'busy', 2000, sys.argv[1:])['wall'] for _ in range(2))
    rounds, how = max(1, round(2000*a.seconds/probe)), ''
    print(f'{a.repeat} pairs of {a.seconds:g} s, a row every {a.every:g} s, tracking {a.tracking!r}; median (lowest to highest) of the pairs\n\n'
          '| task | without, s | with, s | wall, % more | CPU s without | CPU s with | CPU, % of the wall time more | rows | time covered |\n|:--|--:|--:|--:|--:|--:|--:|--:|--:|')
    for task in ('busy', 'idle'):
        pairs = []
        for i in range(a.repeat):
            got = {w: measure(w, task, rounds, sys.argv[1:]) for w in (('with', 'without') if i % 2 else ('without', 'with'))}
            pairs.append((got['without'], got['with'])); how = got['with']['how']
        mid = lambda k, j: statistics.median(pair[j][k] for pair in pairs)
        span = lambda vs: f'{statistics.median(vs):+.2f} ({min(vs):+.2f} to {max(vs):+.2f})'
        wall, cpu = [100*(y['wall']/x['wall'] - 1) for x, y in pairs], [100*(y['cpu'] - x['cpu'])/x['wall'] for x, y in pairs]
        print(f"| {task} | {mid('wall', 0):.2f} | {mid('wall', 1):.2f} | {span(wall)} | {mid('cpu', 0):.2f} | {mid('cpu', 1):.2f} | {span(cpu)} | {pairs[-1][1]['rows']} | {mid('share', 1):.1%} |", flush=True)
    starts = [measure('with', 'start', 0, sys.argv[1:]) for _ in range(a.repeat)]
    print(f"\nOf that, once a process, to find out what can be read: {statistics.median(s['wall'] for s in starts):.2f} s beside the work, {statistics.median(s['cpu'] for s in starts):.2f} s of processor time.\nRead: {how}")
