"Planted overlaps, and everything against all pairs compared word by word"
import pytest
from hypothesis import given, settings, strategies as st
from psi import contamination as room
from psi.contamination import contamination, plain_words
from psi.core import ConfigError, DataError, Instance
from psi.diversity import unicode_words

WORDS = 'the cat sat on a mat while it was raining and nobody came to see what had become of them all'.split()

def run(n, start=0): return ' '.join(WORDS[start:start + n])

@pytest.mark.parametrize('n, found', [(12, 0), (13, 1), (14, 1), (20, 1)])
def test_planted(n, found):
    r = contamination([Instance('Unrelated words come first, and then ' + run(n) + ' is there.')], {'x': ['Quite another beginning: ' + run(n) + ', but another end']})
    assert r.rows[0].found == r.rows[0].instances == found and r.rows[0].longest == (n if found else 0)
    assert [(h.benchmark, h.document, h.instance, h.words, h.field, h.ours, h.theirs) for h in r.hits] == [('x', 0, 0, n, 'instruction', run(n), run(n))]*found

def test_case_punctuation_and_lines():
    other = ', '.join(w.upper() + '!' for w in WORDS[:13]).replace('SAT!, ON', 'SAT -\n\n"ON')
    r = contamination([Instance('Say:', 'x ' + run(13) + ' y', '')], {'x': ['z ' + other]})
    assert r.rows[0].found == 1 and r.hits[0].field == 'input' and r.hits[0].theirs.startswith('THE!, CAT!, SAT - "ON')

def test_not_across_fields_or_texts():
    text = run(20)
    assert contamination([Instance(run(10), run(10, 10), '')], {'x': [text]}).hits == ()
    assert contamination([Instance(run(10), '', run(10, 10))], {'x': [text]}).hits == ()
    assert contamination([Instance(text)], {'x': [run(10), run(10, 10)]}, least=11).hits == ()
    assert contamination([run(10), run(10, 10)], {'x': [text]}).hits == ()

def test_short_documents():
    r = contamination([Instance('Ask me: ' + run(9) + '?'), Instance(run(8) + ' else')], {'x': [run(9), run(12), run(7), '', '?!']})
    assert r.rows[0][1:] == (5, 0, 5, 1, 3, 1, 9)
    assert [(h.document, h.instance, h.words) for h in r.hits] == [(0, 0, 9)]
    assert r.too_short == 2 and r.instances == 2
    assert '1 of 5' in r._repr_markdown_()

def test_other_scripts():
    doc = '春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。'
    r = contamination([Instance('Quote it.', '', 'Here: 春眠不覺曉 處處聞啼鳥 夜來風雨聲')], {'x': [doc]})
    assert r.rows[0].found == 1 and r.rows[0].longest == 15 and r.hits[0].theirs == '春眠不覺曉，處處聞啼鳥。夜來風雨聲'
    assert contamination([Instance('STRASSE ' + run(13))], {'x': ['Straße ' + run(13)]}).rows[0].longest == 14

@given(st.text())
def test_plain_words(text): assert plain_words(text) == unicode_words(text)

def by_force(instances, documents, n, least):
    out = {}
    for name, texts in documents.items():
        for d, t in enumerate(texts):
            t = t.split()
            for i, x in enumerate(instances):
                for f in (x.instruction.split(), x.input.split(), x.output.split()):
                    best = 0
                    for a in range(len(f)):
                        for b in range(len(t)):
                            k = 0
                            while a + k < len(f) and b + k < len(t) and f[a + k] == t[b + k]: k += 1
                            if k >= n or least <= k == len(t): best = max(best, k)
                    if best: out[name, d, i] = max(best, out.get((name, d, i), 0))
    return out

text = st.lists(st.sampled_from('abc'), max_size=9).map(' '.join)

@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds(Instance, text, text, text), max_size=4), st.dictionaries(st.sampled_from('xyz'), st.lists(text, max_size=4), max_size=2), st.integers(2, 5), st.integers(2, 5))
def test_by_force(instances, documents, n, least):
    least = min(n, least)
    r, want = contamination(instances, documents, n, least), by_force(instances, documents, n, least)
    assert {h[:3]: h.words for h in r.hits} == want
    for h in r.hits: assert h.ours == h.theirs and len(h.ours.split()) == h.words and h.ours in getattr(instances[h.instance], h.field) and h.theirs in documents[h.benchmark][h.document]
    for row in r.rows:
        docs, size = {d for b, d, _ in want if b == row.benchmark}, [len(t.split()) for t in documents[row.benchmark]]
        assert row == (row.benchmark, len(size), sum(size[d] >= n for d in docs), sum(s < n for s in size), sum(size[d] < n for d in docs), sum(s < least for s in size),
            len({i for b, _, i in want if b == row.benchmark}), max((w for (b, *_), w in want.items() if b == row.benchmark), default=0))

def test_a_run_that_is_everywhere(monkeypatch):
    "Then not all pairs are compared, but every document and instance is still found"
    monkeypatch.setattr(room, '_PAIRS', 1000)
    r = contamination([Instance(f'{i} {run(14)}') for i in range(300)], {'x': [f'{run(14)} {i}' for i in range(200)]})
    assert r.rows[0].found == 200 and r.rows[0].instances == 300 and len(r.hits) < 5000

def test_nothing():
    assert contamination([], {}).rows == () and contamination([], {'x': []}).rows[0].documents == 0
    assert contamination([], {'x': ['a b']})._repr_markdown_() and contamination([Instance('a')], {'x': []})._repr_markdown_()

@pytest.mark.parametrize('call', [lambda: contamination([], {}, n=1), lambda: contamination([], {}, n=5), lambda: contamination([], {}, n='13')])
def test_refused(call):
    with pytest.raises(ConfigError, match='least'): call()

def test_refused_documents():
    for bad in ['a'], {'x': 'a'}, {'x': [1]}:
        with pytest.raises(DataError): contamination([], bad)
