#!/usr/bin/env bash
# peers.sh - makes the Python environment that the benchmarks and the golden
# generators compare against: torch, transformers, peft, tokenizers,
# safetensors, gguf. nres itself never needs it.
#
#   scripts/peers.sh [--llama] [FOLDER]
#
# FOLDER: the cache folder by default. --llama: llama.cpp too, which is compiled
# for this machine (through llama-cpp-python; ten minutes or more). Prints the
# Python to use. What is there already is left alone.
set -euo pipefail
llama=
if [ "${1:-}" = --llama ]; then llama=yes; shift; fi
case ${1:-} in -*) echo "usage: $0 [--llama] [FOLDER]" >&2; exit 2 ;; esac
folder="${1:-${XDG_CACHE_HOME:-$HOME/.cache}/nres/peers}"
python="$folder/bin/python"
# A compiler for torch.compile and llama.cpp; python3-dev has the headers that torch.compile's code includes.
sh "$(dirname "$0")/install-dependencies.sh" --bench
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
if [ "$llama" ] && ! have llama_cpp; then
  echo "compiling llama.cpp: ten minutes or more" >&2
  CMAKE_ARGS="-DGGML_NATIVE=ON" CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" install llama-cpp-python
fi
echo "$python"
