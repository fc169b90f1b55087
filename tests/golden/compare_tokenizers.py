#!/usr/bin/env python3
"""Compares ids with the `tokenizers` package, id for id, on as much text as is given.

usage: compare_tokenizers.py --library libnres.a|.so [--gguf MODEL.gguf] [--kinds gpt2,llama3,...] [--size 8000]
                             [--megabytes 12] [--random 4] [--seed 1] FILE|FOLDER...
For the GGUF file its own vocabulary is compared; for each kind a vocabulary is trained on a part of the text. Every
document is encoded with special tokens parsed and as plain text, and decoded. Exit status 1 when anything differs.
"""
import argparse
import os
import random
import sys
import tempfile
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizer_peers as peers


def documents(paths, limit, rng):
    """About `limit` bytes, spread over the files, in pieces of many sizes."""
    files = list(peers.walk(paths))
    rng.shuffle(files)
    total = 0
    for path in files:
        text = peers.read_text(path)[:200000]
        at = 0
        while at < len(text):
            n = int(2 ** rng.uniform(4, 16))
            yield text[at:at + n]
            total += len(text[at:at + n].encode())
            at += n
        if total >= limit:
            return


def compare(name, nres, path, tok, texts):
    t = nres.open(path)
    differing = total = ids = 0
    lacking = {b for b, c in byte_symbols().items() if tok.token_to_id(c) is None}
    for text in texts:
        data = text.encode()
        total += len(data)
        for special in (True, False):
            tok.encode_special_tokens = not special
            want = tok.encode(text, add_special_tokens=False).ids
            found = nres.encode(t, data, special)
            ids += len(found)
            if want != found:
                differing += 1
                if differing <= 5:
                    at = next((i for i, (a, b) in enumerate(zip(want, found)) if a != b), min(len(want), len(found)))
                    print(f"{name}: special {special}: differs at id {at}: {want[at:at + 6]} {found[at:at + 6]}, after "
                          f"{ascii(nres.decode(t, found[max(0, at - 4):at + 4]).decode('utf-8', 'replace'))}")
        plain = tok.normalizer is None or unicodedata.is_normalized("NFC", text)
        if plain and not set(data) & lacking and "<right>" not in text and "<left>" not in text and "<both>" not in text:
            if nres.decode(t, found) != data:
                differing += 1
                print(f"{name}: decoding doesn't give the text back: {ascii(text[:60])}")
    print(f"{name}: {total / 1e6:.2f} MB, {ids} ids, {len(lacking)} bytes without a token, {differing} differences")
    return differing


def byte_symbols():
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--library", required=True)
    p.add_argument("--gguf")
    p.add_argument("--kinds", default="gpt2,smollm,llama3,qwen2")
    p.add_argument("--size", type=int, default=8000)
    p.add_argument("--megabytes", type=float, default=12)
    p.add_argument("--random", type=float, default=2)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("paths", nargs="+")
    a = p.parse_args()
    rng = random.Random(a.seed)
    nres = peers.Nres(a.library)
    texts = list(documents(a.paths, a.megabytes * 1e6, rng))
    made = []
    while sum(map(len, made)) < a.random * 5e5:
        made.append(peers.random_text(rng, int(2 ** rng.uniform(1, 12))))
    every = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    spaced = [" ".join(every[i:i + 4096]) for i in range(0, len(every), 4096)]
    joined = [every[i:i + 4096] for i in range(0, len(every), 4096)]
    texts += made + spaced + joined
    bad = 0
    if a.gguf:
        bad += compare("gguf", nres, a.gguf, peers.from_gguf(a.gguf), texts)
    with tempfile.TemporaryDirectory() as folder:
        for kind in filter(None, a.kinds.split(",")):
            part = texts[:len(texts) // 3] + made
            tok = peers.train(kind, part, a.size, a.seed)
            path = os.path.join(folder, kind + ".json")
            tok.save(path)
            bad += compare(kind, nres, path, tok, texts)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
