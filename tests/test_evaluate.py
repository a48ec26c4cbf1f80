"Scores: the harness's own, whatever way the documents come, however often the measuring was cut"
import csv, gzip, json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest
from psi.core import ConfigError, DataError, Instance
from psi.benchmarks import BENCHMARKS, draw, read_benchmark, tasks
from psi.evaluate import check_data, difference, evaluate, read_evaluation
from psi.lm import scripted

pytest.importorskip('lm_eval')

@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    "A small model with random weights"
    from psi.base import practice_model
    return practice_model(tmp_path_factory.mktemp('model')/'m')

def write(path:Path, rows):
    "JSON lines"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(r) + '\n' for r in rows))

def rows_of_csv(path:Path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as f: csv.writer(f).writerows(rows)

SUBJECTS = sorted(f.stem.removeprefix('mmlu_') for f in (Path(__import__('lm_eval').__file__).parent/'tasks/mmlu/default').glob('mmlu_*.yaml'))
SUMS = [dict(question=f'Anna has {a} apples and buys {b}. How many has she?', answer=f'{a} + {b} = {a+b}\n#### {a+b}') for a in range(2, 12) for b in range(2)]
GAPS = [dict(sentence=f'The {a} did not fit into the {b} because the _ was too large.', option1=a, option2=b, answer=str(1 + i % 2)) for i, (a, b) in enumerate((x, y) for x in ('cup', 'book', 'shoe', 'lamp') for y in ('box', 'bag', 'drawer'))]
LIES = [dict(question=f'Can {x} fly?', mc1_targets={f'No, {x} cannot fly.': 1, f'Yes, {x} fly at night.': 0}, mc2_targets={f'No, {x} cannot fly.': 1, 'No.': 1, f'Yes, {x} fly at night.': 0}) for x in ('cows', 'stones', 'chairs', 'trees')]
CODE = [dict(task_id=f'T/{k}', prompt=f'def times{k}(x):\n    "{k} times x"\n', canonical_solution=f'    return {k} * x\n', test=f'def check(f):\n    assert f(2) == {2*k}\n    assert f(0) == 0\n', entry_point=f'times{k}') for k in range(2, 5)]
HARD = [{'Question': f'What is {i} times a thousand?', 'Correct Answer': f'{i}000', 'Incorrect Answer 1': f'{i}00', 'Incorrect Answer 2': f'{i}', 'Incorrect Answer 3': f'{i}0'} for i in range(1, 9)]
def question(s, i): return [f'Question {i} on {s}, with a comma?', f'one {i}', f'two {i}', 'three', 'four', 'ABCD'[i % 4]]

@pytest.fixture(scope='module')
def own(tmp_path_factory) -> Path:
    "The six benchmarks, made up, in the files that they really have"
    root = tmp_path_factory.mktemp('own')
    write(root/'gsm8k'/'train.jsonl', SUMS[6:]); write(root/'gsm8k'/'test.jsonl', SUMS[:6])
    write(root/'winogrande'/'train_xl.jsonl', GAPS[5:]); write(root/'winogrande'/'dev.jsonl', GAPS[:5])
    (root/'truthfulqa').mkdir(); (root/'truthfulqa'/'mc_task.json').write_text(json.dumps(LIES))
    for s in SUBJECTS: rows_of_csv(root/'mmlu'/'test'/f'{s}_test.csv', [question(s, i) for i in range(2)]); rows_of_csv(root/'mmlu'/'dev'/f'{s}_dev.csv', [question(s, i) for i in range(2, 7)])
    rows_of_csv(root/'gpqa'/'gpqa_main.csv', [list(HARD[0]), *(list(d.values()) for d in HARD)])
    (root/'humaneval').mkdir()
    with gzip.open(root/'humaneval'/'HumanEval.jsonl.gz', 'wt') as f: f.write(''.join(json.dumps(d) + '\n' for d in CODE))
    return root

def hub_like(root:Path):
    "The same documents as folders that `datasets` takes for those of the hub"
    def put(name, configs):
        lines = ['---', 'configs:']
        for config, splits in configs.items():
            lines += [f'- config_name: {config}', '  data_files:']
            for split, rows in splits.items():
                write(root/name/config/f'{split}.jsonl', rows)
                lines += [f'  - split: {split}', f'    path: {config}/{split}.jsonl']
        (root/name/'README.md').write_text('\n'.join([*lines, '---', '']))
    targets = lambda t: dict(choices=list(t), labels=list(t.values()))
    mmlu = lambda s, ids: [dict(question=q[0], subject=s, choices=q[1:5], answer='ABCD'.index(q[5])) for q in (question(s, i) for i in ids)]
    put('openai/gsm8k', {'main': dict(train=SUMS[6:], test=SUMS[:6])})
    put('allenai/winogrande', {'winogrande_xl': dict(train=GAPS[5:], validation=GAPS[:5])})
    put('truthfulqa/truthful_qa', {'multiple_choice': dict(validation=[dict(d, mc1_targets=targets(d['mc1_targets']), mc2_targets=targets(d['mc2_targets'])) for d in LIES])})
    put('cais/mmlu', {s: dict(test=mmlu(s, range(2)), dev=mmlu(s, range(2, 7))) for s in SUBJECTS})
    put('Idavidrein/gpqa', {'gpqa_main': dict(train=HARD)})
    put('openai/openai_humaneval', {'openai_humaneval': dict(test=CODE)})

def prompts(built:dict) -> dict[str, list]:
    "All that a model would be asked"
    out = {}
    for t, task in built.items():
        task.build_all_requests(rank=0, world_size=1)
        out[t] = [r.args for r in task.instances]
    return out

def test_the_hub_and_the_own_files_ask_the_same(own, tmp_path, monkeypatch):
    "Same prompts, same few-shot examples, same order: for all six"
    hub_like(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_DATASETS_CACHE', str(tmp_path/'cache'))
    import datasets
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path/'cache')
    for name in BENCHMARKS:
        from_files, from_hub = prompts(tasks(name, read_benchmark(name, own))), prompts(tasks(name))
        assert from_files == from_hub, name
        assert sum(map(len, from_files.values())) > 2

def test_shots_are_those_of_the_paper(own):
    "Section 5.1: 5, 0, 3, 5, 5, 0 examples"
    for name, shots, mark in (('mmlu', 5, '\nAnswer: '), ('gpqa', 3, '\nAnswer: ('), ('gsm8k', 5, '\n#### ')):
        for args in [a for asked in prompts(tasks(name, read_benchmark(name, own))).values() for a in asked]: assert args[0].count(mark) == shots, name
    assert {t.config.num_fewshot for n in ('truthfulqa', 'humaneval') for t in tasks(n, read_benchmark(n, own)).values()} == {0}
    assert tasks('winogrande', read_benchmark('winogrande', own))['winogrande'].config.num_fewshot == 5

def test_the_first_edition_of_truthfulqa_is_taken(shared):
    "And its answers are the same from the JSON and from the CSV"
    from psi.benchmarks import _truthful_csv, _truthful_json
    home = shared/'data'/'truthfulqa'/'v1'
    a, b = _truthful_json(home/'mc_task.json'), _truthful_csv(home/'TruthfulQA.csv')
    assert len(a) == len(b) == 817 and read_benchmark('truthfulqa', shared/'data').note == ''
    by = {d['question'].strip(): d for d in b}
    for d in a:
        for k in ('mc1_targets', 'mc2_targets'):
            assert dict(zip(d[k]['choices'], d[k]['labels'])) == dict(zip(by[d['question'].strip()][k]['choices'], by[d['question'].strip()][k]['labels']))

def cli(tmp_path:Path, model:Path, folder:Path, drawn:dict, subject:str) -> dict:
    "The harness's own command line on the same files; its results"
    home, files = Path(__import__('lm_eval').__file__).parent/'tasks', tmp_path/'tasks'
    files.mkdir()
    train = next(f for f in ('train_xl', 'train_l') if (folder/'winogrande'/f'{f}.jsonl').exists())
    data = lambda kind, **f: f'dataset_path: {kind}\ndataset_name: null\ndataset_kwargs:\n  data_files:\n' + ''.join(f'    {k}: {v}\n' for k, v in f.items())
    (files/'g.yaml').write_text(f'include: {home}/gsm8k/gsm8k.yaml\ntask: own_gsm8k\n' + data('json', train=folder/'gsm8k/train.jsonl', test=folder/'gsm8k/test.jsonl'))
    (files/'w.yaml').write_text(f'include: {home}/winogrande/default.yaml\ntask: own_winogrande\nnum_fewshot: 5\n' + data('json', train=folder/f'winogrande/{train}.jsonl', validation=folder/'winogrande/dev.jsonl'))
    (files/'m.yaml').write_text(f'include: {home}/mmlu/default/mmlu_{subject}.yaml\ntask: own_mmlu\nnum_fewshot: 5\n'
        + data('csv', test=folder/f'mmlu/test/{subject}_test.csv', dev=folder/f'mmlu/dev/{subject}_dev.csv') + '  column_names: [question, A, B, C, D, answer]\n  keep_default_na: false\n'
        + 'doc_to_text: "{{question.strip()}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nD. {{D}}\\nAnswer:"\ndoc_to_target: answer\n')
    done = subprocess.run([sys.executable, '-m', 'lm_eval', 'run', '--model', 'hf', '--model_args', f'pretrained={model},dtype=float32', '--tasks', 'own_gsm8k', 'own_winogrande', 'own_mmlu', '--include_path', str(files),
        '--samples', json.dumps(drawn), '--device', 'cpu', '--batch_size', '1', '--log_samples', '--output_path', str(tmp_path/'out')], capture_output=True, text=True, cwd=tmp_path, env=os.environ | {'HF_HUB_OFFLINE': '1', 'HF_DATASETS_CACHE': str(tmp_path/'cache')})
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(next((tmp_path/'out').rglob('results_*.json')).read_text())['results']
    logged = {t: [json.loads(line) for line in next((tmp_path/'out').rglob(f'samples_own_{t}_*.jsonl')).read_text().splitlines()] for t in ('gsm8k', 'winogrande', 'mmlu')}
    return results, logged

def test_scores_are_those_of_the_harness(shared, model, tmp_path):
    "On the real files, questions drawn at random: scores, standard errors, and every log-likelihood, to the last digit"
    subject, n = 'anatomy', 4
    folder = tmp_path/'data'
    for b in ('gsm8k', 'winogrande'): (folder/b).mkdir(parents=True); [os.symlink(f, folder/b/f.name) for f in (shared/'data'/b).glob('*.jsonl')]
    for s in ('test', 'dev'): (folder/'mmlu'/s).mkdir(parents=True); os.symlink(shared/'data'/'mmlu'/s/f'{subject}_{s}.csv', folder/'mmlu'/s/f'{subject}_{s}.csv')
    names = ('mmlu', 'winogrande', 'gsm8k')
    e = evaluate(model, folder, tmp_path/'eval', names, limit=n, seed=3, dtype='float32', device='cpu', batch=(1, 1), said=lambda _: None)
    drawn = {f'own_{k}': draw({key: e[k].total}, n, 3, k)[key] for k, key in (('mmlu', subject), ('winogrande', ''), ('gsm8k', ''))}
    results, logged = cli(tmp_path, model, folder, drawn, subject)
    for k, metric, theirs in (('mmlu', 'acc', 'acc'), ('winogrande', 'acc', 'acc'), ('gsm8k', 'strict', 'exact_match'), ('gsm8k', 'flexible', 'exact_match')):
        how = {'strict': 'strict-match', 'flexible': 'flexible-extract'}.get(metric, 'none')
        assert e[k].metrics[metric] == dict(value=results[f'own_{k}'][f'{theirs},{how}'], stderr=results[f'own_{k}'][f'{theirs}_stderr,{how}'])
    for k in names:
        mine = {(r['doc'], r['read_as']): r for r in e.samples(k)}
        assert len(mine) == len(logged[k]) > 0
        for r in logged[k]:
            s = mine[r['doc_id'], r['filter']]
            assert [x[0] for x in r['resps']] == s['replies'] if k == 'gsm8k' else [float(x[0][0]) for x in r['resps']] == s['loglikelihoods']

@pytest.mark.parametrize('batch', [1, 3])
def test_the_shortcut_to_the_last_tokens_changes_nothing(model, own, batch, tmp_path):
    "`logits_to_keep` against all logits, in batches of different lengths"
    from types import SimpleNamespace
    from psi.answers import _rows_needed, hushed, transformers_lm
    lm, _ = transformers_lm(model, 'float32', 'cpu')
    asked = [SimpleNamespace(args=('word ' * k, ' ' + c), task_name='') for k in (40, 3, 17, 60) for c in ('yes', 'no, not at all, never', '', 'x' * 80) if c]
    lm.batch_size_per_gpu = batch
    with hushed():
        full = lm.loglikelihood(asked, disable_tqdm=True)
        lm.keep = _rows_needed([tuple(map(len, lm._encode_pair(*r.args))) for r in asked], batch)
        short = lm.loglikelihood(asked, disable_tqdm=True)
    assert batch > 1 or 16 <= lm.keep < 160
    assert [g for _, g in full] == [g for _, g in short] and all(abs(a - b) < 1e-4 for (a, _), (b, _) in zip(full, short))

def test_a_prefix_cache_changes_nothing_but_rounding(model, own, tmp_path):
    "Every log-likelihood of every question, and what is made of them"
    names = ('truthfulqa', 'winogrande', 'mmlu')
    a, b = (evaluate(model, own, tmp_path/k, names, limit=4, dtype='float32', device='cpu', said=lambda _: None, **how) for k, how in (('without', {}), ('with', dict(prefix_cache=True))))
    for k in names:
        assert a[k].metrics.keys() == b[k].metrics.keys() and 'prefix_cache' not in a[k].settings['model'] and b[k].settings['model']['prefix_cache'] and 'head' not in b[k].settings['model'] and a[k].cost['prompt_tokens'] == b[k].cost['prompt_tokens']
        for m, v in a[k].metrics.items(): assert b[k].metrics[m]['value'] == pytest.approx(v['value'], abs=1e-4), (k, m)
        pairs = [(x, y) for r, s in zip(a.samples(k), b.samples(k), strict=True) for x, y in zip(r['loglikelihoods'], s['loglikelihoods'], strict=True)]
        assert len(pairs) >= 8 and all(abs(x - y) < 1e-3 for x, y in pairs)
    e = evaluate(model, own, tmp_path/'coarse', ['winogrande', 'gsm8k'], limit=2, dtype='bfloat16', device='cpu', prefix_cache=True, said=lambda _: None)
    assert e['winogrande'].settings['model']['head'] == 'float32' and 'head' not in e['gsm8k'].settings['model']
    with pytest.raises(ConfigError, match='prefix_cache'): evaluate(model, own, tmp_path/'with', names, limit=4, dtype='float32', device='cpu', said=lambda _: None)

@pytest.mark.parametrize('kind', ['plain', 'sliding', 'hybrid'])
def test_a_prefix_cache_with_any_beginning(model, kind, tmp_path):
    "No common beginning, a long one, a short one, one answer alone, equal answers, a prompt longer than the context; also where a model only looks back a few tokens, or keeps something else than keys and values"
    from types import SimpleNamespace
    from psi.answers import Kept, hushed, transformers_lm
    from psi.journal import Journal
    if kind != 'plain': model = other_model(kind, tmp_path/'m')
    lm, what = transformers_lm(model, 'float32', 'cpu')
    texts = [('word ' * 40, [' yes', ' no, not at all', ' yes']), ('a short one', [' yes', ' no']), ('word ' * 30, [' alone']), ('word ' * lm.max_length, [' yes', ' no, never']), ('one two three ' * 9, [' a', ' b', ' c d e f g ' * 8])]
    asked = [SimpleNamespace(args=(t, c), task_name='', doc_id=i) for i, (t, cs) in enumerate(texts) for c in cs]
    asked += [SimpleNamespace(args=(f'{w} ' + 'and so on ' * 12 + o, ' the end of it'), task_name='', doc_id=9) for w, o in (('x', 'left'), ('x', 'right'), ('y', 'left'))]
    passes, run = [], lm.model.forward
    def counted(*a, **kw): passes.append((a[0] if a else kw['input_ids']).numel()); return run(*a, **kw)
    with hushed():
        full = Kept(lm, Journal(), what).loglikelihood(asked)
        lm.model.forward = counted
        Kept(lm, Journal(), what).loglikelihood(asked)
        plain, passes[:] = sum(passes), []
        cached = Kept(lm, Journal(), what, prefix_cache=True).loglikelihood(asked)
    assert [g for _, g in full] == [g for _, g in cached] and all(abs(a - b) < 1e-3 for (a, _), (b, _) in zip(full, cached))
    assert 0 < sum(passes) < plain or kind == 'hybrid' and not lm.can_cache
    with hushed(): assert lm.loglikelihood(asked, disable_tqdm=True) == [(pytest.approx(a, abs=1e-3), g) for a, g in full]     # nothing is left of the cache

def test_answers_are_not_tied_by_a_coarse_precision(model):
    "With a prefix cache the words' scores of a bfloat16 model are those of its last layer in float32; without it they are the harness's; and writing does not change"
    import torch
    from types import SimpleNamespace
    from psi.answers import Kept, hushed, transformers_lm
    from psi.journal import Journal
    lm, what = transformers_lm(model, 'bfloat16', 'cpu')
    asked = [SimpleNamespace(args=('word ' * 30 + t, f' {c}'), task_name='', doc_id=i) for i, t in enumerate(('one', 'two', 'three')) for c in 'ABCDEFGH']
    how = lambda: [SimpleNamespace(args=('word ' * 30, dict(until=['.'], max_gen_toks=8, do_sample=False)), task_name='', doc_id=0)]
    with hushed():
        plain, journal = lm.loglikelihood(asked, disable_tqdm=True), Journal()
        before, cached = Kept(lm, journal, what).generate_until(how()), Kept(lm, journal, what, prefix_cache=True)
        assert Kept(lm, journal, what).loglikelihood(asked) == plain
        rated, n = cached.loglikelihood(asked), len(list(journal.rows()))
        assert n == 2*len(asked) + 1 and cached.generate_until(how()) == before and len(list(journal.rows())) == n      # two ways to rate, one to write
        assert lm.loglikelihood(asked, disable_tqdm=True) == plain and not lm.exact and Kept(lm, Journal(), what | dict(dtype='float32'), prefix_cache=True).exact == {}
        cached = rated
    head, by_hand = lm.model.get_output_embeddings().weight.float(), []
    for r in asked:
        ids, word = (torch.tensor([x]) for x in lm._encode_pair(*r.args))
        with torch.no_grad(): last = lm.model(torch.cat([ids, word], 1)[:, :-1], output_hidden_states=True).hidden_states[-1][0].float()
        scores = torch.log_softmax(last @ head.T, -1)[-word.shape[1]:]
        by_hand.append(scores.gather(1, word.T).sum().item())
    coarse = lambda rated: sum(float(torch.tensor(a).bfloat16()) == a for a, _ in rated)
    assert coarse(plain) == len(asked) and coarse(cached) < 3
    assert all(abs(a - b) < .05 for (a, _), b in zip(cached, by_hand))
    close = [abs(a - b) for (a, _), b in zip(plain, by_hand)]
    assert sum(abs(a - b) for (a, _), b in zip(cached, by_hand)) < sum(close)/2

def other_model(kind:str, folder:Path) -> Path:
    "A small model whose layers see the last few tokens only, in turns with layers that see all; or whose layers are convolutions in turns with attention"
    import torch
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig, Lfm2Config, Lfm2ForCausalLM
    from psi.base import practice_model
    practice_model(folder)
    words = AutoTokenizer.from_pretrained(folder)
    how = dict(vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    torch.manual_seed(0)
    if kind == 'sliding': made = Gemma3ForCausalLM(Gemma3TextConfig(**how, head_dim=16, sliding_window=24, layer_types=['sliding_attention', 'full_attention']*2))
    else: made = Lfm2ForCausalLM(Lfm2Config(**how, block_multiple_of=8, layer_types=['conv', 'full_attention']*2))
    made.save_pretrained(folder)
    return folder

def sandbox_or_skip():
    from psi.sandbox import sandbox_kind
    if not sandbox_kind(): pytest.skip('no sandbox on this machine')

def test_all_six(own, model, tmp_path):
    "Every benchmark is measured; every number of the table is that of its samples"
    sandbox_or_skip()
    e = evaluate(model, own, tmp_path/'eval', limit=4, max_tokens=8, said=lambda _: None)
    assert not [s.why for s in e.scores.values() if s.why] and e.overall == pytest.approx(sum(s.value for s in e.scores.values()) / 6)
    assert [s.n for s in e.scores.values()] == [4, 4, 4, 4, 4, 3] and e['mmlu'].total == 114
    assert {s['read_as'] for s in e.samples('gsm8k')} == {'strict-match', 'flexible-extract'}
    assert all(len(s['replies']) == len(s['passed']) == (1 if s['task'] == 'humaneval_T0' else 10) for s in e.samples('humaneval'))
    back = read_evaluation(tmp_path/'eval')
    assert back._repr_markdown_() == e._repr_markdown_()
    for name in BENCHMARKS: assert difference(e[name], back[name])['value'] == 0 and difference(e[name], back[name])['n'] == e[name].n
    s = json.loads((tmp_path/'eval'/'gsm8k.json').read_text())
    assert s['settings']['shots'] == 5 and s['settings']['limit'] == 4 and s['settings']['template'] == 'none' and s['versions'] and s['cost']['prompt_tokens'] > 100 and len(s['settings']['data']) == 2
    assert e.browse('truthfulqa')._repr_markdown_() and e.plot().axes

def test_what_is_done_is_not_measured_again_and_what_differs_is_told(own, model, tmp_path):
    "The same settings: nothing is asked. Others: nothing is overwritten"
    a = evaluate(model, own, tmp_path/'eval', ['winogrande'], limit=3, said=lambda _: None)
    was = (tmp_path/'eval'/'winogrande.json').read_bytes(), os.stat(tmp_path/'eval'/'winogrande.json').st_mtime_ns
    b = evaluate(model, own, tmp_path/'eval', ['winogrande'], limit=3, said=lambda _: None)
    assert a['winogrande'] == b['winogrande'] and was == ((tmp_path/'eval'/'winogrande.json').read_bytes(), os.stat(tmp_path/'eval'/'winogrande.json').st_mtime_ns)
    for change, told in ((dict(limit=4), 'limit = 3, now it is 4'), (dict(limit=3, seed=1), 'seed = 0'), (dict(limit=3, dtype='bfloat16'), 'model.dtype = "float32", now it is "bfloat16"')):
        with pytest.raises(ConfigError, match=told): evaluate(model, own, tmp_path/'eval', ['winogrande'], **change, said=lambda _: None)
    assert was[0] == (tmp_path/'eval'/'winogrande.json').read_bytes()

KILLED = '''
import sys
from psi.evaluate import evaluate
evaluate(sys.argv[1], sys.argv[2], sys.argv[3], ['truthfulqa', 'humaneval'], limit=3, max_tokens=12, batch=(1, 2), seed=5)
'''

def test_a_killed_evaluation_ends_with_the_same_scores(own, model, tmp_path):
    "SIGKILL at several moments, sampled replies among them"
    sandbox_or_skip()
    def run(out, kill_after=None):
        p = subprocess.Popen([sys.executable, '-c', KILLED, str(model), str(own), str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
        if kill_after is None: assert p.wait(300) == 0, p.stderr.read()[-2000:]; return
        def kept():
            import sqlite3
            try: return sqlite3.connect(f'file:{out}/journal.sqlite?mode=ro', uri=True).execute('SELECT count(*) FROM calls').fetchone()[0]
            except sqlite3.Error: return 0
        while p.poll() is None and kept() < kill_after: time.sleep(.01)
        p.send_signal(signal.SIGKILL); p.wait()
        return kept()
    run(tmp_path/'whole')
    for n in (12, 25): run(tmp_path/'cut', n)
    run(tmp_path/'cut')
    a, b = read_evaluation(tmp_path/'whole'), read_evaluation(tmp_path/'cut')
    for k in a.scores:
        assert a[k].metrics == b[k].metrics and a.samples(k) == b.samples(k) and a[k].note == b[k].note, k
    assert 'cut off' in a['humaneval'].note

def test_absent_is_not_zero(own, model, tmp_path):
    "A benchmark whose files are not there, and one that the model cannot do"
    half = tmp_path/'half'
    half.mkdir(); os.symlink(own/'winogrande', half/'winogrande')
    said = []
    e = evaluate(model, half, tmp_path/'eval', ['winogrande', 'gpqa'], limit=2, said=said.append)
    assert e['gpqa'].value is None and 'gpqa_main.csv' in e['gpqa'].why and e.overall is None and 'not measured' in e._repr_markdown_() and 'not measured' in said[1]
    assert not (tmp_path/'eval'/'gpqa.json').exists()

def test_a_model_at_an_address(own, tmp_path):
    "It writes; it does not rate. Right answers are right, by both ways of reading them"
    sandbox_or_skip()
    right = {d['question']: d['answer'] for d in SUMS}
    def reply(prompt, body):
        for d in CODE:
            if prompt.endswith(d['prompt']): return d['canonical_solution'] + '\ndef more(): pass'
        return ' ' + right[prompt.rsplit('Question: ', 1)[1].removesuffix('\nAnswer:')] + '\n\nQuestion: and then?'
    with scripted(reply) as url: e = evaluate('any', own, tmp_path/'eval', ['gsm8k', 'humaneval', 'mmlu'], engine=url, said=lambda _: None)
    assert e['gsm8k'].metrics['strict']['value'] == e['gsm8k'].metrics['flexible']['value'] == 1 and e['humaneval'].value == 1
    assert 'cannot do' in e['mmlu'].why and e['humaneval'].cost['programs'] == {'passed': 33}

def test_a_chat_model_at_an_address(own, tmp_path):
    "Few-shot examples are earlier turns; code is taken out of its fences"
    sandbox_or_skip()
    turns = []
    def reply(prompt, body):
        turns.append(len(body['messages']))
        for d in CODE:
            if d['prompt'] in prompt: return f"Here you are:\n```python\n{d['prompt']}{d['canonical_solution']}```\nIt multiplies."
        return 'So it is\n#### 1'
    with scripted(reply) as url: e = evaluate('any', own, tmp_path/'eval', ['gsm8k', 'humaneval'], engine=url, template='chat', said=lambda _: None)
    assert e['humaneval'].value == 1 and e['gsm8k'].value < 1 and max(turns) == 11

@pytest.mark.parametrize('what, args, told', [
    ('benchmark', dict(benchmarks=['mmul']), 'unknown benchmark'), ('limit', dict(limit=0), 'limit is 0'), ('template', dict(template='chat'), 'no chat template'), ('dtype', dict(dtype='int8'), "dtype is 'int8'"),
    ('samples', dict(samples=3), 'pass@10 needs 10'), ('folder', dict(data='nowhere'), 'no such folder'), ('batch', dict(batch=(0, 1)), 'batch is'), ('device', dict(device='cuda'), 'finds no GPU'), ('device', dict(device='foo'), "device is 'foo'"),
    ('nothing', dict(benchmarks=[]), 'no benchmark is named'), ('engine', dict(engine='http://x/v1?key=sk-secret'), 'with a query'), ('engine', dict(engine='lama'), "engine is 'lama'")])
def test_mistakes_are_told_before_anything_is_asked(what, args, told, own, model, tmp_path):
    import torch
    if what == 'device' and torch.cuda.is_available(): pytest.skip('there is a GPU')
    with pytest.raises((ConfigError, DataError), match=told) as e: evaluate(**dict(dict(model=model, data=own, out=tmp_path/'eval', benchmarks=['winogrande'], said=lambda _: None), **args))
    assert not list((tmp_path).rglob('*.json')) and 'secret' not in str(e.value)

@pytest.mark.parametrize('file, text, told', [
    ('gsm8k/test.jsonl', '{"question": "q"}', 'line 1: no answer'), ('gsm8k/test.jsonl', '', 'is empty'), ('gsm8k/test.jsonl', '{', 'not JSON'), ('winogrande/dev.jsonl', '{"sentence": "a _"}', 'no option1'), ('winogrande/dev.jsonl', json.dumps(GAPS[0] | {'answer': '3'}), "the answer '3'"), ('winogrande/dev.jsonl', json.dumps(GAPS[0] | {'sentence': 'no gap'}), 'a gap is a _'),
    ('gsm8k/test.jsonl', '{"question": 3, "answer": "3"}', 'question is 3'), ('gsm8k/train.jsonl', json.dumps(SUMS[0]), '1 examples, 5 stand before'), ('truthfulqa/mc_task.json', json.dumps([dict(question='q', mc1_targets=[], mc2_targets={'a': 1})]), 'item 0: mc1_targets'),
    ('truthfulqa/mc_task.json', json.dumps([dict(question='q', mc1_targets={'a': 0, 'b': 1}, mc2_targets={'a': 1})]), 'the one right answer first'),
    ('mmlu/test/anatomy_test.csv', 'a,b,c', 'row 1: 3 fields'), ('mmlu/test/anatomy_test.csv', 'q,a,b,c,d,E', "ending in 'E'"), ('truthfulqa/mc_task.json', '[{}]', 'item 0: no question'), ('truthfulqa/mc_task.json', 'no', 'not JSON'),
    ('humaneval/HumanEval.jsonl', '{"prompt": ""}', 'no task_id'), ('gpqa/gpqa_main.csv', 'a,b\n1,2', 'row 2: no Question')])
def test_damaged_files_are_named(file, text, told, tmp_path):
    name = file.split('/')[0]
    write(tmp_path/'gsm8k'/'train.jsonl', SUMS); write(tmp_path/'gsm8k'/'test.jsonl', SUMS); write(tmp_path/'winogrande'/'train_xl.jsonl', GAPS); rows_of_csv(tmp_path/'mmlu'/'dev'/'anatomy_dev.csv', [question('anatomy', i) for i in range(5)])
    (tmp_path/file).parent.mkdir(parents=True, exist_ok=True); (tmp_path/file).write_text(text)
    with pytest.raises(DataError, match=told) as e: read_benchmark(name, tmp_path)
    assert '\n' not in str(e.value)

def test_training_data_is_checked_against_the_benchmarks(own):
    "An instance that holds a question of GSM8K, word by word"
    long = [dict(question='A baker sells seven loaves in the morning and twice as many in the afternoon; how many loaves does she sell on that day?', answer='7 + 14 = 21\n#### 21')]
    folder = own.parent/'leak'
    write(folder/'gsm8k'/'train.jsonl', SUMS); write(folder/'gsm8k'/'test.jsonl', SUMS[:2] + long)
    found = check_data([Instance('Solve this.', long[0]['question'], '21'), Instance('Say hello.', '', 'Hello!')], folder)
    assert 'GSM8K' in found._repr_markdown_()

def test_the_command_line_from_data_to_scores(own, model, tmp_path):
    "A run's instances -> files for others, a trained model, its scores, a look for the benchmarks; each in one command"
    from psi.core import packaged_seeds, read_instances, write_records
    run = tmp_path/'runs'/'small'
    run.mkdir(parents=True); (run/'psi.toml').write_text('name = "small"\n')
    write_records(run/'instances.jsonl', packaged_seeds()[:20])
    def psi(*args, rc=0):
        done = subprocess.run([sys.executable, '-c', 'import sys; from psi.cli import main; sys.argv[0] = "psi"; main()', *map(str, args)], capture_output=True, text=True, cwd=tmp_path, env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'HF_HUB_OFFLINE': '1'})
        assert done.returncode == rc and 'Traceback' not in done.stderr, done.stderr[-2000:]
        return done.stdout + done.stderr
    assert 'no trained model yet' in psi('evaluate', run, rc=1)
    psi('generate', run, '--to', 'alpaca', '--to', f'chat={tmp_path}/c.jsonl')
    assert [set(d) for d in json.loads((run/'alpaca.json').read_text())] == [{'instruction', 'input', 'output'}] * 20
    assert [x.output for x in read_instances(tmp_path/'c.jsonl')] == [x.output for x in packaged_seeds()[:20]]
    said = psi('train', run, '--model', model, '--set', 'epochs=1', '--set', 'max_length=256', '--set', 'lr=1e-3')
    assert 'psi evaluate' in said and (run/'model'/'config.json').exists() and 'is trained already' in psi('train', run, '--model', model, '--set', 'epochs=1', '--set', 'max_length=256', '--set', 'lr=1e-3')
    said = psi('evaluate', run, '--data', own, '--benchmarks', 'winogrande, gpqa', '--limit', 2)
    assert '2 of 5' in said and (run/'eval'/'winogrande.json').exists() and (run/'eval'/'scores.png').exists() and 'WinoGrande' in (run/'eval'/'scores.md').read_text() and 'WinoGrande' in psi('show', run)
    assert 'GSM8K' in psi('evaluate', '--check-data', run, '--data', own)
    assert 'did you mean epochs' in psi('train', run, '--model', model, '--out', tmp_path/'m', '--set', 'epoch=1', rc=1)
    assert 'unknown benchmark' in psi('evaluate', model, '--data', own, '--benchmarks', 'mmul', rc=1)

class Oracle:
    "It knows what is right, and rates what it is asked by that; by nothing else"
    rank, world_size = 0, 1
    def loglikelihood(self, requests): return [(0. if self.is_right(*r.args) else -999., False) for r in requests]
    def is_right(self, prompt, answer):
        for d in HARD:
            if f"Question: {d['Question']}" in prompt.rsplit('\n\n', 1)[-1]: return f"{answer.strip()} {d['Correct Answer']}" in prompt.rsplit('\n\n', 1)[-1].split('\n')
        for d in LIES:
            if f"Q: {d['question']}" in prompt: return answer.strip() in [a for a, right in {**d['mc2_targets'], **d['mc1_targets']}.items() if right]
        for d in GAPS:
            if prompt.rsplit('\n\n', 1)[-1] == d['sentence'].split('_')[0] + d[f"option{d['answer']}"]: return True
        last = prompt.rsplit('\n\n', 1)[-1]
        return last.startswith('Question ') and answer.strip() == 'ABCD'[int(last.split()[1]) % 4]

@pytest.mark.parametrize('name', ['mmlu', 'truthfulqa', 'gpqa', 'winogrande'])
def test_who_knows_everything_has_all_points(name, own):
    "What is counted is what was asked; and no question stands among its own examples"
    from psi.evaluate import _asked, _metrics, _sampled
    b = BENCHMARKS[name]
    for _ in range(2):
        built = tasks(name, read_benchmark(name, own))
        asked, samples, n = _sampled(b, built, None, 0)
        metrics = _metrics(b, _asked(Oracle(), asked, samples, False))
        assert metrics[b.compared]['value'] == 1, name
        for t in asked.values():
            for r in t.instances if name == 'gpqa' else (): assert r.args[0].count(f"Question: {r.doc['Question']}\n") == 1

RIGHT = 'def times2(x):\n    return helper(x)\n'
@pytest.mark.parametrize('reply', [RIGHT, f'```python\n{RIGHT}```', f'Sure:\n\n```Python\n{RIGHT}```\nIt doubles.', f'```python3\n{RIGHT}', f'~~~\n{RIGHT}~~~', f'```python\r\n{RIGHT}```'.replace('\n', '\r\n'), f'```bash\npip install x\n```\nthen\n```python\n{RIGHT}```',
    '- so:\n\n  ```python\n' + ''.join(f'  {line}\n' for line in RIGHT.splitlines()) + '  ```\n', '```python\nfrom math import pi\n\ndef helper(x):\n    return x + x\n\n\n' + RIGHT + '```', '```python\n    return 2 * x\n```'])
def test_the_program_in_a_chat_reply(reply):
    "Helpers of the prompt stay; fences of all kinds go"
    from psi.benchmarks import program
    doc = dict(prompt='import os\n\ndef helper(x):\n    return x + x\n\n\ndef times2(x):\n    "2x"\n', entry_point='times2', test='def check(f):\n    assert f(2) == 4')
    exec(program(doc, reply, chat=True), {})

def test_another_chat_template_is_another_model(own, model, tmp_path):
    "Everything in the folder that shapes an answer is known by its sum"
    import shutil
    from psi.base import load_tokenizer
    from psi.recipe import as_chat_template
    shutil.copytree(model, m := tmp_path/'m')
    (m/'chat_template.jinja').write_text(text := as_chat_template(load_tokenizer(m)))
    how = dict(data=own, out=tmp_path/'eval', benchmarks=['winogrande'], limit=2, template='chat', said=lambda _: None)
    evaluate(m, **how)
    (m/'chat_template.jinja').write_text(text.replace('Below is', 'Here is'))
    with pytest.raises(ConfigError, match='model.weights'): evaluate(m, **how)
    (m/'chat_template.jinja').write_text("{{ raise_exception('no') }}")
    e = evaluate(m, **how | dict(out=tmp_path/'eval2'))
    assert 'chat template cannot be used' in e['winogrande'].why

def test_a_model_without_some_weights(own, model, tmp_path):
    "It is refused, not filled with chance"
    import shutil
    from safetensors.torch import load_file, save_file
    from psi.core import EngineError
    shutil.copytree(model, m := tmp_path/'m')
    weights = load_file(m/'model.safetensors')
    save_file({k: v for k, v in weights.items() if 'layers.1.' not in k}, m/'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(EngineError, match='weights are missing'): evaluate(m, own, tmp_path/'eval', ['winogrande'], limit=2)
    (m/'model.safetensors').write_bytes(b'cut')
    with pytest.raises(EngineError, match='cannot load') as e: evaluate(m, own, tmp_path/'eval', ['winogrande'], limit=2)
    assert '\n' not in str(e.value)

def test_lost_and_damaged_results(own, model, tmp_path):
    "Lost samples are read off the journal again; what is not a score is told"
    how = dict(data=own, out=tmp_path/'eval', benchmarks=['winogrande'], limit=2, said=lambda _: None)
    e = evaluate(model, **how)
    had = e.samples('winogrande')
    (tmp_path/'eval'/'winogrande.parquet').write_bytes(b'PAR1')
    with pytest.raises(DataError, match='cannot be read'): e.samples('winogrande')
    (tmp_path/'eval'/'winogrande.parquet').unlink()
    assert evaluate(model, **how).samples('winogrande') == had
    for text in ('{', '[]', '{"benchmark": "gsm8k", "metrics": {}}', '{"benchmark": "winogrande", "metrics": {"acc": 1}, "settings": null}', '{"benchmark": "winogrande", "metrics": {}}'):
        (tmp_path/'eval'/'winogrande.json').write_text(text)
        with pytest.raises(DataError, match='not a score') as e: evaluate(model, **how)
        assert '\n' not in str(e.value)

def test_a_misfit_in_the_last_benchmark_is_told_before_the_first_is_asked(own, model, tmp_path):
    how = dict(data=own, out=tmp_path/'eval', said=lambda _: None)
    evaluate(model, benchmarks=['winogrande'], limit=2, **how)
    with pytest.raises(ConfigError, match='winogrande.json: was measured with limit'): evaluate(model, benchmarks=['truthfulqa', 'winogrande'], limit=3, **how)
    assert not (tmp_path/'eval'/'truthfulqa.json').exists()

def test_own_files_ask_no_network(own, model, tmp_path, monkeypatch):
    import socket
    def nobody(*a, **k): raise AssertionError('a name was looked up')
    monkeypatch.setattr(socket, 'getaddrinfo', nobody)
    monkeypatch.setattr(socket.socket, 'connect', nobody)
    evaluate(model, own, tmp_path/'eval', ['winogrande', 'truthfulqa'], limit=2, said=lambda _: None)

def test_without_the_harness(own, model, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.split('.')[0] == 'lm_eval']: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'lm_eval', None)
    for engine in ('transformers', 'http://127.0.0.1:9/v1'):
        with pytest.raises(ConfigError, match=r"pip install 'psi\[evaluate\]'"): evaluate(model, own, tmp_path/'eval', ['gsm8k'], engine=engine)

def test_only_like_is_compared_with_like(own, model, tmp_path):
    e = evaluate(model, own, tmp_path/'eval', ['winogrande', 'truthfulqa'], limit=2, said=lambda _: None)
    with pytest.raises(DataError, match='different benchmarks'): difference(e['winogrande'], e['truthfulqa'])
    from dataclasses import replace
    with pytest.raises(DataError, match='shots differs'): difference(e['winogrande'], replace(e['winogrande'], settings=e['winogrande'].settings | {'shots': 3}))
    with pytest.raises(DataError, match='different questions'): difference(e['winogrande'], replace(e['winogrande'], values={'': {'77': 1.}}))

def test_spaces_before_the_first_word_are_kept(tmp_path):
    "A tokenizer of Llama 2's kind drops one when it decodes"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from psi.answers import _lean, _strips
    words = ['<unk>', '<s>', '</s>', *(f'\u2581{w}' for w in ('', 'a', 'b', 'return')), 'a', 'b', 'return', 'x']
    core = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token='<unk>'))
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token='<unk>'))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement='\u2581', prepend_scheme='first')
    core.decoder = decoders.Sequence([decoders.Replace('\u2581', ' '), decoders.Fuse(), decoders.Strip(' ', 1, 0)])
    tok = PreTrainedTokenizerFast(tokenizer_object=core, bos_token='<s>', eos_token='</s>', unk_token='<unk>', pad_token='</s>')
    assert _strips(tok)
    lm = _lean(LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)), tok)
    ids = [3, 3, 3, 6]   # three spaces, and ' return'
    assert tok.decode(ids) == '   return' and lm.tok_decode(ids) == '    return'

def test_the_embedded_engine_writes(own, tmp_path):
    "A GGUF by name, in llama.cpp: few-shot prompts go in, replies come out, tokens are counted"
    from psi.local import WEIGHTS, models_dir
    if not (models_dir()/WEIGHTS['smollm2-135m-instruct'].file).exists(): pytest.skip('psi fetch smollm2-135m-instruct brings the model for this test')
    how = dict(data=own, out=tmp_path/'eval', benchmarks=['gsm8k', 'winogrande'], limit=2, engine='llama.cpp', concurrency=2, said=lambda _: None)
    e = evaluate('smollm2-135m-instruct', **how)
    assert e['gsm8k'].n == 2 and e['gsm8k'].cost['completion_tokens'] > 4 and e['gsm8k'].cost['prompt_tokens'] > 200 and 'cannot do' in e['winogrande'].why
    assert e['gsm8k'].settings['model']['weights'] == WEIGHTS['smollm2-135m-instruct'].sha256
    assert all(r['replies'][0].strip() for r in e.samples('gsm8k'))
