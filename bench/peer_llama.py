"""llama.cpp in one process, through llama-cpp-python's low-level calls: the loops of llama-bench.

    python bench/peer_llama.py TEST -m MODEL.gguf [...]

TEST is one of
  version   prints llama-cpp-python's version and what llama.cpp was built with
  bf16      writes MODEL with its matrices in bf16 to --output
  prompt    --prompt random tokens at once into an empty cache, logits of the last one
  generate  --generate random tokens one by one, after one token
Prints {"ready": 1, "import_seconds": S} when the first repetition is there, then {"seconds": [...], "tokens": N}.
"""
import argparse
import ctypes
import json
import os
import random
import sys
import time

imports_began = time.perf_counter()
import llama_cpp
from llama_cpp import llama_cpp as api
import_seconds = time.perf_counter() - imports_began


@api.llama_log_callback
def silent(level, text, user):
    del level, text, user


def version():
    info = " ".join(api.llama_print_system_info().decode().split())
    print(json.dumps({"llama_cpp": llama_cpp.__version__, "system": info}))


def bf16(args):
    params = api.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = api.LLAMA_FTYPE_MOSTLY_BF16, True, args.threads
    if api.llama_model_quantize(args.model.encode(), args.output.encode(), ctypes.byref(params)):
        sys.exit(f"{args.model}: llama.cpp couldn't write it as bf16")


def decode(context, ids):
    array = (api.llama_token * len(ids))(*ids)
    if api.llama_decode(context, api.llama_batch_get_one(array, len(ids))):
        sys.exit("llama_decode failed")


def measure(args):
    model = api.llama_model_load_from_file(args.model.encode(), api.llama_model_default_params())
    if not model:
        sys.exit(f"{args.model}: llama.cpp couldn't open it")
    params = api.llama_context_default_params()
    params.n_ctx = max(args.prompt, args.generate + 1)
    params.n_batch = max(args.prompt, 1)
    params.n_threads = params.n_threads_batch = args.threads
    context = api.llama_init_from_model(model, params)
    vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    seconds = []
    for _ in range(args.steps):
        api.llama_memory_clear(api.llama_get_memory(context), True)
        ids = [random.randrange(vocabulary) for _ in range(max(args.prompt, args.generate))]
        if args.test == "generate" and args.generate > 1:
            decode(context, ids[:1])
        began = time.perf_counter()
        if args.test == "prompt":
            decode(context, ids[:args.prompt])
        else:
            for i in ids[:args.generate]:
                decode(context, [i])
        api.llama_synchronize(context)
        seconds.append(time.perf_counter() - began)
        if len(seconds) == 1:
            print(json.dumps({"ready": 1, "import_seconds": import_seconds}), flush=True)
    print(json.dumps({"seconds": seconds, "tokens": args.prompt if args.test == "prompt" else args.generate}))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("test")
    p.add_argument("-m", "--model")
    p.add_argument("--output")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--generate", type=int, default=128)
    p.add_argument("--threads", type=int, default=0)
    args = p.parse_args()
    args.threads = args.threads or len(os.sched_getaffinity(0))
    api.llama_log_set(silent, ctypes.c_void_p(0))
    api.llama_backend_init()
    random.seed(1)
    if args.test == "version":
        version()
    elif args.test == "bf16":
        bf16(args)
    else:
        measure(args)


main()
