"""Goldens of the methods besides neutral residues: the tiny Llama of tests/fixtures/neutral extended in PyTorch, float64.

LoRA and prefix tuning are PEFT's own; the others are a few lines each around a
frozen transformers model. Writes tests/fixtures/methods/golden.safetensors: for
each case the batch, the trained weights, the losses and all gradients; and
peft_lora, the LoRA of its case as PEFT itself saves it.

    python tests/golden/gen_methods.py
"""
import copy
import json
import os

import torch
import torch.nn.functional as F
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

here = os.path.dirname(os.path.abspath(__file__))
fixtures = os.path.join(here, "..", "fixtures")
SITES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def backbone():
    config = json.load(open(os.path.join(fixtures, "neutral", "config.json")))
    config.pop("model_type")
    model = LlamaForCausalLM(LlamaConfig(**config)).to(torch.float64)
    model.config._attn_implementation = "eager"
    weights = load_file(os.path.join(fixtures, "neutral", "model.safetensors"))
    model.load_state_dict({k: v.double() for k, v in weights.items()}, strict=False)
    model.tie_weights()
    return model.requires_grad_(False)


def new(*shape, size=0.4):
    """A trained weight, exact in float32."""
    return nn.Parameter((size * torch.randn(*shape)).float().double())


class Block(nn.Module):
    """W_out (act(W_gate x) * W_in x)"""

    def __init__(self, C, M):
        super().__init__()
        self.w_gate, self.w_in, self.w_out = new(M, C), new(M, C), new(C, M)

    def forward(self, x):
        return F.linear(F.silu(F.linear(x, self.w_gate)) * F.linear(x, self.w_in), self.w_out)


class Adapted(nn.Module):
    def __init__(self, ffn, C, M, serial):
        super().__init__()
        self.ffn, self.block, self.serial = ffn, Block(C, M), serial

    def forward(self, x):
        f = self.ffn(x)
        return f + self.block(f if self.serial else x)


def adapter(model, width, serial=False):
    for l, layer in enumerate(model.model.layers):
        layer.mlp = Adapted(layer.mlp, model.config.hidden_size, width, serial)
        for name, p in layer.mlp.block.named_parameters():
            yield f"layers.{l}.{name}", p


class Bottleneck(nn.Module):
    """h + U act(D h + b1) + b2, behind the matrix that ends a half of the layer"""

    def __init__(self, last, C, M):
        super().__init__()
        self.last, self.down, self.down_bias, self.up, self.up_bias = last, new(M, C), new(M), new(C, M), new(C)

    def forward(self, x):
        h = self.last(x)
        return h + F.linear(F.silu(F.linear(h, self.down, self.down_bias)), self.up, self.up_bias)


def houlsby(model, width):
    C = model.config.hidden_size
    for l, layer in enumerate(model.model.layers):
        layer.self_attn.o_proj = Bottleneck(layer.self_attn.o_proj, C, width)
        layer.mlp.down_proj = Bottleneck(layer.mlp.down_proj, C, width)
        for half, module in (("attention", layer.self_attn.o_proj), ("ffn", layer.mlp.down_proj)):
            for name in ("down", "down_bias", "up", "up_bias"):
                yield f"layers.{l}.{half}.{name}", getattr(module, name)


class Heads(nn.Module):
    """Extra heads beside attention, causal, with keys and values of their own"""

    def __init__(self, attention, C, D, heads):
        super().__init__()
        self.attention, self.D, self.heads = attention, D, heads
        self.heads_q, self.heads_k, self.heads_v = new(heads * D, C), new(heads * D, C), new(heads * D, C)
        self.heads_o = new(C, heads * D)

    def forward(self, hidden_states, position_embeddings, **rest):
        out, weights = self.attention(hidden_states=hidden_states, position_embeddings=position_embeddings, **rest)
        B, T, _ = hidden_states.shape
        q, k, v = (F.linear(hidden_states, w).view(B, T, self.heads, self.D).transpose(1, 2)
                   for w in (self.heads_q, self.heads_k, self.heads_v))
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        scores = q @ k.transpose(2, 3) / self.D ** 0.5
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
        more = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, -1)
        return out + F.linear(more, self.heads_o), weights


def attention(model, heads):
    config = model.config
    D = config.hidden_size // config.num_attention_heads
    for l, layer in enumerate(model.model.layers):
        layer.self_attn = Heads(layer.self_attn, config.hidden_size, D, heads)
        for name in ("heads_q", "heads_k", "heads_v", "heads_o"):
            yield f"layers.{l}.{name}", getattr(layer.self_attn, name)


class LoraMoe(nn.Module):
    """W x + (s/R) sum_i softmax(W_r x)_i B_i A_i x"""

    def __init__(self, linear, experts, rank, scale):
        super().__init__()
        self.linear, self.E, self.R, self.scale = linear, experts, rank, scale
        self.router = new(experts, linear.in_features)
        self.lora_a, self.lora_b = new(experts * rank, linear.in_features), new(linear.out_features, experts * rank)

    def forward(self, x):
        p = F.linear(x, self.router).softmax(-1)
        y = self.linear(x)
        for i in range(self.E):
            a, b = self.lora_a[i * self.R:(i + 1) * self.R], self.lora_b[:, i * self.R:(i + 1) * self.R]
            y = y + self.scale * p[..., i:i + 1] * F.linear(F.linear(x, a), b)
        self.p = p
        return y

    def balance(self, is_new, delta):
        E, total = self.E, 0
        for b in range(self.p.shape[0]):
            own = torch.arange(E) >= E // 2
            own = own if is_new[b] else ~own
            z = self.p[b].sum(0) * torch.where(own, 1 + delta, 1 - delta)
            total = total + z.var() / (z.mean() ** 2 + 1e-10)
        return total / self.p.shape[0]


def loramoe(model, experts, rank, sites):
    for l, layer in enumerate(model.model.layers):
        for site in sites:
            half, name = site.split(".")
            module = LoraMoe(getattr(getattr(layer, half), name), experts, rank, 2.0)
            setattr(getattr(layer, half), name, module)
            for name in ("router", "lora_a", "lora_b"):
                yield f"layers.{l}.{site}.{name}", getattr(module, name)


class Fused(nn.Module):
    """(1 - g) FFN(x) + g sum_i softmax(W_r x)_i E_i(x)"""

    def __init__(self, ffn, C, experts, width, gate):
        super().__init__()
        self.ffn, self.E, self.m = ffn, experts, width
        self.w_gate, self.w_in, self.w_out = new(experts * width, C), new(experts * width, C), new(C, experts * width)
        if experts > 1:
            self.router = new(experts, C)
        if gate:
            self.gate = new(C)

    def forward(self, x):
        p = F.linear(x, self.router).softmax(-1) if self.E > 1 else torch.ones(x.shape[:-1] + (1,), dtype=x.dtype)
        mixture = 0
        for i in range(self.E):
            own = slice(i * self.m, (i + 1) * self.m)
            h = F.silu(F.linear(x, self.w_gate[own])) * F.linear(x, self.w_in[own])
            mixture = mixture + p[..., i:i + 1] * F.linear(h, self.w_out[:, own])
        g = torch.sigmoid(F.linear(x, self.gate[None])) if hasattr(self, "gate") else 0.5
        return (1 - g) * self.ffn(x) + g * mixture


def fused(model, experts, width, gate):
    for l, layer in enumerate(model.model.layers):
        layer.mlp = Fused(layer.mlp, model.config.hidden_size, experts, width, gate)
        for name in ("w_gate", "w_in", "w_out", "router", "gate"):
            if hasattr(layer.mlp, name):
                yield f"layers.{l}.{name}", getattr(layer.mlp, name)


def llama_pro(model):
    """A copy behind every layer; its own weights are drawn anew, to stand away from the identity."""
    layers = nn.ModuleList()
    for l, layer in enumerate(model.model.layers):
        own = copy.deepcopy(layer)
        layers.extend([layer, own])
        for name, p in own.named_parameters():
            p.data = (p.data + 0.2 * torch.randn(p.shape)).float().double()
            p.requires_grad_(True)
            yield f"blocks.{l}.{name}", p
    for number, layer in enumerate(layers):
        layer.self_attn.layer_idx = number
    model.model.layers = layers
    model.config.num_hidden_layers = len(layers)


def lora(model, rank):
    peft = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=[s.split(".")[1] for s in SITES]))
    for name, p in peft.named_parameters():
        if p.requires_grad:
            p.data = (0.15 * torch.randn(p.shape)).float().double()
            yield name.replace(".default", ""), p
    peft.save_pretrained(os.path.join(fixtures, "methods", "peft_lora"))
    os.remove(os.path.join(fixtures, "methods", "peft_lora", "README.md"))
    model.peft = [peft]  # in a list: not a submodule


def prefix(model, positions):
    peft = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=positions))
    table = peft.prompt_encoder["default"].embedding.weight  # (P, L 2 K D)
    table.data = torch.randn(table.shape).float().double()
    width = table.shape[1] // (2 * model.config.num_hidden_layers)
    for l in range(model.config.num_hidden_layers):
        for i, kind in enumerate("kv"):
            columns = slice((2 * l + i) * width, (2 * l + i + 1) * width)
            yield f"layers.{l}.prefix_{kind}", (table, columns)
    model.peft = [peft]


CASES = {
    "adapter": lambda m: adapter(m, 5),
    "adapter_serial": lambda m: adapter(m, 5, serial=True),
    "houlsby": lambda m: houlsby(m, 4),
    "attention": lambda m: attention(m, 2),
    "prefix": lambda m: prefix(m, 3),
    "lora": lambda m: lora(m, 2),
    "llama_pro": llama_pro,
    "loramoe": lambda m: loramoe(m, 4, 2, SITES[4:]),
    "moe_ct": lambda m: fused(m, 3, 4, False),
    "moe_ct_sigmoid": lambda m: fused(m, 2, 4, True),
    "moextend": lambda m: fused(m, 1, 24, True),
}


def main():
    golden = {}
    out = os.path.join(fixtures, "methods")
    os.makedirs(out, exist_ok=True)
    for number, (name, extend) in enumerate(CASES.items()):
        torch.manual_seed(200 + number)
        model = backbone()
        trained = list(extend(model))
        whole = model.peft[0] if hasattr(model, "peft") else model
        ids, targets = torch.randint(0, 40, (3, 7)), torch.randint(0, 40, (3, 7))
        targets[0, 5] = -1
        is_new = torch.tensor([True, False, True])
        logits = whole(input_ids=ids).logits
        lm = F.cross_entropy(logits.reshape(-1, 40), targets.reshape(-1), ignore_index=-1)
        balance = torch.zeros((), dtype=torch.float64)
        mixtures = [m for m in model.modules() if isinstance(m, LoraMoe)]
        if mixtures:
            balance = sum(m.balance(is_new, 0.3) for m in mixtures) / len(mixtures)
        (lm + 0.7 * balance).backward()
        golden[f"{name}.ids"], golden[f"{name}.targets"] = ids.double().flatten(), targets.double().flatten()
        golden[f"{name}.losses"] = torch.stack([lm.detach(), balance.detach()])
        for key, p in trained:
            p, columns = p if isinstance(p, tuple) else (p, slice(None))
            value, grad = p.detach(), p.grad
            if columns != slice(None):
                value, grad = value[:, columns], grad[:, columns]
            golden[f"{name}.value.{key}"], golden[f"{name}.grad.{key}"] = value.clone().contiguous(), grad.clone().contiguous()
        print(name, float(lm), float(balance), sum(p.numel() for p in whole.parameters() if p.requires_grad))
    save_file(golden, os.path.join(out, "golden.safetensors"))


if __name__ == "__main__":
    main()
