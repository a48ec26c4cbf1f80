"Seeds from a spreadsheet: .csv and .tsv files, as spreadsheets and people write them"
import csv, gzip, io
import pytest
from hypothesis import given, settings, strategies as st
from psi.core import DataError, Instance, read_instances

ROWS = [('Why does my lamp flicker?', '', 'The bulb is loose.'), ('Translate, please', 'a "quoted" word', 'zwei\nZeilen'), ('Grüße 🙂', '<b>&amp;', "it's")]

def table(rows=ROWS, head=('instruction', 'input', 'output'), **kw) -> str:
    csv.writer(f := io.StringIO(), **kw).writerows([head, *rows])
    return f.getvalue()

def complaint(path, text) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as e: read_instances(path)
    assert '\n' not in str(e.value)
    return str(e.value).removeprefix(str(path))

@pytest.mark.parametrize('name, kw', [('a.csv', {}), ('a.csv', dict(delimiter=';')), ('a.csv', dict(delimiter='\t')), ('a.tsv', dict(delimiter='\t')), ('a.csv', dict(quoting=csv.QUOTE_ALL)), ('a.csv', dict(lineterminator='\n'))])
@pytest.mark.parametrize('before', ['', '\ufeff'])
def test_a_spreadsheet_as_it_was_written(tmp_path, name, kw, before):
    (tmp_path/name).write_bytes((before + table(**kw)).encode())
    assert [(x.instruction, x.input, x.output) for x in read_instances(tmp_path/name)] == ROWS

def test_zipped(tmp_path):
    (tmp_path/'a.csv.gz').write_bytes(gzip.compress(table().encode()))
    assert len(read_instances(tmp_path/'a.csv.gz')) == 3

def test_columns_by_other_names_and_in_another_order(tmp_path):
    (tmp_path/'a.csv').write_text('Answer, Team , QUESTION,ID\n"Turn it.",lamps,"Why?",q7\n')
    assert read_instances(tmp_path/'a.csv') == [Instance('Why?', '', 'Turn it.', id='q7')]

def test_long_texts(tmp_path):
    (tmp_path/'a.csv').write_text('instruction,output\n' + 'a' * 200_000 + ',b\n')
    assert len(read_instances(tmp_path/'a.csv')[0].instruction) == 200_000

def test_empty_lines_are_no_rows(tmp_path):
    (tmp_path/'a.csv').write_text('instruction,output\n\na,b\n,\n\nc,d\n')
    assert [x.instruction for x in read_instances(tmp_path/'a.csv')] == ['a', 'c']

@pytest.mark.parametrize('text, said', [
    ('instruction,output\n"a\nb",c\nAdd 1,000,1\n', ' line 4: 3 values for 2 columns (instruction, output)'),
    ('instruction,output\na\n', ' line 2: 1 value for 2 columns'),
    ('instruction,output\na,b\nc,"d\ne,f\n', ' line 3: not a row of a table'),
    ('instruction,output\na,"b"c\n', ' line 2: not a row of a table'),
    ('instruction,output\na,b\n,c\n', ' line 3: no instruction'),
    ('text,label\na,b\n', ' line 2: no instruction (the record has: text, label'),
    ('output,instruction,Output\na,b,c\n', " line 1: two columns are called 'output'"),
    ('instruction,output\n', ': holds no instances'),
    ('', ': holds no instances'),
    ('instruction,output\nGrüße,x\n'.encode('latin1'), ' line 2: byte 0xfc is not UTF-8'),
])
def test_what_is_wrong_is_named_by_line(tmp_path, text, said): assert complaint(tmp_path/'bad.csv', text).startswith(said)

cell = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=20)
@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(cell.filter(lambda s: s.strip()), cell, cell), min_size=1, max_size=5))
def test_any_text_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp('t')/'a.csv'
    path.write_bytes(table(rows).encode())
    assert [(x.instruction, x.input, x.output) for x in read_instances(path)] == rows
