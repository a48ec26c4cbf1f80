"Training: killed at any moment it ends with the same weights; what is graded, counted, merged, refused. PSI_KILLS sets how many kills are tried"
import hashlib, json, math, multiprocessing, os, random, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
import pytest
from psi.base import base_folder, load_model, load_tokenizer, practice_model, quiet
from psi.core import ConfigError, DataError, EngineError, Instance, packaged_seeds, read_instances, write_instances
from psi.recipe import ALPACA, Recipe, lesson_order, make_lessons, make_recipe, split_batch
from psi.train import Training, _checkpoint, train

trl, torch = pytest.importorskip('trl'), pytest.importorskip('torch')
KILLS, CONTEXT = int(os.environ.get('PSI_KILLS', 8)), multiprocessing.get_context('forkserver')
QUICK = dict(epochs=3., lr=2e-3, batch=8, per_device=4, max_length=160, too_long='truncate', save_every=3, precision='fp32', seed=5)
CODE = '''
import json, sys
from psi.core import PsiError
from psi.recipe import make_recipe
from psi.train import train
data, model, out, recipe = sys.argv[1:]
try: train(data, model, out, make_recipe(**json.loads(recipe)), device="cpu")
except PsiError as e: sys.exit(f"{type(e).__name__}: {e}")
'''
quietly = lambda line: None


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A model to practise on, and forty instances in a file"
    folder = tmp_path_factory.mktemp('train')
    practice_model(folder/'tiny')
    write_instances([Instance(f'Repeat: {x.instruction[:20]}', '', x.output[:40]) for x in packaged_seeds()[:40]], folder/'data.jsonl')
    return folder


def _go(folder, data, model, out, recipe):
    "What a process of its own does; what it says goes to a file"
    said = os.open(folder, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1); os.dup2(said, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)   # a background job of a shell ignores it
    try: train(data, model, out, Recipe(**recipe), device='cpu')
    except (ConfigError, DataError, EngineError) as e: print(f'{type(e).__name__}: {e}', flush=True); os._exit(1)
    os._exit(0)


class Child:
    "A training in a process of its own, forked from one that has all libraries loaded"
    def __init__(self, *args):
        self.heard = tempfile.mkstemp()[1]
        self.process = CONTEXT.Process(target=_go, args=(self.heard, *args), daemon=True); self.process.start()
        self.pid = self.process.pid
    def poll(self): return self.process.exitcode
    returncode = property(poll)
    def send(self, sig): os.kill(self.pid, sig)
    def wait(self, timeout=120):
        self.process.join(timeout)
        assert self.poll() is not None, 'does not end'
        said = Path(self.heard).read_text()
        os.unlink(self.heard)
        return said


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    "The sums of one thread are the same each time, and here as in the children"
    torch.set_num_threads(1)
    before, os.environ['OMP_NUM_THREADS'] = os.environ.get('OMP_NUM_THREADS'), '1'
    CONTEXT.set_forkserver_preload(['trl.trainer.sft_trainer', 'peft', 'datasets', 'matplotlib.figure', 'psi.train', 'test_train'])
    yield
    os.environ.pop('OMP_NUM_THREADS') if before is None else os.environ.update(OMP_NUM_THREADS=before)


def start(home, out, **changed): return Child(home/'data.jsonl', home/'tiny', out, QUICK | changed)

def losses(out): return [x['loss'] for x in Training(out).log]

def weights(out): return hashlib.sha256((out/'model.safetensors').read_bytes()).hexdigest()


@pytest.fixture(scope='module')
def whole(home):
    "A training that nobody disturbed"
    p = start(home, home/'whole')
    said = p.wait()
    assert p.returncode == 0, said
    return home/'whole'


def test_whole(whole):
    r = Training(whole)
    assert r.done and len(r.log) == r.record['result']['steps'] == 15 and losses(whole)[-1] < losses(whole)[0]
    assert not (whole/'checkpoints').exists() and not [p for p in whole.iterdir() if p.name.startswith('.') and p.name != '.lock']
    assert {'config.json', 'model.safetensors', 'tokenizer.json', 'generation_config.json', 'README.md', 'train.json', 'log.jsonl', 'loss.png'} <= {p.name for p in whole.iterdir()}


def test_killed_at_any_moment(home, whole, tmp_path):
    rng, out, kills = random.Random(1), tmp_path/'out', 0
    while kills < KILLS:
        p, since = start(home, out), len(losses(out)) if (out/'train.json').exists() else 0
        how, began, stop = rng.choice(['step', 'checkpoint', 'time']), time.monotonic(), rng.random()*3
        while p.poll() is None:
            if how == 'step' and (out/'log.jsonl').exists() and len((out/'log.jsonl').read_text().splitlines()) > since: break
            if how == 'checkpoint' and (out/'checkpoints'/'.part').exists(): break
            if how == 'time' and time.monotonic() - began > stop: break
            time.sleep(.001)
        if p.poll() is not None: break
        time.sleep(rng.random()*.01)
        p.send(signal.SIGKILL); p.wait(); kills += 1
    assert kills
    p = start(home, out)
    said = p.wait()
    assert p.returncode == 0, said
    assert losses(out) == losses(whole) and weights(out) == weights(whole)
    assert [x['step'] for x in Training(out).log] == list(range(1, 16))


def test_half_a_checkpoint_is_not_taken(home, whole, tmp_path):
    "What a kill leaves while transformers writes has no checkpoint's name; and of two whole ones the newer is taken"
    p = start(home, tmp_path/'out')
    while not (tmp_path/'out/checkpoints/checkpoint-6').exists() and p.poll() is None: time.sleep(.002)
    p.send(signal.SIGKILL); p.wait()
    points = tmp_path/'out/checkpoints'
    assert _checkpoint(points)[0] >= 6 and (points/'checkpoint-3').exists()
    shutil.copytree(points/'checkpoint-6', points/'.part'/'checkpoint-9'); (points/'.part/checkpoint-9/optimizer.pt').unlink()
    shutil.copytree(points/'checkpoint-3', points/'.gone-checkpoint-3'); (points/'.gone-checkpoint-3/model.safetensors').unlink()
    (tmp_path/'out/log.jsonl').open('a').write('{"step": 7, "lo')
    p = start(home, tmp_path/'out')
    said = p.wait()
    assert p.returncode == 0 and ('goes on after step 6' in said or 'goes on after step 9' in said), said
    assert losses(tmp_path/'out') == losses(whole) and weights(tmp_path/'out') == weights(whole)


def test_two_processes_on_one_folder(home, tmp_path):
    first, long = start(home, tmp_path/'out', epochs=500.), dict(epochs=500.)
    while not (tmp_path/'out/checkpoints/checkpoint-3').exists() and first.poll() is None: time.sleep(.01)
    second = start(home, tmp_path/'out', **long)
    said = second.wait()
    assert second.returncode == 1 and 'another psi is training here' in said and 'Traceback' not in said, said
    first.send(signal.SIGINT)
    said = first.wait()
    assert first.returncode and 'the same command goes on after step' in said, said


def test_two_devices_are_as_one(home, whole, tmp_path):
    script = tmp_path/'go.py'
    script.write_text(CODE)
    launch = (sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', str(script))   # what `accelerate launch` starts on GPUs; on processors it starts one process alone
    p = subprocess.run([*launch, str(home/'data.jsonl'), str(home/'tiny'), str(tmp_path/'out'), json.dumps(QUICK)], capture_output=True, text=True, timeout=120)
    said = p.stdout + p.stderr
    assert p.returncode == 0, said[-2000:]
    assert said.count('instances are trained on') <= 1
    r = Training(tmp_path/'out')
    assert r.record['hardware']['devices'] == 2 and r.record['options']['gradient_accumulation_steps'] == 1
    assert len(r.log) == 15 and all(abs(a - b) < 1e-4 for a, b in zip(losses(tmp_path/'out'), losses(whole))), list(zip(losses(tmp_path/'out'), losses(whole)))
    assert [x['tokens'] for x in r.log] == [x['tokens'] for x in Training(whole).log]


def test_run_again_and_other_runs(home, whole, tmp_path):
    heard, before = [], weights(whole)
    train(home/'data.jsonl', home/'tiny', whole, Recipe(**QUICK), said=heard.append, device='cpu')
    assert 'is trained already' in heard[-1] and weights(whole) == before
    train(home/'data.jsonl', home/'tiny', whole, Recipe(**QUICK | dict(per_device=2, keep=5, save_every=1)), said=quietly, device='cpu')   # these change no weight
    for changed, name in ((dict(lr=1e-3), 'lr was 0.002, now it is 0.001'), (dict(seed=6), 'seed was 5'), (dict(more={'adam_beta2': .9}), 'adam_beta2 was None, now it is 0.9'), (dict(template='alpaca', max_length=99), 'max_length was 160')):
        with pytest.raises(ConfigError, match=name): train(home/'data.jsonl', home/'tiny', whole, Recipe(**QUICK | changed), said=quietly, device='cpu')
    with pytest.raises(ConfigError, match='the data has changed'): train(read_instances(home/'data.jsonl')[1:], home/'tiny', whole, Recipe(**QUICK), said=quietly, device='cpu')
    with pytest.raises(ConfigError, match='the base model is another'): train(home/'data.jsonl', practice_model(tmp_path/'other', seed=1), whole, Recipe(**QUICK), said=quietly, device='cpu')
    with pytest.raises(ConfigError, match='is not a training of psi'): train(home/'data.jsonl', home/'tiny', home/'tiny', Recipe(**QUICK), said=quietly, device='cpu')


@pytest.mark.parametrize('save_every', [1, 0])
def test_a_rate_that_is_absurd(home, tmp_path, save_every):
    with pytest.raises(ConfigError, match=r'step \d+: .*(nan|inf).*(last finite loss was|no loss was finite).*try a lower lr'): train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(lr=1e25, warmup=0., clip=0., save_every=save_every)), said=quietly, device='cpu')
    found = _checkpoint(tmp_path/'out/checkpoints')
    if save_every: assert found
    if found: assert all(v.isfinite().all() for v in __import__('safetensors.torch').torch.load_file(found[1]/'model.safetensors').values())
    assert not (tmp_path/'out/config.json').exists() and all(math.isfinite(x) for x in losses(tmp_path/'out'))


def test_a_model_with_poison(home, tmp_path):
    from safetensors.torch import load_file, save_file
    bad = practice_model(tmp_path/'bad')
    w = load_file(bad/'model.safetensors'); w['model.norm.weight'][3] = float('nan')
    save_file(w, bad/'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(EngineError, match='model.norm.weight are not finite'): train(home/'data.jsonl', bad, tmp_path/'out', Recipe(**QUICK), said=quietly, device='cpu')


def test_what_is_wrong_with_data_and_models(home, tmp_path):
    def tried(data, model=home/'tiny', **changed):
        with pytest.raises((ConfigError, DataError, EngineError)) as e: train(data, model, tmp_path/'out', Recipe(**QUICK | changed), said=quietly, device='cpu')
        assert '\n' not in str(e.value)
        return str(e.value)
    (tmp_path/'empty.jsonl').write_text('{"instruction": "Add.", "output": "2"}\n\n{"instruction": "Sing.", "output": " "}\n')
    assert f"{tmp_path/'empty.jsonl'} line 3: no output" in tried(tmp_path/'empty.jsonl')
    assert 'prompt fills the context' in tried(home/'data.jsonl', max_length=16)
    assert 'holds no instances' in tried([])
    (tmp_path/'run').mkdir(); (tmp_path/'run/psi.toml').touch()
    assert 'no instances yet' in tried(tmp_path/'run')
    bare = practice_model(tmp_path/'bare'); (bare/'tokenizer.json').unlink()
    assert 'no tokenizer' in tried(home/'data.jsonl', bare)
    other = practice_model(tmp_path/'other', vocab=400); shutil.copy(home/'tiny/tokenizer.json', other)
    assert 'belongs to another model' in tried(home/'data.jsonl', other)
    assert 'options of trl' in tried(home/'data.jsonl', more={'optim': 'no-such'})


def test_lengths_are_counted(home, tmp_path):
    data = [Instance('Say a.', '', 'a'), Instance('Say much.', '', 'word ' * 200), Instance('Long ' * 200, '', 'b'), Instance('Nothing.')]
    for too_long, used, cut in (('truncate', 2, 1), ('drop', 1, 0)):
        heard = []
        r = train(data, home/'tiny', tmp_path/too_long, Recipe(**QUICK | dict(too_long=too_long, empty='drop', epochs=1.)), said=heard.append, device='cpu').record
        assert (r['lessons']['used'], r['lessons']['truncated']) == (used, cut) and r['lessons']['used'] + sum(r['lessons']['dropped'].values()) == 4
        assert f'{used} instances are trained on; {cut} of them are cut' in heard[0] and 'prompt fills the context' in heard[0]
        assert (tmp_path/too_long/'dropped.jsonl').read_text().count('reason') == sum(r['lessons']['dropped'].values())
        assert 'prompt fills the context' in (tmp_path/too_long/'README.md').read_text()


def test_only_the_response_is_graded(home, tmp_path):
    "The first step's loss, computed by other means from the text alone"
    data, tokenizer, model = read_instances(home/'data.jsonl')[:8], load_tokenizer(home/'tiny'), load_model(home/'tiny', torch.float32, 'cpu')
    total, n = 0., 0
    for x in data:
        prompt = tokenizer(ALPACA[1].format(instruction=x.instruction))['input_ids']
        whole = prompt + tokenizer(x.output, add_special_tokens=False)['input_ids'] + [tokenizer.eos_token_id]
        with torch.no_grad(): p = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        total -= sum(p[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))); n += len(whole) - len(prompt)
    r = train(data, home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(epochs=1., max_length=500)), said=quietly, device='cpu')
    assert abs(r.log[0]['loss'] - total/n) < 1e-4 and r.record['lessons']['graded'] == n


def test_the_head_for_processors_is_trls_loss(home, whole, tmp_path, monkeypatch):
    monkeypatch.setattr('psi.train.lean_head', lambda model: False)
    train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK), said=quietly, device='cpu')
    assert all(abs(a - b) < 1e-4 for a, b in zip(losses(tmp_path/'out'), losses(whole)))


def test_batches_and_order():
    for devices in (1, 2, 4, 8, 16, 32):
        each, times = split_batch(Recipe(), devices)
        assert devices*each*times == 32 and each <= 8
    for n in (1, 31, 32, 33, 100):
        steps = lesson_order(list(range(n)), Recipe(epochs=2.5))
        seen = [i for s in steps for i in s if i < n]
        assert len(seen) == max(1, round(2.5*n)) and all(len(s) == 32 for s in steps) and max(map(seen.count, range(n))) - min(map(seen.count, range(n))) <= 1


def test_lora(home, tmp_path):
    from peft import PeftModel
    ids = torch.randint(0, 512, (2, 40))
    r = train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(lora=4, lora_dropout=.1, lr=1e-2)), said=quietly, device='cpu')
    with quiet(): adapted = PeftModel.from_pretrained(load_model(home/'tiny', torch.float32, 'cpu'), tmp_path/'out'/'adapter').eval()
    merged, base = load_model(tmp_path/'out', torch.float32, 'cpu'), load_model(home/'tiny', torch.float32, 'cpu')
    with torch.no_grad(): a, m, b = adapted(ids).logits, merged(ids).logits, base(ids).logits
    assert torch.allclose(a, m, atol=1e-4) and not torch.allclose(m, b, atol=1e-2)
    assert r.log[-1]['loss'] < r.log[0]['loss'] and 'LoRA of rank 4' in (tmp_path/'out/README.md').read_text()


def test_lora_killed(home, tmp_path):
    "The adapter's dropout goes on with the random numbers it would have had"
    lora = dict(lora=4, lora_dropout=.2, epochs=2.)
    p = start(home, tmp_path/'a', **lora); p.wait(); assert p.returncode == 0
    p = start(home, tmp_path/'b', **lora)
    while not (tmp_path/'b/checkpoints/checkpoint-6').exists() and p.poll() is None: time.sleep(.002)
    p.send(signal.SIGKILL); p.wait()
    p = start(home, tmp_path/'b', **lora); p.wait(); assert p.returncode == 0
    assert losses(tmp_path/'a') == losses(tmp_path/'b') and weights(tmp_path/'a') == weights(tmp_path/'b')


def test_the_result_is_a_model(home, whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    model, tokenizer, base = AutoModelForCausalLM.from_pretrained(whole), AutoTokenizer.from_pretrained(whole), load_tokenizer(home/'tiny')
    assert tokenizer('Name a bird.')['input_ids'] == base('Name a bird.')['input_ids'] and GenerationConfig.from_pretrained(whole).eos_token_id == tokenizer.eos_token_id
    asked = tokenizer.apply_chat_template([{'role': 'user', 'content': 'Sing {loud} "now".'}], tokenize=False)
    assert asked == '<s>' + ALPACA[1].format(instruction='Sing {loud} "now".')
    assert model.dtype == torch.float32 and base_folder(whole) == whole and json.loads((whole/'config.json').read_text())['architectures'] == ['LlamaForCausalLM']
    card = (whole/'README.md').read_text()
    carbon = Training(whole).record['carbon']   # so short a training may end before its first reading
    assert carbon in card and ('kgCO2e' in carbon or 'not measured' in carbon) and Training(whole).record['data']['sha256'][:16] in card and '40 instances' in card


def test_saved_numbers(home, tmp_path):
    r = train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(precision='bf16', epochs=1.)), said=quietly, device='cpu')
    assert load_model(tmp_path/'out', 'auto', 'cpu').dtype == torch.bfloat16 and r.record['result']['dtype'] == 'bf16'


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root may make a small disk')
def test_a_full_disk(home, whole, tmp_path):
    disk = tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3m', 'psi-test', disk], capture_output=True).returncode: pytest.skip('no tmpfs can be mounted here')
    try:
        p = start(home, disk/'out')
        said = p.wait()
        assert p.returncode == 1 and 'make room' in said and 'Traceback' not in said, said
        subprocess.run(['mount', '-o', 'remount,size=64m', disk], check=True)
        p = start(home, disk/'out')
        said = p.wait()
        assert p.returncode == 0 and losses(disk/'out') == losses(whole) and weights(disk/'out') == weights(whole), said
    finally: subprocess.run(['umount', '-l', disk])


def test_data_for_other_trainers(home, tmp_path):
    "What `write_instances` writes, read by datasets as it is; the chats, trained on by trl as they are"
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer
    some = read_instances(home/'data.jsonl')
    with quiet():
        alpaca = load_dataset('json', data_files=str(write_instances(some, tmp_path/'a.json')), cache_dir=str(tmp_path/'c'))['train']
        chats = load_dataset('json', data_files=str(write_instances(some, tmp_path/'c.jsonl', chat=True)), cache_dir=str(tmp_path/'c'))['train']
        assert {'instruction', 'input', 'output'} <= set(alpaca.column_names) and alpaca[3]['output'] == some[3].output
        tokenizer = load_tokenizer(home/'tiny')
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
        trainer = SFTTrainer(model=load_model(home/'tiny', torch.float32, 'cpu'), processing_class=tokenizer, train_dataset=chats, args=SFTConfig(output_dir=str(tmp_path/'out'), max_steps=1, report_to='none', use_cpu=True, bf16=False, disable_tqdm=True, save_strategy='no'))
        trainer.train()
    assert trainer.state.global_step == 1


def test_long_data_for_other_trainers(home, tmp_path):
    "datasets reads a file in blocks and takes the columns of the first; fields that appear later are an error"
    from datasets import load_dataset
    from psi.core import Origin
    long = 'word ' * 200
    some = [Instance(f'Do {i}. {long}', '', long) for i in range(10_000)] + [Instance(f'Add {i}.', 'x', 'y', Origin('generate', 1, 2, ('a',), ('k',))) for i in range(10)]
    with quiet(): assert len(load_dataset('json', data_files=str(write_instances(some, tmp_path/'a.jsonl', bare=True)), cache_dir=str(tmp_path/'c'))['train']) == len(some)


MARKED = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
BARE = "{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '### assistant: ' }}{% endif %}"

def chatty(folder:Path, template:str, seed:int=0) -> Path:
    "A practice model that was taught to take turns, its template in tokenizer_config.json as most have it"
    practice_model(folder, seed)
    c = json.loads((folder/'tokenizer_config.json').read_text())
    (folder/'tokenizer_config.json').write_text(json.dumps(c | {'chat_template': template}))
    return folder


@pytest.mark.parametrize('template', [MARKED, BARE])
def test_a_chat_model(tmp_path, template):
    "Every lesson ends with the end mark, whether the template writes it or not; the result stops there and nowhere else"
    from transformers import GenerationConfig
    base = chatty(tmp_path/'base', template)
    some = [Instance(f'Say yes {i} times.', '', 'Yes.') for i in range(8)]
    tokenizer = load_tokenizer(base)
    lessons = make_lessons(some, tokenizer, Recipe())
    assert lessons.template == 'chat' and all(ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) <= 2 for ids, _ in lessons.tokens)
    ids, n = lessons.tokens[0]
    assert tokenizer.decode(ids[:n]) == tokenizer.apply_chat_template([dict(role='user', content=some[0].instruction)], tokenize=False, add_generation_prompt=True) and tokenizer.decode(ids[n:]) == 'Yes.</s>'
    train(some, base, tmp_path/'out', Recipe(epochs=1., batch=4, max_length=160), said=quietly, device='cpu')
    assert GenerationConfig.from_pretrained(tmp_path/'out').eos_token_id == tokenizer.eos_token_id
    assert load_tokenizer(tmp_path/'out').chat_template == template


def test_alpacas_words_take_the_place_of_a_chat_template(tmp_path):
    "For transformers, and for llama.cpp's converter, which looks into tokenizer_config.json first"
    base = chatty(tmp_path/'base', MARKED)
    train(packaged_seeds()[:8], base, tmp_path/'out', Recipe(epochs=1., batch=4, max_length=160, template='alpaca'), said=quietly, device='cpu')
    assert 'chat_template' not in json.loads((tmp_path/'out/tokenizer_config.json').read_text()) and 'chat_template' in json.loads((base/'tokenizer_config.json').read_text())
    t = load_tokenizer(tmp_path/'out')
    assert t.apply_chat_template([dict(role='system', content='Be brief.'), dict(role='user', content='Sing.'), dict(role='assistant', content='La.'), dict(role='user', content='More.')], tokenize=False) == (
        '<s>' + ALPACA[1].format(instruction='Be brief.\n\nSing.') + 'La.</s>' + ALPACA[1].format(instruction='More.'))


@pytest.mark.parametrize('template, said', [("{{ raise_exception('only pirates') }}", 'only pirates'), ('{% for %}', 'cannot be used'), ('nothing', 'does not write an answer')])
def test_chat_templates_that_cannot_be_used(tmp_path, template, said):
    with pytest.raises(ConfigError, match=said) as e: train(packaged_seeds()[:4], chatty(tmp_path/'base', template), tmp_path/'out', Recipe(), said=quietly, device='cpu')
    assert "set template to 'alpaca'" in str(e.value) and '\n' not in str(e.value)


def test_words_that_look_like_marks(home):
    t = load_tokenizer(home/'tiny')
    (ids, n), = make_lessons([Instance('What ends a text?', '', 'It is </s> in Llama.')], t, Recipe()).tokens
    assert ids.count(t.eos_token_id) == 1 and ids[-1] == t.eos_token_id and t.decode(ids[n:-1]).strip() == 'It is </s> in Llama.'


def test_scores_in_a_way_of_their_own(tmp_path):
    "A cap on the scores that neither psi's head nor trl's knows of"
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM
    base = practice_model(tmp_path/'base')
    torch.manual_seed(0)
    config = RecurrentGemmaConfig(vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2, lru_width=64, attention_window_size=64, bos_token_id=0, eos_token_id=1, pad_token_id=1, logits_soft_cap=.5)
    model = RecurrentGemmaForCausalLM(config)
    with torch.no_grad(): model.model.embed_tokens.weight.normal_()
    model.save_pretrained(base)
    with pytest.raises(EngineError, match='its scores are made in a way that the training does not know'): train(packaged_seeds()[:8], base, tmp_path/'out', Recipe(epochs=1., batch=4, max_length=400, template='alpaca'), said=quietly, device='cpu')


def test_what_the_words_become_belongs_to_the_training(tmp_path):
    "A chat template that changes between a cut and the second start"
    base = chatty(tmp_path/'base', MARKED)
    train(packaged_seeds()[:8], base, tmp_path/'out', Recipe(epochs=1., batch=4, max_length=160), said=quietly, device='cpu')
    chatty(base, MARKED.replace('<|', '[').replace('|>', ']'))
    with pytest.raises(ConfigError, match='what its chat template writes, has changed'): train(packaged_seeds()[:8], base, tmp_path/'out', Recipe(epochs=1., batch=4, max_length=160), said=quietly, device='cpu')


def test_a_training_of_one_step_changes_something(home, tmp_path):
    r = train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(epochs=1., batch=40, lr=2e-3, max_length=160), said=quietly, device='cpu')
    assert len(r.log) == 1 and r.log[0]['lr'] > 0 and weights(tmp_path/'out') != weights(home/'tiny')


def test_lora_leaves_the_base_as_it_is(home, tmp_path):
    "In bfloat16, too: what is not trained is not rounded; nothing of this machine stands in the result"
    train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(lora=4, lr=1e-12, precision='bf16', save_dtype='fp32', epochs=1.)), said=quietly, device='cpu')
    a, b = (load_model(f, torch.float32, 'cpu').state_dict() for f in (home/'tiny', tmp_path/'out'))
    assert max((a[k] - b[k]).abs().max().item() for k in a) < 1e-7
    kept = json.loads((tmp_path/'out/config.json').read_text()).get('use_cache', True), json.loads((home/'tiny/config.json').read_text()).get('use_cache', True)
    assert kept == (True, True) and not (tmp_path/'out/adapter/README.md').exists() and str(home) not in (tmp_path/'out/adapter/adapter_config.json').read_text()
    assert 'adapter\'s in fp32' in (tmp_path/'out/README.md').read_text()


@pytest.mark.parametrize('lora', [0, 4])
def test_a_result_that_could_not_be_written(home, tmp_path, monkeypatch, lora):
    "After the last step there is a checkpoint, and the second start only writes the result"
    import psi.train as t
    recipe = Recipe(**QUICK | dict(save_every=0, lora=lora, epochs=1.))
    whole = train(home/'data.jsonl', home/'tiny', tmp_path/'whole', recipe, said=quietly, device='cpu')
    monkeypatch.setattr(t, '_worth', -1.)
    good = t._write_model
    def full(*a): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(t, '_write_model', full)
    with pytest.raises(DataError, match='make room'): train(home/'data.jsonl', home/'tiny', tmp_path/'out', recipe, said=quietly, device='cpu')
    monkeypatch.setattr(t, '_write_model', good)
    heard = []
    again = train(home/'data.jsonl', home/'tiny', tmp_path/'out', recipe, said=heard.append, device='cpu')
    n = len(whole.log)
    assert f'goes on after step {n} of {n}' in ' '.join(heard) and again.done and losses(tmp_path/'out') == losses(tmp_path/'whole') and weights(tmp_path/'out') == weights(tmp_path/'whole')
    assert not (tmp_path/'out/checkpoints').exists()


def test_a_checkpoint_that_is_due_by_time(home, whole, tmp_path, monkeypatch):
    "And a second start that shares the batch in another way"
    import psi.train as t
    clock, real, step = [0.], time.monotonic, []
    class Clock:
        def __getattr__(self, k): return getattr(time, k)
        @staticmethod
        def monotonic(): return real() + clock[0]
    monkeypatch.setattr(t, 'time', Clock())
    stop, saved = t._Books._save_checkpoint, []
    def save(self, *a): stop(self, *a); saved.append(self.state.global_step); step.append(1); raise KeyboardInterrupt
    def log(self, *a, log=t._Books.log): log(self, *a); clock[0] += 150
    monkeypatch.setattr(t._Books, 'log', log); monkeypatch.setattr(t._Books, '_save_checkpoint', save)
    with pytest.raises(KeyboardInterrupt): train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(save_every=0)), said=quietly, device='cpu')
    monkeypatch.setattr(t._Books, '_save_checkpoint', stop)
    assert 4 <= saved[0] <= 6
    heard = []
    train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(save_every=0, per_device=2)), said=heard.append, device='cpu')
    assert f'goes on after step {saved[0]}' in ' '.join(heard) and all(abs(a - b) < 1e-4 for a, b in zip(losses(tmp_path/'out'), losses(whole)))


def test_a_start_that_failed_holds_nothing(home, tmp_path):
    with pytest.raises(ConfigError, match='options of trl .adam_beta2'): train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(more={'adam_beta2': 1.5})), said=quietly, device='cpu')
    for wrong in ({'adam_beta2': 'x'}, {'dataloader_num_workers': -1}, {'accelerator_config': 'x'}):
        with pytest.raises(ConfigError, match='options of trl'): train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(more=wrong)), said=quietly, device='cpu')
    r = train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK | dict(more={'adam_beta2': .95}, epochs=1.)), said=quietly, device='cpu')
    assert r.done and 'adam_beta2 = 0.95' in (tmp_path/'out/README.md').read_text()


def test_folders_of_others(home, whole, tmp_path):
    for text in ('[]', '{"lr": 1}', 'null', '{"settings": 5}', 'x'):
        (tmp_path/'train.json').write_text(text)
        with pytest.raises(ConfigError, match='is not a training of psi'): train(home/'data.jsonl', home/'tiny', tmp_path, Recipe(**QUICK), said=quietly, device='cpu')
    assert not (tmp_path/'.lock').exists()
    copy = tmp_path/'copy'
    shutil.copytree(whole, copy); (copy/'checkpoints/checkpoint-old').mkdir(parents=True)
    assert train(home/'data.jsonl', home/'tiny', copy, Recipe(**QUICK), said=quietly, device='cpu').done and not (copy/'checkpoints').exists()


def test_devices_that_are_not_there(home, tmp_path):
    for device, said in (('gpu', "device is 'gpu'"), *([] if torch.cuda.is_available() else [('cuda', 'finds no GPU')])):
        with pytest.raises(ConfigError, match=said): train(home/'data.jsonl', home/'tiny', tmp_path/'out', Recipe(**QUICK), said=quietly, device=device)
    with pytest.raises(ConfigError, match='set batch to 4$'): split_batch(Recipe(batch=3), 4)
    with pytest.raises(ConfigError, match='it should be a table'): make_recipe(more=5)
