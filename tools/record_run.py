"""Keep what a notebook needs of a finished run: principles, clusters, instances, and a summary of its counts and costs.

    python tools/record_run.py runs/NAME results/NAME

The journal, the seeds and the dropped candidates stay behind: they are large, or quote data that is not ours.
"""
import json, platform, shutil, sys
from pathlib import Path
from psi.folder import Run

KEEP = 'psi.toml', 'manifest.json', 'carbon.json', 'principles_low.jsonl', 'clusters.json', 'principles.jsonl', 'instances.jsonl'

def machine() -> str:
    "The processor, its cores and the system"
    import os
    names = [line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name')] if Path('/proc/cpuinfo').exists() else []
    return f"{os.cpu_count()} cores ({(names or [platform.processor()])[0]}), {platform.system()}, Python {platform.python_version()}"

def record(run:Run, to:Path):
    to.mkdir(parents=True, exist_ok=True)
    for name in KEEP: shutil.copy(run.folder/name, to/name)
    journal = run.journal()
    # requests of a stage overlap, so seconds are those that slots were busy
    summary = dict(seeds=len(run.seeds), machine=machine(), waterfalls={s: run.waterfall(s) for s in ('expand', 'generate')}, ledger=run.ledger()._repr_markdown_())
    summary['seconds'] = f"{sum(r['reply']['seconds'] for r in journal.rows()):,.0f}, summed over requests, of which {run.config.M_g.concurrency} ran side by side"
    journal.close()
    (to/'summary.json').write_text(json.dumps(summary, indent=1, ensure_ascii=False) + '\n')

if __name__ == '__main__':
    if len(sys.argv) != 3: sys.exit(__doc__)
    record(Run(sys.argv[1]), Path(sys.argv[2]))
    print(f'recorded {sys.argv[1]} in {sys.argv[2]}')
