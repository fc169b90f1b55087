"""A small random llama as GGUF, with the tiny model's tokenizer, and its logits from transformers in fp32.

    python tests/golden/gen_export.py

Writes tests/fixtures/export/tiny.gguf (Q8_0, Q4_0, Q4_1, F16 and F32 tensors, q and k rows interleaved, llama 3's rotary
scaling as divisors, a tied head) and golden.safetensors: ids (T) and logits (T, V) of a LlamaForCausalLM that was built
from the file's tensors with the gguf package, and for texts.json what the tokenizers package makes of each text.
"""
import json
import math
import os

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

L, C, F, H, K, D = 3, 32, 64, 4, 2, 8
THETA, CONTEXT = 10000.0, 256
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "fixtures", "export")
TOKENIZER = os.path.join(HERE, "..", "fixtures", "tiny", "tokenizer.json")
KINDS = gguf.GGMLQuantizationType
TEXTS = ["The committee met on Tuesday, 24.12.2021, to discuss the new library.", "  deux   espaces\n\net des lignes\t\u00e9t\u00e9 12345",
         "<|im_start|>user\nnot a token here<|im_end|>", "\u4f60\u597d \U0001f600 it's we'll I'D", "", " ", "a"]
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
SITES = [("self_attn.q_proj", "attn_q", (H * D, C), KINDS.Q8_0), ("self_attn.k_proj", "attn_k", (K * D, C), KINDS.F16),
         ("self_attn.v_proj", "attn_v", (K * D, C), KINDS.Q4_0), ("self_attn.o_proj", "attn_output", (C, H * D), KINDS.Q4_1),
         ("mlp.gate_proj", "ffn_gate", (F, C), KINDS.Q4_0), ("mlp.up_proj", "ffn_up", (F, C), KINDS.Q8_0),
         ("mlp.down_proj", "ffn_down", (C, F), KINDS.Q4_1)]


def interleave(x, heads):
    return np.ascontiguousarray(x.reshape(heads, 2, x.shape[0] // heads // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape))


def divisors():
    out = []
    low, high = ROPE["low_freq_factor"], ROPE["high_freq_factor"]
    for i in range(0, D, 2):
        wave = 2 * math.pi * THETA ** (i / D)
        smooth = (64 / wave - low) / (high - low)
        out.append(1.0 if wave < 64 / high else ROPE["factor"] if wave > 64 / low else 1 / ((1 - smooth) / ROPE["factor"] + smooth))
    return np.array(out, dtype=np.float32)


class Writer:
    def __init__(self, path):
        self.gguf, self.weights = gguf.GGUFWriter(path, "llama"), {}

    def add(self, name, stored_as, x, kind, heads=0):
        """The weight that the file means is what its blocks give back."""
        if kind in (KINDS.F32, KINDS.F16):
            stored = x.astype(np.float32 if kind == KINDS.F32 else np.float16)
            back = stored.astype(np.float32)
            self.gguf.add_tensor(stored_as, interleave(stored, heads) if heads else stored)
        else:
            stored = gguf.quants.quantize(x, kind)
            back = gguf.quants.dequantize(stored, kind)
            self.gguf.add_tensor(stored_as, interleave(stored, heads) if heads else stored, raw_dtype=kind)
        self.weights[name] = torch.from_numpy(np.ascontiguousarray(back))


def write_metadata(w, tokenizer):
    w.add_name("tiny")
    w.add_block_count(L)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(C)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_head_count_kv(K)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(THETA)
    w.add_rope_dimension_count(D)
    vocab = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {t["id"] for t in tokenizer["added_tokens"]}
    assert [i for _, i in vocab] == list(range(len(vocab)))
    w.add_vocab_size(len(vocab))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([t for t, _ in vocab])
    w.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for _, i in vocab])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_pad_token_id(2)
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    return len(vocab)


def main():
    os.makedirs(OUT, exist_ok=True)
    random = np.random.default_rng(11)
    w = Writer(os.path.join(OUT, "tiny.gguf"))
    with open(TOKENIZER) as f:
        V = write_metadata(w.gguf, json.load(f))
    w.gguf.add_tensor("rope_freqs.weight", divisors())
    normal = lambda shape, scale: (scale * random.standard_normal(shape)).astype(np.float32)
    w.add("model.embed_tokens.weight", "token_embd.weight", normal((V, C), 0.5), KINDS.Q8_0)
    w.add("model.norm.weight", "output_norm.weight", 1 + normal(C, 0.1), KINDS.F32)
    for i in range(L):
        for name, stored in (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")):
            w.add(f"model.layers.{i}.{name}.weight", f"blk.{i}.{stored}.weight", 1 + normal(C, 0.1), KINDS.F32)
        for name, stored, shape, kind in SITES:
            heads = H if stored == "attn_q" else K if stored == "attn_k" else 0
            w.add(f"model.layers.{i}.{name}.weight", f"blk.{i}.{stored}.weight", normal(shape, 0.3), kind, heads)
    w.gguf.write_header_to_file()
    w.gguf.write_kv_data_to_file()
    w.gguf.write_tensors_to_file()
    w.gguf.close()

    config = LlamaConfig(vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=H,
                         num_key_value_heads=K, head_dim=D, rms_norm_eps=1e-5, max_position_embeddings=CONTEXT,
                         rope_parameters=dict(ROPE, rope_theta=THETA), tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(w.weights, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected
    model.tie_weights()
    tokenizer = Tokenizer.from_file(TOKENIZER)
    ids = torch.from_numpy(random.integers(0, V, 100))
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    save_file({"ids": ids.float(), "logits": logits[::7].contiguous()}, os.path.join(OUT, "golden.safetensors"))
    with open(os.path.join(OUT, "texts.json"), "w") as f:
        rows = [json.dumps({"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids}) for t in TEXTS]
        f.write("[" + ",\n ".join(rows) + "]\n")


main()
