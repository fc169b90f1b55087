#!/usr/bin/env python3
"""How near nres's main text of pages is to resiliparse's: F1 of their tokens.

    bench/extract_f1.py NRES OUT.json [--pages N] GROUP=PATH...

A PATH is a WARC file or a folder of HTML. Of each folder at most N pages (300)
are drawn, always the same. Tokens are runs of letters and digits; two texts
are compared as bags of them. Needs resiliparse and fastwarc 2.0.1 (PyPI).
"""
import argparse
import collections
import gzip
import json
import os
import random
import re
import subprocess
import tempfile

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

TOKEN = re.compile(r"\w+")


def score(mine, theirs):
    a, b = collections.Counter(TOKEN.findall(mine)), collections.Counter(TOKEN.findall(theirs))
    both = sum((a & b).values())
    if not a and not b:
        return 1.0, 1.0, 1.0
    precision, recall = both / max(1, sum(a.values())), both / max(1, sum(b.values()))
    return (2 * precision * recall / (precision + recall) if both else 0.0), precision, recall


def theirs_of(data, charset=None):
    text = bytes_to_str(data, charset or detect_encoding(data, from_html_meta=True))
    return extract_plain_text(text, main_content=True)


def pages_of_warc(path):
    with open(path, "rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
            http = record.http_headers
            if http is None or http.status_code != 200 or record.http_content_type not in ("text/html", "application/xhtml+xml"):
                continue
            data = record.reader.read()
            if data[:2] == b"\x1f\x8b":  # stored packed; some records only say that they are
                data = gzip.decompress(data)
            yield record.headers["WARC-Target-URI"].strip("<>"), theirs_of(data, record.http_charset)


def pages_of_warcs(path):
    pages = []
    try:
        for page in pages_of_warc(path):
            pages.append(page)
    except OSError as error:
        print(f"{os.path.basename(path)}: fastwarc stops there: {error}")
    return pages


def pages_of_folder(path, most):
    files = []
    for folder, _, names in os.walk(path):
        files += [os.path.join(folder, n) for n in names if re.search(r"\.html?(\.|$)", n) and not os.path.islink(os.path.join(folder, n))]
    files.sort()
    random.Random(1).shuffle(files)
    for file in files[:most]:
        with open(file, "rb") as f:
            yield file, theirs_of(f.read())


def read(nres, inputs):
    """source -> text, as nres reads the files"""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        subprocess.run([nres, "data", "read", *inputs, "-o", out], check=True, stdout=subprocess.DEVNULL)
        texts = collections.defaultdict(list)
        for part in sorted(os.listdir(os.path.join(out, "text"))):
            with open(os.path.join(out, "text", part), encoding="utf-8") as rows:
                for row in map(json.loads, rows):
                    texts[row["source"]].append(row["text"])
        return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nres")
    parser.add_argument("out")
    parser.add_argument("groups", nargs="+", metavar="GROUP=PATH")
    parser.add_argument("--pages", type=int, default=300)
    arguments = parser.parse_args()
    groups = collections.defaultdict(list)
    for word in arguments.groups:
        name, path = word.split("=", 1)
        groups[name].append(path)
    result, everything, worst = {}, [], []
    for name, paths in groups.items():
        pages = []
        for path in paths:
            pages += list(pages_of_folder(path, arguments.pages)) if os.path.isdir(path) else pages_of_warcs(path)
        mine = read(arguments.nres, paths if not os.path.isdir(paths[0]) else [source for source, _ in pages])
        scores = []
        for source, theirs in pages:
            one = score(mine[source].pop(0) if mine[source] else "", theirs)
            scores.append(one)
            worst.append((one[0], name, os.path.basename(source) or source, one[1], one[2]))
        everything += scores
        result[name] = {"pages": len(scores), **dict(zip(("f1", "precision", "recall"), (sum(s[i] for s in scores) / len(scores) for i in range(3))))}
        print(f"{name:24s} {len(scores):5d} pages  F1 {result[name]['f1']:.4f}  precision {result[name]['precision']:.4f}  recall {result[name]['recall']:.4f}")
    mean = sum(s[0] for s in everything) / len(everything)
    print(f"{'all':24s} {len(everything):5d} pages  F1 {mean:.4f}")
    worst.sort()
    with open(arguments.out, "w", encoding="utf-8") as file:
        json.dump({"peer": "resiliparse 2.0.1, main_content=True", "groups": result, "f1": mean, "pages": len(everything),
                   "worst": [{"f1": w[0], "group": w[1], "page": w[2], "precision": w[3], "recall": w[4]} for w in worst[:15]]}, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
