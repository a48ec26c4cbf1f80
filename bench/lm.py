"""psi's client beside others, against one fake engine, in one run.

    python bench/lm.py                     every client that is installed
    python bench/lm.py --clients psi openai-aiohttp --repeat 5
    python bench/lm.py --python curator=/path/to/venv/bin/python    a client from an environment of its own (their requirements clash)

For each client: 2,000 prompts with 64 in flight and 50 ms a reply; the same with no latency; start-up, CPU time and peak memory; how many good
replies of 500 it saves when the engine stumbles; how many prompts are asked again, needlessly, after a kill -9 at half. The client runs on one
core, the engine on another. psi writes its journal to the disk throughout. What did not end, or ended in an error, is a dash.
"""
import argparse, asyncio, importlib.util, json, os, resource, signal, statistics, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent


# --- the clients: prompts in, texts out (None where there is none) ------------------------------------------------

def psi(url, prompts, flight, folder, faults):
    from psi.journal import Journal
    from psi.lm import LM
    journal = Journal(folder/'journal.sqlite')
    lm = LM('fake', f'{url}/v1', concurrency=flight, journal=journal)
    out = [r.text or None for r in lm(prompts)]
    lm.close(); journal.close()
    return out

def _loop(prompts, flight, ask):
    "An asyncio loop with a semaphore, as people write it"
    async def main():
        gate = asyncio.Semaphore(flight)
        async def one(p):
            async with gate:
                try: return await ask(p)
                except Exception: return None
        return await asyncio.gather(*(one(p) for p in prompts))
    return main()

def aiohttp(url, prompts, flight, folder, faults):
    import aiohttp as lib
    async def main():
        async with lib.ClientSession(connector=lib.TCPConnector(limit=flight)) as s:
            async def ask(p):
                async with s.post(f'{url}/v1/chat/completions', json={'model': 'fake', 'messages': [{'role': 'user', 'content': p}]}) as r:
                    return (await r.json())['choices'][0]['message']['content']
            return await _loop(prompts, flight, ask)
    return asyncio.run(main())

def _openai(url, prompts, flight, http):
    import openai
    async def main():
        async with openai.AsyncOpenAI(api_key='none', base_url=f'{url}/v1', http_client=http() if http else None, max_retries=8) as c:
            async def ask(p): return (await c.chat.completions.create(model='fake', messages=[{'role': 'user', 'content': p}])).choices[0].message.content
            return await _loop(prompts, flight, ask)
    return asyncio.run(main())

def openai_aiohttp(url, prompts, flight, folder, faults):
    import openai
    return _openai(url, prompts, flight, openai.DefaultAioHttpClient)

def openai_default(url, prompts, flight, folder, faults): return _openai(url, prompts, flight, None)

def curator(url, prompts, flight, folder, faults):
    os.environ.update(CURATOR_DISABLE_RICH_DISPLAY='1', TELEMETRY_ENABLED='false', CURATOR_CACHE_DIR=str(folder))
    import tiktoken   # it would fetch its table from the network; words are near enough for a rate limit that is not reached
    words = type('Words', (), {'encode': lambda self, text, **k: text.split()})()
    tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: words
    from bespokelabs import curator as lib
    llm = lib.LLM(model_name='fake', backend='openai', backend_params=dict(base_url=f'{url}/v1', api_key='none', max_concurrent_requests=flight,
                  max_requests_per_minute=10**7, max_tokens_per_minute=10**9, max_retries=8))
    got = llm(list(prompts))
    rows = getattr(got, 'dataset', got)
    return [r['response'] for r in rows]

def sdg_hub(url, prompts, flight, folder, faults):
    import pandas, yaml
    from sdg_hub import Flow
    (folder/'flow.yaml').write_text(yaml.safe_dump({
        'metadata': {'name': 'bench', 'description': 'one call a row', 'version': '1.0.0', 'author': 'bench', 'dataset_requirements': {'required_columns': ['messages', 'text']}},
        'blocks': [{'block_type': 'LLMChatBlock', 'block_config': {'block_name': 'ask', 'input_cols': 'messages', 'output_cols': 'response', 'async_mode': True}}]}))
    flow = Flow.from_yaml(str(folder/'flow.yaml'))
    flow.set_model_config(model='openai/fake', api_base=f'{url}/v1', api_key='none')
    rows = pandas.DataFrame({'text': list(prompts), 'messages': [[{'role': 'user', 'content': p}] for p in prompts]})
    got = flow.generate(rows, checkpoint_dir=str(folder/'checkpoints'), save_freq=500, max_concurrency=flight)
    text = dict(zip(got['text'], (r[0] if isinstance(r, list) and r else r for r in got['response'])))
    return [r.get('content') if isinstance(r := text.get(p), dict) else r for p in prompts]

def data_designer(url, prompts, flight, folder, faults):
    os.environ.update(NEMO_TELEMETRY_ENABLED='false', DATA_DESIGNER_HOME=str(folder/'home'))
    import pandas
    import data_designer.config as dd
    from data_designer.interface import DataDesigner
    pandas.DataFrame({'text': list(prompts)}).to_parquet(folder/'seeds.parquet')
    model = dd.ModelConfig(alias='m', model='fake', provider='bench', skip_health_check=True, inference_parameters=dd.ChatCompletionInferenceParams(max_parallel_requests=flight))
    build = dd.DataDesignerConfigBuilder(model_configs=[model])
    build.with_seed_dataset(dd.LocalFileSeedSource(path=str(folder/'seeds.parquet')))
    build.add_column(dd.LLMTextColumnConfig(name='reply', model_alias='m', prompt='{{ text }}'))
    lib = DataDesigner(artifact_path=folder/'artifacts', model_providers=[dd.ModelProvider(name='bench', endpoint=f'{url}/v1', api_key='none')])
    lib.set_run_config(dd.RunConfig(buffer_size=min(500, len(prompts)), max_in_flight_tasks=max(flight, 4), disable_early_shutdown=True))
    rows = lib.create(build, num_records=len(prompts), resume=dd.ResumeMode.IF_POSSIBLE).load_dataset()
    text = dict(zip(rows['text'], rows['reply']))
    return [text.get(p) for p in prompts]

def distilabel(url, prompts, flight, folder, faults):
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration
    with Pipeline('bench', cache_dir=folder/'cache') as pipe:
        rows = LoadDataFromDicts(data=[{'instruction': p} for p in prompts], batch_size=flight)
        rows >> TextGeneration(llm=OpenAILLM(model='fake', base_url=f'{url}/v1', api_key='none', max_retries=8), input_batch_size=flight)
    text = {r['instruction']: r['generation'] for r in pipe.run(use_cache=True)['default']['train']}
    return [text.get(p) for p in prompts]

CLIENTS = {'aiohttp': (aiohttp, 'aiohttp'), 'openai-aiohttp': (openai_aiohttp, 'openai'), 'openai-default': (openai_default, 'openai'),
           'curator': (curator, 'bespokelabs'), 'data-designer': (data_designer, 'data_designer'), 'sdg-hub': (sdg_hub, 'sdg_hub'), 'distilabel': (distilabel, 'distilabel'), 'psi': (psi, 'psi')}


PYTHONS = {} # of clients that live in an environment of their own
LIMIT = 120 # seconds; a run that takes longer counts as none


# --- measuring -----------------------------------------------------------------------------------------------------

def child(a):
    "In a process of its own: run one client, print what it took (memory: of its largest process)"
    prompts = [f'prompt {i}' for i in range(a.n)]
    start = time.perf_counter()
    out = CLIENTS[a.child][0](a.url, prompts, a.flight, Path(a.folder), a.faults)
    took = time.perf_counter() - start
    good = sum(bool(t) and t.startswith(f'{p}: ') and len(t) > 100 for p, t in zip(prompts, out))
    use = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps(dict(seconds=took, cpu=sum(u.ru_utime + u.ru_stime for u in use), mb=max(u.ru_maxrss for u in use)/1024, good=good)))

def get(url, path, post=False): return urllib.request.urlopen(urllib.request.Request(url + path, method='POST' if post else 'GET')).read()

class Server:
    "The fake engine, on the last core"
    def __init__(self, *args): self.args = args
    def __enter__(self):
        self.p = subprocess.Popen([sys.executable, HERE/'server.py', *map(str, self.args)], stdout=subprocess.PIPE, text=True)
        pin(self.p.pid, -1)
        self.url = self.p.stdout.readline().strip()
        return self
    def __exit__(self, *e): self.p.terminate(); self.p.wait()

def pin(pid, core):
    if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(pid, {sorted(os.sched_getaffinity(0))[core]})

def start(client, url, n, flight, folder, faults=False):
    return subprocess.Popen([PYTHONS.get(client, sys.executable), __file__, '--child', client, '--url', url, '--n', str(n), '--flight', str(flight), '--folder', str(folder), *['--faults'] * faults],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True, preexec_fn=lambda: pin(0, 0))

def end(p):
    "Kill -9, with all that it has started"
    try: os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError: pass
    p.wait(); p.stdout.close()

def measure(client, server, n, flight, faults=False):
    "One run of one client; None where it did not end well"
    get(server.url, '/reset', post=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        p = start(client, server.url, n, flight, folder, faults)
        try: said = p.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired: said = ''
        end(p)
    if p.returncode or not said.strip(): return None
    stats = json.loads(get(server.url, '/stats'))
    return json.loads(said.splitlines()[-1]) | dict(startup=stats['first'] - began, all_in=time.time() - began, asked=sum(stats['asked'].values()))

def killed(client, server, n, flight):
    "Prompts that were answered before a kill -9 at half, and asked again after it: (how many more than were in flight, good replies of the second run)"
    get(server.url, '/reset', post=True)
    with tempfile.TemporaryDirectory() as folder:
        p = start(client, server.url, n, flight, folder)
        while (seen := sum(json.loads(get(server.url, '/stats'))['asked'].values())) < n//2 and p.poll() is None: time.sleep(.02)
        end(p)
        p = start(client, server.url, n, flight, folder)
        try: said = p.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired: said = ''
        end(p)
        asked = json.loads(get(server.url, '/stats'))['asked']
    if p.returncode or not said.strip(): return None
    return sum(v - 1 for v in asked.values()), json.loads(said.splitlines()[-1])['good']

def middle(runs, k):
    values = [r[k] for r in runs if r]
    return statistics.median(values) if values else float('nan')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clients', nargs='*', choices=CLIENTS, help='which; the default is all that are there')
    p.add_argument('--python', nargs='*', default=[], metavar='CLIENT=PATH', help='the interpreter of a client that has an environment of its own')
    p.add_argument('--n', type=int, default=2000); p.add_argument('--flight', type=int, default=64)
    p.add_argument('--latency', type=float, default=.05); p.add_argument('--repeat', type=int, default=3, help='runs of each, the median counts')
    p.add_argument('--seed', type=int, default=0, help='of the faults')
    p.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    for k in ('child', 'url', 'folder'): p.add_argument(f'--{k}', help=argparse.SUPPRESS)
    p.add_argument('--faults', action='store_true', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return child(a)
    PYTHONS.update(x.split('=', 1) for x in a.python)
    a.clients = a.clients or [k for k, (_, lib) in CLIENTS.items() if k in PYTHONS or importlib.util.find_spec(lib)]
    table = {c: {} for c in a.clients}
    with Server('--latency', a.latency) as slow, Server('--latency', 0) as quick, Server('--latency', a.latency, '--faults', '--seed', a.seed) as shaky:
        for c in a.clients: measure(c, quick, 20, 4)   # compiles and caches
        for what, server, n in (('slow', slow, a.n), ('quick', quick, a.n), ('shaky', shaky, 500)):
            runs = {c: [] for c in a.clients}
            for _ in range(a.repeat):   # in turns, so that a busy moment of the machine meets all alike
                for c in a.clients: runs[c].append(measure(c, server, n, a.flight, what == 'shaky'))
            for c in a.clients: table[c][what] = {k: middle(runs[c], k) for k in ('seconds', 'startup', 'cpu', 'mb', 'good', 'asked', 'all_in')}
        for c in a.clients: table[c]['kill'] = killed(c, slow, a.n, a.flight)
    base = table.get('openai-aiohttp')
    print(f'{a.n:,} prompts, {a.flight} in flight, {a.latency*1000:g} ms a reply; medians of {a.repeat} runs; ratios to openai on aiohttp\n')
    print('| client | s | ratio | s at no latency | ratio | start-up, s | CPU s | peak MB | of 500 under faults | s | asked again after kill -9 |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|')
    for c, t in table.items():
        s, q, f = t['slow'], t['quick'], t['shaky']
        num = lambda x, digits: f'{x:.{digits}f}' if x == x else '-'
        ratio = lambda x, k: num(x['seconds']/base[k]['seconds'], 2) if base else ''
        again = '-' if t['kill'] is None else f'{t["kill"][0]} ({t["kill"][1]} good)'
        cells = [num(s['seconds'], 2), ratio(s, 'slow'), num(q['seconds'], 2), ratio(q, 'quick'), num(s['startup'], 2), num(s['cpu'], 1), num(s['mb'], 0), num(f['good'], 0), num(f['seconds'], 1), again]
        print(f'| {c} | ' + ' | '.join(cells) + ' |')
    if a.out: a.out.write_text(json.dumps(table, indent=1) + '\n')

if __name__ == '__main__': main()
