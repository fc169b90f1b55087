#!/usr/bin/env python3
"""How nres's speed and memory grow with the length of a row, the rows of a step and the threads.

    bench/growth.py                                training and forward, T 256 to 8192, batch 1 to 32, 1 and 2 threads
    bench/growth.py --page                         figures and table of the last run, again

A point is one process of `nres bench`: median tokens a second and the largest
resident memory. Points of more than --tokens tokens a step are left out.
Writes growth.csv to results/, growth_*.svg to docs/figures/ and the table of
docs/PERFORMANCE.md; with --output FOLDER all of them to FOLDER.
"""
import argparse
import csv
import json
import os
import statistics
import sys

from contenders import Failed, build, default_model, root, run
import figures
import tables

FIELDS = ["test", "compute", "threads", "batch_size", "context", "tokens_per_second", "peak_bytes"]


def numbers(text):
    return [int(w) for w in text.split(",")]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("-m", "--model", help="[SmolLM2-135M-Instruct, fetched]")
    add("--tests", default="train,forward")
    add("--contexts", type=numbers, default=[256, 512, 1024, 2048, 4096, 8192])
    add("--batches", type=numbers, default=[1, 2, 4, 8, 16, 32])
    add("--threads", type=numbers, default=[1, 2])
    add("--compute", default="auto")
    add("--tokens", type=int, default=8192, help="most tokens of a step [%(default)s]")
    add("--repetitions", type=int, default=3, help="counted repetitions, after two that don't count [%(default)s]")
    add("--limit", type=float, default=1800, help="seconds that a point may take [%(default)s]")
    add("--build", default=os.path.join(root, "build", "bench"))
    add("--output", help="folder for the results instead of this project's")
    add("--page", action="store_true", help="measure nothing: figures and table from the CSV that is there")
    add("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of nres bench; must come last")
    return p.parse_args()


def point(nres, a, test, threads, batch, context):
    out, _, peak = run([nres, "bench", "-m", a.model, "--tests", test, "-r", str(a.repetitions), "--json", "-q", "-t", str(threads),
                        "--batch-size", str(batch), "-c", str(context), "--compute", a.compute, *a.flags], a.limit)
    found = json.loads(out)
    measured = next(t for t in found["tests"] if t["name"] == test)
    rate = measured["tokens"] / statistics.median(measured["seconds"])
    return [test, found["compute"], threads, batch, context, f"{rate:.6g}", peak]


def measure(a, path):
    nres, _ = build(a.build)
    a.model = a.model or default_model()
    with open(path + ".part", "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(FIELDS)
        for test in a.tests.split(","):
            for context in a.contexts:
                for batch in a.batches:
                    for threads in a.threads if batch * context <= a.tokens else []:
                        try:
                            row = point(nres, a, test, threads, batch, context)
                        except Failed as failure:
                            sys.exit(f"growth: {test}, {threads} threads, batch {batch} x {context}: {failure}")
                        out.writerow(row)
                        f.flush()
                        print(f"{test:8s} {threads} threads  batch {batch:3d} x {context:5d} {float(row[5]):10.1f} tokens/s {row[6] / 2**30:7.2f} GiB",
                              flush=True)
    os.replace(path + ".part", path)


def read(path):
    with open(path, newline="") as f:
        return [{k: (v if k in ("test", "compute") else float(v)) for k, v in r.items()} for r in csv.DictReader(f)]


def draw(rows, folder):
    """A figure a test: speed and memory over T, a line a batch, a column a number of threads."""
    for test in dict.fromkeys(r["test"] for r in rows):
        mine = [r for r in rows if r["test"] == test]
        counts = sorted({int(r["threads"]) for r in mine})
        batches = sorted({int(r["batch_size"]) for r in mine})
        parts = figures.legend(340 * len(counts) + 16, 50, [f"batch {b}" for b in batches])
        for column, threads in enumerate(counts):
            for line, (key, unit, scale) in enumerate((("tokens_per_second", "tokens/s", 1), ("peak_bytes", "peak memory, GiB", 2 ** 30))):
                series = {b: [(r["context"], r[key] / scale) for r in mine if (r["threads"], r["batch_size"]) == (threads, b)] for b in batches}
                title = f"{threads} thread" + ("s" if threads > 1 else "")
                parts += figures.lines(56 + 340 * column, 40 + 270 * line, 260, 180, title, series, "tokens of a row", unit)
        figures.save(os.path.join(folder, f"growth_{test}.svg"), 340 * len(counts) + 90, 550, f"How {test} grows",
                     "Tokens a second and peak memory of nres over the tokens of a row, a line a batch size.", parts)


def markdown(rows):
    out = []
    for test in dict.fromkeys(r["test"] for r in rows):
        mine = [r for r in rows if r["test"] == test]
        counts = sorted({int(r["threads"]) for r in mine})
        out += [f"### {test[0].upper() + test[1:]} ({mine[0]['compute']})", "", "| batch x tokens | "
                + " | ".join(f"tokens/s, {t} thread{'s' if t > 1 else ''} | GiB" for t in counts) + " |", "|---|" + "---:|" * (2 * len(counts))]
        for batch, context in sorted({(int(r["batch_size"]), int(r["context"])) for r in mine}, key=lambda p: (p[1], p[0])):
            at = {int(r["threads"]): r for r in mine if (r["batch_size"], r["context"]) == (batch, context)}
            out.append(f"| {batch} x {context} | " + " | ".join(
                f"{at[t]['tokens_per_second']:.0f} | {at[t]['peak_bytes'] / 2**30:.2f}" if t in at else " | " for t in counts) + " |")
        out.append("")
    return "\n".join(out)


def main():
    a = arguments()
    results, drawn = (a.output, a.output) if a.output else (os.path.join(root, "results"), os.path.join(root, "docs", "figures"))
    path = os.path.join(results, "growth.csv")
    os.makedirs(results, exist_ok=True)
    if not a.page:
        measure(a, path)
    rows = read(path)
    draw(rows, drawn)
    if a.output:
        with open(os.path.join(a.output, "growth.md"), "w") as f:
            f.write(markdown(rows))
    else:
        shown = [f"![Speed and memory of {t} over the tokens of a row](figures/growth_{t}.svg)\n" for t in dict.fromkeys(r["test"] for r in rows)]
        tables.into_page(os.path.join(root, "docs", "PERFORMANCE.md"), "growth", "\n".join(shown) + "\n" + markdown(rows))


main()
