"""gen_generate.py - how transformers turns logits into probabilities, and what it generates.

    gen_generate.py sampling OUT.json
        Random logits through the library's own logits processors.
    gen_generate.py greedy MODEL.gguf OUT.json
        Greedy ids after some prompts, fp32, with the prompts' ids. How far the
        best logit is ahead of the second is kept too: a near tie may turn over
        in another order of summation.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402

PROMPTS = ["The capital of France is", "Once upon a time, there was a small village",
           "def fibonacci(n):\n", "Water boils at", "La capitale de la France est", "1, 2, 3, 4,"]
SAMPLINGS = [  # temperature, top-k, top-p, min-p, repetition penalty
    (1.0, 0, 1.0, 0.0, 1.0), (0.7, 0, 1.0, 0.0, 1.0), (2.5, 0, 1.0, 0.0, 1.0), (1.0, 5, 1.0, 0.0, 1.0),
    (1.0, 1, 1.0, 0.0, 1.0), (1.0, 400, 1.0, 0.0, 1.0), (1.0, 0, 0.9, 0.0, 1.0), (1.0, 0, 0.3, 0.0, 1.0),
    (1.0, 0, 0.01, 0.0, 1.0), (1.0, 0, 1.0, 0.05, 1.0), (1.3, 0, 1.0, 0.4, 1.0), (1.0, 0, 1.0, 0.0, 1.3),
    (1.0, 0, 1.0, 0.0, 0.8), (0.8, 20, 0.95, 0.0, 1.1), (1.5, 12, 0.8, 0.1, 1.2), (0.3, 7, 0.99, 0.02, 1.05)]


def sampling(out):
    from transformers import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                              TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
    cases = []
    for number, (temperature, top_k, top_p, min_p, penalty) in enumerate(SAMPLINGS):
        draw = torch.Generator().manual_seed(number)
        logits = torch.randn(1, 40, generator=draw) * 3
        if top_k == 5:
            logits[0, 7] = logits[0, 30] = logits[0].sort(descending=True).values[4]  # equals at the k-th place
        history = torch.randint(0, 40, (1, 12), generator=draw)
        chain = LogitsProcessorList()
        if penalty != 1:
            chain.append(RepetitionPenaltyLogitsProcessor(penalty))
        chain.append(TemperatureLogitsWarper(temperature))
        if top_k:
            chain.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            chain.append(TopPLogitsWarper(top_p))
        if min_p:
            chain.append(MinPLogitsWarper(min_p))
        p = chain(history, logits.clone()).double().softmax(-1)
        cases.append({"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
                      "repetition_penalty": penalty, "history": history[0].tolist(),
                      "logits": [float(v) for v in logits[0]], "p": p[0].tolist()})
    json.dump({"cases": cases}, open(out, "w"))


def greedy(gguf, out):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    folder, name = os.path.split(gguf)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
                              output_scores=True, return_dict_in_generate=True, repetition_penalty=1.0,
                              pad_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id)
        top = [s[0].topk(2).values for s in made.scores]
        new = made.sequences[0, ids.shape[1]:].tolist()
        cases.append({"prompt": prompt, "prompt_ids": ids[0].tolist(), "ids": new, "text": tokenizer.decode(new),
                      "least_lead": min(float(t[0] - t[1]) for t in top)})
        print(cases[-1])
    json.dump({"eos": tokenizer.eos_token_id, "cases": cases}, open(out, "w"), indent=1)


if __name__ == "__main__":
    if sys.argv[1] == "sampling":
        sampling(sys.argv[2])
    else:
        greedy(*sys.argv[2:4])
