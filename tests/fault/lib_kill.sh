# lib_kill.sh - sourced behind lib.sh by the tests that kill a run at random moments, again and again. Such a test has three
# functions: `anew` removes what a run left, `next` sets `command` to what begins one or goes on with it (its output is in
# ./out and ./err), `same` looks at what a finished one left.
RANDOM=4711 # the delays are the same ones in every run of a test

# killed COUNT LEAST SPAN: COUNT kills, each after LEAST to LEAST + SPAN milliseconds; kills and runs count them.
killed() {
  local finished=true delay pid code
  kills=0 runs=0
  while [ $kills -lt "$1" ]; do
    if $finished; then
      anew
      runs=$((runs + 1))
    fi
    next
    printf -v delay '0.%03d' $(($2 + RANDOM % $3))
    "${command[@]}" >out 2>err &
    pid=$!
    sleep "$delay"
    finished=false
    if kill -KILL $pid 2>/dev/null; then kills=$((kills + 1)); fi
    code=0
    wait $pid 2>/dev/null || code=$?
    case $code in
    0)
      finished=true
      same
      ;;
    137) ;;
    *)
      cat err >&2
      fail "after $kills kills the run ends with code $code: ${command[*]}"
      ;;
    esac
  done
  if ! $finished; then
    next
    expect 0 "${command[@]}"
    same
  fi
}
