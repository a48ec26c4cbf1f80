"The exercises at the end of the notebooks: each has its answer folded beneath it, and what the answers say is what their code prints"
import contextlib, io, json, re
from pathlib import Path
import pytest

NBS = Path(__file__).resolve().parent.parent/'nbs'
BLOCK = re.compile(r'^```python\n(.*?)^```$(?:\n+^```\n(.*?)^```$)?', re.S | re.M)   # code, and what it prints where that is shown
FOLD = re.compile(r'^<details><summary>Answer</summary>\n\n(.*?)\n\n</details>$', re.S | re.M)

def cells(path:Path) -> list[tuple[str, str]]: return [(c['cell_type'], ''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]
def is_exercises(kind:str, text:str) -> bool: return kind == 'markdown' and text.startswith('## Exercises')
def exercises(path:Path) -> str:
    "The part of a notebook from its exercises on; '' where it has none"
    parts = cells(path)
    at = next((i for i, c in enumerate(parts) if is_exercises(*c)), len(parts))
    return '\n\n'.join(text for kind, text in parts[at:] if kind == 'markdown')

WITH = [p for folder in ('.', 'baselines', 'experiments') for p in sorted((NBS/folder).glob('[0-9]*.ipynb')) + sorted((NBS/folder).glob('e[0-9]*.ipynb')) if exercises(p)]
TAUGHT = [p for p in WITH if BLOCK.search(exercises(p))]
def by_name(paths): return [pytest.param(p, id=p.stem) for p in paths]

def test_most_notebooks_have_some():
    "A stage is not taught without; the first room, the last stage and all between them are there"
    stages = '00_core 01_prompts 05_expand 06_reflect 07_cluster 08_summarize 09_diversity 10_generate 11_train 12_evaluate 13_carbon 14_pipeline baselines/10_alpaca baselines/10_imported baselines/10_alpagasus baselines/10_evol_instruct'.split()
    lacks = [s for s in stages if NBS/f'{s}.ipynb' not in WITH]
    assert not lacks, f'no exercises in {lacks}'

@pytest.mark.parametrize('path', by_name(WITH))
def test_each_exercise_has_a_folded_answer(path):
    text = exercises(path)
    folds = FOLD.findall(text)
    asked = re.findall(r'^(?:\*\*)?(\d+)\.', FOLD.sub('', text), re.M)
    assert asked == [str(i + 1) for i in range(len(asked))] and 2 <= len(asked) <= 3
    assert len(folds) == len(asked) == text.count('<details>') == text.count('</details>')
    assert all(a.strip() for a in folds)

@pytest.mark.parametrize('path', by_name(WITH))
def test_exercises_stand_at_the_end(path):
    parts = cells(path)
    at = max(i for i, c in enumerate(parts) if is_exercises(*c))
    shown = [t for kind, t in parts[at:] if kind == 'code' and not t.startswith('#| hide')]
    assert not shown and sum(is_exercises(*c) for c in parts) == 1

def run(code:str, names:dict, where:str) -> str:
    "What a block prints"
    with contextlib.redirect_stdout(io.StringIO()) as out: exec(compile(code, where, 'exec'), names)
    return out.getvalue()

@pytest.mark.parametrize('path', by_name(TAUGHT))
def test_answers_are_right(path, monkeypatch):
    "The blocks of a notebook, in their order, in one namespace: `# slow` ones are left out"
    monkeypatch.chdir(path.parent)   # where a notebook runs
    text, names = exercises(path), {'__name__': 'exercise'}
    if 'run_code(' in text:
        from psi.sandbox import sandbox_kind
        if not sandbox_kind(): pytest.skip('this machine has no sandbox, and the answers run programs in it')
    for i, (code, told) in enumerate(BLOCK.findall(text)):
        if code.startswith('# slow'): continue
        said = run(code, names, f'{path.name}, answer block {i}')
        if told: assert said.rstrip() == told.rstrip(), f'{path.name}, answer block {i}: the notebook shows\n{told}and its code prints\n{said}'

def test_what_is_shown_is_compared():
    "The pattern above finds a block's output, and no fence that is not one"
    shown = '```python\nprint(1)\n```\n\n```\n1\n```\n\ntext\n\n```\nnot an output\n```\n\n```python\nx = 2\n```\n'
    assert BLOCK.findall(shown) == [('print(1)\n', '1\n'), ('x = 2\n', '')]
