#!/usr/bin/env python3
"""Speed of nres data, step by step, against Python doing the same on the same files.

    bench/data_bench.py NRES LANGUAGE_MODEL OUT.json [--rounds N] [--bytes N] [--threads 1,2] PATH...

PATHs are folders of HTML, of which the first N bytes (30 MB) are taken. The
peer is what a script would use: resiliparse for pages, fasttext-predict for
languages, a set of hashes for repeated paragraphs, one process. Every round
runs every contender of every step once; best and median MB/s of the step's
input are printed. Reading files and writing rows is in all of them. Needs
resiliparse 2.0.1 and fasttext-predict (PyPI).
"""
import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time


def pages(paths, limit):
    files, total = [], 0
    for path in paths:
        for folder, _, names in os.walk(path):
            files += [os.path.join(folder, n) for n in names if n.endswith(".html") and not os.path.islink(os.path.join(folder, n))]
    chosen = []
    for file in sorted(files):
        size = os.path.getsize(file)
        if total + size > limit:
            break
        total += size
        chosen.append(file)
    return chosen, total


def rows(path):
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def write(path, documents):
    with open(path, "w", encoding="utf-8") as file:
        for row in documents:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def peer_read(files, out):
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    def documents():
        for name in files:
            with open(name, "rb") as file:
                data = file.read()
            yield {"source": name, "text": extract_plain_text(bytes_to_str(data, detect_encoding(data)), main_content=True)}
    write(out, documents())


def peer_language(source, out, model_path):
    import fasttext
    model = fasttext.load_model(model_path)

    def documents():
        for row in rows(source):
            labels, shares = model.predict(row["text"][:65536].replace("\n", " "))
            if not labels or shares[0] < 0.5:
                continue
            kept = []
            for paragraph in row["text"].split("\n\n"):
                mine, share = model.predict(paragraph.replace("\n", " ")) if len(paragraph) >= 50 else (labels, shares)
                if not mine or share[0] < 0.8 or mine[0] == labels[0]:
                    kept.append(paragraph)
            yield {"source": row["source"], "language": labels[0], "text": "\n\n".join(kept)}
    write(out, documents())


def peer_dedup(source, out):
    seen = set()

    def documents():
        for row in rows(source):
            kept = []
            for paragraph in row["text"].split("\n\n"):
                key = hashlib.sha256(paragraph.encode()).digest()[:16]
                if key not in seen:
                    seen.add(key)
                    kept.append(paragraph)
            if kept:
                yield {"source": row["source"], "text": "\n\n".join(kept)}
    write(out, documents())


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nres")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=30_000_000)
    parser.add_argument("--threads", default="1,2")
    arguments = parser.parse_args()
    nres, model = os.path.abspath(arguments.nres), os.path.abspath(arguments.model)
    files, page_bytes = pages(arguments.paths, arguments.bytes)
    threads = arguments.threads.split(",")
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        links = os.path.join(folder, "pages")
        os.mkdir(links)
        for i, file in enumerate(files):
            shutil.copyfile(file, os.path.join(links, f"{i:06d}.html"))
        copies = sorted(os.path.join(links, n) for n in os.listdir(links))
        text = os.path.join(folder, "text.jsonl")
        peer_read(copies, text)
        text_bytes = os.path.getsize(text)
        out = os.path.join(folder, "out")

        def ours(verb, source, count, *flags):
            def work():
                shutil.rmtree(out, ignore_errors=True)
                subprocess.run([nres, "data", verb, source, "-o", out, "--threads", count, *flags], check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return work

        contenders = [("read", page_bytes, "python", lambda: peer_read(copies, out + ".jsonl")),
                      ("language", text_bytes, "python", lambda: peer_language(text, out + ".jsonl", model)),
                      ("dedup", text_bytes, "python", lambda: peer_dedup(text, out + ".jsonl"))]
        for count in threads:
            name = f"nres, {count} thread" + "s" * (count != "1")
            contenders += [("read", page_bytes, name, ours("read", links, count)),
                           ("language", text_bytes, name, ours("language", text, count, "--language-model", model)),
                           ("dedup", text_bytes, name, ours("dedup", text, count)),
                           ("dedup, filter", text_bytes, name, ours("dedup", text, count, "--dedup-error", "1e-6")),
                           ("near", text_bytes, name, ours("near", text, count)),
                           ("run, all steps", page_bytes, name,
                            ours("run", links, count, "--language-model", model, "--near-share", "0.8"))]
        for turn in range(arguments.rounds):
            for step, size, name, work in contenders[turn % len(contenders):] + contenders[:turn % len(contenders)]:
                times.setdefault((step, name), (size, []))[1].append(timed(work))
    result = []
    for (step, name), (size, seconds) in sorted(times.items()):
        best, median = size / 1e6 / min(seconds), size / 1e6 / statistics.median(seconds)
        result.append({"step": step, "contender": name, "bytes": size, "rounds": len(seconds), "best": best, "median": median})
        print(f"{step:16s} {name:16s} {size / 1e6:8.1f} MB   best {best:8.1f} MB/s   median {median:8.1f} MB/s")
    with open(arguments.out, "w", encoding="utf-8") as file:
        json.dump({"pages": len(files), "results": result}, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
