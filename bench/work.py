"""What a model's shapes ask for: arithmetic and bytes of weights, per token.

Only products with weights are counted, a multiply and an add as two, and only
those that the task needs: gradients of frozen weights are none, and below the
lowest extended layer nothing flows back. Attention's own products (about 4 %
at 256 tokens) and everything else count as overhead, for every contender alike.
"""
import json
import os
import subprocess


class Shapes:
    """L layers of width C with FFNs of F, H heads and K key-value heads of size D, a vocabulary of V."""

    def __init__(self, layers, width, ffn, heads, kv_heads, head_size, vocabulary, context):
        self.L, self.C, self.F, self.V, self.T = layers, width, ffn, vocabulary, context
        self.H, self.K, self.D = heads, kv_heads, head_size
        self.layer = width * head_size * (2 * heads + 2 * kv_heads) + 3 * width * ffn  # weights of one layer's matrices
        self.matrices = layers * self.layer + vocabulary * width                         # those a token is multiplied with

    @staticmethod
    def of(nres, model):
        """Read off the model by `nres inspect`."""
        s = json.loads(subprocess.run([nres, "inspect", "-m", model, "--json"], check=True, capture_output=True, text=True).stdout)
        return Shapes(s["layers"], s["width"], s["ffn_width"], s["heads"], s["kv_heads"], s["head_size"], s["vocabulary"], s["context"])

    def forward(self, added=0):
        """One token forward, with `added` weights of an extension."""
        return 2 * (self.matrices + added)

    def neutral(self, width):
        """One token of a training step of neutral residues in every layer: three matrices of C x M beside each FFN."""
        one = 2 * width * self.C
        forward = self.forward(3 * width * self.C * self.L)
        frozen_back = 2 * ((self.L - 1) * self.layer + self.V * self.C)
        # each matrix its own gradient; that of its input everywhere for W_out, above the lowest layer for the two others
        adapter_back = 3 * one * self.L + one * self.L + 2 * one * (self.L - 1)
        return forward + frozen_back + adapter_back

    def lora(self, rank):
        """One token of a training step of LoRA at gate, up and down."""
        pair = 2 * rank * (self.C + self.F)
        forward = self.forward() + 3 * self.L * pair
        # the lowest layer still needs the way back through its down matrix, to the LoRA of gate and up
        frozen_back = 2 * ((self.L - 1) * self.layer + self.C * self.F + self.V * self.C)
        return forward + frozen_back + 6 * self.L * pair

    def full(self):
        return 3 * self.forward()


def file_bytes(model):
    """Bytes of a model's weight files."""
    if os.path.isfile(model):
        return os.path.getsize(model)
    return sum(os.path.getsize(os.path.join(model, f)) for f in os.listdir(model) if f.endswith(".safetensors"))
