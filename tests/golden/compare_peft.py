"""PEFT loads what `nres export` writes: the LoRA of tests/fixtures/methods/peft_lora goes through nres and back, and computes
the same logits in PEFT as before.

    python tests/golden/compare_peft.py build/release/nres
"""
import os
import subprocess
import sys
import tempfile

import torch
from peft import PeftModel
from gen_methods import backbone, fixtures


def logits(folder, ids):
    return PeftModel.from_pretrained(backbone(), folder)(input_ids=ids).logits


def main():
    torch.manual_seed(1)
    ids = torch.randint(0, 40, (2, 9))
    own = os.path.join(fixtures, "methods", "peft_lora")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "exported")
        subprocess.run([sys.argv[1], "export", "-m", os.path.join(fixtures, "neutral"), "-x", own, "-o", out, "--format", "peft"], check=True)
        before, after, plain = logits(own, ids), logits(out, ids), backbone()(input_ids=ids).logits
        off = float((before - after).abs().max().detach())
        print(f"PEFT's own folder against the exported one: {off:g}; against the backbone: {float((before - plain).abs().max().detach()):g}")
        assert off == 0 and not torch.equal(before, plain)


main()
