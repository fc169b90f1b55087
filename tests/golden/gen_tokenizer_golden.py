#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer/{gpt2,smollm,llama3,qwen2}.json, small trained tokenizers, and golden.json: texts, the
ids that the `tokenizers` package gives for them (special tokens parsed, then as plain text where that differs), and a hash of its NFC of
every code point.

usage: gen_tokenizer_golden.py OUT_FOLDER TEXT.txt...
"""
import hashlib
import json
import random
import sys

import tokenizers
import tokenizer_peers as peers


def nfc_hash():
    nfc, h = tokenizers.normalizers.NFC(), hashlib.sha256()
    for start in range(0, 0x110000, 0x1000):
        part = [chr(c) for c in range(start, start + 0x1000) if not 0xD800 <= c < 0xE000]
        h.update(nfc.normalize_str("".join(f"a{c}\u0301\u0323{c}\u0327\u1161\u11a8\n" for c in part)).encode())
    return h.hexdigest()


def main():
    out, paths = sys.argv[1], sys.argv[2:]
    rng = random.Random(7)
    corpus = [peers.read_text(p) for p in paths]
    docs = [t[i:i + 4000] for t in corpus for i in range(0, min(len(t), 400000), 4000)]
    random_texts = [peers.random_text(rng, int(2 ** rng.uniform(1, 6.5))).replace("\0", "") for _ in range(90)]
    texts = [t[at:at + 200] for t in corpus for at in (1000, 50000, 200000)] + [t for t in random_texts if t] + [
        "", " ", "  ", "\n", "a", "'s", "I'll we'LL it'\u017f don't 've", "1 22 333 4444 55555", " 1  2   3\n4", "\r\n\r\n x \r\n",
        "\u1100\u1161\u11a8 \uac00\u11a8 e\u0301 \u0958 \ufb2c \u212b", "a  <left> b <right> \n c <both> d", " <left>", "<right> ", "<left> <left>\u3000<both>\u00a0<right> <left>",
        "solo xsolo solo_ (solo) \u00e9solo solo\u0301 solo", "<|im <|im_start|> <|im_end|><|im_x <tool><tool",
        "norme\u0301 norm\u00e9 norme", "x" * 200, "ab" * 150, "=" * 90, " " * 70 + "a"]
    ids = {}
    for kind in peers.KINDS:
        tok = peers.train(kind, docs + random_texts * 3, 1000, 3)
        with open(f"{out}/{kind}.json", "w") as f:
            f.write(json.dumps(json.loads(tok.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
        both = []
        for special in (True, False):
            tok.encode_special_tokens = not special
            both.append([tok.encode(t, add_special_tokens=False).ids for t in texts])
        ids[kind] = [both[0], [b if b != a else None for a, b in zip(*both)]]
    with open(f"{out}/golden.json", "w") as f:
        json.dump({"tokenizers": tokenizers.__version__, "nfc": nfc_hash(), "texts": texts, "ids": ids}, f,
                  ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
