"""Writes tests/fixtures/ops/ops.txt: operations and their gradients by PyTorch in double.

Run with a Python that has torch and transformers:  python tests/golden/gen_ops.py
Inputs are multiples of 1/256: exact in 12 digits and in float, so that float and
double tables read the same numbers.
A line is: name, count, values.
"""
import pathlib

import torch
import torch.nn.functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

torch.manual_seed(20240611)
lines = []


def draw(*shape, scale=1.0):
    return (torch.round(256 * scale * torch.randn(*shape)) / 256).double().requires_grad_()


def write(name, tensor):
    flat = tensor.detach().double().flatten().tolist()
    lines.append(f"{name} {len(flat)} " + " ".join(f"{v:.12g}" for v in flat))


def write_all(prefix, **tensors):
    for name, tensor in tensors.items():
        write(f"{prefix}.{name}", tensor)


def attention():
    B, T, H, K, D = 2, 17, 4, 2, 6
    q, k, v = draw(B, T, H, D, scale=2), draw(B, T, K, D), draw(B, T, K, D)
    d_o = draw(B, T, H, D)
    o = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
    ).transpose(1, 2)
    (o * d_o.detach()).sum().backward()
    write_all("attention", q=q, k=k, v=v, d_o=d_o, o=o, dq=q.grad, dk=k.grad, dv=v.grad)


def rmsnorm():
    x, w, dy = draw(7, 33, scale=2), draw(33), draw(7, 33)
    y = F.rms_norm(x, (33,), w, eps=1e-5)
    (y * dy.detach()).sum().backward()
    write_all("rmsnorm", x=x, w=w, dy=dy, y=y, dx=x.grad, dw=w.grad)


def rotary():
    D, x, pos = 12, draw(5, 3, 12), torch.tensor([0, 4, 1, 7, 2])
    angle = pos[:, None] * 100.0 ** (-torch.arange(0, D, 2, dtype=torch.double) / D)
    table = torch.arange(8)[:, None] * 100.0 ** (-torch.arange(0, D, 2, dtype=torch.double) / D)
    cos, sin = (torch.cat([f(angle), f(angle)], -1)[None] for f in (torch.cos, torch.sin))
    y, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos, sin)
    write_all("rotary", x=x, table=torch.cat([table.cos(), table.sin()], -1), y=y[0].transpose(0, 1))


def glu():
    for name, act in (("silu", F.silu), ("gelu", lambda t: F.gelu(t, approximate="tanh"))):
        g, u, dh = draw(6, 13, scale=3), draw(6, 13), draw(6, 13)
        h = act(g) * u
        (h * dh.detach()).sum().backward()
        write_all(name, g=g, u=u, dh=dh, h=h, dg=g.grad, du=u.grad)


def cross_entropy():
    x, targets = draw(6, 41, scale=3), torch.tensor([3, 40, -1, 0, 17, -1])
    nll = F.cross_entropy(x, targets, ignore_index=-1, reduction="none")
    (nll.sum() * 0.25).backward()
    write_all("cross_entropy", x=x, targets=targets, nll=nll, dx=x.grad)
    q = draw(6, 41, scale=3)
    kl = F.kl_div(F.log_softmax(q, -1), F.log_softmax(x, -1), log_target=True, reduction="none").sum(-1)
    write_all("divergence", q=q, kl=kl, same=(x.argmax(-1) == q.argmax(-1)))


def adamw():
    p = torch.nn.Parameter(draw(29).detach().clone())
    write("adamw.p", p)
    optimizer = torch.optim.AdamW([p], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for step in range(3):
        p.grad = draw(29).detach()
        write(f"adamw.g{step}", p.grad)
        optimizer.step()
    state = optimizer.state[p]
    write_all("adamw", after=p, m=state["exp_avg"], v=state["exp_avg_sq"])


def gate():
    """y = x + gate(w xn + b) a, the l1 of g a or of a on old rows, and the sigmoid's cross-entropy."""
    n, C = 9, 14
    kinds = {
        "elu": F.elu,
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "none": lambda z: torch.ones_like(z) + 0 * z,
    }
    for kind, function in kinds.items():
        for on_a in (False, True):
            xn, w, b, a = draw(n, C), draw(C, scale=0.4), draw(1), draw(n, C)
            dy, new = draw(n, C).detach(), torch.arange(n) % 3 == 0
            l1 = torch.where(new, 0.0, 0.5).double()
            z = xn @ w + b
            g = function(z)
            loss = (dy * g[:, None] * a).sum() + (l1 * (a if on_a else g[:, None] * a).abs().sum(-1)).sum()
            if kind == "sigmoid":
                loss = loss + 0.5 * F.binary_cross_entropy(g, new.double(), reduction="sum")
            loss.backward()
            write_all(f"{kind}.{'a' if on_a else 'ga'}", xn=xn, w=w, b=b, a=a, dy=dy, new=new, l1=l1, g=g,
                      da=a.grad, dxn=xn.grad, dw=w.grad, db=b.grad)


for case in (attention, rmsnorm, rotary, glu, cross_entropy, adamw, gate):
    case()
out = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "ops" / "ops.txt"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text("\n".join(lines) + "\n")
print(f"{out}: {len(lines)} tensors, {out.stat().st_size} bytes")
