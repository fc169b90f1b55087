"""gen_tasks_decisions.py SOURCE - which choice each normalisation takes, from made-up log-likelihoods, in a few lines.

Writes SOURCE/tests/fixtures/tasks/decisions.json: questions with their choices' texts (letters of one to four bytes),
tokens and log-likelihoods behind the question, behind nothing and behind OLMES's "Answer:"; the choice of each decision,
and over all of them each decision's share of right answers with its standard error. Needs Python alone.
"""
import json
import random
import statistics
import sys

WORDS = ["a", "stone", "river", "l'échelle", "œuf", "größte", "Straße", "пять", "水", "光合成", "\U0001f600", "naïve", "of", "the"]
r = random.Random(5)


def choice():
    text = " ".join(r.choices(WORDS, k=r.randint(1, 6)))
    tokens = max(1, len(text.encode()) // r.randint(2, 4))
    rare = -r.uniform(1.5, 2.5) * tokens  # what the text costs anywhere
    return {"text": text, "tokens": tokens, "sum": rare + r.uniform(0, 5), "nothing": rare + r.uniform(-2, 2), "context": rare + r.uniform(-1, 3)}


# A continuation is a blank and the text.
SCORES = {
    "acc": lambda c: c["sum"],
    "acc_norm": lambda c: c["sum"] / len(c["text"]),
    "acc_bytes": lambda c: c["sum"] / len(c["text"].encode("utf-8")),
    "acc_per_char": lambda c: c["sum"] / len(" " + c["text"]),
    "acc_per_token": lambda c: c["sum"] / c["tokens"],
    "acc_mutual_info": lambda c: c["sum"] - c["nothing"],
    "acc_uncond": lambda c: c["sum"] - c["context"],
}

items = []
for _ in range(60):
    choices = [choice() for _ in range(r.randint(2, 5))]
    taken = {name: max(range(len(choices)), key=lambda i: score(choices[i])) for name, score in SCORES.items()}
    items.append({"choices": choices, "answer": r.randrange(len(choices)), "taken": taken})

figures = {}
for name in SCORES:
    right = [float(item["taken"][name] == item["answer"]) for item in items]
    figures[name] = [statistics.fmean(right), statistics.stdev(right) / len(right) ** 0.5]

with open(f"{sys.argv[1]}/tests/fixtures/tasks/decisions.json", "w", encoding="utf-8") as f:
    rows = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    f.write('{"items": [\n%s],\n"figures": %s}\n' % (rows, json.dumps(figures)))
