#!/usr/bin/env python3
"""One small random llama in every container, for tests/unit/test_model_file.c and its neighbours.

usage: gen_formats.py OUT          writes the fixtures
       gen_formats.py --seeds DIR  writes the seeds of tests/fuzz: a still smaller model, config files
       gen_formats.py --read FILE  loads a .safetensors file that nres wrote and prints what is in it
Needs torch, safetensors and gguf. The weights are bfloat16 values, so that every container holds
the same numbers: OUT/single (BF16), OUT/sharded (F32 and F16 in two shards), OUT/tiny.gguf (F32, q and k
rows interleaved as llama files have them), OUT/quant.gguf (Q8_0 and Q4_1), OUT/written.safetensors.
"""
import json
import math
import os
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

L, C, F, H, K, D, V = 2, 32, 64, 4, 2, 8, 48
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": C, "intermediate_size": F,
          "num_hidden_layers": L, "num_attention_heads": H, "num_key_value_heads": K, "head_dim": D, "vocab_size": V,
          "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": ROPE,
          "max_position_embeddings": 128, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False,
          "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": None, "torch_dtype": "bfloat16",
          "initializer_range": 0.02, "use_cache": True, "attention_dropout": 0.0, "pretraining_tp": 1,
          "transformers_version": "4.40.0"}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def make_weights():
    g = torch.Generator().manual_seed(5)
    shapes = {"model.embed_tokens.weight": (V, C), "model.norm.weight": (C,), "lm_head.weight": (V, C)}
    for i in range(L):
        p = f"model.layers.{i}."
        for name, out, n in (("self_attn.q_proj", H * D, C), ("self_attn.k_proj", K * D, C), ("self_attn.v_proj", K * D, C),
                             ("self_attn.o_proj", C, H * D), ("mlp.gate_proj", F, C), ("mlp.up_proj", F, C),
                             ("mlp.down_proj", C, F)):
            shapes[p + name + ".weight"] = (out, n)
            shapes[p + name + ".bias"] = (out,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[p + name + ".weight"] = (C,)
    return {k: torch.randn(s, generator=g).to(torch.bfloat16) for k, s in shapes.items()}


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_folders(out, weights):
    single, sharded = os.path.join(out, "single"), os.path.join(out, "sharded")
    for folder in (single, sharded):
        os.makedirs(folder, exist_ok=True)
        write_json(os.path.join(folder, "config.json"), CONFIG)
    save_file(weights, os.path.join(single, "model.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(single, "generation_config.json"), {"bos_token_id": 1, "eos_token_id": [2, 4], "do_sample": True})
    write_json(os.path.join(single, "tokenizer_config.json"),
               {"add_bos_token": True, "chat_template": [{"name": "tool", "template": "no"}, {"name": "default", "template": "{{ messages }}"}]})
    map_, half = {}, len(weights) // 2
    for number, names in enumerate((list(weights)[:half], list(weights)[half:]), 1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        kind = torch.float32 if number == 1 else torch.float16
        part = {n: weights[n].to(kind) for n in names}
        for n in names:  # halfs have fewer exponents: keep what they can't hold
            if not torch.equal(part[n].float(), weights[n].float()):
                part[n] = weights[n]
            map_[n] = shard
        save_file(part, os.path.join(sharded, shard), metadata={"format": "pt"})
    write_json(os.path.join(sharded, "model.safetensors.index.json"), {"metadata": {"total_size": 0}, "weight_map": map_})


def interleave(x, heads):
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def gguf_name(name):
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in outer:
        return outer[name]
    _, _, layer, rest = name.split(".", 3)
    stem, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[stem]}.{kind}"


def divisors():
    out = []
    for i in range(0, D, 2):
        wave = 2 * math.pi * 10000.0 ** (i / D)
        low, high = 64 / ROPE["low_freq_factor"], 64 / ROPE["high_freq_factor"]
        if wave < high:
            out.append(1.0)
        elif wave > low:
            out.append(ROPE["factor"])
        else:
            smooth = (64 / wave - ROPE["low_freq_factor"]) / (ROPE["high_freq_factor"] - ROPE["low_freq_factor"])
            out.append(1 / ((1 - smooth) / ROPE["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write_gguf(path, weights, quantised):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("tiny")
    w.add_block_count(L)
    w.add_context_length(128)
    w.add_embedding_length(C)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_head_count_kv(K)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(D)
    w.add_vocab_size(V)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([f"t{i}" for i in range(V)])
    w.add_token_types([1] * V)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.add_chat_template("{{ messages }}")
    if not quantised:
        w.add_tensor("rope_freqs.weight", divisors())
    for name, t in weights.items():
        x = t.float().numpy()
        if "q_proj" in name:
            x = interleave(x, H)
        if "k_proj" in name:
            x = interleave(x, K)
        x = np.ascontiguousarray(x)
        if quantised and x.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0 if "embed" in name else gguf.GGMLQuantizationType.Q4_1
            w.add_tensor(gguf_name(name), gguf.quants.quantize(x, kind), raw_dtype=kind)
        else:
            w.add_tensor(gguf_name(name), x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_written(path):
    """The same tensors are written by tests/unit/test_safetensors.c: the bytes must be equal."""
    save_file({"b": torch.arange(6, dtype=torch.float32).reshape(2, 3), "a": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
               "c": torch.tensor([0.5], dtype=torch.float16), "d": torch.tensor(3.0, dtype=torch.float64),
               "e": torch.zeros((0, 4))}, path, metadata={"format": "pt"})


def write_seeds(out):
    global L, C, F, H, K, D, V
    L, C, F, H, K, D, V = 1, 8, 4, 2, 1, 4, 6
    for kind in ("gguf", "safetensors", "config"):
        os.makedirs(os.path.join(out, kind), exist_ok=True)
    weights = make_weights()
    write_gguf(os.path.join(out, "gguf", "small.gguf"), weights, False)
    write_gguf(os.path.join(out, "gguf", "tied.gguf"), {k: v for k, v in weights.items() if "lm_head" not in k and "bias" not in k}, False)
    L, C, F, H, K, D, V = 1, 32, 32, 2, 1, 16, 4
    write_gguf(os.path.join(out, "gguf", "quant.gguf"), make_weights(), True)
    save_file({"a.b": torch.zeros(2, 3), "c": torch.zeros(3, dtype=torch.bfloat16)},
              os.path.join(out, "safetensors", "two.safetensors"), metadata={"format": "pt"})
    save_file({}, os.path.join(out, "safetensors", "none.safetensors"))
    small = {"model_type": "mistral", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": None, "eos_token_id": 2}
    write_json(os.path.join(out, "config", "llama3.json"), CONFIG)
    write_json(os.path.join(out, "config", "mistral.json"), small)
    write_json(os.path.join(out, "config", "linear.json"),
               dict(small, model_type="llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
                    layer_types=["full_attention"], quantization_config=None))


def main():
    if sys.argv[1] == "--seeds":
        write_seeds(sys.argv[2])
        return
    if sys.argv[1] == "--read":
        for name, t in sorted(load_file(sys.argv[2]).items()):
            print(name, t.dtype, tuple(t.shape), t.double().sum().item())
        return
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    weights = make_weights()
    write_folders(out, weights)
    write_gguf(os.path.join(out, "tiny.gguf"), weights, False)
    write_gguf(os.path.join(out, "quant.gguf"), weights, True)
    write_written(os.path.join(out, "written.safetensors"))


if __name__ == "__main__":
    main()
