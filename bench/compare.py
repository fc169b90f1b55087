#!/usr/bin/env python3
"""nres against its peers on this machine, in one run: training, forward, prompts, generation, tokenizing, start.

    bench/compare.py                                    everything, three rounds
    bench/compare.py --tests train,generate --rounds 5
    bench/compare.py --page                             tables and figures of the last run, again

Builds nres, fetches the model, installs the peers (scripts/peers.sh: PyTorch,
transformers, PEFT, tokenizers, llama.cpp). Every round runs every contender of
every test once, each in a process of its own, from another one on each time,
so that drift of the machine hits all alike. Writes compare.csv to results/,
performance.svg to docs/figures/, and the tables of docs/PERFORMANCE.md; with
--output FOLDER all of them to FOLDER.
"""
import argparse
import csv
import datetime
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile

from contenders import Bench, Failed, TESTS, TITLES, build, default_model, peers_python, root, run, text_files
import figures
import tables
import work


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("-m", "--model", help="GGUF file or Hugging Face folder [SmolLM2-135M-Instruct, fetched]")
    add("--tests", default="train,lora,full,forward,prompt,generate,tokenizer,start", help="of %(default)s [all]")
    add("--rounds", type=int, default=3)
    add("--steps", type=int, default=5, help="counted steps of a round, after two that don't count [%(default)s]")
    add("--repetitions", type=int, default=3, help="counted prompts and generations of a round [%(default)s]")
    add("--modes", default="eager-fp32,compile-fp32,eager-bf16,compile-bf16", help="PyTorch's [%(default)s]")
    add("--computes", default="fp32,bf16", help="nres's [%(default)s]")
    add("--batch-size", type=int, default=8)
    add("-c", "--context", type=int, default=256)
    add("--width", type=int, default=520, help="of neutral residues [%(default)s: 20 %% of SmolLM2-135M]")
    add("--rank", type=int, default=16, help="of LoRA [%(default)s]")
    add("-p", "--prompt", type=int, default=512)
    add("-n", "--generate", type=int, default=128)
    add("--megabytes", type=float, default=10, help="text for the tokenizers [%(default)s]")
    add("--text", nargs="+", help="text for the tokenizers: files, folders [the quickstart's, else this project's pages]")
    add("-t", "--threads", type=int, default=0, help="[as many as cores]")
    add("--limit", type=float, default=1800, help="seconds that one measurement may take [%(default)s]")
    add("--no-llama", dest="llama", action="store_false", help="leave out llama.cpp, which takes long to compile")
    add("--build", default=os.path.join(root, "build", "bench"), help="build folder [build/bench]")
    add("--peers", help="folder of the peers' Python environment [in the cache]")
    add("--output", help="folder for the results instead of this project's")
    add("--page", action="store_true", help="measure nothing: tables and figures from the CSV that is there")
    add("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of nres bench; must come last")
    args = p.parse_args()
    args.modes, args.computes = [[w for w in s.split(",") if w] for s in (args.modes, args.computes)]
    unknown = [t for t in args.tests.split(",") if t not in TESTS]
    if unknown:
        p.error(f"--tests: expected {','.join(TESTS)}, found {','.join(unknown)}")
    args.tests = [one for t in args.tests.split(",") for one in TESTS[t]]
    return args


def describe(bench, nres_build):
    """What was measured on: rows (measure, value)."""
    def first(path, key):
        return next((line.split(":", 1)[1].strip() for line in open(path) if line.startswith(key)), "")
    flags = set(first("/proc/cpuinfo", "flags").split() or first("/proc/cpuinfo", "Features").split())
    shown = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm", "sve"]
    memory = int(first("/proc/meminfo", "MemTotal").split()[0]) / 2 ** 20
    yield "date", datetime.date.today().isoformat()
    yield "cpu", first("/proc/cpuinfo", "model name") or os.uname().machine
    yield "cores", str(len(os.sched_getaffinity(0)))
    yield "threads", str(bench.threads)
    yield "instruction sets", " ".join(f for f in shown if f in flags)
    yield "memory", f"{memory:.0f} GiB"
    yield "load when it started", f"{os.getloadavg()[0]:.2f}"
    yield "model", os.path.basename(bench.args.model.rstrip("/"))
    yield "nres", nres_build.removeprefix("nres ")
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    if commit:
        yield "commit", commit
    for name, version in json.loads(bench.child("peer_torch.py", "versions")[0]).items():
        yield {"isa": "torch's instruction set"}.get(name, name), version
    if bench.args.llama:
        found = json.loads(bench.child("peer_llama.py", "version")[0])
        yield "llama-cpp-python", found["llama_cpp"]
        yield "llama.cpp", found["system"]
    if "tokenizer" in bench.args.tests:
        yield "tokenizers' text", " ".join(os.path.basename(t.rstrip("/")) for t in text_files(bench.args.text))
    for name, value in bench.settings.items():
        yield name, str(value)


def measure_machine(bench, write, number):
    """The bounds: the best products and the fastest memory that either side reaches."""
    a = bench.args
    out, _, _ = run([a.nres, "bench", "-m", a.model, "--tests", "machine", "--json", "-q", "-t", str(bench.threads)], a.limit)
    found = {"nres": json.loads(out)["machine"], "PyTorch": json.loads(bench.child("peer_torch.py", "machine", "--threads", bench.threads)[0])}
    for name, rates in found.items():
        for key in ("flops_fp32", "flops_bf16", "copy_bytes_per_second", "read_bytes_per_second"):
            if key in rates:
                write("machine", name, "", number, key, f"{rates[key]:.6g}")


def work_of(bench, test, name, compute, shapes):
    """What a token asks for: ("flops_per_token" or "bytes_per_token", number), or None."""
    a = bench.args
    blocks = name.startswith("nres") and a.model.endswith(".gguf")  # nres runs a model on the file's own integers
    if test == "prompt" and blocks:
        return None
    if test == "generate":
        size = None if blocks else {"fp32": 4, "bf16": 2}.get(compute)
        return "bytes_per_token", size * shapes.matrices if size else work.file_bytes(a.model)
    flops = {"train": lambda: shapes.neutral(a.width), "lora": lambda: shapes.lora(a.rank), "full": shapes.full,
             "forward": lambda: shapes.forward(3 * a.width * shapes.C * shapes.L),
             "prompt": lambda: shapes.forward() - 2 * shapes.C * shapes.V}.get(test)  # logits of the last token only
    return ("flops_per_token", flops()) if flops and compute in ("fp32", "bf16") else None


def say(number, test, name, result):
    """One measurement as a line."""
    if "ready_seconds" in result:
        figure = f"{result['ready_seconds']:10.2f} s"
    else:
        per = statistics.median(result["seconds"])
        figure = f"{result['bytes'] / per / 1e6:10.2f} MB/s" if "bytes" in result else f"{result['tokens'] / per:10.1f} tokens/s"
    print(f"round {number}  {test:11s} {name:28s} {figure:20s}{result['peak_bytes'] / 2**30:6.2f} GiB", flush=True)


def measure(bench, write):
    """All rounds. True when every contender gave a result every time."""
    shapes, good = work.Shapes.of(bench.args.nres, bench.args.model), True
    for number in range(1, bench.args.rounds + 1):
        measure_machine(bench, write, number)
        for test in bench.args.tests:
            them = bench.contenders(test)
            start, ids = (number - 1) % max(len(them), 1), None
            for name, compute, function in them[start:] + them[:start]:
                try:
                    result = function()
                except Failed as failure:
                    print(f"round {number}  {test:11s} {name:28s} failed: {failure}", flush=True)
                    write(test, name, compute, number, "failed", str(failure))
                    good = False
                    continue
                say(number, test, name, result)
                if result.get("ids", ids) != ids and ids is not None:
                    raise Failed(f"{name}: {result['ids']} ids, another contender {ids}")
                ids = result.get("ids", ids)
                asked = work_of(bench, test, name, compute, shapes)
                if asked:
                    result[asked[0]] = asked[1]
                for key, value in result.items():
                    text = " ".join(f"{s:.6g}" for s in value) if isinstance(value, list) else f"{value:.10g}"
                    write(test, name, compute, number, key, text)
    return good


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child ends too, and the scratch folder goes
    results, drawn = (args.output, args.output) if args.output else (os.path.join(root, "results"), os.path.join(root, "docs", "figures"))
    path, good = os.path.join(results, "compare.csv"), True
    if not args.page:
        os.makedirs(results, exist_ok=True)
        args.nres, args.tokenizer_bench = build(args.build)
        args.model = args.model or default_model()
        python = peers_python(args.peers, args.llama)
        with tempfile.TemporaryDirectory(prefix="nres-bench-") as scratch, open(path + ".part", "w", newline="") as f:
            bench, out = Bench(args, python, scratch), csv.writer(f)
            if os.getloadavg()[0] > 0.3 * bench.threads:
                print(f"This machine is busy (load {os.getloadavg()[0]:.1f}): figures will be too low.", file=sys.stderr)

            def write(*row):
                out.writerow(row)
                f.flush()
            write("test", "contender", "compute", "round", "measure", "value")
            built = run([args.nres, "version"], 60)[0].splitlines()[0]
            try:
                for name, value in describe(bench, built):
                    write("description", "", "", 0, name, value)
                bench.prepare(args.tests)
                good = measure(bench, write)
            except Failed as failure:
                sys.exit(f"compare: {failure}")
        os.replace(path + ".part", path)
    data = tables.read(path)
    print(tables.text(data, TITLES))
    figures.performance(data, os.path.join(drawn, "performance.svg"))
    page = os.path.join(root, "docs", "PERFORMANCE.md")
    if args.output:
        with open(os.path.join(args.output, "tables.md"), "w") as f:
            f.write(tables.markdown(data, TITLES))
    else:
        tables.into_page(page, "compare", "![Median tokens a second of nres and its peers](figures/performance.svg)\n\n" + tables.markdown(data, TITLES))
    return 0 if good else 1


sys.exit(main())
