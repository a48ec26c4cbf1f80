"A GGUF becomes a transformers folder: the same tokens, the same scores, whole or not at all"
import json, os
import numpy as np
import pytest
from psi.base import base_folder, best_dtype, has_chat_template, load_model, load_tokenizer, practice_model, quiet
from psi.core import ConfigError, EngineError, packaged_seeds

gguf, torch = pytest.importorskip('gguf'), pytest.importorskip('torch')


def as_gguf(folder, path, kind='smollm', architecture='llama'):
    "A practice model as llama.cpp would have it"
    model, d = load_model(folder, torch.float32, 'cpu'), json.loads((folder/'tokenizer.json').read_text())
    c, weights, w = model.config, model.state_dict(), gguf.GGUFWriter(path, architecture)
    w.add_block_count(c.num_hidden_layers); w.add_context_length(c.max_position_embeddings); w.add_embedding_length(c.hidden_size); w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads); w.add_head_count_kv(c.num_key_value_heads); w.add_layer_norm_rms_eps(c.rms_norm_eps); w.add_rope_freq_base(10000.); w.add_vocab_size(c.vocab_size)
    vocab = sorted(d['model']['vocab'], key=d['model']['vocab'].get)
    w.add_tokenizer_model('gpt2'); w.add_tokenizer_pre(kind); w.add_token_list(vocab); w.add_token_types([3, 3] + [1]*(len(vocab) - 2))
    w.add_token_merges([' '.join(m) if isinstance(m, list) else m for m in d['model']['merges']]); w.add_bos_token_id(0); w.add_eos_token_id(1); w.add_add_bos_token(True)
    names = {'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output', 'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down',
             'input_layernorm': 'attn_norm', 'post_attention_layernorm': 'ffn_norm'}
    def put(name, t): w.add_tensor(name, np.ascontiguousarray(t.numpy().astype('float32')))
    put('token_embd.weight', weights['model.embed_tokens.weight']); put('output_norm.weight', weights['model.norm.weight'])
    for i in range(c.num_hidden_layers):
        for ours, theirs in names.items():
            t, heads = weights[f'model.layers.{i}.{ours}.weight'], {'attn_q': c.num_attention_heads, 'attn_k': c.num_key_value_heads}.get(theirs)
            if heads: t = t.reshape(heads, 2, t.shape[0]//heads//2, -1).swapaxes(1, 2).reshape(t.shape)   # llama.cpp turns pairs, transformers halves
            put(f'blk.{i}.{theirs}.weight', t)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return path


def test_a_gguf(tmp_path, monkeypatch):
    monkeypatch.setenv('PSI_MODELS', str(tmp_path/'models'))
    tiny, heard = practice_model(tmp_path/'tiny'), []
    path = as_gguf(tiny, tmp_path/'tiny-q.gguf')
    folder = base_folder(path, heard.append)
    assert len(heard) == 1 and 'unpacking' in heard[0] and folder.parent == tmp_path/'models'/'transformers' and folder.name.startswith('tiny-q-')
    assert base_folder(path, heard.append) == folder and len(heard) == 1
    assert [p.name for p in folder.parent.iterdir() if not p.name.endswith('.lock')] == [folder.name]
    ours, theirs = load_tokenizer(tiny), load_tokenizer(folder)
    assert theirs.bos_token_id == 0 and theirs.eos_token_id == theirs.pad_token_id == 1 and not has_chat_template(theirs)
    for x in packaged_seeds()[:20]: assert theirs(x.output, add_special_tokens=False)['input_ids'] == ours(x.output, add_special_tokens=False)['input_ids'] or any(ch.isdigit() for ch in x.output)
    assert theirs.convert_ids_to_tokens(theirs('a 12', add_special_tokens=False)['input_ids'])[-2:] == ['1', '2']    # the file asks for digits apart
    ids = torch.arange(2, 60)[None]
    with torch.no_grad(): a, b = load_model(tiny, torch.float32, 'cpu')(ids).logits, load_model(folder, torch.float32, 'cpu')(ids).logits
    assert (a - b).abs().max() < .02 * a.abs().max()     # bfloat16


def test_half_unpacked(tmp_path, monkeypatch):
    "What a kill leaves has another name, and is cleared away"
    monkeypatch.setenv('PSI_MODELS', str(tmp_path/'models'))
    path = as_gguf(practice_model(tmp_path/'tiny'), tmp_path/'t.gguf')
    folder = base_folder(path, lambda line: None)
    part = folder.parent/f'.{folder.name}.part'
    folder.rename(part); (part/'model.safetensors').unlink(); (part/'left').touch()
    assert base_folder(path, lambda line: None) == folder and (folder/'model.safetensors').exists() and not (folder/'left').exists() and not part.exists()


def test_what_cannot_be_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv('PSI_MODELS', str(tmp_path/'models'))
    odd = as_gguf(practice_model(tmp_path/'tiny'), tmp_path/'odd.gguf', architecture='parrot')
    for path, kind, text in ((odd, EngineError, 'cannot unpack it'), (tmp_path/'nothing.gguf', ConfigError, 'no such model')):
        with pytest.raises(kind, match=text) as e: base_folder(path, lambda line: None)
        assert '\n' not in str(e.value)
    (tmp_path/'cut.gguf').write_bytes(odd.read_bytes()[:3000])
    with pytest.raises(EngineError, match='cannot unpack it'): base_folder(tmp_path/'cut.gguf', lambda line: None)
    assert not [p for p in (tmp_path/'models/transformers').iterdir() if not p.name.endswith('.lock')]
