"""Training speed and memory: nres against PyTorch on this machine, alternating in one run.

Both sides train neutral residues at 20 % (elu, low, alpha 1, p 0.1) on the same
model at batch 8 x 256: the same products, losses and optimizer. Every round
runs each contender once; a contender's figure of a round is the median of its
steps after the first two. Prints best and median of the rounds and the ratio
to nres in the same compute type.

    python bench/train_bench.py --nres build/release/nres -m MODEL.gguf --new FR.jsonl --old EN.jsonl

Needs torch, transformers and gguf in the Python that runs it (scripts/peers.sh
makes such an environment); nres itself needs none of it.
"""
import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
BATCH, CONTEXT, WIDTH = 8, 256, 520


def peer(model_path, mode, steps):
    """One PyTorch contender in this process: prints a JSON line."""
    import torch
    from transformers import AutoModelForCausalLM
    sys.path.insert(0, here)
    from peer_neutral import extend, losses
    torch.set_num_threads(os.cpu_count())
    started = time.time()
    if model_path.endswith(".gguf"):
        model = AutoModelForCausalLM.from_pretrained(os.path.dirname(os.path.abspath(model_path)), dtype=torch.float32,
                                                     gguf_file=os.path.basename(model_path))
    else:
        model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    adapters = extend(model, WIDTH)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, betas=(0.9, 0.95), weight_decay=0)
    bf16 = mode.endswith("bf16")
    vocabulary = model.config.vocab_size

    def step_loss(ids, targets, is_new):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return losses(model, adapters, ids, targets, is_new)[3]

    run = torch.compile(step_loss) if mode.startswith("compile") else step_loss
    seconds = []
    torch.manual_seed(0)
    for _ in range(steps):
        ids = torch.randint(0, vocabulary, (BATCH, CONTEXT + 1))
        is_new = torch.ones(BATCH, dtype=torch.bool)
        is_new[0] = False
        t = time.time()
        optimizer.zero_grad(set_to_none=True)
        run(ids[:, :-1], ids[:, 1:], is_new).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        seconds.append(time.time() - t)
        if len(seconds) == 1:
            first = time.time() - started
    print(json.dumps({"seconds": seconds, "first_step": first,
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def nres(args, compute):
    """One nres contender: a short run, read back from its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        command = [args.nres, "extend", "-m", args.model, "--new", *args.new, "--old", *args.old, "-o", run, "--steps", str(args.steps),
                   "--batch-size", str(BATCH), "-c", str(CONTEXT), "--width", str(WIDTH), "--lr", "3e-3", "--warmup-steps", "1",
                   "--eval-steps", "0", "--eval-tokens", "256", "--save-every", "1000000", "--compute", compute, *args.flags]
        before = time.time()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(errors.decode())
        lines = [json.loads(line) for line in open(os.path.join(run, "metrics.jsonl"))]
        rates = [line["tokens_per_second"] for line in lines if line["kind"] == "step"]
        return {"seconds": [BATCH * CONTEXT / r for r in rates], "whole": time.time() - before, "peak_bytes": usage.ru_maxrss * 1024}


def torch_run(args, mode):
    out = subprocess.run([sys.executable, __file__, "--peer", mode, "-m", args.model, "--steps", str(args.steps)],
                         capture_output=True, text=True)
    if out.returncode:
        sys.exit(out.stderr)
    return json.loads(out.stdout.strip().splitlines()[-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("--nres", default="build/release/nres")
    p.add_argument("--new", nargs="+", default=[])
    p.add_argument("--old", nargs="+", default=[])
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--modes", default="eager-fp32,eager-bf16", help="of eager-fp32,eager-bf16,compile-fp32,compile-bf16")
    p.add_argument("--computes", default="fp32,bf16")
    p.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of nres extend")
    p.add_argument("--csv")
    p.add_argument("--peer", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peer:
        return peer(args.model, args.peer, args.steps)
    contenders = [("nres-" + c, lambda c=c: nres(args, c)) for c in args.computes.split(",") if c]
    contenders += [("torch-" + m, lambda m=m: torch_run(args, m)) for m in args.modes.split(",") if m]
    rates, peaks = {}, {}
    for round_number in range(args.rounds):
        for name, measure in contenders:
            result = measure()
            rates.setdefault(name, []).append(BATCH * CONTEXT / statistics.median(result["seconds"][2:] or result["seconds"]))
            peaks[name] = max(peaks.get(name, 0), result["peak_bytes"])
            print(f"round {round_number + 1}  {name:20s} {rates[name][-1]:8.1f} tokens/s  {peaks[name] / 2**30:6.2f} GiB", flush=True)
    print(f"\n{'':20s} {'best':>9s} {'median':>9s} {'GiB':>6s}  nres / it: speed, memory")
    rows = []
    for name in rates:
        best, median = max(rates[name]), statistics.median(rates[name])
        own = "nres-" + name[-4:]
        ratio = statistics.median(rates[own]) / median if own in rates else float("nan")
        memory = peaks[own] / peaks[name] if own in rates else float("nan")
        print(f"{name:20s} {best:9.1f} {median:9.1f} {peaks[name] / 2**30:6.2f}  {ratio:6.2f} {memory:6.2f}")
        rows.append([name, best, median, peaks[name], ratio, memory])
    if args.csv:
        with open(args.csv, "w", newline="") as f:
            w = csv.writer(f)
            w.writerow(["contender", "tokens_per_second_best", "tokens_per_second_median", "peak_bytes", "speed_ratio", "memory_ratio"])
            w.writerows(rows)


main()
