"A clean interpreter: how fast psi starts, and whom it calls"
import os, subprocess, sys, time
import pytest

BLOCKED = '''
import socket, sys
def refuse(*a, **k): raise SystemExit(f"an import touched the network: {a}")
for name in ("getaddrinfo", "create_connection"): setattr(socket, name, refuse)
socket.socket.connect = refuse
import psi, psi.core, psi.prompts, psi.lm, psi.local, psi.expand, psi.reflect, psi.cluster, psi.summarize, psi.generate, psi.config, psi.pipeline, psi.cli
heavy = {"torch", "transformers", "umap", "sentence_transformers", "datasets", "matplotlib", "sklearn", "numba", "xllamacpp", "openai", "pandas", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
'''


def python(*args): return subprocess.run([sys.executable, *args], capture_output=True, text=True, env={**os.environ, 'TERM': 'dumb'})


def test_no_import_calls_the_network_or_loads_a_heavy_library():
    done = python('-c', BLOCKED)
    assert done.returncode == 0, done.stderr


def modules(code):
    "How many modules a start loads: what start-up time hangs on, without a clock"
    done = python('-X', 'importtime', '-c', code)
    assert done.returncode == 0, done.stderr
    return {line.split('|')[-1].strip() for line in done.stderr.splitlines() if line.startswith('import time')}


def test_import_psi_loads_nothing_else():
    loaded = modules('import psi')
    assert not any(m.startswith('psi.') or m.split('.')[0] in ('fastcore', 'pydantic', 'typer') for m in loaded), loaded


def test_help_loads_the_command_line_alone():
    loaded = modules('import sys; sys.argv = ["psi", "--help"]\nfrom psi.cli import main\ntry: main()\nexcept SystemExit: pass')
    assert 'psi.cli' in loaded and not {'psi.pipeline', 'psi.lm', 'pydantic', 'numpy', 'asyncio'} & loaded
