"""PEFT loads what `nres export` writes, and computes what nres does.

    python tests/golden/compare_peft.py build/release/nres
    python tests/golden/compare_peft.py build/release/nres MODEL TEXT

The LoRA of tests/fixtures/methods/peft_lora, which PEFT saved, goes through nres and back: the same logits in PEFT as
before. With a model's folder and a file of JSONL text: a LoRA that nres trains on the text gives its first documents
the same loss in PEFT as in nres, in fp32.
"""
import json
import os
import sys
import tempfile

import torch
from peft import PeftModel
from gen_methods import backbone, fixtures
from losses import load, loss_of_nres, loss_of_transformers, nres, same_loss

DOCUMENTS = 4


def logits(folder, ids):
    return PeftModel.from_pretrained(backbone(), folder)(input_ids=ids).logits


def there_and_back(folder):
    torch.manual_seed(1)
    ids = torch.randint(0, 40, (2, 9))
    own, out = os.path.join(fixtures, "methods", "peft_lora"), os.path.join(folder, "exported")
    nres("export", "-m", os.path.join(fixtures, "neutral"), "-x", own, "-o", out, "--format", "peft")
    before, after, plain = logits(own, ids), logits(out, ids), backbone()(input_ids=ids).logits
    off = float((before - after).abs().max().detach())
    print(f"PEFT's own folder against the exported one: {off:g}; against the backbone: {float((before - plain).abs().max().detach()):g}")
    assert off == 0 and not torch.equal(before, plain)


def score(path, text, model, tokenizer, name, *words):
    with open(path, "w") as file:
        file.write(text)
    ours, tokens = loss_of_nres(path, *words)
    same_loss(name, ours, loss_of_transformers(model, tokenizer, path, tokens), 1e-5)
    return ours


def trained(folder, model, text):
    extension, out, document = (os.path.join(folder, name) for name in ("run", "peft", "document.txt"))
    nres("extend", "-m", model, "--method", "lora", "--new", text, "--old-share", "0", "-o", extension, "--steps", "10", "--batch-size", "2",
         "-c", "256", "--warmup-steps", "2", "--compute", "fp32", "--eval-tokens", "256", "-q")
    nres("export", "-m", model, "-x", extension, "-o", out, "--format", "peft")
    model_there, tokenizer = load(model)
    texts = [" ".join(json.loads(line)["text"][:3000].split()) for line in open(text)][:DOCUMENTS]
    before = [score(document, d, model_there, tokenizer, "backbone", "-m", model) for d in texts]
    with_lora = PeftModel.from_pretrained(model_there, out)
    after = [score(document, d, with_lora, tokenizer, "with the LoRA that nres trained", "-m", model, "-x", extension) for d in texts]
    assert all(abs(x - y) > 1e-3 for x, y in zip(before, after)), "the LoRA does nothing"


def main():
    with tempfile.TemporaryDirectory() as folder:
        there_and_back(folder)
        if len(sys.argv) > 3:
            trained(folder, sys.argv[2], sys.argv[3])


main()
