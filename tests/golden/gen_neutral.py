"""Golden for the method: a tiny Llama and neutral residues in PyTorch, float64.

Writes tests/fixtures/neutral: the backbone as a Hugging Face folder, and for
each case the adapter's weights, the losses and all gradients.

    python tests/golden/gen_neutral.py
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "bench"))
from peer_neutral import extend, losses  # noqa: E402

CASES = [  # name, width, gate, bias, loss settings
    ("elu", 8, "elu", False, dict(alpha=3.0)),
    ("elu_sum_bias", 5, "elu", True, dict(alpha=0.5, reduction="sum")),
    ("relu", 8, "relu", False, dict(alpha=10.0, target="a")),
    ("sigmoid", 8, "sigmoid", False, dict(alpha=2.0, ce=True, beta=0.7)),
    ("none", 8, "none", False, dict(alpha=1.0)),
]


def backbone(config, seed):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).to(torch.float64)
    model.config._attn_implementation = "eager"
    return model


def main():
    out = os.path.join(here, "..", "fixtures", "neutral")
    os.makedirs(out, exist_ok=True)
    config = LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
                         tie_word_embeddings=True, initializer_range=0.3, bos_token_id=0, eos_token_id=0)
    model = backbone(config, 1)
    # float32 on disk, so that both sides start from the same numbers
    weights = {k: v.float().contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    plain = dict(model_type="llama", vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
                 num_attention_heads=4, num_key_value_heads=2, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=10000.0,
                 tie_word_embeddings=True, max_position_embeddings=64, bos_token_id=0, eos_token_id=0)
    json.dump(plain, open(os.path.join(out, "config.json"), "w"), indent=1)
    golden = {}
    for number, (name, width, gate, bias, setting) in enumerate(CASES):
        model = backbone(config, 1)
        model.load_state_dict({k: v.double() for k, v in weights.items()}, strict=False)
        model.tie_weights()
        torch.manual_seed(100 + number)
        adapters = extend(model, width, gate, bias, torch.float64)
        for adapter in adapters:
            for key, p in adapter.named_parameters():
                if p.requires_grad:
                    p.data = (0.4 * torch.randn(p.shape)).float().double()
        ids = torch.randint(0, 40, (3, 7))
        targets = torch.randint(0, 40, (3, 7))
        targets[0, 5] = -1
        is_new = torch.tensor([True, False, True])
        lm, l1, ce, total = losses(model, adapters, ids, targets, is_new, **setting)
        total.backward()
        golden[f"{name}.ids"], golden[f"{name}.targets"] = ids.double().flatten(), targets.double().flatten()
        golden[f"{name}.losses"] = torch.stack([torch.as_tensor(x, dtype=torch.float64).detach() for x in (lm, l1, ce, total)])
        for l, adapter in enumerate(adapters):
            for key, p in adapter.named_parameters():
                if p.requires_grad:
                    golden[f"{name}.value.layers.{l}.{key}"] = p.detach().clone()
                    golden[f"{name}.grad.layers.{l}.{key}"] = p.grad.clone()
        print(name, [float(x) for x in (lm, l1, ce, total)])
    save_file(golden, os.path.join(out, "golden.safetensors"))


main()
