#!/usr/bin/env python3
"""What comes in and goes out at each step of nres data run, and that a run killed on the way ends with the same bytes.

    bench/data_table.py NRES LANGUAGE_MODEL OUT.json [--kills N] GROUP=LANGUAGE,QUALITY_MODEL,PATH[,PATH...]...

Each group is run with language, dedup, near (0.8) and quality. Then the same
command runs again and is killed with -9 N times (5), each time after a third
of what the first run took, and once more to the end; files and counts are
compared byte for byte, and a difference ends the script with 1. A Markdown
table of the counts is printed.
"""
import argparse
import filecmp
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROWS = [("files; records", "read.files", "read.records"),
        ("left out: no document, broken", "read.other_records+read.broken_records"),
        ("left out: status; neither HTML nor text", "read.http_errors", "read.other_types"),
        ("left out: too many tags; empty", "read.refused_pages", "read.empty"),
        ("documents (MB of pages -> text)", "read.documents", "read.page_bytes", "read.bytes"),
        ("dropped: language unclear; another", "language.unclear_documents", "language.other_documents"),
        ("paragraphs dropped: another language", "language.other_paragraphs"),
        ("documents (MB) after language", "language.documents", "language.bytes"),
        ("paragraphs dropped: seen before", "dedup.repeated_paragraphs"),
        ("documents (MB) after dedup", "dedup.documents", "dedup.bytes"),
        ("dropped: nearly seen before", "near.near_documents"),
        ("documents (MB) after near", "near.documents", "near.bytes"),
        ("dropped: below the quality threshold", "quality.poor_documents"),
        ("documents (MB) at the end", "quality.documents", "quality.bytes")]


def count(counts, names):
    return sum(counts[step][name] for step, name in (n.split(".") for n in names.split("+")))


def cell(counts, names):
    words = []
    for name in names:
        value = count(counts, name)
        words.append(f"{value / 1e6:.2f} MB" if name.endswith("bytes") else f"{value:,}")
    return "; ".join(words)


def files_of(folder):
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


def same(first, second):
    names = files_of(first)
    return names == files_of(second) and filecmp.cmpfiles(first, second, names, shallow=False)[0] == names


def run(command, out):
    start = time.perf_counter()
    done = subprocess.run([*command, "-o", out], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout), time.perf_counter() - start


def run_killed(command, out, kills, after):
    """Kills, and the bytes of finished parts that each kill left."""
    left = []
    for _ in range(kills):
        with subprocess.Popen([*command, "-o", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(after)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        left.append(sum(os.path.getsize(os.path.join(out, f)) for f in files_of(out) if f.endswith(".jsonl")))
    return left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nres")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("groups", nargs="+", metavar="GROUP=LANGUAGE,QUALITY_MODEL,PATH...")
    parser.add_argument("--kills", type=int, default=5)
    arguments = parser.parse_args()
    result, failed = {}, False
    for word in arguments.groups:
        name, rest = word.split("=", 1)
        language, quality, *paths = rest.split(",")
        command = [arguments.nres, "data", "run", *paths, "--language-model", arguments.model, "--languages", language, "--near-share", "0.8",
                   "--quality-model", quality, "--part-bytes", "1000000", "--json"]
        with tempfile.TemporaryDirectory() as folder:
            whole, killed = os.path.join(folder, "whole"), os.path.join(folder, "killed")
            counts, seconds = run(command, whole)
            left = run_killed(command, killed, arguments.kills, max(0.02, seconds / 3))
            again, _ = run(command, killed)
            equal = same(whole, killed) and counts == again
            size = sum(os.path.getsize(os.path.join(whole, f)) for f in files_of(whole))
        failed |= not equal
        result[name] = {"counts": counts, "seconds": seconds, "kills": len(left), "bytes_of_parts_at_kills": left, "bytes": size, "same_bytes": equal}
        print(f"{name}: {seconds:.1f} s; {len(left)} kills, parts of {left} bytes left by them; same bytes: {equal}", file=sys.stderr)
    print("| | " + " | ".join(result) + " |\n|---|" + "---|" * len(result))
    for title, *names in ROWS:
        print(f"| {title} | " + " | ".join(cell(group["counts"], names) for group in result.values()) + " |")
    with open(arguments.out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2)
        file.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
