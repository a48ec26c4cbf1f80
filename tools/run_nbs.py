"""Run notebooks where they stand and keep their outputs, as steady as they can be: no counts, no times, no stderr.

    python tools/run_nbs.py [--flags "slow gpu"] [nbs/00_core.ipynb ...]    default: all of them

What `nbdev_test` skips is skipped here, and keeps the outputs it has: cells with `#| eval: false` or one of the `tst_flags`
of settings.ini (unless named by --flags), and notebooks with `skip_exec: true`. A notebook that fails is left as it was.
"""
import argparse, multiprocessing, os, re, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def steady(
    outputs:list, # of one cell, as the shell gives them
) -> list:        # without stderr and widgets; of a line that was rewritten (a progress bar), its last state
    kept = [o for o in outputs if o.get('name') != 'stderr' and 'application/vnd.jupyter.widget-view+json' not in o.get('data', {})]
    for o in kept:
        if 'text' in o: o['text'] = re.sub(r'[^\n]*\r(?!\n)', '', ''.join(o['text'])).splitlines(keepends=True)
    return kept

def run(path:Path, flags:set) -> None:
    "Run one notebook and write it, or raise what its cell raised. A process of its own: no notebook sees what another left"
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import nbdev_clean
    from nbdev.config import get_config
    from nbdev.frontmatter import FrontmatterProc
    from nbdev.process import NBProcessor
    os.chdir(path.parent)
    os.environ['IN_TEST'] = '1'      # as nbdev_test does: a notebook that exports itself does not do so here
    sys.path.insert(0, str(ROOT))
    skip = set(get_config().tst_flags.split()) - flags
    meta = getattr(NBProcessor(path, procs=FrontmatterProc, process=True).nb, 'frontmatter_', {})
    if str(meta.get('skip_exec')).lower() == 'true': return
    nb, shell = read_nb(path), CaptureShell(path, mpl_format='png')
    for i, (cell, twin) in enumerate(zip(nb.cells, NBProcessor(path).nb.cells)):
        d = twin.directives_
        if cell.cell_type != 'code' or d.get('eval:', [''])[0].lower() == 'false' or skip & d.keys() or 'nbdev_export(' in cell.source: continue
        shell._cell_idx = i     # for the traceback
        cell.outputs = steady(shell.run(twin.source))
        if shell.exc: raise SystemExit(shell.prettytb(fname=path))
    write_nb(nb, path)
    nbdev_clean.__wrapped__(fname=str(path))

def ran(path:Path, flags:set) -> bool:
    start = time.time()
    process = multiprocessing.get_context('spawn').Process(target=run, args=(path, flags))
    process.start(); process.join()
    print(f"{path.relative_to(ROOT)}: {'ran' if process.exitcode == 0 else 'FAILED, left as it was'} ({time.time()-start:.0f} s)", flush=True)
    return process.exitcode == 0

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--flags', default='', help='tst_flags to run all the same')
    args = parser.parse_args()
    from nbdev.doclinks import nbglob
    paths = args.notebooks or sorted(nbglob(ROOT/'nbs', as_path=True))
    done = [ran(p.resolve(), set(args.flags.split())) for p in paths]    # all of them, though one may fail
    sys.exit(not all(done))
