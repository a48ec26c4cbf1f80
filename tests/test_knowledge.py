"Private knowledge: nothing of it is lost in the cutting, nothing of it is shown unasked"
import csv, gc, io, json, os, pickle, random, re, tempfile, threading, traceback, tracemalloc
from pathlib import Path
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from psi import knowledge as room
from psi.core import ConfigError, DataError, EngineError, content_id, generator
from psi.diversity import unicode_words
from psi.knowledge import Chunk, Knowledge

SOME = settings(deadline=None, max_examples=100)
SECRET = 'Zaubernuss'


def write(folder, name, content):
    path = Path(folder)/name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class In:
    "A file with this content, for as long as the block lasts; read in blocks of this many bytes"
    def __init__(self, content, name='a.txt', block=room._BLOCK): self.content, self.name, self.block, self.before = content, name, block, room._BLOCK
    def __enter__(self):
        self.folder, room._BLOCK = tempfile.TemporaryDirectory(), self.block
        return write(self.folder.name, self.name, self.content)
    def __exit__(self, *e): room._BLOCK = self.before; self.folder.cleanup()


def runs(words, n=8): return {tuple(words[i:i+n]) for i in range(max(1, len(words) - n + 1))}


# what stands between words, ordinary and not
GAPS = st.sampled_from([' ', ' ', ' ', ', ', '. ', '! ', '\n', '\r\n', '\n\n', '\r\n \r\n', '.\n\n', ' — ', '…" ', '.\n- ', '\t', '\u2028', '\u3000', '\ufeff', '\x85', '; (', '**. ', '-', '\x00 ', ' 🙂 ', '。'])
SIZES = st.sampled_from([(8, 7), (9, 7), (12, 8), (20, 7), (20, 19), (30, 10), (200, 40)])
BLOCKS = st.sampled_from([1, 2, 5, 64, 1 << 18])

@st.composite
def prose(draw, most=120):
    "Words that are all different, so that each run of them has one place"
    gaps = draw(st.lists(GAPS, max_size=most))
    stem = draw(st.sampled_from(['w', 'é', 'ж', 'ka\u0301', 'ह\u093f', 'straße']))
    return ''.join(f'{stem}{i}{g}' for i, g in enumerate(gaps)) + f'{stem}last' + draw(st.sampled_from(['', '\n', '.', '\r\n', '\n\n\n']))


@SOME
@given(prose(), SIZES, BLOCKS, st.booleans())
def test_every_run_of_eight_words_is_inside_a_chunk(text, size, block, bom):
    with In(b'\xef\xbb\xbf'*bom + text.encode(), block=block) as path:
        k = Knowledge(path, words=size[0], overlap=size[1])
        chunks = [unicode_words(c.text) for c in k]
        words = unicode_words(text)
        assert runs(words) <= set().union(*map(runs, chunks)) and set(words) == set().union(*chunks)
        assert all(len(c) <= size[0] for c in chunks) and k.n_words == len(words)
        assert [k[i] for i in range(len(k))] == list(k)


@SOME
@given(st.lists(st.tuples(st.lists(GAPS, max_size=30), st.integers(1, 6), st.booleans()), min_size=1, max_size=6), SIZES, BLOCKS, st.sampled_from(['\n', '\r\n']))
def test_sections_of_markdown_do_not_mix(sections, size, block, end):
    "And inside each of them, the same holds"
    texts = []
    for j, (gaps, level, twice) in enumerate(sections):
        title = '#'*level + f' s{j}title{end}'
        texts.append(title + (end + '# ' + f's{j}again{end}')*twice + f's{j}first ' + ''.join(f's{j}x{i}{g}' for i, g in enumerate(gaps)) + end)
    with In(''.join(texts), 'a.md', block) as path: chunks = [unicode_words(c.text) for c in Knowledge(path, words=size[0], overlap=size[1])]
    for words in map(unicode_words, texts):
        mine = [c for c in chunks if set(c) & set(words)]
        assert all(set(c) <= set(words) for c in mine) and mine[0][0] == words[0] and runs(words) <= set().union(*map(runs, mine))


WILD = st.text(st.one_of(st.sampled_from(' \n\r\t.#`a-|"\u0301阀ไทย🙂\ufeff'), st.characters(exclude_categories=['Cs'])), max_size=80)
LONG = st.builds(lambda c, n: c*n, st.sampled_from(['a', '-', ' ', '\n', '🙂', '阀', 'é', 'e\u0301', '\u0301', '.', '\r\n', '`', '# ', 'ab ']), st.integers(1, 400))

@SOME
@example(['\n' + 'a'*64 + '-'*64 + 'b'], (8, 7), 1, 'a.md')
@given(st.lists(st.one_of(WILD, LONG), max_size=8), SIZES, BLOCKS, st.sampled_from(['a.txt', 'a.md', 'a.rst']))
def test_any_text(parts, size, block, name):
    "Whatever it is: what no chunk holds is white space, and a chunk is what stands at its place in the file"
    text = ''.join(parts)
    with In(text, name, block) as path:
        try: k = Knowledge(path, words=size[0], overlap=size[1])
        except DataError: assert not text.removeprefix('\ufeff').strip(); return
        raw, seen = path.read_bytes(), 0
        left = bytearray(raw.removeprefix(b'\xef\xbb\xbf').rjust(len(raw)))
        for c, e in zip(k, k._entries):
            piece = raw[e['start']:e['start'] + e['size']]
            assert piece.decode().replace('\r\n', '\n').replace('\r', '\n') == c.text and c.text.strip() and len(c.text) <= 130*size[0]
            assert e['line'] == 1 + raw.count(b'\n', 0, int(e['start'])) and e['start'] >= seen
            left[e['start']:e['start'] + e['size']] = b' '*int(e['size']); seen = e['start']
        assert not left.decode().strip() and [k[i] for i in range(len(k))] == list(k)


@SOME
@given(st.lists(st.one_of(WILD, LONG), max_size=8), SIZES, st.sampled_from(['a.txt', 'a.md']))
def test_blocks_make_no_difference(parts, size, name):
    found = []
    for block in (3, 100, 1 << 18):
        with In('x' + ''.join(parts), name, block) as path: found.append([(c.text, c.place) for c in Knowledge(path, words=size[0], overlap=size[1])])
    assert found[0] == found[1] == found[2]


def test_words_are_those_of_the_diversity_filter():
    for t in ['Don\'t!', '写一首 poem', 'यह है।', 'สวัสดี', 'naïve x_y 3', 'ｱｲｳ', 'ព្រះ']: assert [t[a:b].casefold() for a, b in room._words(t)] == unicode_words(t)


def test_where_a_chunk_ends():
    def ends(text, words=30, overlap=0):
        with In(text) as path: return [c.text.split()[-1] for c in Knowledge(path, words=words, overlap=overlap)]
    plain = [f'w{i}' for i in range(40)]
    def at(**kw): return ' '.join(w + kw.get(w, '') for w in plain)
    assert ends(at()) == ['w29', 'w39']
    assert ends(at(w22='\n\n', w25='.', w27='\n')) == ['w22', 'w39'], 'a paragraph first'
    assert ends(at(w22='\n', w25='."', w27='\n')) == ['w25."', 'w39'], 'then a sentence'
    assert ends(at(w22='\n', w23='\n')) == ['w23', 'w39'], 'then a line'
    assert ends(at(w10='.\n\n')) == ['w29', 'w39'], 'but only in the last third'
    assert ends(at(w29='.\n\n')) == ['w29.', 'w39']
    assert ends('水'*25 + '。' + '水'*30) == ['水'*25 + '。', '水'*30]


def test_headings():
    text = '---\ntitle: x\n---\nIntro #1\n#hashtag\n# One\n```sh\n# comment\n~~~\n```\n\n## Two\n### Three\nText\n    # code\n#\n\nend\n````\n```\n# in\n````\n# Out'
    with In(text, 'a.md') as path: assert [c.text.split('\n')[0] for c in Knowledge(path)] == ['---', '# One', '## Two', '#', '# Out']
    with In(text, 'a.txt') as path: assert len(Knowledge(path)) == 1


def test_what_has_no_spaces():
    for text in ('x'*10_000_000, '阀'*100_000, 'สวัสดี'*20_000, '='*1_000_000, '.'*300_000, '🙂'*100_000, 'ё'*1_000_000):
        with In(text) as path:
            k = Knowledge(path)
            assert max(len(c.text) for c in k) <= 200*128 and len(k) >= len(text)/(200*128)


ROWS = st.lists(st.lists(WILD, min_size=3, max_size=3), max_size=8)

def shown(names, row): return '\n'.join(f'{n}: {v}' for n, v in zip(names, (v.replace('\r\n', '\n').replace('\r', '\n').strip() for v in row)) if v)


@SOME
@given(ROWS, st.sampled_from(['\n', '\r\n']), st.booleans(), st.booleans(), st.sampled_from(['a.csv', 'a.tsv']))
def test_rows_of_csv(rows, end, bom, last, name):
    "Quoted line breaks, empty rows, a byte order mark, no line end at the end"
    f = io.StringIO(newline='')
    w = csv.writer(f, delimiter=',' if name == 'a.csv' else '\t', lineterminator=end, quoting=csv.QUOTE_ALL if any('\r' in v for row in rows for v in row) else csv.QUOTE_MINIMAL)
    w.writerow(['näme', 'b', 'c, d']); f.write(end)
    for row in rows: w.writerow(row); f.write(end)
    text = f.getvalue() if last else f.getvalue().removesuffix(end).removesuffix(end)
    want = [s for r in rows if (s := shown(['näme', 'b', 'c, d'], r))]
    with In(b'\xef\xbb\xbf'*bom + text.encode(), name) as path:
        if not want:
            with pytest.raises(DataError, match='holds nothing'): Knowledge(path)
            return
        k = Knowledge(path, words=10**6)
        assert [c.text for c in k] == want == [k[i].text for i in range(len(k))]
        if some := [s for r in rows if (s := shown(['c, d', 'b'], r[:0:-1]))]: assert [c.text for c in Knowledge(path, ['c, d', 'b'], 10**6)] == some


@SOME
@given(ROWS, st.sampled_from(['\n', '\r\n', '\n\n \n']), st.booleans(), st.booleans())
def test_records_of_jsonl(rows, end, bom, ascii):
    want = [s for r in rows if (s := shown('abc', r))]
    text = end.join(json.dumps(dict(zip('abc', r)), ensure_ascii=ascii) for r in rows)
    with In(b'\xef\xbb\xbf'*bom + text.encode(), 'a.jsonl') as path:
        if not want: return
        k = Knowledge(path, words=10**6)
        assert [c.text for c in k] == want == [k[i].text for i in range(len(k))]


@SOME
@given(prose(), SIZES)
def test_long_rows_have_parts(text, size):
    with In(json.dumps(dict(first='short')) + '\n' + json.dumps(dict(second=text)) + '\n', 'a.jsonl') as path:
        k = Knowledge(path, words=size[0], overlap=size[1])
        chunks = [unicode_words(c.text) for c in k]
        assert runs(unicode_words('second ' + text)) <= set().union(*map(runs, chunks)) and chunks[0] == ['first', 'short']
        assert [c.place for c in k] == ['a.jsonl line 1'] + ([f'a.jsonl line 2, part {p}' for p in range(1, len(k))] if len(k) > 2 else ['a.jsonl line 2'])
        assert [k[i] for i in range(len(k))] == list(k)


def test_a_field_may_be_a_whole_document():
    words = [f'w{i}' for i in range(60_000)]
    with In('a,b\n1,"' + ' '.join(words) + '"\n', 'a.csv') as path:
        k = Knowledge(path)
        assert k.n_words == 60_003 and k[-1].text.endswith('w59999') and sum(1 for _ in k) == len(k)


def test_values():
    record = dict(n=3, x=2.50, t=True, none=None, empty='', many=['a', 2, None, 'b'], deep=[{'k': 'ü'}], d={'k': [1]}, half='\ud83d')
    with In(json.dumps(record), 'a.jsonl') as path:
        assert Knowledge(path)[0].text == 'n: 3\nx: 2.5\nt: true\nmany: a, 2, b\ndeep: [{"k": "ü"}]\nd: {"k": [1]}\nhalf: ?'
        assert Knowledge(path, columns='many')[0].text == 'many: a, 2, b'
    with In(',name\n0,x\n', 'a.csv') as path: assert Knowledge(path)[0].text == 'column 1: 0\nname: x'


BAD = { # name: content, what is said
    'utf8.txt': (f'{SECRET}\nok\n{SECRET}'.encode() + b' \xff', 'utf8.txt line 3: byte 0xff is not UTF-8'),
    'cut.txt': (f'{SECRET} ü'.encode()[:-1], 'cut.txt line 1: byte 0xc3 is not UTF-8'),
    'utf16.md': (SECRET.encode('utf-16'), 'utf16.md line 1: byte 0xff is not UTF-8; save'),
    'utf8.csv': (f'a,b\n{SECRET},1\n{SECRET},'.encode() + b'\xe4\n', 'utf8.csv line 3: byte 0xe4'),
    'utf8.jsonl': (f'{{"a": "{SECRET}"}}\n{{"a": "{SECRET}'.encode() + b'\xe4"}\n', 'utf8.jsonl line 2: byte 0xe4'),
    'broken.jsonl': (f'{{"a": "b"}}\n\n{{"a": "{SECRET}}}\n', 'broken.jsonl line 3: not JSON at column 19; mend'),
    'escape.jsonl': (f'{{"a": "{SECRET}\\q"}}\n', 'escape.jsonl line 1: not JSON at column'),
    'digits.jsonl': ('{"a": ' + '7'*5000 + '}\n', 'digits.jsonl line 1: not JSON; mend'),
    'deep.jsonl': (f'{{"{SECRET}": ' + '['*200_000, 'deep.jsonl line 1: not JSON'),
    'list.jsonl': (f'{{"a": 1}}\n["{SECRET}"]\n', 'list.jsonl line 2: is not a record'),
    'word.jsonl': (f'"{SECRET}"\n', 'word.jsonl line 1: is not a record'),
    'null.jsonl': ('null\n', 'null.jsonl line 1: is not a record'),
    'few.csv': (f'a,b\n1,2\n\n{SECRET}\n', 'few.csv line 4: 1 fields, but 2 columns'),
    'many.csv': (f'a,b\n1,"x\ny"\n1,2,{SECRET}\n', 'many.csv line 4: 3 fields, but 2 columns'),
    'quote.csv': (f'a,b\n1,2\n3,"{SECRET}\n4,5\n', 'quote.csv line 3: no row of CSV: a quote is not closed'),
    'after.csv': (f'a,b\n3,"{SECRET}" {SECRET}\n', 'after.csv line 2: no row of CSV'),
    'mac.csv': (f'a,b\r1,{SECRET}\r', 'mac.csv line 1: no row of CSV'),
    'twice.csv': (f'{SECRET},b,{SECRET}\n1,2,3\n', 'twice.csv line 1: columns 1, 3 have names that are not their own'),
    'head.csv': ('a,b\n', 'head.csv: holds nothing to read; fill it'),
    'empty.txt': ('', 'empty.txt: holds nothing'),
    'space.md': ('\ufeff \n\n', 'space.md: holds nothing'),
    'nothing.jsonl': ('{}\n{"a": ""}\n', 'nothing.jsonl: holds nothing'),
    'sheet.xlsx': (SECRET, 'sheet.xlsx: unknown kind of file; give .txt, .rst, .md'),
}

@pytest.mark.parametrize('name', BAD)
def test_bad_files(name, tmp_path):
    content, said = BAD[name]
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as e: Knowledge(path)
    assert said in str(e.value) and str(e.value).startswith(str(tmp_path)) and '\n' not in str(e.value)
    assert SECRET not in ''.join(traceback.format_exception(e.value)) and not e.value.__context__


def test_bad_columns(tmp_path):
    table, lines, text = write(tmp_path, 'a.csv', f'tree,sign\n{SECRET},x\n'), write(tmp_path, 'b.jsonl', f'{{"q": "{SECRET}", "a": 1}}\n{{"q": 2}}\n'), write(tmp_path, 'c.txt', SECRET)
    for source, columns, said in ((table, ['tree', 'cure'], "a.csv line 1: no column 'cure' (there are: tree, sign); correct `columns`"), (lines, ['q', 'a'], "b.jsonl line 2: no 'a' (there are: q); add it, null will do")):
        with pytest.raises(DataError) as e: Knowledge(source, columns)
        assert said in str(e.value) and SECRET not in str(e.value)
    with pytest.raises(ConfigError, match='none of the files is one'): Knowledge(text, ['tree'])
    assert [c.text for c in Knowledge([table, text], ['sign'])] == ['sign: x', SECRET]


@pytest.mark.parametrize('kw, said', [(dict(words=0), '1 word or more'), (dict(words=2.5), '1 word'), (dict(overlap=200), '0 to 199'), (dict(overlap=-1), '0 to 199'), (dict(words=10), '0 to 9'), (dict(words=10, overlap='2'), '0 to 9')])
def test_bad_sizes(kw, said, tmp_path):
    with pytest.raises(ConfigError, match=said): Knowledge(write(tmp_path, 'a.txt', 'x'), **kw)


def test_bad_places(tmp_path):
    (tmp_path/'folder').mkdir()
    write(tmp_path, 'folder/.hidden.txt', 'x'); write(tmp_path, 'folder/.git/a.txt', 'x'); write(tmp_path, 'folder/a.json', '[]')
    for source, said in ((tmp_path/'none.txt', 'none.txt: no such file or folder (looked in'), (tmp_path/'folder', 'folder: the folder holds no file of private knowledge; psi reads .txt'), ([], 'an empty list: no private knowledge in it; give .txt')):
        with pytest.raises(DataError) as e: Knowledge(source)
        assert said in str(e.value)
    if os.getuid():
        path = write(tmp_path, 'locked.txt', 'x'); path.chmod(0)
        with pytest.raises(DataError, match='cannot be read'): Knowledge(path)


def test_a_folder_in_order(tmp_path):
    for name in ('b.txt', 'a/z.MD', 'a/.x.md', 'c.jsonl', 'a.csv', 'B.txt', 'empty.txt', 'picture.png', '.ipynb_checkpoints/b.txt'): write(tmp_path, name, dict(md='# m', MD='# m', jsonl='{"a": 1}', csv='a\n1').get(name.split('.')[-1], '' if 'empty' in name else f'text of {name}'))
    k = Knowledge(tmp_path)
    assert [c.place for c in k] == ['B.txt line 1', 'a.csv line 2', 'a/z.MD line 1', 'b.txt line 1', 'c.jsonl line 1']
    assert repr(k).startswith('<Knowledge, private: files 6 (1 empty), chunks 5, words ')
    assert [c.place for c in Knowledge([tmp_path/'b.txt', tmp_path, tmp_path/'b.txt'])] == ['b.txt line 1', 'B.txt line 1', 'a.csv line 2', 'a/z.MD line 1', 'c.jsonl line 1'], 'each once'
    other = write(tmp_path, 'other/b.txt', 'other')
    assert [c.place for c in Knowledge([str(tmp_path/'b.txt'), other])] == [f'{tmp_path}/b.txt line 1', f'{other} line 1'], 'two of the same name'


@pytest.fixture
def trees(tmp_path):
    "Three kinds of files with a word in each that nobody may see"
    write(tmp_path, 'k/a.md', f'# {SECRET}\n\n' + ' '.join(f'{SECRET}{i}.' for i in range(300)))
    write(tmp_path, 'k/b.csv', 'tree,sign\n' + ''.join(f'tree{i},{SECRET} {i % 7}\n' for i in range(30)))
    write(tmp_path, 'k/c.jsonl', ''.join(json.dumps(dict(q=f'{SECRET} {i}', a=[i])) + '\n' for i in range(30)))
    return tmp_path/'k'


def test_nothing_is_shown(trees):
    k = Knowledge(trees)
    c = k[0]
    for x in (k, c):
        for text in (repr(x), str(x), f'{x}', f'{x:>9}', format(x, '100'), '%s %r' % (x, x), repr([x]), repr({'k': x}), x._repr_markdown_(), json.dumps(x, default=str)): assert SECRET not in text and 'private' in text
    assert c.id in repr(c) and c.place in repr(c) and c == k[0] != k[1] and c.id == content_id('k', c.text)
    assert SECRET.encode() not in pickle.dumps(k) and list(pickle.loads(pickle.dumps(k))) == list(k)
    with pytest.raises(IndexError) as e: k[len(k)]
    assert SECRET not in str(e.value)


def test_the_digest_is_of_all_of_it(trees):
    first = Knowledge(trees)
    assert Knowledge(trees).digest == first.digest == Knowledge([trees/'a.md', trees/'b.csv', trees/'c.jsonl']).digest
    others = {Knowledge(trees, overlap=39).digest, Knowledge([trees/'b.csv', trees/'a.md', trees/'c.jsonl']).digest, Knowledge(trees/'a.md').digest}
    (trees/'b.csv').write_text((trees/'b.csv').read_text().replace('tree29', 'tree92'))
    assert len(others | {first.digest, Knowledge(trees).digest}) == 5


@pytest.mark.parametrize('name', ['a.md', 'b.csv', 'c.jsonl'])
def test_a_file_that_changes(name, trees):
    k, path = Knowledge(trees), trees/name
    i = next(i for i, c in enumerate(k) if c.place.startswith(name))
    before, state = path.read_bytes(), path.stat()
    for content, keep_time in ((before + b'\n', False), (before.replace(SECRET.encode(), SECRET.encode()[::-1]), True), (before[::-1], True), (b' '*len(before), True), (None, False)):
        path.unlink() if content is None else path.write_bytes(content)
        if keep_time: os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))     # nobody would notice
        for read in (lambda: k[i], lambda: list(k), lambda: k.pick(random.Random(0), 999)):
            with pytest.raises(DataError) as e: read()
            assert name in str(e.value) and ('start again' in str(e.value) or content is None) and SECRET not in ''.join(traceback.format_exception(e.value))
    write(trees, name, before)
    with pytest.raises(DataError, match='start again'): k[i]     # the same, but from another time
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert k[i] == list(k)[i]


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path, real = write(tmp_path, 'a.txt', 'x '*1000), room._text_rows
    def rows(*a):
        yield from real(*a)
        path.write_text('longer than before '*1000)
    monkeypatch.setattr(room, '_text_rows', rows)
    with pytest.raises(DataError, match='has changed'): Knowledge(path)


def test_pick(trees):
    k = Knowledge(trees)
    for i in range(50):
        got = k.pick(generator(1, 'generate', i), 3)
        assert got == k.pick(generator(1, 'generate', i), 3) and len({c.place for c in got}) == 3
    assert len({c.id for i in range(2000) for c in k.pick(generator(1, 'expand', i))}) == len(k)
    assert sorted(c.place for c in k.pick(random.Random(0), 999)) == sorted(c.place for c in k) and k.pick(random.Random(0), 0) == []
    assert k.pick(random.Random(0), 2, about='x') == k.pick(random.Random(0), 2), 'without vectors, at random'


def test_threads(trees):
    k, got = Knowledge(trees).relate(toy), {}
    def work(j): got[j] = [k.pick(generator(0, 'generate', i), 2, about='' if i % 2 else f'sign {i % 7}') for i in range(60)]
    threads = [threading.Thread(target=work, args=(j,)) for j in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    work('alone')
    assert len(got) == 7 and all(g == got['alone'] for g in got.values())


# a toy embedder: letters, digits and a constant

def toy(texts):
    rows = np.array([[.1] + [t.lower().count(c) for c in 'abcdefghijklmnopqrstuvwxyz0123456789'] for t in texts], dtype='float32')
    return rows/np.linalg.norm(rows, axis=1, keepdims=True)


def test_relevance(trees, tmp_path):
    k = Knowledge(trees, words=30, overlap=5)
    for path in (None, tmp_path/'v'/'x.npy'):
        assert k.relate(toy, path, near=5) is k
        vectors = np.load(k._related[1], mmap_mode='r')
        assert vectors.dtype == 'float16' and np.allclose(vectors, toy([c.text for c in k]), atol=1e-3)
        for about in ('tree sign 3', 'q a 17', SECRET):
            scores = (vectors.astype('float32') @ toy([about])[0]).round(5)
            near = sorted(range(len(k)), key=lambda i: (-scores[i], i))
            assert k._nearest(about, 9) == near[:9]
            assert {c.place for i in range(200) for c in k.pick(generator(0, 's', i), about=about)} == {k[i].place for i in near[:5]}
            assert len(k.pick(random.Random(0), 7, about=about)) == 7 and len(k.pick(random.Random(0), 999, about=about)) == len(k)
            assert k.pick(random.Random(3), 2, about=about) == k.pick(random.Random(3), 2, about=about)
        assert 'by relevance, of 5' in k._repr_markdown_()
    again = pickle.loads(pickle.dumps(k))
    assert again.pick(random.Random(1), 3, about='q') == k.pick(random.Random(1), 3, about='q')


def test_equal_chunks_keep_their_order(tmp_path):
    k = Knowledge(write(tmp_path, 'a.csv', 'a\n' + 'same\n'*20_000 + 'other\n' + 'same\n'*5)).relate(toy)
    assert k._nearest('a: same', 30) == list(range(30)) and k._nearest('a: other', 3) == [20_000, 0, 1]


def test_temporary_vectors_do_not_stay(trees):
    k = Knowledge(trees).relate(toy)
    path = k._related[1]
    assert path.exists() and not path.parent.stat().st_mode & 0o077, 'nobody else can read them'
    del k; gc.collect()
    assert not path.parent.exists()


@pytest.mark.parametrize('how', [KeyboardInterrupt, RuntimeError, MemoryError])
def test_relate_goes_on_where_it_was_cut(how, trees, tmp_path, monkeypatch):
    monkeypatch.setattr(room, '_BATCH', 10)
    k, path, seen = Knowledge(trees, words=30, overlap=5), tmp_path/'v.npy', []
    def fails(texts):
        if len(seen) > 35 and SECRET in texts[0]: raise how(texts[0])
        return notes(texts)
    def notes(texts): seen.extend(texts); return toy(texts)
    with pytest.raises(how if how is KeyboardInterrupt else EngineError) as e: k.relate(fails, path)
    if how is not KeyboardInterrupt: assert SECRET not in ''.join(traceback.format_exception(e.value)) and not e.value.__context__ and how.__name__ in str(e.value) and 'b.csv line 30' in str(e.value)
    assert k._related is None and len(seen) == 41, 'four batches, and the sentence before them'
    seen.clear()
    k.relate(notes, path)
    assert seen[1:] == [c.text for c in k][40:]
    assert np.array_equal(np.load(path), toy([c.text for c in k]).astype('float16'))
    seen.clear()
    Knowledge(trees, words=30, overlap=5).relate(notes, path)
    assert len(seen) == 1, 'nothing is left to do'


def test_vectors_of_something_else_are_made_anew(trees, tmp_path):
    path, made = tmp_path/'v.npy', []
    def counts(texts): made.append(len(texts)); return toy(texts)
    def other(texts): made.append(len(texts)); return toy([t[::-1] + 'zz' for t in texts])
    def wider(texts): made.append(len(texts)); return np.pad(toy(texts), ((0, 0), (0, 2)))
    def remade(k, embed): made.clear(); k.relate(embed, path); return sum(made) > 1
    k = Knowledge(trees)
    assert remade(k, counts) and not remade(k, counts)
    assert remade(k, other) and remade(k, wider) and remade(k, counts)
    assert remade(Knowledge(trees, overlap=39), counts) and remade(k, counts)
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:-1]), lambda: path.write_bytes(b''), path.unlink, lambda: Path(f'{path}.json').write_text('{'), lambda: Path(f'{path}.json').write_text('[]'), Path(f'{path}.json').unlink, lambda: np.save(path, np.zeros((3, 3)))):
        spoil(); assert remade(k, counts), spoil
    assert np.array_equal(np.load(path), toy([c.text for c in k]).astype('float16'))
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:-1]), lambda: path.write_bytes(b'junk'), path.unlink):
        spoil()
        with pytest.raises(DataError, match='start again'): k.pick(random.Random(0), about='x')


@pytest.mark.parametrize('embed, said', [(lambda t: np.ones((len(t), 4)), 'not of length 1'), (lambda t: toy(t)[:5], 'it must give a row of 37 numbers for each'), (lambda t: toy(t)[0], 'shape'), (lambda t: toy(t)*np.nan, 'not of length 1')])
def test_bad_embedders(embed, said, trees):
    with pytest.raises(ConfigError) as e: Knowledge(trees).relate(embed)
    assert said in str(e.value) and SECRET not in str(e.value)


def test_what_is_wrong_with_an_embedder_is_told_before_it_sees_anything(trees):
    def embed(texts): raise EngineError('no such model')
    with pytest.raises(EngineError, match='no such model'): Knowledge(trees).relate(embed)
    with pytest.raises(ConfigError, match='1 chunk or more'): Knowledge(trees).relate(toy, near=0)
    with pytest.raises(DataError, match='vectors cannot be written'): Knowledge(trees).relate(toy, trees/'a.md'/'v.npy')


def test_locate(trees):
    k = Knowledge(trees, words=30, overlap=5)
    chunks = list(k)
    some = random.Random(0).sample(chunks, 20)
    assert k.locate(c.id for c in some) == {c.id: c.place for c in some} and list(k.locate(c.id for c in some)) == [c.id for c in some]
    assert k.locate([]) == k.locate(['k000000000000', 'i0', '', 'k' + 'z'*12]) == {}
    same = Knowledge(write(trees, 'd.csv', 'a\nx\ny\nx\n'))
    assert same.locate([same[2].id]) == {same[0].id: 'd.csv line 2'}, 'the first with this text'


def test_memory_of_twenty_thousand_rows(tmp_path):
    path = write(tmp_path, 'a.csv', 'a,b,c\n' + ''.join(f'{i},"word, {i % 77} and more of it",x{i*7}\n' for i in range(20_000)))
    Knowledge(write(tmp_path, 'b.csv', 'a\nb\n'))   # what is imported on the way
    tracemalloc.start()
    k = Knowledge(path)
    held, worst = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    n = sum(1 for _ in k)
    _, reading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == len(k) == 20_000 and held/n < 60 and worst - held < 4e6 and reading - held < 4e6


def test_a_real_table(shared):
    "The disease database that ChatDoctor used as its knowledge"
    for name in ('disease_database_mini.csv', 'format_dataset.csv'):
        path = shared/'data/chatdoctor'/name
        with open(path, newline='', encoding='utf-8') as f: rows = list(csv.DictReader(f))
        k = Knowledge(path)
        assert [k[i] for i in range(0, len(k), 29)] == list(k)[::29] and len({c.place.split(',')[0] for c in k}) == len(rows)
        names = [r['disease'].strip() for r in rows]
        assert [c.text.split('disease: ')[1].split('\n')[0] for c in k if not re.search(r'part ([2-9]|\d\d)', c.place)] == names
        columns = ['disease', 'Symptom']
        want = [f"disease: {n}\nSymptom: {r['Symptom'].strip()}" if r['Symptom'].strip() else f'disease: {n}' for n, r in zip(names, rows)]
        assert [c.text for c in Knowledge(path, columns, words=10_000)] == want
        assert runs(unicode_words(want[3])) <= set().union(*(runs(unicode_words(c.text)) for c in Knowledge(path, columns, words=20, overlap=7)))
