#!/usr/bin/env bash
# peers.sh - makes the Python environment that the benchmarks and the golden
# generators compare against: torch, transformers, peft, tokenizers,
# safetensors, gguf. nres itself never needs it.
#
#   scripts/peers.sh [FOLDER]     default: the cache folder; prints the Python to use
set -euo pipefail
folder="${1:-${XDG_CACHE_HOME:-$HOME/.cache}/nres/peers}"
python="$folder/bin/python"
if [ ! -x "$python" ]; then
  echo "making a Python environment in $folder" >&2
  python3 -m venv "$folder" >&2
fi
have() { "$python" -c "import $1" >/dev/null 2>&1; }
install() { "$python" -m pip install --quiet "$@" >&2; }
have numpy || install numpy filelock typing-extensions sympy networkx jinja2 fsspec psutil
if ! have torch; then
  # A CUDA toolkit on the machine already holds most of what the wheel would bring.
  if [ -d /usr/local/cuda/lib64 ]; then
    install --no-deps torch nvidia-cufile nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 nvidia-nccl-cu13
  fi
  have torch || install torch
fi
have transformers || install transformers tokenizers safetensors gguf
have peft || install --no-deps peft accelerate
echo "$python"
