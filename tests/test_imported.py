"Data that others made, as a baseline: all the files there are, runs, samples, and what may go wrong with them"
import json
from dataclasses import replace
import pytest
from psi.baselines.imported import imported, unwrapped
from psi.core import ConfigError, DataError, Instance, Origin, packaged_seeds, to_dataset, write_instances, write_records

DATA = 'alpaca/alpaca_data.json.gz', 'alpagasus/claude_t45.json', 'alpagasus/helpfulness_t45.json', 'alpagasus/random_9k.json', 'alpagasus/filtered_alpaca_1k_score.json', 'wizardlm/filtered_evol_instruct_1k_score.json'
HEAD = 'Below is an instruction that describes a task. Write a response that appropriately completes the request.'

@pytest.fixture(scope='module')
def alpaca52k(shared):
    if not (path := shared/'data'/DATA[0]).exists(): pytest.skip(f'no file {path}')
    return imported(path)

@pytest.mark.parametrize('name', DATA)
def test_published_files_are_read(shared, name):
    if not (path := shared/'data'/name).exists(): pytest.skip(f'no file {path}')
    found, some = imported(path), imported(path, n=300, seed=3)
    assert len({(x.instruction, x.input) for x in found}) == len(found) >= 1000
    assert not any('Below is an instruction that describes a task' in x.instruction[:60] or '### Instruction' in x.instruction[:200] for x in found)
    assert len(some) == 300 and {x.id for x in some} <= {x.id for x in found}
    assert [x.origin.item for x in some] == sorted(x.origin.item for x in some)

def test_fastchat_files_hold_alpacas_own_instances(shared, alpaca52k):
    if not (path := shared/'data'/DATA[4]).exists(): pytest.skip(f'no file {path}')
    squeezed = lambda t: ''.join(t.split())
    known, found = {squeezed(x.instruction + x.input) for x in alpaca52k}, imported(path)
    same = sum(squeezed(x.instruction + x.input) in known for x in found)
    assert same > .95 * len(found) and sum(bool(x.input) for x in found) > 200

def test_a_test_set_without_answers_is_no_source(shared):
    if not (path := shared/'data'/'wizardlm'/'WizardLM_testset.jsonl').exists(): pytest.skip(f'no file {path}')
    with pytest.raises(DataError, match='line 1: no instruction'): imported(path)

def test_conversations_are_read(tmp_path):
    ask = [dict(conversations=[{'from': 'human', 'value': f'{HEAD} ### Instruction: Name {i} birds.'}, {'from': 'gpt', 'value': 'Swift.'}], id=f'identity_{i}', score=5.0) for i in range(3)]
    (path := tmp_path/'chats.json').write_text(json.dumps(ask))
    assert [(x.instruction, x.output, x.id) for x in imported(path)] == [(f'Name {i} birds.', 'Swift.', f'identity_{i}') for i in range(3)]

@pytest.mark.parametrize('text,instruction,input', [
    (f'{HEAD} ### Instruction: Why?', 'Why?', ''), (f'{HEAD}\n\n### Instruction:\nWhy?\n\n### Response:', 'Why?', ''), (f'{HEAD}\n\n### Instruction:\nWhy?\n\n### Response:\n', 'Why?', ''),
    (HEAD.replace('task.', 'task, paired with an input that provides further context.') + ' ### Instruction: Say it\nagain. ### Input: it\nis', 'Say it\nagain.', 'it\nis'),
    (f'{HEAD} ### Instruction:', None, ''), (HEAD, None, ''), (f'What does "{HEAD} ### Instruction: x" mean?', None, ''), ('### Instruction: x', None, ''), ('Why?', None, '')])
def test_templates(text, instruction, input):
    x = unwrapped(Instance(text, '', 'y', id='me'))
    assert (x.instruction, x.input, x.id) == (text if instruction is None else instruction, input, 'me')

def test_the_data_of_a_run(tmp_path):
    seeds = packaged_seeds()[:9]
    write_records(tmp_path/'instances.jsonl', [replace(x, origin=Origin('generate', i, 0, ('a',), ('k1',) if i == 4 else ())) for i, x in enumerate(seeds)])
    (tmp_path/'psi.toml').write_text('')
    assert [x.id for x in imported(tmp_path)] == [x.id for x in seeds]
    assert [x.origin for x in imported(str(tmp_path), 9)] == [Origin('source', item=i, knowledge=('k1',) if i == 4 else ()) for i in range(9)]
    (tmp_path/'instances.jsonl').unlink()
    with pytest.raises(DataError, match='not come to its instances yet'): imported(tmp_path)
    write_records(tmp_path/'instances.jsonl', [])
    with pytest.raises(DataError, match='holds no instances'): imported(tmp_path)

def test_files_folders_and_datasets_give_the_same(tmp_path):
    seeds = packaged_seeds()[:20]
    for name in ('a.json', 'a.jsonl', 'a.jsonl.gz', 'a.parquet'):
        assert [x.instruction for x in imported(write_instances(seeds, tmp_path/name), 5)] == [x.instruction for x in imported(to_dataset(seeds), 5)]
    (tmp_path/'set').mkdir(); write_instances(seeds, tmp_path/'set'/'part.jsonl', bare=True)
    assert [x.instruction for x in imported(tmp_path/'set', 5)] == [x.instruction for x in imported(to_dataset(seeds), 5)]

def test_a_sample_depends_on_its_seed_and_cannot_be_larger_than_the_source():
    source = to_dataset(packaged_seeds())
    assert imported(source, 30, 3) == imported(source, 30, 3) != imported(source, 30, 4)
    with pytest.raises(DataError, match=f'holds {len(packaged_seeds())} different instances, 5,000 are wanted'): imported(source, 5000)

def test_each_task_once_and_each_id_once():
    xs = [Instance('a', '', '1', id='x'), Instance('a', '', '2', id='y'), Instance('a', 'b', '1', id='x'), Instance('c', '', '1', id='x')]
    found = imported(to_dataset(xs))
    assert [(x.instruction, x.input, x.output, x.origin.item) for x in found] == [('a', '', '1', 0), ('a', 'b', '1', 2), ('c', '', '1', 3)]
    assert len({x.id for x in found}) == 3

@pytest.mark.parametrize('n', [0, -1])
def test_numbers_that_make_no_sense(n):
    with pytest.raises(ConfigError, match='at least one'): imported(to_dataset(packaged_seeds()), n)

def test_the_draw_has_a_generator_of_its_own():
    "The sample does not depend on anything but the seed and how many there are"
    a, b = (imported(to_dataset([Instance(f'{word} {i}', '', 'x') for i in range(50)]), 10, 7) for word in ('Say', 'Write'))
    assert [x.origin.item for x in a] == [x.origin.item for x in b]
