"""Logits of the real model for a fixed text, from transformers in fp32.

    python tests/golden/gen_logits.py MODEL.gguf

Writes tests/fixtures/eval/logits.safetensors: ids (T), rows (positions kept)
and logits (rows, every 16th entry of the vocabulary), all as F32.
"""
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = ("The committee met on Tuesday to discuss the new library. Le fichier est lisible par tous les utilisateurs du "
        "système, mais seul son propriétaire peut le modifier. 3.14159 is close to pi; def f(x): return x * 2")
ROWS = [0, 7, 23, -1]


def main():
    folder, name = os.path.split(os.path.abspath(sys.argv[1]))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    ids = tokenizer(TEXT, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = model(ids).logits[0]
    rows = torch.tensor([r % logits.shape[0] for r in ROWS])
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "eval", "logits.safetensors")
    save_file({"ids": ids[0].float().contiguous(), "rows": rows.float(), "logits": logits[rows][:, ::16].contiguous()}, out)
    print(ids.shape, logits[rows].norm(dim=-1))


main()
