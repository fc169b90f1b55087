"""What the tokenizer generators and comparisons share: tokenizers built as the real models' files are, and text."""
import ctypes
import gzip
import json
import os
import random
import subprocess
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
KINDS = ("gpt2", "smollm", "llama3", "qwen2")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated", invert=False), byte_level(False)])


def empty(kind, model):
    """A tokenizer of the given kind around a model: the structure of gpt2, SmolLM2, Llama 3 or Qwen2."""
    tok = Tokenizer(model)
    tok.pre_tokenizer = {
        "gpt2": lambda: byte_level(True),
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]),
        "llama3": lambda: split(LLAMA3),
        "qwen2": lambda: split(QWEN2),
    }[kind]()
    if kind == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.decoder = decoders.ByteLevel()
    return tok


def from_gguf(path):
    """The tokenizer inside a GGUF file (tokenizer.ggml.pre gpt-2, smollm, llama-bpe or qwen2) as a Tokenizer."""
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    field = lambda name: fields["tokenizer.ggml." + name].contents()
    kind = {"gpt-2": "gpt2", "default": "gpt2", "smollm": "smollm", "llama-bpe": "llama3", "qwen2": "qwen2"}[field("pre")]
    tokens, types = field("tokens"), field("token_type")
    merges = [tuple(m.split(" ")) for m in field("merges")]
    model = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=kind == "llama3")
    tok = empty(kind, model)
    added = [AddedToken(t, special=k == 3, normalized=False) for t, k in zip(tokens, types) if k in (3, 4)]
    for a in added:
        (tok.add_special_tokens if a.special else tok.add_tokens)([a])
    return tok


def train(kind, texts, size, seed=0):
    """Trains a tokenizer of a kind on strings, with special and user-defined added tokens of every flag."""
    tok = empty(kind, models.BPE(ignore_merges=kind == "llama3"))
    special = [AddedToken(s, special=True, normalized=False) for s in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<|im", normalized=False),
                    AddedToken("<left>", lstrip=True, normalized=False),
                    AddedToken("<right>", rstrip=True, normalized=False),
                    AddedToken("solo", single_word=True, normalized=False), AddedToken("norm\u00e9", normalized=True),
                    AddedToken("<both>", lstrip=True, rstrip=True, normalized=True)])
    if kind == "llama3":
        # Merges out of order leave tokens that merging never reaches: only ignore_merges gives them.
        j, rng = json.loads(tok.to_str()), random.Random(seed)
        merges = j["model"]["merges"]
        late = set(rng.sample(range(len(merges)), len(merges) // 10))
        j["model"]["merges"] = [m for i, m in enumerate(merges) if i not in late] + [merges[i] for i in sorted(late)]
        tok = Tokenizer.from_str(json.dumps(j))
        tok.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|im_start|> $A", pair="<|im_start|> $A <|im_start|>:1 $B:1",
                                          special_tokens=[("<|im_start|>", 1)])])
    return tok


def read_text(path):
    """A file's text: .gz unpacked, bytes that aren't UTF-8 replaced."""
    data = (gzip.open if path.endswith(".gz") else open)(path, "rb").read()
    return data.decode("utf-8", "replace")


def walk(paths):
    for p in paths:
        if os.path.isfile(p):
            yield p
        for folder, names, files in os.walk(p):
            names.sort()
            for f in sorted(files):
                if os.path.isfile(os.path.join(folder, f)):
                    yield os.path.join(folder, f)


ALPHABETS = [
    lambda r: r.choice("etaoinshrdlu"), lambda r: r.choice("   \t\n\r\x0b\x0c\u00a0\u2003\u3000\u0085\u2028"),
    lambda r: r.choice("0123456789"), lambda r: r.choice("'!?.,;:-_()[]{}<>|\"#$%&*+/=@\\^`~"),
    lambda r: r.choice(["'s", "'T", "'re", "'VE", "'m", "'LL", "'d", "'\u017f", "\u2019s", "'l", "'r"]),
    lambda r: chr(r.randint(0x20, 0x2ff)), lambda r: chr(r.randint(0x300, 0x36f)),
    lambda r: chr(r.choice([r.randint(0x400, 0x52f), r.randint(0x590, 0x6ff), r.randint(0x900, 0xdff)])),
    lambda r: chr(r.randint(0x4e00, 0x9fff)), lambda r: chr(r.randint(0xac00, 0xd7a3)),
    lambda r: chr(r.choice([r.randint(0x1100, 0x11ff), r.randint(0x3040, 0x30ff)])),
    lambda r: chr(r.randint(0x1f300, 0x1faff)), lambda r: r.choice("\u0660\u0967\u00b2\u00bd\u2167\U0001d7d8\u3007"),
    lambda r: chr(r.choice([r.randint(0, 0xd7ff), r.randint(0xe000, 0x10ffff)])),
    lambda r: chr(r.choice([r.randint(0xa00, 0x1fff), r.randint(0xa000, 0xabff), r.randint(0xf900, 0xfaff),
                            r.randint(0x10000, 0x12fff), r.randint(0x1d000, 0x1d7ff), r.randint(0x2f800, 0x2fa1f)])),
    lambda r: r.choice(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im", "<tool>", "<left>", "<right>", "<both>",
                        "solo", "norm\u00e9", "norme\u0301", " <left> ", " <right> ", "<|im_", "<repo_name>"]),
]


def random_text(rng, size):
    """Runs of symbols from a few alphabets each, with everything beside everything."""
    out = []
    while len(out) < size:
        few = rng.sample(ALPHABETS, rng.randint(1, 4))
        for _ in range(rng.randint(1, 12)):
            pick = rng.choice(few)
            out += [pick(rng) for _ in range(rng.randint(1, rng.choice([2, 4, 30])))]
    return "".join(out)[:size]


class Nres:
    """libnres through ctypes: the static library is linked into a shared one in a temporary folder."""

    def __init__(self, library):
        folder = tempfile.mkdtemp()
        if library.endswith(".a"):
            shared = os.path.join(folder, "libnres.so")
            subprocess.run(["cc", "-shared", "-o", shared, "-Wl,--whole-archive", library, "-Wl,--no-whole-archive"] +
                           os.environ.get("NRES_LINK", "-ljansson -lz -lzstd -lcrypto -lgumbo -ldnnl -lgomp -lm").split(),
                           check=True)
            library = shared
        self.lib = ctypes.CDLL(library)
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.lib.nr_tokenizer_open.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, pointer]
        self.lib.nr_tokenizer_encode.argtypes = [pointer, ctypes.c_char_p, size, ctypes.c_bool, pointer, size, pointer, pointer]
        self.lib.nr_tokenizer_decode.argtypes = [pointer, pointer, size, ctypes.c_bool, pointer, size, pointer, pointer]
        self.error = ctypes.create_string_buffer(4 + 1024)

    def check(self, status):
        if status:
            raise RuntimeError(self.error.raw[4:].split(b"\0")[0].decode("utf-8", "replace"))

    def open(self, path):
        t = ctypes.c_void_p()
        self.check(self.lib.nr_tokenizer_open(ctypes.byref(t), path.encode(), None, self.error))
        return t

    def encode(self, t, data, special):
        n, room = ctypes.c_size_t(), 3 * len(data) + 1
        ids = (ctypes.c_int32 * room)()
        self.check(self.lib.nr_tokenizer_encode(t, data, len(data), special, ids, room, ctypes.byref(n), self.error))
        return ids[:n.value]

    def decode(self, t, ids):
        n = ctypes.c_size_t()
        array = (ctypes.c_int32 * len(ids))(*ids)
        self.check(self.lib.nr_tokenizer_decode(t, array, len(ids), True, None, 0, ctypes.byref(n), self.error))
        text = ctypes.create_string_buffer(n.value + 1)
        self.check(self.lib.nr_tokenizer_decode(t, array, len(ids), True, text, n.value, ctypes.byref(n), self.error))
        return text.raw[:n.value]
