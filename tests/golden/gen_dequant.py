#!/usr/bin/env python3
"""Random quantised blocks and what the gguf package makes of them, for tests/unit/test_tensor.c.

usage: gen_dequant.py OUT/dequant.bin
Needs numpy and gguf. Every type gets blocks of random bytes with sane scales, and blocks whose
scales are zero, negative, subnormal, the largest, infinite and NaN.
File, little-endian, per type: u32 GGUF type id, u32 bytes, u32 elements, the blocks, the floats.
"""
import struct
import sys

import gguf
import numpy as np

ODD = [0.0, -0.0, -0.25, 6e-8, -6e-8, 6.1e-5, 65504.0, -65504.0, np.inf, np.nan]
# byte offsets of the halfs of a block
HALFS = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
         "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": [0], "BF16": []}


def blocks_of(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    plain = 8 if elements <= 32 else 4
    count = 512 if elements == 1 else plain + len(ODD)
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for i in range(count):
        if i >= plain + len(ODD):
            break
        for at in HALFS[name]:
            value = rng.normal() * 0.02 if i < plain else ODD[i - plain]
            data[i, at:at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)
    return kind, data


def main():
    rng = np.random.default_rng(20)
    with open(sys.argv[1], "wb") as out, np.errstate(all="ignore"):
        for name in HALFS:
            kind, data = blocks_of(name, rng)
            if data.shape[1] == 2:
                data = data.reshape(1, -1)
            y = gguf.quants.dequantize(data, kind).astype(np.float32).ravel()
            out.write(struct.pack("<III", int(kind), data.size, y.size))
            out.write(data.tobytes())
            out.write(y.tobytes())


if __name__ == "__main__":
    main()
