"""Neutral residues in PyTorch, written for comparison only.

Used by the golden generator (float64, tiny model) and by the training bench
(the peer that nres is timed against). Nothing of nres needs it to run.
"""
import math

import torch
from torch import nn
import torch.nn.functional as F


class Adapter(nn.Module):
    """y = FFN(x) + g(x) a(x) around a frozen FFN; keeps g a for the local losses."""

    def __init__(self, ffn, width, hidden, layers, gate="elu", bias=False, dtype=torch.float32):
        super().__init__()
        self.ffn, self.gate_kind = ffn, gate
        std = math.sqrt(1.0 / (hidden * layers))
        self.w_gate = nn.Parameter(torch.randn(width, hidden, dtype=dtype) * std)
        self.w_in = nn.Parameter(torch.randn(width, hidden, dtype=dtype) * std)
        self.w_out = nn.Parameter(torch.zeros(hidden, width, dtype=dtype))
        if gate != "none":
            self.gate = nn.Parameter(torch.randn(hidden, dtype=dtype) * std)
            self.gate_bias = nn.Parameter(torch.zeros(1, dtype=dtype)) if bias else None
        self.kept = None

    def forward(self, x):
        a = F.linear(F.silu(F.linear(x, self.w_gate)) * F.linear(x, self.w_in), self.w_out)
        z = None
        if self.gate_kind == "none":
            ga = a
        else:
            z = (x * self.gate).sum(-1)
            if self.gate_bias is not None:
                z = z + self.gate_bias
            g = {"elu": F.elu, "relu": F.relu, "sigmoid": torch.sigmoid}[self.gate_kind](z)
            ga = g.unsqueeze(-1) * a
        self.kept = (z, a, ga)
        return self.ffn(x) + ga


def extend(model, width, gate="elu", bias=False, dtype=torch.float32):
    """Freezes a transformers Llama and puts an adapter beside every FFN. Returns the adapters."""
    for p in model.parameters():
        p.requires_grad_(False)
    layers = model.model.layers
    for layer in layers:
        layer.mlp = Adapter(layer.mlp, width, model.config.hidden_size, len(layers), gate, bias, dtype)
    return [layer.mlp for layer in layers]


def losses(model, adapters, ids, targets, is_new, alpha=1.0, beta=1.0, l1=True, ce=False, target="ga", reduction="mean"):
    """The LM loss over all targets and the two local losses, as one optimizer step sees them."""
    logits = model(input_ids=ids, use_cache=False).logits
    lm = F.cross_entropy(logits.view(-1, logits.shape[-1]).float() if logits.dtype != torch.float64
                         else logits.view(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=-1)
    old = ~is_new
    l1_sum, ce_sum = 0.0, 0.0
    for adapter in adapters:
        z, a, ga = adapter.kept
        if l1 and old.any():
            size = (ga if target == "ga" else a)[old].abs()
            l1_sum = l1_sum + (size.mean() if reduction == "mean" else size.sum(-1).mean())
        if ce:
            label = is_new.to(z.dtype).unsqueeze(1).expand_as(z)
            ce_sum = ce_sum + F.binary_cross_entropy_with_logits(z, label)
    l1_mean, ce_mean = l1_sum / len(adapters), ce_sum / len(adapters)
    return lm, l1_mean, ce_mean, lm + alpha * l1_mean + beta * ce_mean
