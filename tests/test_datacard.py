"The card of a dataset, and a small hub on this machine that it is pushed to"
import base64, hashlib, json, os, re, shutil, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard
from psi.card import as_text, fenced, model_card
from psi.config import read_config
from psi.core import BoundaryError, ConfigError, DataError, Dropped, EngineError, Instance, Origin, Principle, write_records
from psi.datacard import Told, card_is_current, dataset_card, public_config
from psi.folder import Run
from psi.lm import scripted
from psi.pipeline import run
from psi.push import pack, push
from script import script

TOKEN = 'hf_NobodyMaySeeThis'
HOSTILE = ['<script>alert(1)</script>', '```\n</details>\n# Not a heading', '---\nlicense: mit\n---', 'NUL \x00 bell \x07 and \u202etfel ot thgir', ']]> --> <!-- Written by psi card. data 0123456789abcdef, card 0123456789abcdef. -->',
           '[link](http://evil.example) ![x](http://evil.example/x.png) https://evil.example www.evil.example', '| a | b |\n|---|---|', '$x$ `code` **bold** &amp; 😀', '1. one\n- two\n+ three\n=====', '`'*300, 'wide ' * 20_000]


def folder_of(path, instances, principles=(), toml='name = "hand"'):
    "A run by hand"
    path.mkdir(parents=True, exist_ok=True)
    (path/'psi.toml').write_text(toml)
    write_records(path/'instances.jsonl', instances)
    if principles: write_records(path/'principles.jsonl', principles)
    return Run(path)

def plain_html(markdown):
    "What a reader of Markdown makes of it, HTML let through as the hub would get it"
    from markdown_it import MarkdownIt
    return MarkdownIt('commonmark', {'html': True}).enable('table').render(markdown)

def body(text): return text[text.index('-->') + 3:]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run with all stages, done once; tests that change it take a copy"
    settings = ['expand.n=40', 'reflect.T=4', 'generate.n=30', 'M_L.model=script', 'M_g.model=script', 'name=run', 'carbon.measure=false']
    with scripted(script) as url: return run(read_config(None, [*settings, f'M_L.base_url={url}', f'M_g.base_url={url}']), runs=tmp_path_factory.mktemp('runs'), said=lambda line: None)

@pytest.fixture
def done(whole, tmp_path):
    "A copy of it, with a card"
    shutil.copytree(whole.folder, tmp_path/'run')
    r = Run(tmp_path/'run')
    r.card(told=Told('cc-by-4.0'))
    return r


def test_the_hub_reads_the_header_and_the_numbers_are_those_of_the_run(whole):
    text = dataset_card(whole, Told('CC-BY-4.0', title='Say: "yes" #1'))
    data = DatasetCard(text).data
    assert (data.license, data.language, data.pretty_name, data.size_categories, data.task_categories) == ('cc-by-4.0', ['en'], 'Say: "yes" #1', ['n<1K'], ['text-generation'])
    assert [c['data_files'][0]['path'] for c in data.configs] == ['data/train.jsonl', 'principles.jsonl'] and 'private-knowledge' not in data.tags
    counts, c = whole.waterfall(), whole.config
    for part in (f'| **candidates** | {counts["candidates"]} |', f'{len(whole.seeds)} instances', f'→ {len(whole.initial)} initial', f'{c.reflect.T} subsets of {c.reflect.size} → {len(whole.low)} low-level', f'→ {len(whole.clusters)} soft clusters', f'{len(whole.principles)} high-level', '→ 30 instances',
                 'The audit: clean; there was no private knowledge.', 'Apache-2.0', 'not known to psi; look at the page of the model'): assert part in text, part
    book = whole.ledger().data
    assert f"| {sum(e.requests for e in book.entries):,} | {book.sum('prompt').text()} | {book.sum('completion').text()} |" in text
    assert book.sum('kg').text('.3g').startswith(('≥', '?')) and f"| {book.sum('kg').text('.3g')} |" in text   # nothing was measured, and the card does not say 0
    for p in whole.principles: assert as_text(p.text) in text

def test_the_card_holds_a_config_that_asks_the_same(whole, tmp_path):
    (tmp_path/'psi.toml').write_text(re.search(r'```toml\n(.*?)\n```', dataset_card(whole), re.S)[1])
    again = read_config(tmp_path/'psi.toml')
    for k in ('seed', 'seeds', 'expand', 'reflect', 'cluster', 'generate'): assert getattr(again, k) == getattr(whole.config, k)
    assert again.M_g.sampling == whole.config.M_g.sampling and '127.0.0.1' not in dataset_card(whole)

def test_what_nobody_said_is_said_to_be_not_said(tmp_path):
    text = dataset_card(folder_of(tmp_path/'r', [Instance('Name a bird of the sea.', '', 'A tern.')], toml='name = "r"\nseeds = "/home/me/ours.jsonl"'))
    data = DatasetCard(text).data
    assert data.license == 'unknown' and data.language is None
    assert text.count('**not said**') == 2 and 'Language: not said' in text and '/home/me' not in text and 'ours.jsonl' in text
    assert 'What was dropped is not in this folder' in text and 'Not known: the journal' in text and 'The audit: not made' in text
    assert DatasetCard(dataset_card(Run(tmp_path/'r'), Told('My Own 1.0'))).data.to_dict()['license_name'] == 'my-own-1.0'

@pytest.mark.parametrize('sets, said', [
    (['M_g.model=gpt-4o-mini', 'M_g.base_url=openai'], "OpenAI's terms"), (['M_g.model=x', 'M_g.base_url=https://api.openai.com/v1'], "OpenAI's terms"),
    (['M_g.model=Meta-Llama-3-8B-Instruct', 'M_g.base_url=http://localhost:1/v1'], 'not known to psi'), (['M_g.model=gemma3-270m-base'], '`gemma`: Gemma'), (['M_g.model=qwen2.5-coder-0.5b-instruct'], '`apache-2.0`: it asks nothing')])
def test_what_the_licence_of_the_model_implies(sets, said, tmp_path):
    from psi.config import to_toml
    r = folder_of(tmp_path, [Instance('Name a bird of the sea.', '', 'A tern.')], toml=to_toml(read_config(None, [*sets, 'generate.principles=none'])))
    assert said in dataset_card(r)

def test_settings_that_are_nobodys_business():
    c = read_config(None, ['knowledge.source=/data/patients.csv', 'knowledge.columns=["diagnosis"]', 'boundary.terms=/data/names.txt', 'boundary.patterns=["ACME-[0-9]+"]', 'boundary.trusted=["gpu7.corp.example"]', 'M_L.base_url=https://llm.corp.example/v1', 'M_L.model=l',
                           'M_L.api_key_file=/keys/k', 'M_L.api_key_env=CORP_KEY', 'M_L.sampling={temperature=0.5, extra_headers={x="sk-123"}}', 'M_g.model=C:\\models\\ours.gguf', 'cluster.embedder=/models/embedder', 'generate.principles=/data/principles.txt'])
    shown = repr(public_config(c))
    for word in ('patients', 'diagnosis', 'names.txt', 'ACME', 'corp', 'CORP', '/keys', 'sk-123', 'C:', 'models', '/data'): assert word not in shown, word
    assert 'ours.gguf' in shown and 'temperature' in shown

def test_hostile_text_is_shown_as_text(tmp_path):
    principles = [Principle(x) for x in HOSTILE]
    for i, bad in enumerate(HOSTILE):
        r = folder_of(tmp_path/str(i), [Instance(bad, bad, bad)], principles)
        write_records(r.folder/'dropped.jsonl', [Dropped(f'{bad[:500]} <img src=x onerror=alert(1)> | x', instance=Instance('q'), origin=Origin('generate', 0, 0))])
        (r.folder/'manifest.json').write_text(json.dumps(dict(versions={'psi': bad[:500], f'<b>{bad[:500]}': '<i>1</i>'}, weights=dict(M_g='`<i>`', M_L=1, embedder=None))))
        text = dataset_card(r, Told(title=bad))
        data, html = DatasetCard(text).data, plain_html(body(text))
        assert (data.license, data.tags[0], len(data.configs)) == ('unknown', 'psi', 2)
        for tag in ('<script', '<img', '<a ', 'evil.example/x.png">', '<h1>Not a'): assert tag not in html, (tag, bad[:40])
        assert not re.search('<[bi]>', html)
        waterfall = next(t for t in html.split('<table>') if 'candidates' in t).split('</table>')[0]
        assert all(row.count('<td') == 4 for row in waterfall.split('<tr>')[2:]) and waterfall.count('<tr>') == 4   # head, candidates, the reason, kept: a | in it parts no cell
        assert html.count('<h1>') == 1 and html.count('<h2>') == 10 and html.count('<ol>') == 1 and html.count('<details>') == html.count('</details>') == 1, bad[:40]
        assert not re.search('[\x00-\x08\x0b-\x1f\u202e]', text) and len(text) < 60_000
        assert r.card() and card_is_current(r)   # a mark within the data is not taken for the card's own

@pytest.mark.parametrize('manifest', ['[]', '"x"', '{"versions": [1], "weights": "y"}', '{', '['*100_000])
def test_an_odd_manifest_is_none(tmp_path, manifest):
    r = folder_of(tmp_path/'r', [Instance('Name a bird of the sea.', '', 'A tern.')])
    (r.folder/'manifest.json').write_text(manifest)
    assert 'Versions: not known' in dataset_card(r)

def test_what_did_not_stand_in_a_request_is_not_said_to_have(tmp_path):
    from psi.config import to_toml
    def card(*sets): return dataset_card(folder_of(tmp_path/str(len(list(tmp_path.iterdir()))), [Instance('Name a bird of the sea.', '', 'A tern.')], toml=to_toml(read_config(None, sets))))
    text = card('generate.examples=0', 'expand.examples=0', 'generate.principles=none')
    assert 'None of them stood in a request' in text and 'stood in every request' not in text and 'seeds alone' not in text and ' 0 ' not in text and 'no principles and no seeds' in text
    assert 'sees seeds alone' in card('generate.principles=none') and 'saw seeds alone' in card('generate.principles=none')
    assert 'sees seeds and pieces of private knowledge;' in card('generate.principles=none', 'knowledge.source=/k.txt', 'boundary.trusted=["x"]')
    assert 'in every request for the data,' in card('expand.examples=0') and 'in every request for the initial instances' in card('generate.examples=0') and 'Some of them stood in every request, so' in card()
    assert 'They are not in this folder' in card()   # principles were learned, but their file is gone

def test_settings_of_requests_are_there_or_said_to_be_missing(tmp_path):
    from psi.config import to_toml
    r = folder_of(tmp_path, [Instance('Name a bird of the sea.', '', 'A tern.')], toml=to_toml(read_config(None, ['M_g.sampling={temperature=0.5, stop=["\\n\\n", "###"], logit_bias={50256=-100}}'])))
    text = dataset_card(r)
    again = tmp_path/'again.toml'
    again.write_text(re.search(r'```toml\n(.*?)\n```', text, re.S)[1])
    assert read_config(again).M_g.sampling == r.config.M_g.sampling == dict(temperature=.5, stop=['\n\n', '###'], logit_bias={'50256': -100}) and 'The same settings ask the same requests' in text
    (tmp_path/'psi.toml').write_text(to_toml(read_config(None, ['M_g.sampling={stop="x", extra_headers={Authorization="Bearer sk-1"}}'])))
    text = dataset_card(Run(tmp_path))
    assert 'sk-1' not in text and 'The same settings ask the same requests' not in text and r'(extra\_headers of M_g)' in text and 'stop = "x"' in text

@pytest.mark.parametrize('model, said', [('my-grokking-model', ''), ('gemini-nano', 'a service'), ('chatgpt-x', 'a service'), ('gpt-4o', 'a service'), ('gpt-oss-20b', ''), ('gpt-2', ''), ('Llamacorn-1b', ''), ('codellama-7b', 'like Llama'), ('grok-2', 'a service'), ('claudette', '')])
def test_a_name_sounds_like_a_family_as_a_whole_word(tmp_path, model, said):
    row = next(x for x in dataset_card(folder_of(tmp_path, [Instance('Name a bird of the sea.', '', 'A tern.')], toml=f'M_g.base_url = "http://localhost:1"\nM_g.model = "{model}"')).splitlines() if x.startswith('| writes the data'))
    assert 'not known to psi' in row and ('sounds like' in row) == bool(said) and said in row

@pytest.mark.parametrize('url, theirs', [('https://api.openai.com/v1', True), ('https://eu.api.openai.com/v1', True), ('https://api.openai.com.evil.example/v1', False), ('https://notapi.openai.com/v1', False), ('https://x.example/api.openai.com', False), ('http://[x', False)])
def test_openais_terms_are_openais(url, theirs):
    from psi.config import ModelConfig
    from psi.datacard import _terms
    assert ("OpenAI's terms" in _terms(ModelConfig(model='x', base_url=url))) == theirs

@pytest.mark.parametrize('seeds', ['https://u:SECRET@h.example/x.jsonl?token=SECRET', 'https://h.example/x.jsonl#SECRET', 'https://u:SECRET@h.example', 'https://h.example/x?a=/SECRET', 's3://SECRET/x.jsonl', 'x.jsonl?token=SECRET'])
def test_an_address_of_seeds_keeps_its_file_name_alone(tmp_path, seeds):
    text = dataset_card(folder_of(tmp_path, [Instance('Name a bird of the sea.', '', 'A tern.')], toml=f'seeds = "{seeds}"'))
    assert 'SECRET' not in text and 'h.example' not in text and ('from x' in text or 'from ADDRESS' in text)

def test_fences_and_text():
    for x in HOSTILE:
        assert plain_html(fenced(x)).count('<pre>') == 1 and plain_html(fenced(x)).rstrip().endswith('</pre>')
        assert '\n' not in as_text(x)
        assert not re.search('<(?!br|/?p)', plain_html(as_text(x))), x

def test_the_model_card_shows_hostile_principles_as_text_and_knows_the_licences_that_psi_knows():
    r = dict(name='m', settings=dict(lora=0, template='alpaca', lr=2e-5, schedule='cosine', epochs=3., batch=32, weight_decay=0., clip=1., seed=0, precision='bf16', max_length=512), data=dict(principles=HOSTILE, instances=1), base=dict(name='gemma3-270m-base', sha256='f'*64),
        lessons=dict(used=1, truncated=0, dropped={}), licences={}, carbon='not measured', versions={}, recipe=dict(more={}), options=dict(optim='adamw', warmup_steps=1), hardware=dict(devices=1, device='cpu', cores=2, system='x'), result=dict(steps=1, tokens=1, seconds=1., loss_first=2., loss_last=1., dtype='bf16'))
    text = model_card(r).split('\n---\n')[1]
    assert 'Licence: gemma.' in text and '<script' not in plain_html(text) and plain_html(text).count('<h2>') == 3


def test_a_file_that_is_not_psis_or_was_edited_stays(done, tmp_path):
    path = done.folder/'README.md'
    done.card(told=Told('mit'))
    assert 'license: mit' in path.read_text()
    path.write_text(path.read_text().replace('## Limits', '## Limits, as we see them'))
    with pytest.raises(ConfigError, match='was edited since'): done.card()
    path.write_text(path.read_text().replace('## Limits, as we see them', '## Limits').replace('license: mit', 'license: odc-by'))   # the header counts, too
    with pytest.raises(ConfigError, match='was edited since'): done.card()
    assert card_is_current(done)
    done.card(force=True)
    other = tmp_path/'mine.md'
    other.write_text('mine')
    with pytest.raises(ConfigError, match='psi did not write it'): done.card(other)
    assert other.read_text() == 'mine'
    with pytest.raises(ConfigError, match=r'ends in \.md'): done.card(done.folder/'instances.jsonl', force=True)
    assert len(Run(done.folder).instances) == 30

def test_benchmarks_are_looked_for_when_asked(shared, tmp_path):
    question = json.loads((shared/'data'/'gsm8k'/'test.jsonl').read_text().splitlines()[0])['question'] if (shared/'data'/'gsm8k'/'test.jsonl').exists() else pytest.skip('no gsm8k/test.jsonl')
    folder = tmp_path/'only'; folder.mkdir(); (folder/'gsm8k').symlink_to(shared/'data'/'gsm8k')
    r = folder_of(tmp_path/'r', [Instance(question, '', '18'), Instance('Name a bird of the sea.', '', 'A tern.')])
    assert 'It was not compared with any benchmark' in dataset_card(r)
    row = next(x for x in dataset_card(r, benchmarks=str(folder)).splitlines() if x.startswith('| GSM8K'))
    assert '| 1 (50.00%) |' in row

def test_an_unfinished_run_has_no_card(tmp_path):
    (tmp_path/'psi.toml').write_text('name = "x"')
    with pytest.raises(DataError, match='has no instances yet'): Run(tmp_path).card()
    assert not (tmp_path/'README.md').exists()


class Hub(ThreadingHTTPServer):
    "As much of the hub as a push needs; it keeps what it is asked and what it gets"
    daemon_threads = True
    def __init__(self, there=None, fail=(), mode='regular'):
        self.there, self.fail, self.mode, self.asked, self.files, self.objects, self.tokens, self.parent = there, dict(fail), mode, [], {}, {}, set(), ''
        super().__init__(('127.0.0.1', 0), Page)
    @property
    def url(self): return f'http://127.0.0.1:{self.server_port}'
    def __enter__(self): threading.Thread(target=self.serve_forever, daemon=True).start(); return self
    def __exit__(self, *a): self.shutdown(); self.server_close()

class Page(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): "Stay quiet"
    def answer(self, status, d):
        out = json.dumps(d).encode()
        self.send_response(status); self.send_header('Content-Type', 'application/json'); self.send_header('Content-Length', str(len(out)))
        if status == 404: self.send_header('X-Error-Code', 'RepoNotFound')
        self.end_headers(); self.wfile.write(out)
    def do_GET(self): self.do('GET')
    def do_POST(self): self.do('POST')
    def do_PUT(self): self.do('PUT')
    def do(self, verb):
        hub, path, raw = self.server, self.path.split('?')[0], self.rfile.read(int(self.headers['Content-Length'] or 0))
        what = next((k for k in ('create', 'validate-yaml', 'preupload', 'batch', 'commit', 'store', 'resolve') if f'/{k}' in path), 'info')
        hub.asked.append(what); hub.tokens.add(self.headers.get('Authorization', ''))
        if what in hub.fail: return self.answer(hub.fail[what], {'error': f'no: {self.headers.get("Authorization")} may not'})
        getattr(self, what.replace('-', '_'))(raw, path)
    def info(self, raw, path): self.answer(404, {'error': 'Repository not found'}) if self.server.there is None else self.answer(200, dict(id='me/birds', sha='0'*40, private=self.server.there == 'private', siblings=[dict(rfilename=k) for k in self.server.files]))
    def resolve(self, raw, path):
        out = self.server.files[path.split('/resolve/' + '0'*40 + '/')[1]]
        self.send_response(200); self.send_header('Content-Length', str(len(out))); self.end_headers(); self.wfile.write(out)
    def create(self, raw, path): self.server.there = json.loads(raw)['visibility']; self.answer(200, {'url': f'{self.server.url}/datasets/me/birds', 'name': 'me/birds'})
    def validate_yaml(self, raw, path): DatasetCard(json.loads(raw)['content']); self.answer(200, {'warnings': [], 'errors': []})
    def preupload(self, raw, path): self.answer(200, {'files': [dict(path=f['path'], uploadMode='regular' if f['path'].endswith('.md') else self.server.mode, shouldIgnore=False) for f in json.loads(raw)['files']]})
    def batch(self, raw, path): self.answer(200, {'transfer': 'basic', 'objects': [dict(o, actions={'upload': {'href': f'{self.server.url}/store/{o["oid"]}'}}) for o in json.loads(raw)['objects']]})
    def store(self, raw, path): self.server.objects[path.rsplit('/')[-1]] = raw; self.answer(200, {})
    def commit(self, raw, path):
        for x in map(json.loads, raw.splitlines()):
            if x['key'] == 'header': self.server.parent = x['value'].get('parentCommit', '')
            if x['key'] == 'deletedFile': del self.server.files[x['value']['path']]
            if x['key'] == 'file': self.server.files[x['value']['path']] = base64.b64decode(x['value']['content'])
            if x['key'] == 'lfsFile': self.server.files[x['value']['path']] = self.server.objects[x['value']['oid']]
        self.answer(200, {'commitUrl': f'{self.server.url}/datasets/me/birds/commit/abc', 'commitOid': 'abc'})


@pytest.fixture
def online(monkeypatch, tmp_path):
    "A login that is nobody's, and no rule against asking a hub: the tests' own is on this machine"
    from huggingface_hub import constants
    for k, v in dict(HF_HUB_OFFLINE=False, HF_HUB_DISABLE_XET=True).items(): monkeypatch.setattr(constants, k, v)
    monkeypatch.setenv('HF_TOKEN', TOKEN); monkeypatch.setenv('NO_PROXY', '127.0.0.1')


def test_a_dry_run_asks_nothing(done, online):
    with Hub() as hub: p = push(done, 'me/birds', endpoint=hub.url)
    assert hub.asked == [] and p.sent == '' and 'dry run' in p._repr_markdown_() and 'private dataset of 30' in p._repr_markdown_()

@pytest.mark.parametrize('mode', ['regular', 'lfs'])
def test_what_arrives_is_what_was_shown_and_can_be_loaded(done, online, tmp_path, mode):
    with Hub(mode=mode) as hub: p = push(done, 'me/birds', yes=True, endpoint=hub.url)
    assert hub.files == p.files == pack(done) and hub.there == 'private' and p.sent.endswith('/commit/abc') and hub.asked.count('commit') == 1
    assert set(hub.files) == {'README.md', 'data/train.jsonl', 'principles.jsonl'} and bool(hub.objects) == (mode == 'lfs')
    assert f'Bearer {TOKEN}' in hub.tokens and TOKEN not in p._repr_markdown_() + repr(p)
    for k, v in hub.files.items(): (tmp_path/'there'/k).parent.mkdir(parents=True, exist_ok=True); (tmp_path/'there'/k).write_bytes(v)
    data = load_dataset(str(tmp_path/'there'), split='train', cache_dir=str(tmp_path/'cache'))
    assert data.column_names == ['id', 'instruction', 'input', 'output'] and list(data['id']) == [x.id for x in done.instances] and list(data['output']) == [x.output for x in done.instances]
    assert list(load_dataset(str(tmp_path/'there'), 'principles', split='train', cache_dir=str(tmp_path/'cache'))['text']) == [x.text for x in done.principles]

def test_visibility(done, online):
    with Hub() as hub: push(done, 'me/birds', yes=True, public=True, endpoint=hub.url)
    assert hub.there == 'public'
    for there, public, said in (('public', False, 'is there already, and public'), ('private', True, 'is there already, and private')):
        with Hub(there) as hub, pytest.raises(ConfigError, match=said): push(done, 'me/birds', yes=True, public=public, endpoint=hub.url)
        assert hub.asked == ['info']
    with Hub('private') as hub: push(done, 'me/birds', yes=True, endpoint=hub.url)
    assert 'create' not in hub.asked and len(hub.files) == 3

def test_what_psi_did_not_write_stays(done, online):
    theirs = {'README.md': b'# Years of work\n', 'data/train.jsonl': b'{}\n', 'notes.txt': b'mine'}
    for files in (theirs, {'data/train.jsonl': b'{}\n'}):
        with Hub('private') as hub:
            hub.files = dict(files)
            with pytest.raises(ConfigError, match='psi did not write its card'): push(done, 'me/birds', yes=True, endpoint=hub.url)
            assert hub.files == files and 'commit' not in hub.asked
            push(done, 'me/birds', yes=True, replace=True, endpoint=hub.url)
            assert hub.files == {k: v for k, v in files.items() if k == 'notes.txt'} | pack(done)
    with Hub('private') as hub:   # nothing of psi's names in it: nothing is lost
        hub.files = {'.gitattributes': b''}
        push(done, 'me/birds', yes=True, endpoint=hub.url)
        assert set(hub.files) == {'.gitattributes', *pack(done)}

def test_a_second_push_takes_away_what_the_dataset_has_no_more(done, online):
    with Hub() as hub:
        push(done, 'me/birds', yes=True, endpoint=hub.url)
        assert 'principles.jsonl' in hub.files and not hub.parent
        hub.files['notes.txt'] = b'mine'
        (done.folder/'principles.jsonl').unlink()
        r = Run(done.folder)
        r.card()
        push(r, 'me/birds', yes=True, endpoint=hub.url)
        assert hub.files == pack(r) | {'notes.txt': b'mine'} and 'principles.jsonl' not in hub.files and hub.parent == '0'*40

def test_a_card_with_an_odd_byte_is_read(done):
    with (done.folder/'README.md').open('ab') as f: f.write(b'caf\xe9\n')
    assert push(done, 'me/birds').files['README.md'].endswith(b'caf\xe9\n')

@pytest.mark.parametrize('where, status, said', [('info', 401, 'does not know the token'), ('create', 403, 'may not write there'), ('create', 409, 'someone else is changing it'), ('commit', 412, 'someone else has changed it'), ('commit', 413, 'too large'), ('commit', 507, 'no room left'), ('create', 500, 'in trouble'), ('validate-yaml', 400, 'refuses it')])
def test_what_the_hub_refuses_is_one_line_without_the_token(done, online, where, status, said):
    with Hub(fail={where: status}) as hub, pytest.raises(EngineError) as e: push(done, 'me/birds', yes=True, endpoint=hub.url)
    assert said in str(e.value) and f'status {status}' in str(e.value) and '\n' not in str(e.value) and 'hf_' not in str(e.value) and TOKEN not in str(e.value)
    assert hub.files == {}

def test_no_hub_no_token_no_network(done, online, monkeypatch):
    with pytest.raises(EngineError, match='cannot be reached'): push(done, 'me/birds', yes=True, endpoint='http://127.0.0.1:9')
    monkeypatch.setattr('huggingface_hub.get_token', lambda: None)
    with Hub() as hub, pytest.raises(ConfigError, match='no token'): push(done, 'me/birds', yes=True, endpoint=hub.url)
    from huggingface_hub import constants
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(ConfigError, match='HF_HUB_OFFLINE is set'): push(done, 'me/birds', yes=True, endpoint=hub.url)
    assert hub.asked == []

@pytest.mark.parametrize('name', ['birds', 'me/', '/birds', 'me/a/b', '../x', 'me/a b', 'me/--x', 'me/x.git', 'me/x-', 'https://hub.example/me/birds', 'me/x\n'])
def test_names(done, name):
    with pytest.raises(ConfigError, match='OWNER/NAME'): push(done, name)


def test_a_card_of_other_data_does_not_go(done, online):
    file = done.folder/'instances.jsonl'
    file.write_text(''.join(file.read_text().splitlines(True)[:-1]))
    with Hub() as hub, pytest.raises(DataError, match='as they are now'): push(Run(done.folder), 'me/birds', yes=True, endpoint=hub.url)
    (done.folder/'README.md').unlink()
    with pytest.raises(DataError, match='psi card'): push(Run(done.folder), 'me/birds')
    assert hub.asked == []

def test_what_the_audit_does_not_pass_does_not_go(done, online):
    (done.folder/'audit.jsonl').write_text('')   # then no guard has seen a request
    with Hub() as hub, pytest.raises(BoundaryError, match='NOT CLEAN'): push(done, 'me/birds', yes=True, endpoint=hub.url)
    assert hub.asked == []


SECRET = 'Patient 4711 takes nine drops of foxglove each morning before the bells of the old chapel ring.'

def test_a_run_with_private_knowledge(tmp_path, online):
    (tmp_path/'ward seven.txt').write_text(SECRET)
    settings = ['name=private', 'generate.n=20', 'generate.principles=zephyr-7b-beta', 'M_g.model=script', 'carbon.measure=false', f'knowledge.source={tmp_path}/ward seven.txt']
    with scripted(script) as url: r = run(read_config(None, [*settings, f'M_g.base_url={url}']), runs=tmp_path, said=lambda line: None)
    text = r.card().read_text()
    assert body(text).index('Made with private knowledge') < body(text).index('## ') and 'private-knowledge' in DatasetCard(text).data.tags
    for word in ('ward seven', 'foxglove', str(tmp_path)): assert word not in text
    assert '0 of 20 instances repeat 8 words' in text and 'no large model was asked' in text
    with Hub() as hub:
        with pytest.raises(BoundaryError, match='--with-private-knowledge'): push(r, 'me/birds', yes=True, endpoint=hub.url)
        assert hub.asked == []
        push(r, 'me/birds', yes=True, with_private=True, endpoint=hub.url)
    sent = b''.join(hub.files.values())
    assert len(hub.files) == 3 and b'foxglove' not in sent and b'ward seven' not in sent and str(tmp_path).encode() not in sent

    (r.folder/'README.md').write_text(f'{text}\nWe showed it this: {SECRET}\n')   # a slip of the pen
    with Hub() as hub, pytest.raises(BoundaryError, match='surfaces in 1'): push(r, 'me/birds', yes=True, with_private=True, endpoint=hub.url)
    assert hub.asked == []
    r.card(force=True)

    write_records(r.folder/'instances.jsonl', [Instance(y.instruction, y.input, SECRET, y.origin) for y in r.instances])   # now K surfaces, in each
    r = Run(r.folder)
    text = r.card().read_text()
    assert 'foxglove' not in text and 'No example is shown' in text and '20 of 20 instances repeat' in text
    with Hub() as hub, pytest.raises(BoundaryError, match='surfaces in 20') as e: push(r, 'me/birds', yes=True, with_private=True, endpoint=hub.url)
    assert hub.asked == [] and 'foxglove' not in str(e.value)

    (tmp_path/'ward seven.txt').unlink()   # nothing to compare with: nothing is shown, nothing goes
    text = Run(r.folder).card().read_text()
    assert 'foxglove' not in text and 'not shown, since the private knowledge is not there' in text and 'The audit: not made' in text
    with pytest.raises((DataError, ConfigError)): push(Run(r.folder), 'me/birds', with_private=True)
    (tmp_path/'moved.txt').write_text(SECRET)
    assert '20 of 20 instances' in Run(r.folder).card(knowledge=f'{tmp_path}/moved.txt').read_text()


@pytest.mark.parametrize('rules, holds', [(['terms'], 'Project Falconbridge ships in May.'), (['patterns'], 'Part ACME_77 ships in May.'), (['terms', 'patterns'], 'Falconbridge: ACME_77.')])
def test_terms_and_patterns_do_not_go(tmp_path, rules, holds):
    "Without any private knowledge"
    (tmp_path/'terms.txt').write_text('Falconbridge\n')
    sets = dict(terms=f'boundary.terms={tmp_path}/terms.txt', patterns='boundary.patterns=["ACME_[0-9]+"]')
    with scripted(script) as url: r = run(read_config(None, ['name=ours', 'generate.n=20', 'generate.principles=zephyr-7b-beta', 'M_g.model=script', f'M_g.base_url={url}', 'carbon.measure=false', *map(sets.get, rules)]), runs=tmp_path, said=lambda line: None)
    text = r.card().read_text()
    assert '0 of 20 instances hold a term or a pattern' in text and 'terms.txt' not in text and 'ACME' not in text and push(r, 'me/x', public=True).instances == 20

    path = r.folder/'README.md'
    path.write_text(f'{text}\n{holds.replace("_", chr(92) + "_")}\n')   # as Markdown would show it
    with pytest.raises(BoundaryError, match='what may not leave surfaces in 1'): push(r, 'me/x', public=True)
    clean, said = r.principles, Principle(f'Keep in mind: {holds}')
    write_records(r.folder/'principles.jsonl', [*clean, said])
    r = Run(r.folder)
    text = r.card(force=True).read_text()
    assert 'Falconbridge' not in text and 'ACME' not in text and text.count('left out: it repeats what may not leave') == 1
    with pytest.raises(BoundaryError, match='what may not leave surfaces in 1'): push(r, 'me/x')

    write_records(r.folder/'principles.jsonl', clean)
    write_records(r.folder/'instances.jsonl', [Instance(y.instruction, y.input, holds, y.origin) for y in r.instances])
    r = Run(r.folder)
    text = r.card().read_text()
    assert 'Falconbridge' not in text and 'ACME' not in text and 'No example is shown' in text and '20 of 20 instances hold a term or a pattern' in text
    for public in (False, True):
        with pytest.raises(BoundaryError, match='surfaces in 20') as e: push(r, 'me/x', public=public, with_private=True)
        assert 'Falconbridge' not in str(e.value) and 'ACME' not in str(e.value)
    assert {s.words for s in r.surfaced()} == {0} and len(r.surfaced()) == 20
    from psi.cli import _surfaced   # what psi audit --data shows
    assert 'or hold a term or a pattern' in _surfaced(r.surfaced(), 20) and '| a term or pattern | ' in _surfaced(r.surfaced(), 20)
    (r.folder/'manifest.json').unlink()   # nothing to compare with
    text = r.card().read_text()
    assert 'Falconbridge' not in text and 'ACME' not in text and 'not shown, since the list of what may not leave is not there' in text


def test_the_commands(done, tmp_path):
    "As typed, with a hub by its environment variable"
    with Hub() as hub:
        env = {k: v for k, v in os.environ.items() if k not in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')} | dict(HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN, HF_HOME=str(tmp_path/'home'), NO_PROXY='127.0.0.1', PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
        psi = lambda *a: subprocess.run([sys.executable, '-c', 'import sys; sys.argv[0] = "psi"; from psi.cli import main; main()', *map(str, a)], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert 'psi push' in psi('card', done.folder, '--license', 'odc-by', '--language', 'en,de', '--title', 'Birds').stdout
        data = DatasetCard.load(done.folder/'README.md').data
        assert (data.license, data.language, data.pretty_name) == ('odc-by', ['en', 'de'], 'Birds')
        assert 'nothing was sent' in psi('push', done.folder, 'me/birds').stdout and hub.asked == []
        sent = psi('push', done.folder, 'me/birds', '--yes')
        assert f'{hub.url}/datasets/me/birds/commit/abc' in sent.stdout and set(hub.files) == {'README.md', 'data/train.jsonl', 'principles.jsonl'} and TOKEN not in sent.stdout + sent.stderr
        hub.files['README.md'] = b'# Mine'
        theirs = psi('push', done.folder, 'me/birds', '--yes')
        assert theirs.returncode == 1 and '--replace' in theirs.stderr and len(theirs.stderr.strip().splitlines()) == 1 and hub.files['README.md'] == b'# Mine'
        assert psi('push', done.folder, 'me/birds', '--yes', '--replace').returncode == 0 and hub.files['README.md'] == (done.folder/'README.md').read_bytes()
        hub.fail['commit'] = 403
        failed = psi('push', done.folder, 'me/birds', '--yes')
        assert failed.returncode == 1 and len(failed.stderr.strip().splitlines()) == 1 and failed.stderr.startswith('psi: me/birds: ') and TOKEN not in failed.stderr
        wrong = psi('card', done.folder, '--language', 'Deutsch')
        assert wrong.returncode == 1 and len(wrong.stderr.strip().splitlines()) == 1
