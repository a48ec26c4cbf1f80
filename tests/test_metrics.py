"pass@k against all draws; texts against the packages, and BERTScore against its definition"
import itertools, os, subprocess, sys
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
from psi.core import ConfigError, DataError
from psi.metrics import TextScores, pass_at_k, pass_rate, text_scores

@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws(nck):
    n, c, k = nck
    draws = list(itertools.combinations([True]*c + [False]*(n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws))/len(draws), abs=1e-15)

@pytest.mark.parametrize('n, c, k', [(5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0), (0, 0, 1)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(DataError, match=f'n={n}, c={c}, k={k}'): pass_at_k(n, c, k)

def test_pass_at_k_is_exact_where_floats_are_not():
    assert pass_at_k(10_000, 1, 5_000) == .5
    assert 0 < pass_at_k(100_000, 1, 1) == 1e-5

def test_pass_rate():
    r = pass_rate([(10, 3), (10, 0), (10, 10)], 5)
    assert r.name == 'pass@5' and r.value == pytest.approx((pass_at_k(10, 3, 5) + 1)/3)
    assert pass_rate([(1, 1)]).error is None
    assert pass_rate([(1, 1)]*50 + [(1, 0)]*50).error == pytest.approx((.25/99)**.5)
    with pytest.raises(DataError): pass_rate([])

TEXTS = ['the cat sat on the mat', 'a dog', 'it rains in the evening, and it pours']
REFS = ['the cat is on the mat', 'a dog barks at night', 'in the evening it rains']

def test_as_the_packages_say():
    sacrebleu, rouge = pytest.importorskip('sacrebleu'), pytest.importorskip('rouge_score.rouge_scorer')
    got = text_scores(TEXTS, REFS)
    assert got['BLEU'].value == pytest.approx(sacrebleu.corpus_bleu(TEXTS, [REFS]).score)
    assert 'tok:13a' in got['BLEU'].how and 'version:' in got['BLEU'].how and got['BLEU'].error > 0
    s = rouge.RougeScorer(['rougeL'])
    assert got['ROUGE-L'].value == pytest.approx(100*sum(s.score(r, p)['rougeL'].fmeasure for p, r in zip(TEXTS, REFS))/3)
    assert got == text_scores(TEXTS, REFS)   # the errors, too

def test_several_references():
    pytest.importorskip('sacrebleu')
    got = text_scores(TEXTS, [[r, t] if i != 1 else [t] for i, (t, r) in enumerate(zip(TEXTS, REFS))])
    assert got['BLEU'].value == pytest.approx(100) and got['ROUGE-L'].value == 100

def test_empty_and_odd_texts():
    pytest.importorskip('sacrebleu')
    got = text_scores(['', ' \n', '漢字 🙂', 'a\0b'], ['x', 'y', '漢字', ''])
    assert got.n == 4 and got.empty == 2
    assert all(0 <= s.value <= 100 for s in got.scores)
    one = text_scores(['a b'], ['a b'])
    assert one['ROUGE-L'].error is None and one['BLEU'].error is None and '| ROUGE-L | 100.00 |  |' in one._repr_markdown_()

@pytest.mark.parametrize('p, r, said', [(['a'], ['a', 'b'], '1 texts against 2'), ([], [], 'at least one'), ('a', ['a'], 'list'), (['a'], [[]], 'text 0'), ([None], ['a'], 'text 0'), (['a'], [['b', 3]], 'text 0')])
def test_refused(p, r, said):
    with pytest.raises(DataError, match=said) as e: text_scores(p, r)
    assert '\n' not in str(e.value)

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "A BERT of random weights"
    pytest.importorskip('bert_score')
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast
    folder = tmp_path_factory.mktemp('tiny')
    words = sorted({w for t in TEXTS + REFS for w in t.replace(',', ' ,').split()})
    (folder/'vocab.txt').write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *words]))
    BertTokenizerFast(str(folder/'vocab.txt'), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words) + 5, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64)).save_pretrained(folder)
    return str(folder)

def by_definition(folder, layer, p, r):
    import torch
    from transformers import AutoModel, AutoTokenizer
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    def vectors(t):
        with torch.no_grad(): v = model(**tokenizer(t, return_tensors='pt'), output_hidden_states=True).hidden_states[layer][0]
        return v/v.norm(dim=-1, keepdim=True)
    same = vectors(p) @ vectors(r).T
    P, R = same.max(1)[0][1:-1].mean(), same.max(0)[0][1:-1].mean()   # a word may match the marks of the beginning and the end, but these do not count
    return float(2*P*R/(P + R))

def test_bertscore_is_its_definition(tiny):
    got = text_scores(TEXTS, REFS, bert=tiny, layers=2)['BERTScore']
    assert got.value == pytest.approx(100*sum(by_definition(tiny, 2, p, r) for p, r in zip(TEXTS, REFS))/3, abs=1e-3)
    assert 'not rescaled' in got.how and '_L2' in got.how and tiny not in got.how
    assert text_scores(TEXTS, TEXTS, bert=tiny, layers=2)['BERTScore'].value == pytest.approx(100, abs=1e-3)

def test_bertscore_of_empty_texts_and_several_references(tiny):
    full = text_scores(TEXTS[:1], REFS[:1], bert=tiny, layers=2)['BERTScore'].value
    assert text_scores([TEXTS[0], '', ' '], [REFS[0], 'a dog', ''], bert=tiny, layers=2)['BERTScore'].value == pytest.approx(full/3)
    assert text_scores([''], ['a'], bert=tiny, layers=2)['BERTScore'].value == 0
    assert text_scores(TEXTS[:1], [['', TEXTS[0], 'a dog']], bert=tiny, layers=2)['BERTScore'].value == pytest.approx(100, abs=1e-3)

def test_bertscore_rescaled(tiny, tmp_path):
    "A folder that is called as the model that bert-score knows takes its layer and its baseline"
    import shutil
    home = tmp_path/'bert-base-uncased'
    shutil.copytree(tiny, home)
    raw, scaled = (text_scores(TEXTS, REFS, bert=str(home), layers=2, rescale=s)['BERTScore'] for s in (False, None))
    import bert_score
    b = float((Path(bert_score.__file__).parent/'rescale_baseline/en/bert-base-uncased.tsv').read_text().splitlines()[3].split(',')[3])
    assert scaled.value == pytest.approx(100*(raw.value/100 - b)/(1 - b), abs=1e-4) and 'F1, rescaled' in scaled.how

def test_bertscore_refused(tiny, tmp_path):
    for kw, said in (dict(bert=tiny), 'layers='), (dict(bert=tiny, layers=2, rescale=True), 'rescale=False'), (dict(bert=str(tmp_path), layers=2), str(tmp_path)):
        with pytest.raises(ConfigError, match=said) as e: text_scores(TEXTS, REFS, **kw)
        assert '\n' not in str(e.value)

def test_missing_packages(monkeypatch):
    for name in 'sacrebleu', 'bert_score':
        with monkeypatch.context() as m:
            m.setitem(sys.modules, name, None)
            with pytest.raises(ConfigError, match=r"pip install 'psi\[evaluate\]'"): text_scores(TEXTS, REFS, bert='x', layers=1)

def test_no_network(tiny):
    "Neither the import nor the use of the packages asks the network, and importing the room asks for none of them"
    code = f'''
import socket, sys
def no(*a, **k): raise SystemExit('network')
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = no
import psi.metrics
assert not {{'torch', 'sacrebleu', 'rouge_score', 'bert_score', 'transformers', 'nltk'}} & set(sys.modules)
print(psi.metrics.text_scores(['the cat'], ['the cat sat'], bert={tiny!r}, layers=2)['BERTScore'].value)
'''
    env = {k: v for k, v in os.environ.items() if k not in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')}
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert p.returncode == 0 and 0 < float(p.stdout) < 100, p.stderr[-500:]
