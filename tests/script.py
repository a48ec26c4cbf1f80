"A model that answers by script, the same way to the same request: what the tests run against"
import random, time

VERBS = 'Count Name Compare Describe Explain Sort Rank List Find Choose'.split()


def script(prompt, body):
    "Tasks where a list is asked for, advice where principles are; slow ones among the replies, so that they overtake each other"
    rng = random.Random(f"{body.get('seed')}{prompt[-200:]}")
    time.sleep(rng.choice([0, 0, .01, .05]))
    if 'Insights' in prompt:
        return 'Reasoning: x\n\nInsights:\n' + '\n'.join(f'{i}. **{rng.choice(VERBS)}**: say what the {w} of task {rng.randrange(99)} should hold.' for i, w in enumerate(('input', 'output', 'length'), 1))
    if 'high level' in prompt: return f'Principle: Say what to {rng.choice(VERBS).lower()}, and give number {rng.randrange(9999)} as an example.'
    word = lambda: ''.join(rng.choices('abc', k=2))
    task = lambda i: f'{i}. Instruction: {rng.choice(VERBS)} {word()} {word()} {word()} {word()}.\n{i}. Input:\n<noinput>\n{i}. Output:\n{word()}\n'
    return (' ' + '###\n'.join(task(i) for i in range(4, 21)))[len(' 4. Instruction:'):]
