"""gen_tasks.py NRES SOURCE [keep] - lm-evaluation-harness 0.4.13 on made-up questions and a random model.

Writes SOURCE/tests/fixtures/tasks: the rows, and golden.json: what the harness, with transformers in fp32, says of the
model that `nres init` makes of the config and seed in it. keep: cases that golden.json has stay. Needs lm-eval, torch, transformers.
"""
import json
import os
import subprocess
import sys
import tempfile

NRES, SOURCE = sys.argv[1:3]
sys.path.insert(0, f"{SOURCE}/bench")
import tasks_harness as th  # noqa: E402

OUT = f"{SOURCE}/tests/fixtures/tasks"
THINGS = ["lamp", "stone", "river", "kettle", "ladder", "feather", "candle", "bridge", "button", "window", "hammer", "blanket"]
CHOSES = ["la lampe", "un caillou", "la rivière", "l'échelle", "une plume", "la bougie", "le pont", "un bouton", "la fenêtre",
          "le marteau", "l'œuf", "le thé"]


def pick(words, i, n):
    return [words[(i * 5 + k * 7 + i // 3) % len(words)] for k in range(n)]


def question(i):
    return f"Which of these would you use on day {i + 1} when the {THINGS[i % 12]} is {'wet' if i % 2 else 'cold'}?"


def frage(i):
    return f"Au jour {i + 1}, que prendre quand {CHOSES[i % 12]} est {'mouillé' if i % 2 else 'froid'} ?"


def write(name, split, items):
    th.save(f"{OUT}/{name}_{split}.jsonl", items)


def arc(i, n, numbers=False, key="question"):
    labels = [str(k + 1) for k in range(n)] if numbers else list("ABCDE"[:n])
    choices = [c + (" and a rope" if k == i % n else "") for k, c in enumerate(pick(THINGS, i, n))]
    return {"id": f"t/{i}", key: question(i), "choices": {"text": choices, "label": labels}, "answerKey": labels[(i * 3 + 1) % n]}


def swag(i, words=THINGS):
    ends = [f"takes the {w} [step] and goes  home.{' [title] Rest' if k == 1 else ''}" for k, w in enumerate(pick(words, i, 4))]
    return {"ind": i, "activity_label": "Cleaning" if i % 2 else "[header] Repairs", "ctx_a": f"A person looks at {words[i % 12]} number {i}.",
            "ctx_b": ["ÉLISE then", "she Then", ""][i % 3], "ctx": "unused", "endings": ends, "label": str((i * 7) % 4)}


def flat(i, n):
    row = {"id": f"m/{i}", "instruction": frage(i)}
    for k, text in enumerate(pick(CHOSES, i, n)):
        row[f"option_{'abcde'[k]}"] = text + (" [note] encore" if k == 2 else "")
    return {**row, "answer": "ABCDE"[(i * 3) % n]}


def belebele(i):
    row = {"link": "none", "question_number": i, "flores_passage": f"{CHOSES[i].capitalize()} est ici depuis {i + 3} ans.", "question": frage(i) + " "}
    row.update({f"mc_answer{k + 1}": text for k, text in enumerate(pick(CHOSES, i, 4))})
    return {**row, "correct_answer_num": str(i % 4 + 1), "dialect": "fra_Latn", "ds": "2023-01-01"}


def mmlu(i, subject):
    return {"question": f" {question(i)}\n", "subject": subject, "choices": pick(THINGS, i, 4), "answer": (i * 3) % 4}


def make_rows():
    os.makedirs(OUT, exist_ok=True)
    write("arc_challenge", "test", [arc(i, 3 + i % 3, i == 2) for i in range(8)])
    write("arc_challenge", "train", [arc(i, 4) for i in range(20, 48)] + [dict(arc(60, 4), id="t/1"), dict(arc(61, 4), id="t/5")])
    write("arc_challenge", "validation", [arc(70, 4)])
    write("hellaswag", "validation", [swag(i) for i in range(6)])
    write("hellaswag", "train", [swag(i) for i in range(10, 16)])
    write("hellaswag_fr", "validation", [swag(i, CHOSES) for i in range(4)])
    write("commonsense_qa", "validation", [dict(arc(i, 5), question_concept="tool") for i in range(6)])
    write("commonsense_qa", "train", [dict(arc(i, 5), question_concept="tool") for i in range(30, 37)])
    write("openbookqa", "test", [arc(i, 4, key="question_stem") for i in range(4)])
    write("openbookqa", "train", [arc(i, 4, key="question_stem") for i in range(20, 24)])
    write("openbookqa", "validation", [arc(70, 4, key="question_stem")])
    for split, base, n in (("validation", 0, 5), ("train", 20, 4)):
        write("piqa", split, [{"goal": question(i), "sol1": f"use the {THINGS[i % 12]}", "sol2": f"leave the {THINGS[(i + 5) % 12]} alone",
                               "label": i % 2} for i in range(base, base + n)])
        write("social_iqa", split, [{"context": f"Ada gave Tim the {THINGS[i % 12]}.", "question": "What will Tim do next?",
                                     "answerA": f"keep the {THINGS[i % 12]}", "answerB": "say thanks", "answerC": f"sell {i} of them",
                                     "label": str(i % 3 + 1)} for i in range(base, base + n)])
    keys = ["option_a", "option_b", "option_c", "option_d", "option_e"]
    for split, base, n in (("test", 0, 5), ("train", 20, 5), ("validation", 30, 1)):
        write("arc_fr", split, [{**{k: None for k in keys}, **flat(i, 3 + i % 3)} for i in range(base, base + n)])
    for split, base, n in (("test", 0, 5), ("train", 20, 6)):
        write("m_mmlu_fr", split, [flat(i, 4) for i in range(base, base + n)])
    write("belebele_fra_Latn", "test", [belebele(i) for i in range(6)])
    subjects = ["abstract_algebra", "anatomy"]
    write("mmlu", "test", [mmlu(i, subjects[i % 3 == 1]) for i in range(9)])
    write("mmlu", "dev", [mmlu(i + 20, subjects[i % 2]) for i in range(10)])


CASES = [("arc_challenge", 0), ("arc_challenge", 3), ("arc_challenge", 25), ("hellaswag", 0), ("hellaswag", 2), ("hellaswag_fr", 0),
         ("commonsense_qa", 3), ("mmlu", 5), ("arc_mutual", 0), ("arc_fr", 2), ("m_mmlu_fr", 5), ("belebele_fra_Latn", 2),
         ("piqa", 2), ("social_iqa", 2), ("openbookqa", 2), ("piqa", 0), ("social_iqa", 0), ("commonsense_qa", 0),
         ("openbookqa", 0), ("arc_fr", 0), ("m_mmlu_fr", 0), ("belebele_fra_Latn", 0), ("mmlu", 0)]


def figures(results):
    return {k.replace(",none", ""): v for k, v in results.items() if k.endswith(",none") and v != "N/A"}


def one(lm, task, shots, data, **more):
    results, samples, _ = th.harness(lm, task, shots, data, None, **more)
    lls = [[float(r[0]) for r in s["filtered_resps"]] for s in samples]
    greedy = [[int(str(r[1]) == "True") for r in s["filtered_resps"]] for s in samples]
    return {"task": task, "shots": shots, "figures": figures(results), "sums": lls, "greedy": greedy}


def subjects(lm, shots):
    """Each subject as the harness's own task, and their group's figures."""
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr
    parts = {}
    for subject in ("abstract_algebra", "anatomy"):
        with tempfile.TemporaryDirectory() as folder:
            for split in ("dev", "test"):
                th.save(f"{folder}/mmlu_{split}.jsonl", [r for r in th.rows(f"{OUT}/mmlu_{split}.jsonl") if r["subject"] == subject])
            th.HARNESS_NAME["mmlu"] = f"mmlu_{subject}"
            parts[subject] = one(lm, "mmlu", shots, folder)
    sizes = [len(p["sums"]) for p in parts.values()]
    acc = aggregate_subtask_metrics([p["figures"]["acc"] for p in parts.values()], sizes, True)
    error = pooled_sample_stderr([p["figures"]["acc_stderr"] for p in parts.values()], sizes)
    return {"task": "mmlu", "shots": shots, "figures": {"acc": acc, "acc_stderr": error},
            "groups": {k: p["figures"] for k, p in parts.items()},
            "sums": sum((p["sums"] for p in parts.values()), []), "greedy": sum((p["greedy"] for p in parts.values()), [])}


def main():
    make_rows()
    shape = json.load(open(f"{SOURCE}/tests/fixtures/tiny/config.json"))
    shape["initializer_range"] = 0.2  # far from uniform: a wrong token shows
    made = {"made_by": "lm-evaluation-harness 0.4.13, transformers in fp32", "config": shape, "seed": 5, "cases": []}
    if "keep" in sys.argv[3:]:
        made["cases"] = json.load(open(f"{OUT}/golden.json"))["cases"]
    with tempfile.TemporaryDirectory() as folder:
        json.dump(shape, open(f"{folder}/config.json", "w"))
        subprocess.run([NRES, "init", "--config", f"{folder}/config.json", "--tokenizer", f"{SOURCE}/tests/fixtures/tiny/tokenizer.json",
                        "-o", f"{folder}/m", "-s", "5"], check=True, stdout=subprocess.DEVNULL)
        lm = th.open_lm(f"{folder}/m", 4, prefix_token_id=shape["bos_token_id"])
        for task, shots in CASES:
            if any((case["task"], case["shots"]) == (task, shots) for case in made["cases"]):
                continue
            if task == "mmlu":
                case = subjects(lm, shots)
            elif task == "arc_mutual":
                case = dict(one(lm, "arc_challenge", shots, OUT, metrics=["acc", "acc_norm", "acc_bytes", "acc_mutual_info"]), task=task)
            else:
                case = one(lm, task, shots, OUT)
            made["cases"].append(case)
            print(task, shots, case["figures"], flush=True)
            with open(f"{OUT}/golden.json", "w", encoding="utf-8") as f:
                f.write(json.dumps(made, indent=1) + "\n")


main()
