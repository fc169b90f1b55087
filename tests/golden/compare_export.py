"""transformers loads what `nres export` writes and computes what nres computes.

    python tests/golden/compare_export.py build/release/nres [MODEL.gguf]

Each GGUF file (tests/fixtures/export/tiny.gguf, and MODEL) is exported; its folder's logits in transformers are put beside
those of the file itself as transformers reads it (where it can: it ignores rotary divisors), its token ids beside those of
the file, and its loss on a text beside `nres eval`. Then a few steps of finetuning, LLaMA-Pro and LoRA on the tiny model are
exported, and transformers' loss beside that of `nres eval -x`.
"""
import os
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from losses import load, loss_of_nres, loss_of_transformers, nres, same_loss

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "fixtures", "export", "tiny.gguf")
TEXT = ("The committee met on Tuesday to discuss the new library. Le fichier est lisible par tous les utilisateurs du "
        "système, mais seul son propriétaire peut le modifier. 3.14159 is close to pi; def f(x): return x * 2")


def file_itself(path, folder):
    """transformers' own reading of the GGUF file."""
    where, name = os.path.split(os.path.abspath(path))
    was, tokenizer = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(where, gguf_file=name)
    now, exported = load(folder)
    for text in (TEXT, "  a\n\nb 12345", "<|im_start|>user\nhello<|im_end|>"):
        a, b = (t(text, add_special_tokens=False).input_ids for t in (tokenizer, exported))
        assert a == b, (text, a, b)
        assert exported.decode(b) == text
        assert exported(text).input_ids[-len(b):] == b
    ids = torch.tensor([exported(TEXT).input_ids])
    with torch.no_grad():
        a, b = was(ids).logits, now(ids).logits
    off = float((a - b).norm() / a.norm())
    print(f"{name}: logits of the exported folder against the file's in transformers: {off:.1e}; chat: "
          f"{exported.apply_chat_template([{'role': 'user', 'content': 'hi'}], tokenize=False)!r}")
    return off


def extensions(folder, text):
    """A few steps of each on the tiny model."""
    train = os.path.join(folder, "train.txt")
    with open(train, "w") as f:
        f.write("".join(f"{k}. {TEXT[k:]}\n\n" for k in range(0, 100, 10)))
    more = {"finetune": [], "llama-pro": ["--width", "1"], "lora": ["--width", "4", "--lora-targets", "q,k,v,o,gate,up,down"]}
    for method, flags in more.items():
        run, out = os.path.join(folder, method), os.path.join(folder, method + "-exported")
        nres("extend", "-m", TINY, "--method", method, *flags, "--new", train, "--old-share", "0", "-o", run, "--steps", "3", "--lr", "0.01",
             "--context", "16", "--batch-size", "2", "--warmup-steps", "1", "--new-validation", text)
        nres("export", "-m", TINY, "-x", run, "-o", out, "-q")
        ours, tokens = loss_of_nres(text, "-m", TINY, "-x", run)
        same_loss(method, ours, loss_of_transformers(*load(out), text, tokens), 2e-5)


def main():
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text.txt")
        with open(text, "w") as f:
            f.write(TEXT)
        for number, path in enumerate([TINY, *sys.argv[2:]]):
            out = os.path.join(folder, f"model{number}")
            nres("export", "-m", path, "-o", out, "-q", "--max-shard-size", "100")
            off = file_itself(path, out)
            assert number == 0 or off < 1e-5
            ours, tokens = loss_of_nres(text, "-m", path)
            same_loss(os.path.basename(path), ours, loss_of_transformers(*load(out), text, tokens), 2e-5)
        extensions(folder, text)


main()
