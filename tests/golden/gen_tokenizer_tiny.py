#!/usr/bin/env python3
"""Trains the 512-token byte-level BPE of tests/fixtures/tiny: SmolLM2's structure, small.

usage: gen_tokenizer_tiny.py OUT/tokenizer.json TEXT.txt...
Needs the `tokenizers` package. The vocabulary holds 3 special tokens, 256 bytes and 253 merges.
"""
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers


def main():
    out, texts = sys.argv[1], sys.argv[2:]
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    special = [AddedToken(s, special=True, normalized=False) for s in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    tok.train(texts, trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    if tok.get_vocab_size() != 512:
        sys.exit(f"vocabulary: expected 512 tokens, found {tok.get_vocab_size()}")
    tok.save(out, pretty=False)


if __name__ == "__main__":
    main()
