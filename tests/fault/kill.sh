# 100 kills at random moments: whatever a run was doing, it goes on to the same
# bits. Texts are tokenised anew in every first start, so that kills fall there too.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"
KILLS=${KILLS:-100}
FLAGS=(--steps 240 --eval-steps 20 --save-every 3)
trains whole "${FLAGS[@]}"

RANDOM=4711 # the delays are the same ones in every run of this test
kills=0 runs=0 resumed=0 finished=true
while [ $kills -lt "$KILLS" ]; do
  if $finished; then
    rm -rf run cache
    runs=$((runs + 1))
  fi
  if [ -e run/config.json ]; then
    command=("$NRES" resume run)
    resumed=$((resumed + 1))
  else
    command=("$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o run)
  fi
  "${command[@]}" >out 2>err &
  pid=$!
  sleep "0.$(printf '%03d' $((20 + RANDOM % 380)))"
  finished=false
  if kill -KILL $pid 2>/dev/null; then kills=$((kills + 1)); fi
  code=0
  wait $pid 2>/dev/null || code=$?
  case $code in
  0)
    finished=true
    same_run whole run
    ;;
  137) ;;
  *)
    cat err >&2
    fail "after $kills kills the run ends with code $code: ${command[*]}"
    ;;
  esac
done
if ! $finished; then
  if [ -e run/config.json ]; then expect 0 "$NRES" resume run; else trains run "${FLAGS[@]}"; fi
  same_run whole run
fi
echo "$kills kills over $runs runs, $resumed resumed: same weights, same best weights, same metrics"
