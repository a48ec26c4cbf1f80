"The filter beside the package that defines the score: not one decision, score or neighbour may differ"
import itertools, json, random, threading
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rouge_score.rouge_scorer import RougeScorer, _score_lcs
from psi import overlap
from psi.core import ConfigError, DataError
from psi.diversity import Admission, DiversityFilter, google_words, unicode_words

tokenize = RougeScorer(['rougeL'])._tokenizer.tokenize
BOTH = pytest.mark.parametrize('compiled', [pytest.param(True, marks=pytest.mark.skipif(not overlap.njit, reason='numba is not installed')), False])
SOME = settings(deadline=None, max_examples=100)


def by_hand(texts, threshold=.7, against=(), words=tokenize):
    "Alpaca's loop"
    pool, out = [words(t) for t in against], []
    for t in texts:
        w = words(t)
        scores = [_score_lcs(w, there).fmeasure for there in pool]
        best = max(scores, default=0.)
        if best > threshold: out.append(Admission(False, best, scores.index(best)))
        else: out.append(Admission(True)); pool.append(w)
    return out


def noisy(rng, text):
    "The text with a few words changed, moved, lost or doubled"
    w = text.split()
    for _ in range(rng.choice([0, 1, 1, 2, 3, 4])):
        i = rng.randrange(len(w)) if w else 0
        how = rng.randrange(5)
        if how == 0: w[i:i+1] = [rng.choice('alpha beta gamma delta of the a to in'.split())]
        elif how == 1: del w[i:i+1]
        elif how == 2: w.insert(i, rng.choice(w) if w else 'new')
        elif how == 3: rng.shuffle(w)
        else: w[i:i+1] = w[i:i+1]*2
    return ' '.join(w)


def stream(rng, n, words, lengths):
    "Texts of which about half resemble an earlier one"
    out = []
    for _ in range(n):
        if out and rng.random() < .5: out.append(noisy(rng, rng.choice(out)))
        else: out.append(' '.join(rng.choice(words) for _ in range(rng.choice(lengths))))
    return out


LENGTHS = {'short': [0, 1, 2, 3, 5, 8], 'usual': [6, 9, 10, 11, 12, 15], 'around a word': [62, 63, 64, 65, 66], 'long': [100, 127, 128, 129, 200, 255, 256, 257, 300]}
ODD = ['', '   ', '!!!', 'a', 'A a A', 'a a', 'İstanbul’da', 'K', '\x00', 'x\x00y', 'x y', '写一首诗', 'naïve café', '\ud800 lone', 'ﬁ', 'the '*300, 'a b '*200, 'x'*70_000, 'ſ', '٣٤', 'ab' * 40]


@BOTH
@pytest.mark.parametrize('lengths', LENGTHS)
@pytest.mark.parametrize('threshold', [0, .3, .7, .9, 1])
def test_streams(lengths, threshold, compiled):
    rng = random.Random(f'{lengths} {threshold}')
    words = [f'w{i}' for i in range(rng.choice([3, 12, 60]))] + 'the of a'.split()
    texts = stream(rng, {'long': 24, 'around a word': 50}.get(lengths, 200), words, LENGTHS[lengths])
    against = stream(rng, 12, words, LENGTHS[lengths])
    f = DiversityFilter(threshold, against, compiled=compiled)
    assert f.admit_all(texts) == by_hand(texts, threshold, against)


@BOTH
def test_odd_texts(compiled):
    texts = [x for t in ODD for x in (t, t + ' more', t)]
    assert DiversityFilter(compiled=compiled).admit_all(texts) == by_hand(texts)


@BOTH
@SOME
@given(st.lists(st.lists(st.sampled_from('a b c d the of x1 9'.split()), max_size=14), max_size=40), st.sampled_from([0, .25, .5, 2/3, .7, .75, .8, 1]), st.integers(0, 4))
def test_any_stream(compiled, lists, threshold, m):
    texts = [' '.join(w) for w in lists]
    assert DiversityFilter(threshold, texts[:m], compiled=compiled).admit_all(texts[m:]) == by_hand(texts[m:], threshold, texts[:m])


@BOTH
@SOME
@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_text(compiled, texts): assert DiversityFilter(.5, compiled=compiled).admit_all(texts) == by_hand(texts, .5)


@given(st.text())
def test_words_are_those_of_rouge_score(text): assert google_words(text) == tokenize(text)


@pytest.mark.skipif(not overlap.njit, reason='numba is not installed')
def test_two_hundred_thousand_pairs():
    "All pairs of 633 texts: every score is the package's own float"
    rng = random.Random(0)
    texts = stream(rng, 600, [f'w{i}' for i in range(40)], LENGTHS['short'] + LENGTHS['usual']) + stream(rng, 33, ['a', 'b', 'c'], LENGTHS['around a word'])
    index, words = overlap.Index(.7), [tokenize(t) for t in texts]
    index.judge([t.encode() for t in texts], always=True)
    pairs = 0
    for i, t in enumerate(texts):
        got = index.scores(t.encode())
        for j in range(i + 1): assert got[j] == _score_lcs(words[i], words[j]).fmeasure; pairs += 1
    assert pairs > 200_000


@pytest.mark.skipif(not overlap.njit, reason='numba is not installed')
def test_what_is_carried_over_words_that_share_nothing():
    "Of three machine words, the one in the middle has no match, and a carry has to pass through it"
    rng, index, texts = random.Random(3), overlap.Index(.7), []
    some = lambda n: [f'w{rng.randrange(4)}' for _ in range(n)]
    for k in range(60): texts.append(some(64) + [f'u{k}x{i}' for i in range(64 * rng.choice([1, 2]))] + some(rng.choice([1, 40, 64, 70])))
    others = [some(rng.choice([30, 100, 200])) for _ in range(60)]
    index.judge([' '.join(w).encode() for w in others], always=True)
    for w in texts:
        got = index.scores(' '.join(w).encode())
        assert [_score_lcs(w, there).fmeasure for there in others[::7]] == got[::7].tolist()


def test_the_bound_is_the_border():
    "For every pair of lengths, at thresholds where floats are off: the shortest overlap that is above it, and not one less"
    for t in (.1, .3, .7, .7000000000000001, .9):
        for a, b in itertools.product(range(1, 60), repeat=2):
            c = overlap.required(a, b, t)
            if c < overlap.NEVER: assert overlap.f1(c, a, b) > t
            if (below := min(c - 1, a, b)) > 0: assert overlap.f1(below, a, b) <= t


@BOTH
def test_one_by_one_or_all_at_once(compiled):
    rng = random.Random(5)
    texts = stream(rng, 400, [f'w{i}' for i in range(50)], LENGTHS['usual'])
    whole, single, mixed = (DiversityFilter(compiled=compiled) for _ in range(3))
    want, i, got = whole.admit_all(texts), 0, []
    while i < len(texts): k = rng.choice([1, 2, 7, 40]); got += mixed.admit_all(iter(texts[i:i+k])); i += k
    assert [single.admit(t) for t in texts] == want == got and len(whole) == len(single) == len(mixed)


@BOTH
def test_goes_on_where_it_was(compiled):
    rng = random.Random(6)
    texts = stream(rng, 300, [f'w{i}' for i in range(30)] + ['ÄÖ'], LENGTHS['usual'])
    f = DiversityFilter(.6, texts[:5], compiled=compiled)
    f.admit_all(texts[5:150])
    state = json.loads(json.dumps(f.state()))
    for other in (compiled, False): assert DiversityFilter.restore(state, compiled=other).admit_all(texts[150:]) == DiversityFilter.restore(state, compiled=compiled).admit_all(texts[150:])
    assert DiversityFilter.restore(state, compiled=compiled).admit_all(texts[150:]) == f.admit_all(texts[150:])


@BOTH
def test_neighbours(compiled):
    rng = random.Random(7)
    texts, k = stream(rng, 80, [f'w{i}' for i in range(20)], LENGTHS['short'] + LENGTHS['usual']), 4
    pool, f = [], DiversityFilter(neighbours=k, compiled=compiled)
    for t in texts:
        got, w = f.admit(t), tokenize(t)
        scores = [_score_lcs(w, there).fmeasure for there in pool]
        if scores:
            order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
            assert got.neighbours == tuple((i, scores[i]) for i in order) and got.average == np.mean(scores)
            assert (got.score, got.nearest) == (scores[order[0]], order[0]) and got.kept == (max(scores) <= .7)
        else: assert got == Admission(True)
        if got.kept: pool.append(w)
    assert DiversityFilter(compiled=compiled).admit_all(texts) == by_hand(texts) and 0 < len(pool) < len(texts)


@BOTH
def test_words_of_ones_own(compiled):
    texts = ['写一首关于春天的诗', '写一首关于秋天的诗', 'Опиши свой день', 'опиши  СВОЙ день!', 'Γράψε', '写一首关于春天的诗']
    assert [a.kept for a in DiversityFilter(compiled=compiled).admit_all(texts)] == [True]*6
    f = DiversityFilter(words=unicode_words, compiled=compiled)
    assert f.admit_all(texts) == by_hand(texts, words=unicode_words)
    assert DiversityFilter.restore(f.state(), words=unicode_words, compiled=compiled).admit(texts[0]).nearest == 0
    for t, want in {'यह है।': ['यह', 'है'], 'مُدَرِّس': ['مُدَرِّس'], 'שָׁלוֹם עולם': ['שָׁלוֹם', 'עולם'], 'naïve': ['naïve'], 'สวัสดี': ['ส', 'วั', 'ส', 'ดี'], 'x_y 3': ['x', 'y', '3']}.items(): assert unicode_words(t) == want
    split = lambda t: t.split('|')     # gives empty words, which are none
    assert DiversityFilter(words=split, compiled=compiled).admit_all(['a||b||c||d', 'a|b|c|d', '||', '']) == [Admission(True), Admission(False, 1., 0), Admission(True), Admission(True)]
    shout = DiversityFilter(words=lambda t: t.upper().split('|'), compiled=compiled)    # a word may hold any character
    assert [a.kept for a in shout.admit_all(['a b|c\0d|é', 'A B|c\0d|é', 'a|b|c', 'ab|cd'])] == [True, False, True, True]


@pytest.mark.skipif(not overlap.njit, reason='numba is not installed')
def test_very_long_texts():
    rng = random.Random(8)
    base = [f'w{rng.randrange(3000)}' for _ in range(9_000)]
    near = base[:4000] + ['other']*500 + base[4500:]
    f = DiversityFilter(against=[' '.join(base[:5_000]), ' '.join(base)])
    a = f.admit(' '.join(near))
    assert (a.kept, a.nearest) == (False, 1) and a.score == overlap.f1(8_500, 9_000, 9_000)
    assert f.admit(' '.join(base[:5_000])).nearest == 0 and f.admit(' '.join(reversed(base))).kept


@BOTH
def test_threads_take_turns(compiled):
    rng = random.Random(9)
    texts = [' '.join(rng.choice('abcdefghijklmnopqrst') + str(rng.randrange(90)) for _ in range(9)) for _ in range(900)]
    f = DiversityFilter(compiled=compiled)
    threads = [threading.Thread(target=lambda part: [f.admit(t) for t in part], args=(texts[k::3],)) for k in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(f) == len(DiversityFilter(compiled=compiled).admit_all(texts)) == 900
    assert not any(a.kept for a in f.admit_all(texts))


@BOTH
@pytest.mark.parametrize('where', range(12))
def test_cut_short_it_forgets_nothing(where, compiled, monkeypatch):
    "Memory runs out, or Ctrl-C comes, at one place after the other: the next call goes on as if it had been made anew"
    texts = stream(random.Random(1), 120, [f'w{i}' for i in range(30)] + [f'v{i}' for i in range(6000)], [3, 9, 12, 80])
    f, left = DiversityFilter(compiled=compiled), [where]
    f.admit_all(texts[:40])
    from psi import diversity
    room, names = (overlap, ('_grown', '_rehash', '_enter_all')) if compiled else (diversity._Plain, ('_order', '_enter'))
    for name in names:
        def fails(*a, _real=getattr(room, name)):
            left[0] -= 1
            if left[0] == -1: raise KeyboardInterrupt
            return _real(*a)
        monkeypatch.setattr(room, name, fails)
    try: f.admit_all(texts[40:]); cut = False
    except KeyboardInterrupt: cut = True
    monkeypatch.undo()
    again = DiversityFilter.restore(f.state(), compiled=compiled)
    assert f.admit_all(texts) == again.admit_all(texts) and (cut or where > 6)


@pytest.mark.parametrize('wrong', [-.1, 1.1, float('nan'), '0.7', None])
def test_wrong_threshold(wrong):
    with pytest.raises(ConfigError, match='between 0 and 1'): DiversityFilter(wrong)


@BOTH
def test_rubbish_is_refused_in_one_line(compiled):
    f = DiversityFilter(compiled=compiled)
    for what, said in ((lambda: f.admit(None), 'NoneType'), (lambda: f.admit_all(['a', 3]), "'3' is of type int"), (lambda: f.admit_all('a text'), 'a list of texts'), (lambda: DiversityFilter(against='a text'), 'a list of texts'),
                       (lambda: DiversityFilter(neighbours=2.5), 'a number of texts'), (lambda: DiversityFilter(words=lambda t: 5, compiled=compiled).admit('a'), 'does not give words')):
        with pytest.raises(ConfigError, match=said): what()
    assert len(f) == 0 and f.admit('still well').kept


@pytest.mark.parametrize('state', [{}, {'pool': 3}, {'pool': [['a']], 'threshold': 'x'}, [], {'threshold': .7, 'neighbours': 0, 'pool': ['abc']}, {'threshold': .7, 'neighbours': 0, 'pool': [['über']]}])
def test_a_broken_state_says_so(state):
    with pytest.raises(DataError, match='state'): DiversityFilter.restore(state)


def test_real_instructions(shared):
    import gzip
    texts = [r['instruction'] for r in json.load(gzip.open(shared/'data/alpaca/alpaca_data.json.gz'))]
    assert all(a.kept for a in DiversityFilter().admit_all(texts)), "Alpaca's data passed this very filter"
    assert sum(not a.kept for a in DiversityFilter(.7 - 1e-9).admit_all(texts)) > 500, 'and many of its pairs are exactly at the threshold'
    some = random.Random(0).sample(texts, 400)
    changed = [noisy(random.Random(i), t) for i, t in enumerate(some)]
    both = [t for pair in zip(some, changed) for t in pair]
    assert DiversityFilter().admit_all(both) == by_hand(both)
