"Files in every shape, and replies as models really write them"
import gzip, json
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
from psi.core import Dropped, Instance, Origin, Principle, from_dict, read_instances, read_records, to_dict, write_instances, write_records
from psi.prompts import parse_instances, parse_principle, parse_principles, show_tasks

text = st.text(st.characters(exclude_categories=['Cs']), max_size=60)
origins = st.none() | st.builds(Origin, st.sampled_from(['expand', 'generate']), st.integers(0, 9), st.integers(0, 9), st.lists(text.filter(bool), max_size=3).map(tuple))
instances = st.builds(Instance, text.filter(str.strip), text, text, origins)
FORMATS = [('x.json', {}), ('x.json.gz', {}), ('x.jsonl', {}), ('x.jsonl.gz', {}), ('x.parquet', {}), ('chat.jsonl', {'chat': True})]


@pytest.mark.parametrize('name, kw', FORMATS)
def test_round_trips_lose_nothing(tmp_path_factory, name, kw):
    folder = tmp_path_factory.mktemp('trip')
    @settings(max_examples=60, deadline=None)
    @given(st.lists(instances, min_size=1, max_size=4))
    def check(xs): assert read_instances(write_instances(xs, folder/name, **kw)) == xs
    check()


@settings(max_examples=60, deadline=None)
@given(instances, text, origins, st.floats(0, 1))
def test_records_survive_json(x, words, origin, score):
    for r in (x, Principle(words, origin), Dropped('too similar', words, x, '', origin, score, 'i1', words)):
        assert from_dict(type(r), json.loads(json.dumps(to_dict(r)))) == r


def test_real_files(shared):
    seeds = read_instances(shared/'data/self_instruct/seed_tasks.jsonl')
    tasks = [json.loads(line) for line in (shared/'data/self_instruct/seed_tasks.jsonl').read_text().splitlines()]
    assert len(seeds) == sum(len(t['instances']) for t in tasks) and seeds[0].instruction == tasks[0]['instruction']
    alpaca = read_instances(shared/'data/alpaca/alpaca_data.json.gz')
    assert len(alpaca) == 52_002 and sum(bool(x.input) for x in alpaca) > 20_000
    assert len(read_instances(shared/'data/dolly/dolly_3k.json')) > 2_000


def test_a_folder_and_a_saved_dataset(tmp_path):
    from psi.core import to_dataset
    xs = [Instance('Name a bird.', '', 'An emu.'), Instance('Is it odd?', '7', 'Yes.')]
    to_dataset(xs).save_to_disk(str(tmp_path/'saved'))
    assert read_instances(tmp_path/'saved') == xs
    write_instances(xs, tmp_path/'folder/data.jsonl')
    assert [x.instruction for x in read_instances(tmp_path/'folder')] == [x.instruction for x in xs]


plain = st.text('abcdefg hij.,', min_size=5, max_size=40).map(str.strip).filter(lambda s: len(s) > 3 and s.strip('. ,-'))

@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(plain, plain | st.just(''), plain), min_size=1, max_size=6))
def test_what_the_prompt_shows_the_parser_reads(tasks):
    xs = [Instance(*t) for t in tasks]
    assert [(x.instruction, x.input, x.output) for x in parse_instances(show_tasks(xs, 4))] == tasks


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_reply_breaks_a_parser(reply):
    for finished in (True, False):
        for x in parse_instances(reply, finished=finished): assert isinstance(x, Dropped) and x.reason or x.instruction and x.output
        assert all(parse_principles(reply, finished)) and isinstance(parse_principle(reply, finished), str)
