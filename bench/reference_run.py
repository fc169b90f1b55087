"""A short training run in PyTorch with the settings of `nres extend --init low`, on the same text: do both learn the same?

Prints bits per byte of the validation text of both domains before and after
(rows of the packed validation documents, as nres counts them). The order of
the training rows is PyTorch's own, so the two agree as two seeds do.

    python bench/reference_run.py -m MODEL.gguf --text FOLDER --steps 90 --lr 1e-2 [--tokens 8192]

FOLDER holds {fr-manuals,en-wikipedia}.{train,validation}.jsonl, as the
quickstart leaves them in the cache.
"""
import argparse
import json
import math
import os
import random
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
from peer_neutral import extend, losses  # noqa: E402

BATCH, CONTEXT, WIDTH = 8, 256, 520


def stream(path, tokenizer, limit=None):
    """Ids and bytes of every id of a file's documents, joined by the end-of-text token (0 bytes)."""
    ids, sizes = [], []
    for line in open(path, encoding="utf-8"):
        text = json.loads(line)["text"]
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [len(text[:b].encode()) for _, b in encoded.offset_mapping] if limit else [0] * len(encoded.input_ids)
        ids += encoded.input_ids + [tokenizer.eos_token_id]
        sizes += [b - a for a, b in zip([0] + ends[:-1], ends)] + [0]
        if limit and len(ids) > limit + CONTEXT:
            break
    return ids, sizes


def rows_of(ids):
    return [ids[i:i + CONTEXT + 1] for i in range(0, len(ids) - CONTEXT, CONTEXT)]


def validate(model, ids, sizes, tokens):
    nats, size = 0.0, 0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for i in range(0, tokens, CONTEXT):
            row = torch.tensor([ids[i:i + CONTEXT + 1]])
            logits = model(input_ids=row[:, :-1], use_cache=False).logits[0].float()
            nats += torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum").item()
            size += sum(sizes[i + 1:i + CONTEXT + 1])
    return nats / math.log(2) / size


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--steps", type=int, default=90)
    p.add_argument("--lr", type=float, default=1e-2)
    p.add_argument("--tokens", type=int, default=8192, help="validation tokens of each domain")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    folder, name = os.path.split(os.path.abspath(a.model))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    held = {d: stream(os.path.join(a.text, f + ".validation.jsonl"), tokenizer, a.tokens)
            for d, f in (("old", "en-wikipedia"), ("new", "fr-manuals"))}
    train = {d: rows_of(stream(os.path.join(a.text, f + ".train.jsonl"), tokenizer)[0])
             for d, f in (("old", "en-wikipedia"), ("new", "fr-manuals"))}
    before = {d: validate(model, *held[d], a.tokens) for d in held}
    adapters = extend(model, WIDTH)
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=a.lr, betas=(0.9, 0.95), weight_decay=0)
    order = random.Random(a.seed)
    for d in train:
        order.shuffle(train[d])
    taken = {"old": 0, "new": 0}
    for step in range(a.steps):
        old = round(0.1 * BATCH * (step + 1)) - round(0.1 * BATCH * step)
        batch = []
        for d, count in (("old", old), ("new", BATCH - old)):
            batch += [train[d][(taken[d] + i) % len(train[d])] for i in range(count)]
            taken[d] += count
        ids = torch.tensor(batch)
        is_new = torch.tensor([False] * old + [True] * (BATCH - old))
        t = step + 1
        scale = t / 10 if t <= 10 else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (t - 10) / (a.steps - 10)))
        for group in optimizer.param_groups:
            group["lr"] = a.lr * scale
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lm, l1, _, loss = losses(model, adapters, ids[:, :-1], ids[:, 1:], is_new)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if t % 10 == 0:
            print(json.dumps({"step": t, "lm": float(lm.detach()), "l1": float(l1)}), flush=True)
    after = {d: validate(model, *held[d], a.tokens) for d in held}
    print(json.dumps({"learning_rate": a.lr, "steps": a.steps, "before": before, "after": after}))


main()
