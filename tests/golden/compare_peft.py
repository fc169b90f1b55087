"""PEFT loads what `nres export` writes, and computes what nres does.

    python tests/golden/compare_peft.py build/release/nres
    python tests/golden/compare_peft.py build/release/nres MODEL TEXT

The LoRA of tests/fixtures/methods/peft_lora, which PEFT saved, goes through nres and back: the same logits in PEFT as
before. With a model's folder and a file of JSONL text: a LoRA that nres trains on the text scores its first documents
in PEFT as in nres, in fp32.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from gen_methods import backbone, fixtures

DOCUMENTS, CONTEXT = 4, 2048


def logits(folder, ids):
    return PeftModel.from_pretrained(backbone(), folder)(input_ids=ids).logits


def run(*arguments):
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout


def there_and_back(nres, folder):
    torch.manual_seed(1)
    ids = torch.randint(0, 40, (2, 9))
    own, out = os.path.join(fixtures, "methods", "peft_lora"), os.path.join(folder, "exported")
    run(nres, "export", "-m", os.path.join(fixtures, "neutral"), "-x", own, "-o", out, "--format", "peft")
    before, after, plain = logits(own, ids), logits(out, ids), backbone()(input_ids=ids).logits
    off = float((before - after).abs().max().detach())
    print(f"PEFT's own folder against the exported one: {off:g}; against the backbone: {float((before - plain).abs().max().detach()):g}")
    assert off == 0 and not torch.equal(before, plain)


def bits_per_byte(model, tokenizer, documents):
    bits = size = 0
    for text in documents:
        ids = torch.tensor([[tokenizer.bos_token_id] + tokenizer(text, add_special_tokens=False)["input_ids"]])
        assert ids.shape[1] <= CONTEXT, "a document longer than a window"
        with torch.no_grad():
            chances = torch.log_softmax(model(input_ids=ids[:, :-1]).logits.double(), -1)
        bits -= float(chances.gather(-1, ids[:, 1:, None]).sum()) / math.log(2)
        size += len(text.encode())
    return bits / size


def trained(nres, folder, model, text):
    extension, out, short = (os.path.join(folder, name) for name in ("run", "peft", "short.jsonl"))
    documents = [json.loads(line)["text"][:3000] for line in open(text)][:DOCUMENTS]
    with open(short, "w") as file:
        file.writelines(json.dumps({"text": d}) + "\n" for d in documents)
    run(nres, "extend", "-m", model, "--method", "lora", "--new", text, "--old-share", "0", "-o", extension, "--steps", "10",
        "--batch-size", "2", "-c", "256", "--warmup-steps", "2", "--compute", "fp32", "--eval-tokens", "256", "--quiet")
    run(nres, "export", "-m", model, "-x", extension, "-o", out, "--format", "peft")
    ours = json.loads(run(nres, "eval", "-m", model, "-x", extension, short, "-c", str(CONTEXT), "--compute", "fp32", "--json", "--quiet"))
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model)
    before = bits_per_byte(plain, tokenizer, documents)
    after = bits_per_byte(PeftModel.from_pretrained(plain, out), tokenizer, documents)
    found = ours["files"][0]
    pairs = ((before, found["backbone"]["bits_per_byte"]), (after, found["extended"]["bits_per_byte"]))
    for name, (theirs, mine) in zip(("backbone", "with the LoRA that nres trained"), pairs):
        print(f"{name}: {theirs:.7f} bits per byte in PEFT, {mine:.7f} in nres")
        assert abs(theirs - mine) < 5e-6
    assert abs(before - after) > 1e-3, "the LoRA does nothing"


def main():
    with tempfile.TemporaryDirectory() as folder:
        there_and_back(sys.argv[1], folder)
        if len(sys.argv) > 3:
            trained(sys.argv[1], folder, sys.argv[2], sys.argv[3])


main()
