#!/usr/bin/env python3
"""Tokenizing speed of nres against the `tokenizers` package: one thread, the same documents, in one run.

usage: tokenizer_bench.py --library libnres.a --gguf MODEL.gguf [--kinds gpt2,llama3,qwen2] [--megabytes 20] FILE|FOLDER...
Both encode document by document (2 to 64 KB), alternating, after one unmeasured round; best and median of the rounds,
in processor time, so that other work on the machine counts for neither.
The package's encode builds offsets too; its encode_batch_fast doesn't, and is measured as well.

bench/compare.py drives it in two halves: --write DOCUMENTS [--megabytes N] FILE... cuts the documents,
--read DOCUMENTS --model MODEL --way encode|encode_batch_fast times the package on them and prints JSON.
"""
import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here + "/../tests/golden")
import tokenizer_peers as peers


def prose(path):
    """A file's text; of JSONL the field "text" of each line."""
    text = peers.read_text(path)
    return "\n\n".join(json.loads(line)["text"] for line in text.splitlines() if line) if path.endswith(".jsonl") else text


def documents(paths, limit, rng):
    files, total, out = list(peers.walk(paths)), 0, []
    rng.shuffle(files)
    for path in files:
        text, at = prose(path), 0
        while at < len(text) and total < limit:
            n = int(2 ** rng.uniform(11, 16))
            out.append(text[at:at + n])
            total += len(out[-1].encode())
            at += n
    return out


def build(library, folder):
    program = folder + "/tokenizer_bench"
    link = os.environ.get("NRES_LINK", "-ljansson -lz -lzstd -lcrypto -lgumbo -ldnnl -lgomp -lm").split()
    subprocess.run(["cc", "-O3", "-D_GNU_SOURCE", f"-I{here}/../include", f"-I{here}/../src", here + "/tokenizer_bench.c",
                    library, "-o", program] + link, check=True)
    return program


def write(path, texts):
    with open(path, "wb") as f:
        for t in texts:
            data = t.encode()
            f.write(struct.pack("<I", len(data)) + data)


def read(path):
    texts, data, at = [], open(path, "rb").read(), 0
    while at < len(data):
        size, = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4:at + 4 + size].decode())
        at += 4 + size
    return texts


def ways_of(tok, texts):
    tok.encode_special_tokens = True
    return {
        "encode": lambda: sum(len(tok.encode(t, add_special_tokens=False).ids) for t in texts),
        "encode_batch_fast": lambda: sum(len(e.ids) for e in tok.encode_batch_fast(texts, add_special_tokens=False)),
    }


def timed(run):
    began = time.process_time()
    result = run()
    return time.process_time() - began, result


def package(model, path, way):
    """The package alone: one pass, as JSON."""
    tok = peers.from_gguf(model) if model.endswith(".gguf") else peers.Tokenizer.from_file(model + "/tokenizer.json")
    texts = read(path)
    tok.encode("A word first, for what is made on the first call.")
    seconds, ids = timed(ways_of(tok, texts)[way])
    print(json.dumps({"seconds": [seconds], "bytes": sum(len(t.encode()) for t in texts), "ids": ids}))


def measure(name, program, path, tok, texts, folder, rounds):
    write(folder + "/documents", texts)
    size = sum(len(t.encode()) for t in texts)
    ways = {"tokenizers " + w: run for w, run in ways_of(tok, texts).items()}
    times, counts = {"nres": [], **{w: [] for w in ways}}, {}
    for r in range(rounds + 1):
        seconds, _, counts["nres"] = subprocess.run([program, path, folder + "/documents", "2"], check=True, text=True,
                                                    capture_output=True).stdout.splitlines()[1].split()
        times["nres"].append(float(seconds))
        for w, run in ways.items():
            seconds, counts[w] = timed(run)
            times[w].append(seconds)
    if len({int(c) for c in counts.values()}) != 1:
        sys.exit(f"{name}: numbers of ids differ: {counts}")
    print(f"{name}: {size / 1e6:.1f} MB, {len(texts)} documents, {counts['nres']} ids")
    fastest = min(min(times[w][1:]) for w in ways)
    for w, t in times.items():
        best, median = min(t[1:]), statistics.median(t[1:])
        print(f"  {w:30s} best {size / best / 1e6:7.2f} MB/s, median {size / median / 1e6:7.2f} MB/s")
    print(f"  nres is {fastest / min(times['nres'][1:]):.2f} times the faster of the two")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--library")
    p.add_argument("--write", help=argparse.SUPPRESS)
    p.add_argument("--read", help=argparse.SUPPRESS)
    p.add_argument("--model", help=argparse.SUPPRESS)
    p.add_argument("--way", help=argparse.SUPPRESS)
    p.add_argument("--gguf")
    p.add_argument("--kinds", default="")
    p.add_argument("--megabytes", type=float, default=20)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--size", type=int, default=30000)
    p.add_argument("paths", nargs="*")
    a = p.parse_args()
    if a.read:
        return package(a.model, a.read, a.way)
    texts = documents(a.paths, a.megabytes * 1e6, random.Random(1))
    if a.write:
        return write(a.write, texts)
    if not a.library or not a.paths:
        p.error("--library and a FILE are needed")
    with tempfile.TemporaryDirectory() as folder:
        program = build(a.library, folder)
        if a.gguf:
            measure("gguf", program, a.gguf, peers.from_gguf(a.gguf), texts, folder, a.rounds)
        for kind in filter(None, a.kinds.split(",")):
            tok, path = peers.train(kind, texts[::4], a.size), folder + "/tokenizer.json"
            tok.save(path)
            measure(kind, program, path, tok, texts, folder, a.rounds)


if __name__ == "__main__":
    main()
