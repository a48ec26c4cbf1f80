"""Replies that real models gave to psi's prompts (tests/replies.jsonl), read by the parsers. What is expected was taken from the parsers
and then read over against each reply: these tests notice a change, the hand-made replies in 01_prompts say what is right"""
import json
from pathlib import Path
import pytest
from psi.core import Dropped
from psi.prompts import parse_instances, parse_principle, parse_principles

REPLIES = [json.loads(line) for line in (Path(__file__).parent/'replies.jsonl').read_text(encoding='utf-8').splitlines()]


def name(r): return f"{r['model']}-{r['mode']}-{r['stage']}"


@pytest.mark.parametrize('r', [r for r in REPLIES if r['stage'] in ('expand', 'generate')], ids=name)
def test_instances(r):
    found = parse_instances(r['text'], 'Instruction:' if r['mode'] == 'completion' else '', r['finish_reason'] != 'length')
    kept = [x for x in found if not isinstance(x, Dropped)]
    assert [len(kept), [x.reason for x in found if isinstance(x, Dropped)]] == r['expect']
    for x in kept:
        for part in (x.instruction, x.input, x.output): assert '###' not in part and 'Instruction:' not in part and part == part.strip()
    if kept: assert kept[0].instruction == r['first']


@pytest.mark.parametrize('r', [r for r in REPLIES if r['stage'] == 'reflect'], ids=name)
def test_low_level_principles(r):
    found = parse_principles(r['text'], r['finish_reason'] != 'length')
    assert len(found) == r['expect'] and all('\n' not in p and '**' not in p for p in found)
    if found: assert found[0].startswith(r['first'])


@pytest.mark.parametrize('r', [r for r in REPLIES if r['stage'] == 'summarize'], ids=name)
def test_high_level_principle(r):
    found = parse_principle(r['text'], r['finish_reason'] != 'length')
    assert found.startswith(r['first']) and found.endswith(r['last']) and '\n' not in found
