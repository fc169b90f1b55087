"""What compare_export.py and compare_peft.py share: the program, and a document's loss in it and in transformers."""
import json
import math
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def nres(*words):
    return subprocess.run([sys.argv[1], *words], check=True, capture_output=True, text=True).stdout


def loss_of_nres(text, *words):
    file = json.loads(nres("eval", *words, text, "--json", "-q", "--compute", "fp32"))["files"][0]
    return file.get("extended", file["backbone"])["nats_per_token"], file["tokens"]


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


def loss_of_transformers(model, tokenizer, text, tokens):
    """As nres scores a document: behind the begin- or else the end-of-text token."""
    ids = tokenizer(open(text).read(), add_special_tokens=False).input_ids
    first = model.config.bos_token_id if model.config.bos_token_id is not None else model.config.eos_token_id
    with torch.no_grad():
        logits = model(torch.tensor([[first, *ids]])).logits[0, :-1].double()
    assert len(ids) == tokens, (len(ids), tokens)
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids)))


def same_loss(name, ours, theirs, most):
    print(f"{name}: nats per token, nres {ours:.7f}, transformers {theirs:.7f}")
    assert abs(ours - theirs) < most and math.isfinite(theirs), name
