#!/usr/bin/env python3
"""Writes a GGUF file of a larger model with random weights, in the blocks that
downloads have: for measuring memory and speed where no such model is at hand.
Tokenizer and other metadata are those of a small model's file.

  random_gguf.py --like SMALL.gguf -o 1.7b-q4_0.gguf            # SmolLM2-1.7B's shape
  random_gguf.py --like SMALL.gguf -o x.gguf --layers 16 --width 2048 --ffn 8192 --heads 32 --kv-heads 8

Needs the packages gguf and numpy.
"""
import argparse

import gguf
import numpy as np


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--like", required=True, help="GGUF file whose tokenizer and vocabulary it takes")
    p.add_argument("-o", "--output", required=True)
    p.add_argument("--type", default="Q4_0", help="of the matrices [%(default)s]; the embedding is Q8_0")
    p.add_argument("--layers", type=int, default=24)
    p.add_argument("--width", type=int, default=2048)
    p.add_argument("--ffn", type=int, default=8192)
    p.add_argument("--heads", type=int, default=32)
    p.add_argument("--kv-heads", type=int, default=32)
    p.add_argument("--context", type=int, default=8192)
    p.add_argument("-s", "--seed", type=int, default=1)
    return p.parse_args()


def metadata(writer, reader, a):
    """Copies what doesn't speak of the shape, and sets what does."""
    shape = {"block_count": a.layers, "embedding_length": a.width, "feed_forward_length": a.ffn,
             "attention.head_count": a.heads, "attention.head_count_kv": a.kv_heads, "context_length": a.context,
             "rope.dimension_count": a.width // a.heads}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        key = name.removeprefix("llama.")
        value = shape.get(key, field.contents()) if name.startswith("llama.") else field.contents()
        kind = field.types[0]
        writer.add_key_value(name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)


def tensors(a, vocabulary):
    """Name, shape (out, in) and whether it is a norm's vector."""
    kv = a.width // a.heads * a.kv_heads
    yield "token_embd.weight", (vocabulary, a.width)
    yield "output_norm.weight", (a.width,)
    for layer in range(a.layers):
        for name, shape in (("attn_norm", (a.width,)), ("ffn_norm", (a.width,)), ("attn_q", (a.width, a.width)),
                            ("attn_k", (kv, a.width)), ("attn_v", (kv, a.width)), ("attn_output", (a.width, a.width)),
                            ("ffn_gate", (a.ffn, a.width)), ("ffn_up", (a.ffn, a.width)), ("ffn_down", (a.width, a.ffn))):
            yield f"blk.{layer}.{name}.weight", shape


def main():
    a = arguments()
    reader = gguf.GGUFReader(a.like)
    writer = gguf.GGUFWriter(a.output, "llama")
    metadata(writer, reader, a)
    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].data)
    rng = np.random.default_rng(a.seed)
    weights = 0
    for name, shape in tensors(a, vocabulary):
        weights += int(np.prod(shape))
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        kind = gguf.GGMLQuantizationType["Q8_0" if name.startswith("token") else a.type]
        values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{a.output}: {weights:,} weights")


if __name__ == "__main__":
    main()
