# What is printed is the result: if it can't be written, the program fails.
. "${SOURCE:?}/tests/cli/lib.sh"

full() { "$NRES" "$@" >/dev/full; }
closed() { "$NRES" "$@" >&-; }
for arguments in --help version man "completion bash"; do
  # shellcheck disable=SC2086 # words
  expect 1 full $arguments
  one_line err
  says err "standard output: can't write: No space left on device"
  # shellcheck disable=SC2086
  expect 1 closed $arguments
  says err "standard output: can't write"
done

# A reader that goes away is reported, not a silent death by a signal.
{ "$NRES" man 2>err || echo $? >code; } | true
[ ! -s code ] || [ "$(cat code)" -eq 1 ] || fail "a closed pipe gives exit code $(cat code)"

# Closed stderr and stdin do no harm.
"$NRES" version 2>&- <&- >out || fail "version needs stderr or stdin"
says out nres
