"""One PyTorch contender in one process: PyTorch, transformers, PEFT, run as their users would for speed.

    python bench/peer_torch.py TEST MODE -m FOLDER [...]

TEST is one of
  prepare   writes MODEL (a GGUF file) as folders of safetensors: fp32 to --output, bf16 beside it (OUTPUT-bf16)
  versions  prints the versions of the packages
  machine   the largest matrix products a second, the fastest copy
  train     neutral residues (bench/peer_neutral.py)
  lora      PEFT on gate, up and down
  full      all weights
  forward   model with neutral residues, with the loss, no gradients
  prompt    --prompt tokens at once, batch 1, into an empty cache
  generate  --generate tokens one by one, batch 1, after one token
MODE is eager-fp32, eager-bf16, compile-fp32 or compile-bf16. With bf16 the
frozen matrices are held in bf16 beforehand and training runs under autocast
with trained weights in fp32; inference holds the whole model in bf16.
Prints {"ready": 1} when the first step or token is there, then {"seconds": [...], "tokens": N}, N per entry.
"""
import argparse
import json
import os
import time

import torch
import torch.nn.functional as F


def load(args, dtype):
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)


def prepare(args):
    from transformers import AutoModelForCausalLM
    folder, name = os.path.split(os.path.abspath(args.model))
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    config = type(loaded.config)(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    model = type(loaded)(config)  # a new one: the loaded one counts as quantised and can't be saved
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(args.output)
    model.bfloat16().save_pretrained(args.output + "-bf16")


def versions(_):
    import tokenizers
    import transformers
    import peft
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
                      "tokenizers": tokenizers.__version__, "isa": torch.backends.cpu.get_cpu_capability()}))


def fastest(run, seconds=1.0):
    """The shortest time of a call, after one unmeasured, over about a second."""
    run()
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        t = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - t)
    return best


def machine(_):
    """Products of the shapes that the model's own have, and larger: (tokens, in) x (in, out). Once as they lie, and once
    with weights that oneDNN packed beforehand, as nres packs its own."""
    out = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rates = []
        for m, k, n in ((2048, 2048, 2048), (2048, 4096, 2048), (512, 576, 3072), (512, 1536, 576)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
            packed = torch.ops.mkldnn._reorder_linear_weight(b.t().contiguous(), m)
            rates.append(2 * m * k * n / fastest(lambda: torch.mm(a, b)))
            rates.append(2 * m * k * n / fastest(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")))
        out["flops_" + name] = max(rates)
    a, b = torch.ones(64 << 20), torch.empty(64 << 20)
    out["copy_bytes_per_second"] = 2 * a.numel() * 4 / fastest(lambda: b.copy_(a))
    print(json.dumps(out))


def neutral(args, model):
    """Puts adapters in and returns the loss of a batch: the sums of peer_neutral.losses, in a form that compiles whole."""
    from peer_neutral import extend
    adapters = extend(model, args.width)

    def loss(ids, targets, is_new):
        logits = model(input_ids=ids, use_cache=False).logits
        lm = F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))
        old = (~is_new).float()
        l1 = sum((a.kept[2].float().abs().mean((1, 2)) * old).sum() for a in adapters) / (old.sum() * len(adapters))
        return lm + l1
    return loss


def plain(model):
    def loss(ids, targets, _):
        logits = model(input_ids=ids, use_cache=False).logits
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))
    return loss


def trained(args, model):
    if args.test in ("train", "forward"):
        return neutral(args, model)
    if args.test == "lora":
        from peft import LoraConfig, get_peft_model
        get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0,
                                         target_modules=["gate_proj", "up_proj", "down_proj"]))
    return plain(model)


def steps(args):
    """train, lora, full and forward: a list of seconds, one a step."""
    bf16 = args.mode.endswith("bf16")
    model = load(args, torch.float32)
    step_loss = trained(args, model)
    if args.test == "forward":
        model.requires_grad_(False)
    if bf16:  # matrices that nobody trains need no fp32 copy; the head stays, it is the embedding
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad and module is not model.get_output_embeddings():
                module.weight.data = module.weight.data.bfloat16()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, betas=(0.9, 0.95), weight_decay=0, fused=True) if weights else None

    def run(ids, targets, is_new):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return step_loss(ids, targets, is_new)
    if args.mode.startswith("compile"):
        run = torch.compile(run)
    is_new = torch.ones(args.batch_size, dtype=torch.bool)
    is_new[0] = False
    for _ in range(args.steps):
        ids = torch.randint(0, model.config.vocab_size, (args.batch_size, args.context + 1))
        t = time.perf_counter()
        if optimizer is None:
            with torch.no_grad():
                run(ids[:, :-1], ids[:, 1:], is_new).item()
        else:
            optimizer.zero_grad(set_to_none=True)
            run(ids[:, :-1], ids[:, 1:], is_new).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
        yield time.perf_counter() - t


def inference(args):
    """prompt and generate: a list of seconds, one a repetition, each with a fresh cache."""
    from transformers import DynamicCache
    model = load(args, torch.bfloat16 if args.mode.endswith("bf16") else torch.float32).eval()
    run = torch.compile(model) if args.mode.startswith("compile") else model
    with torch.inference_mode():
        for _ in range(args.steps):
            cache = DynamicCache(config=model.config)
            ids = torch.randint(0, model.config.vocab_size, (1, max(args.prompt, args.generate)))

            def feed(tokens):
                return run(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            if args.test == "generate" and args.generate > 1:
                feed(ids[:, :1])
            t = time.perf_counter()
            if args.test == "prompt":
                feed(ids[:, :args.prompt])
            else:
                for i in range(args.generate):
                    feed(ids[:, i:i + 1])
            yield time.perf_counter() - t


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("test")
    p.add_argument("mode", nargs="?", default="eager-fp32")
    p.add_argument("-m", "--model")
    p.add_argument("--output")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--width", type=int, default=520)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--generate", type=int, default=128)
    p.add_argument("--threads", type=int, default=0)
    args = p.parse_args()
    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    alone = {"prepare": prepare, "versions": versions, "machine": machine}
    if args.test in alone:
        return alone[args.test](args)
    seconds = []
    for s in inference(args) if args.test in ("prompt", "generate") else steps(args):
        if not seconds:
            print(json.dumps({"ready": 1}), flush=True)
        seconds.append(s)
    tokens = {"prompt": args.prompt, "generate": args.generate}.get(args.test, args.batch_size * args.context)
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


main()
