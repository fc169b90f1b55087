#!/usr/bin/env bash
# sweep.sh - tries learning rates on the quickstart's text: one short run each,
# judged on validation text alone (lowest sum of old and new bits per byte).
# Prints one JSON line a run; what has been run so far stands
# in results/sweep_learning_rate.jsonl.
#
#   scripts/sweep.sh NRES MODEL STEPS RATE...
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
nres="$1" model="$2" steps="$3"
shift 3
text="${XDG_CACHE_HOME:-$HOME/.cache}/nres/text"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
for rate; do
  command=("$nres" extend -m "$model" --new "$text/fr-manuals.train.jsonl" --old "$text/en-wikipedia.train.jsonl"
    --new-validation "$text/fr-manuals.validation.jsonl" --old-validation "$text/en-wikipedia.validation.jsonl"
    -o "$folder/$rate" --steps "$steps" --eval-steps 0 --eval-tokens 8192 --save-every 1000000 --lr "$rate")
  "${command[@]}" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
  last="$(grep -E '"kind": ?"eval"' "$folder/$rate/metrics.jsonl" | tail -n 1)"
  printf '{"learning_rate":%s,"steps":%s,"validation":%s}\n' "$rate" "$steps" "$last"
done
