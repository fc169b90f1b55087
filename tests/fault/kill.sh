# 100 kills at random moments: whatever a run was doing, it goes on to the same
# bits. Texts are tokenised anew in every first start, so that kills fall there too.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"
. "$SOURCE/tests/fault/lib_kill.sh"
KILLS=${KILLS:-100}
FLAGS=(--steps 240 --eval-steps 20 --save-every 3)
trains whole "${FLAGS[@]}"

resumed=0
anew() { rm -rf run cache; }
next() {
  if [ -e run/config.json ]; then
    command=("$NRES" resume run)
    resumed=$((resumed + 1))
  else
    command=("$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o run)
  fi
}
same() { same_run whole run; }
killed "$KILLS" 20 380
echo "$kills kills over $runs runs, $resumed resumed: same weights, same best weights, same metrics"
