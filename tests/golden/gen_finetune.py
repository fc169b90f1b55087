"""Golden for training the backbone's weights: finetuning, EWC and LwF of a tiny Llama in PyTorch, float64.

Reads the backbone of tests/fixtures/neutral and writes tests/fixtures/finetune/golden.safetensors:

    loss, grad.NAME          of the batch at shaken weights
    after.NAME               the weights after three AdamW steps on that batch from there
    fisher.NAME, ewc         empirical Fisher information of two rows at the backbone's weights, and the
                             penalty lambda/2 sum F (theta - theta0)^2 of the shaken ones
    ewc.grad.NAME            its gradient
    lwf.ROWS, lwf.ROWS.grad.NAME  the distillation loss alone on new, old and all rows, and its gradient

    python tests/golden/gen_finetune.py
"""
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
fixtures = os.path.join(here, "..", "fixtures")
LAMBDA, ALPHA, T = 30.0, 0.7, 2.0


def backbone():
    model = LlamaForCausalLM.from_pretrained(os.path.join(fixtures, "neutral"), dtype=torch.float64)
    model.config._attn_implementation = "eager"
    return model


def shake(name, p):
    """The same numbers in C: a factor and an offset by the number of the element."""
    i = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape)
    return p * (1 + 0.1 * torch.sin(0.37 * i)) + 0.02 * torch.cos(0.11 * i)


def lm_loss(logits, targets):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def distillation(teacher, logits):
    """alpha T^2 times the mean over tokens of KL(softmax(z0 / T) || softmax(z / T))"""
    p, q = (torch.log_softmax(z / T, -1) for z in (teacher, logits))
    return ALPHA * T * T * (p.exp() * (p - q)).sum(-1).mean()


def main():
    torch.manual_seed(5)
    model, teacher = backbone(), backbone()
    ids, targets = torch.randint(0, 40, (3, 7)), torch.randint(0, 40, (3, 7))
    targets[0, 5] = -1
    is_new = torch.tensor([True, False, True])
    old = torch.randint(0, 40, (2, 8))
    golden = {"ids": ids.float().flatten(), "targets": targets.float().flatten(), "old": old.float().flatten()}
    names = [n for n, _ in model.named_parameters()]
    start = {n: p.detach().clone() for n, p in model.named_parameters()}

    def put(prefix, tensors):
        for name, t in zip(names, tensors):
            golden[f"{prefix}.{name}"] = t.detach().clone()

    def gradients(loss):
        return torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)

    fisher = [torch.zeros_like(p) for p in model.parameters()]
    for row in old:
        for f, g in zip(fisher, gradients(lm_loss(model(row[None, :-1]).logits, row[None, 1:]))):
            f += g * g / len(old)
    put("fisher", fisher)

    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(shake(n, p))
    loss = lm_loss(model(ids).logits, targets)
    put("grad", gradients(loss))
    penalty = sum((LAMBDA / 2 * f * (p - start[n]) ** 2).sum() for f, (n, p) in zip(fisher, model.named_parameters()))
    put("ewc.grad", gradients(penalty))
    golden["losses"] = torch.stack([loss, penalty]).detach()
    rows = {"new": is_new, "old": ~is_new, "all": torch.ones(3, dtype=torch.bool)}
    for name, chosen in rows.items():
        with torch.no_grad():
            z0 = teacher(ids).logits
        kl = distillation(z0[chosen], model(ids).logits[chosen])
        golden[f"lwf.{name}"] = kl.detach().reshape(1)
        put(f"lwf.{name}.grad", gradients(kl))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        lm_loss(model(ids).logits, targets).backward()
        optimizer.step()
    put("after", model.parameters())
    os.makedirs(os.path.join(fixtures, "finetune"), exist_ok=True)
    save_file({k: v.float().contiguous() for k, v in golden.items()}, os.path.join(fixtures, "finetune", "golden.safetensors"))
    print({k: v.tolist() for k, v in golden.items() if v.numel() <= 2})


main()
