#!/usr/bin/env bash
# raw-english.sh - an instruct model unlearns raw text; this brings it back before a comparison, so that what the
# comparison calls forgetting is not hidden by English that any training on raw text improves.
# All weights train on raw English until held-out English hasn't improved in three validations;
# the best of them is kept in RUN/best, and written as RUN/model, a Hugging Face folder to compare on.
#
#   examples/paper/raw-english.sh NRES MODEL RUN HELD-OUT TRAIN...
#
# HELD-OUT and TRAIN: text or JSONL, of several sources; leave out the sources of the comparison's test texts.
# STEPS, BATCH, CONTEXT, EVERY, LR, SCHEDULER, WARMUP: from the environment; a scheduler that decays (cosine) makes the
# most of a given number of STEPS. A run that is there is gone on with.
set -euo pipefail
[ $# -ge 5 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
nres="$1" model="$2" run="$3" held="$4"
shift 4
every="${EVERY:-25}"

if [ -e "$run/config.json" ]; then
  "$nres" resume "$run" &
else
  "$nres" extend -m "$model" --method finetune --new "$@" --new-validation "$held" --old-share 0 -o "$run" \
    --steps "${STEPS:-100000}" --batch-size "${BATCH:-8}" --context "${CONTEXT:-256}" --lr "${LR:-5e-5}" \
    --lr-scheduler "${SCHEDULER:-constant}" --warmup-steps "${WARMUP:-10}" --eval-steps "$every" --save-every "$every" &
fi
pid=$!
trap 'kill -TERM $pid 2>/dev/null || true' EXIT

# Validations since the best one.
waiting() {
  grep '"kind": "eval"' "$run/metrics.jsonl" 2>/dev/null | sed -E 's/.*"score": ([0-9.eE+-]+).*/\1/' |
    awk 'NR == 1 || $1 < best - 1e-4 { best = $1; at = NR } END { print NR - at }'
}
while kill -0 $pid 2>/dev/null; do
  [ "$(waiting)" -lt 3 ] || { kill -INT $pid; break; }
  sleep 5
done
trap - EXIT
code=0
wait $pid || code=$?
[ $code -eq 0 ] || [ $code -eq 130 ] || exit $code
rm -rf "$run/model"
"$nres" export -m "$model" -x "$run/best" -o "$run/model" --quiet
