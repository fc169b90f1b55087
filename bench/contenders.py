"""Who is measured in each test, and how one measurement of one of them is taken.

A contender is a program in one compute type. Measuring it starts one process,
whose largest resident memory counts as its peak, and gives a dictionary:
seconds (a list, one a counted repetition), tokens (of a repetition), peak_bytes,
or ready_seconds (from the start of the process to the first result).
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(here)
TITLES = {
    "train": "training, neutral residues of width {width}, batch {batch_size} x {context}",
    "lora": "training, LoRA of rank {rank} at gate, up and down, batch {batch_size} x {context}",
    "full": "training, all weights, batch {batch_size} x {context}",
    "forward": "forward with loss, neutral residues of width {width}, batch {batch_size} x {context}",
    "prompt": "prompt of {prompt} tokens, batch 1",
    "generate": "generation of {generate} tokens, batch 1",
    "tokenizer": "text to ids, one thread",
    "start-step": "process start to the end of the first training step",
    "start-token": "process start to the first generated token",
}
TESTS = {"train": ["train"], "lora": ["lora"], "full": ["full"], "forward": ["forward"], "prompt": ["prompt"],
         "generate": ["generate"], "tokenizer": ["tokenizer"], "start": ["start-step", "start-token"]}
WARM = {"train": 2, "lora": 2, "full": 2, "forward": 2, "prompt": 2, "generate": 1}  # repetitions that don't count


class Failed(Exception):
    """A contender that ended without a result; the message is its last word."""


def run(command, limit, env=None, ready=None):
    """One process: (stdout, seconds to the first line that `ready` accepts, peak bytes)."""
    began, first, lines = time.perf_counter(), None, []
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
                                 env={**os.environ, **(env or {})})
        timer = threading.Timer(limit, lambda: os.killpg(child.pid, signal.SIGKILL))
        timer.start()
        try:
            for line in child.stdout:
                if first is None and ready and ready(line):
                    first = time.perf_counter() - began
                lines.append(line)
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        child.stdout.close()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            said = [line for line in errors.read().splitlines() if line.strip()]
            late = f", no result within {limit:.0f} s" if child.returncode == -signal.SIGKILL else ""
            raise Failed(f"exit {child.returncode}{late}: {said[-1] if said else 'it said nothing'}")
    return "".join(lines), first, usage.ru_maxrss * 1024


class Bench:
    """Settings of a run, and the files that contenders need, made once."""

    def __init__(self, args, python, scratch):
        self.args, self.python, self.scratch = args, python, scratch
        self.settings = {k: getattr(args, k) for k in ("batch_size", "context", "width", "rank", "prompt", "generate")}
        self.threads = args.threads or len(os.sched_getaffinity(0))
        self.env = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TORCHINDUCTOR_CACHE_DIR": os.path.join(scratch, "compiled")}
        self.folder = self.bf16_folder = self.bf16_gguf = self.documents = None

    def is_gguf(self):
        return self.args.model.endswith(".gguf")

    def child(self, script, *words, ready=None, env=None):
        return run([self.python, os.path.join(here, script), *map(str, words)], self.args.limit, {**self.env, **(env or {})}, ready)

    def prepare(self, tests):
        """The model as the peers read it, and warm files: what the first round must not pay for."""
        a = self.args
        if tests != ["tokenizer"]:
            self.folder = self.bf16_folder = a.model
            if self.is_gguf():
                self.folder = os.path.join(self.scratch, "model")
                self.bf16_folder = self.folder + "-bf16"
                self.child("peer_torch.py", "prepare", "-m", a.model, "--output", self.folder)
        if a.llama and self.is_gguf() and any(t in tests for t in ("prompt", "generate", "start-token")):
            self.bf16_gguf = os.path.join(self.scratch, "bf16.gguf")
            self.child("peer_llama.py", "bf16", "-m", a.model, "--output", self.bf16_gguf, "--threads", self.threads)
        if "tokenizer" in tests:
            self.documents = os.path.join(self.scratch, "documents")
            self.child("tokenizer_bench.py", "--write", self.documents, "--megabytes", a.megabytes, *text_files(a.text))

    # ---- one measurement each ----

    def nres(self, test, compute, *flags):
        a = self.args
        method = {"lora": ["--method", "lora", "--width", a.rank], "full": ["--method", "finetune"],
                  "prompt": ["--width", 1], "generate": ["--width", 1],  # it measures with an extension too: a tiny one
                  }.get(test, ["--method", "neutral", "--width", a.width])
        name = test if test in ("forward", "prompt", "generate") else "train"
        count = self.repetitions(test) - WARM[test]
        tests = "machine,generate" if test == "generate" else name  # memory's rate moves, that of products hardly does
        out, _, _ = run([a.nres, "bench", "-m", a.model, "--tests", tests, "-r", str(count), "--compute", compute, "--json", "-q",
                            "-t", str(self.threads), "--batch-size", str(a.batch_size), "-c", str(a.context),
                            "-p", str(a.prompt if test == "prompt" else 1), "-n", str(a.generate), *map(str, method), *flags, *a.flags], a.limit)
        found = [t for t in json.loads(out)["tests"] if t["name"] == name]
        if not found:
            raise Failed(f"nres bench printed no test of the name {name}")
        return {k: found[0][k] for k in ("seconds", "tokens", "peak_bytes", "bound_rates") if k in found[0]}

    def folder_of(self, test, mode):
        """Inference in bf16 reads a bf16 file, as its users would."""
        return self.bf16_folder if test in ("prompt", "generate") and mode.endswith("bf16") else self.folder

    def torch(self, test, mode):
        a = self.args
        out, _, peak = self.child("peer_torch.py", test, mode, "-m", self.folder_of(test, mode), "--steps", self.repetitions(test), "--batch-size",
                                  a.batch_size, "--context", a.context, "--width", a.width, "--rank", a.rank, "--prompt", a.prompt,
                                  "--generate", a.generate, "--threads", self.threads)
        return self.counted(test, out, peak)

    def llama(self, test, model):
        out, _, peak = self.child("peer_llama.py", test, "-m", model, "--steps", self.repetitions(test), "--prompt",
                                  self.args.prompt, "--generate", self.args.generate, "--threads", self.threads)
        return self.counted(test, out, peak)

    def repetitions(self, test):
        a = self.args
        return WARM[test] + {"prompt": a.repetitions, "generate": a.repetitions}.get(test, a.steps)

    @staticmethod
    def counted(test, out, peak):
        last = json.loads(out.strip().splitlines()[-1])
        return {"seconds": last["seconds"][WARM[test]:], "tokens": last["tokens"], "peak_bytes": peak}

    def nres_tokenizer(self):
        """One pass: text is tokenized once in real life, and a second pass would find its words remembered."""
        out, _, peak = run([self.args.tokenizer_bench, self.args.model, self.documents, "1"], self.args.limit)
        seconds, size, ids = out.split()
        return {"seconds": [float(seconds)], "bytes": int(size), "peak_bytes": peak, "ids": int(ids)}

    def tokenizers(self, way):
        out, _, peak = self.child("tokenizer_bench.py", "--read", self.documents, "--model", self.args.model, "--way", way)
        return {**json.loads(out), "peak_bytes": peak}

    def nres_start_step(self, compute):
        """The real command, with its tokenizing: nres extend on this project's own pages, an empty cache of tokens."""
        a = self.args
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            pages = sorted(os.path.join(root, "docs", f) for f in os.listdir(os.path.join(root, "docs")) if f.endswith(".md"))
            _, ready, peak = run([a.nres, "extend", "-m", a.model, "--new", *pages, "--old", os.path.join(root, "ARCHITECTURE.md"),
                                  os.path.join(root, "README.md"), "-o", folder + "/run", "--steps", "1", "--warmup-steps", "1",
                                  "--batch-size", str(a.batch_size), "-c", str(a.context), "--width", str(a.width), "--eval-steps", "0",
                                  "--eval-tokens", "1", "--validation-share", "0.2", "--compute", compute, "-t", str(self.threads), "--json"],
                                 a.limit, {"XDG_CACHE_HOME": folder}, lambda line: '"step"' in line and '"loss' in line)
        return {"ready_seconds": ready, "peak_bytes": peak}

    def nres_start_token(self, compute):
        a = self.args
        _, ready, peak = run([a.nres, "generate", "-m", a.model, "-p", "Hello", "-n", "1", "-c", "64", "--ignore-eos", "--compute", compute,
                              "-t", str(self.threads), "--json"], a.limit, None, lambda line: True)
        return {"ready_seconds": ready, "peak_bytes": peak}

    def torch_start(self, test, mode):
        a = self.args
        with tempfile.TemporaryDirectory(dir=self.scratch) as compiled:
            _, ready, peak = self.child("peer_torch.py", test, mode, "-m", self.folder_of(test, mode), "--steps", 1, "--batch-size", a.batch_size,
                                        "--context", a.context, "--width", a.width, "--generate", 1, "--threads", self.threads,
                                        ready=lambda line: '"ready"' in line, env={"TORCHINDUCTOR_CACHE_DIR": compiled})
        return {"ready_seconds": ready, "peak_bytes": peak}

    def llama_start(self, model):
        """Without Python's imports, which a C program on llama.cpp wouldn't have."""
        out, ready, peak = self.child("peer_llama.py", "generate", "-m", model, "--steps", 1, "--generate", 1, "--prompt", 64,
                                      "--threads", self.threads, ready=lambda line: '"ready"' in line)
        return {"ready_seconds": ready - json.loads(out.splitlines()[0])["import_seconds"], "peak_bytes": peak}

    # ---- who takes part ----

    def contenders(self, test):
        """A list of (name, compute type, function); the type decides which of nres it is held against."""
        out = []
        for c in self.args.computes:
            if test in WARM and (test != "full" or self.has_full()):
                out.append((f"nres {c}", c, lambda c=c: self.nres(test, c)))
                if test == "train" and c == "bf16":  # the frozen layers' products in int8, the rest in bf16
                    out.append(("nres bf16 and int8", "int8", lambda: self.nres("train", "bf16", "--frozen-products", "int8")))
            elif test.startswith("start"):
                measure = self.nres_start_step if test == "start-step" else self.nres_start_token
                out.append((f"nres {c}", c, lambda c=c, m=measure: m(c)))
        for m in self.args.modes:
            how, c = m.split("-")
            who = "PEFT" if test == "lora" else "PyTorch"
            if test in ("train", "lora", "full", "forward"):
                out.append((f"{who} {how} {c}", c, lambda m=m: self.torch(test, m)))
            elif test == "start-step":
                out.append((f"PyTorch {how} {c}", c, lambda m=m: self.torch_start("train", m)))
            elif test == "start-token" and how == "eager":
                out.append((f"transformers {c}", c, lambda m=m: self.torch_start("generate", m)))
            elif test in ("prompt", "generate") and how == "eager":
                out.append((f"transformers {c}", c, lambda m=m: self.torch(test, m)))
        if test in ("prompt", "generate", "start-token") and self.is_gguf() and self.args.llama:
            for name, c, model in (("llama.cpp, as in file", "file", self.args.model), ("llama.cpp bf16", "bf16", self.bf16_gguf)):
                if test == "start-token":
                    out.append((name, c, lambda f=model: self.llama_start(f)))
                else:
                    out.append((name, c, lambda f=model: self.llama(test, f)))
        if test == "tokenizer":
            out.append(("nres", "", self.nres_tokenizer))
            out += [(f"tokenizers {w}", "", lambda w=w: self.tokenizers(w)) for w in ("encode", "encode_batch_fast")]
        return out

    def has_full(self):
        listed = subprocess.run([self.args.nres, "methods"], check=True, capture_output=True, text=True).stdout
        return any(line.strip() == "finetune" for line in listed.splitlines() if not line.startswith(" "))


def text_files(given):
    """The text that tokenizing is timed on: what is given, else the quickstart's in the cache, else this project's own pages."""
    if given:
        return given
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nres", "text")
    if os.path.isdir(cache):
        found = sorted(os.path.join(cache, f) for f in os.listdir(cache) if f.endswith(".train.jsonl"))
        if found:
            return found
    return [os.path.join(root, "docs"), os.path.join(root, "src")]


def peers_python(folder, llama):
    """The Python of scripts/peers.sh, which installs what is missing."""
    command = [os.path.join(root, "scripts", "peers.sh")] + (["--llama"] if llama else []) + ([folder] if folder else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("compare: the peers couldn't be installed")
    return done.stdout.strip().splitlines()[-1]


def build(folder):
    """Configures and builds this tree; what it makes: (nres, tokenizer_bench)."""
    for command in (["cmake", "-S", root, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DNRES_BENCH=ON"],
                    ["cmake", "--build", folder, "--target", "nres_program", "tokenizer_bench"]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(done.stdout + "compare: the build failed")
    return os.path.join(folder, "nres"), os.path.join(folder, "bench", "tokenizer_bench")


def default_model():
    """SmolLM2-135M-Instruct, fetched into the cache when it isn't there."""
    return subprocess.run([os.path.join(root, "scripts", "fetch-model.sh")], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
