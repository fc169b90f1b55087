#!/usr/bin/env bash
# sweep.sh - tries settings on the quickstart's text: one short run each, judged
# on validation text alone (lowest sum of old and new bits per byte): training's
# own rows, and the first documents of both files as `nres eval` scores them.
# Prints one JSON line a run; what has been run so far stands in
# results/sweep_learning_rate.jsonl and results/sweep_settings.jsonl.
#
#   scripts/sweep.sh NRES MODEL STEPS SETTINGS...
#   scripts/sweep.sh build/release/nres MODEL 90 '--lr 0.01' '--lr 0.02 --alpha 10'
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
nres="$1" model="$2" steps="$3"
shift 3
text="${XDG_CACHE_HOME:-$HOME/.cache}/nres/text"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
head -n 20 "$text/fr-manuals.validation.jsonl" >"$folder/new.jsonl"
head -n 60 "$text/en-wikipedia.validation.jsonl" >"$folder/old.jsonl"
for settings; do
  run="$folder/run"
  rm -rf "$run"
  # shellcheck disable=SC2086 # the settings are words
  { "$nres" extend -m "$model" --new "$text/fr-manuals.train.jsonl" --old "$text/en-wikipedia.train.jsonl" \
      --new-validation "$text/fr-manuals.validation.jsonl" --old-validation "$text/en-wikipedia.validation.jsonl" \
      -o "$run" --steps "$steps" --eval-steps 0 --eval-tokens 8192 --save-every 1000000 $settings &&
    "$nres" eval -m "$model" -x "$run" --json "$folder/new.jsonl" "$folder/old.jsonl" >"$folder/scores"; } \
    >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
  last="$(grep -E '"kind": ?"eval"' "$run/metrics.jsonl" | tail -n 1)"
  python3 - "$settings" "$steps" "$last" "$folder/scores" <<'P'
import json, sys
settings, steps, last, scores = sys.argv[1:]
new, old = json.load(open(scores))["files"]
bits = {n: f["extended"]["bits_per_byte"] for n, f in (("new", new), ("old", old))}
print(json.dumps({"settings": settings, "steps": int(steps), "validation": json.loads(last),
                  "eval": bits | {"sum": sum(bits.values()), "backbone_new": new["backbone"]["bits_per_byte"],
                                  "backbone_old": old["backbone"]["bits_per_byte"]}}), flush=True)
P
done
