# A full disk, or a file that may not grow: the error names the file, what was
# saved before stays good, and with room the run goes on to the same bits.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"
FLAGS=(--steps 60 --eval-steps 20 --save-every 10)
trains whole "${FLAGS[@]}"

# stopped LIMIT FILE RUN COMMAND...: with files limited to LIMIT blocks of 1 KiB the command fails at FILE.
stopped() {
  local limit=$1 file=$2 code=0
  shift 2
  (
    trap '' XFSZ # writing fails instead of killing
    ulimit -f "$limit"
    exec "$@"
  ) >out 2>err || code=$?
  [ $code -eq 1 ] || { cat err >&2; fail "expected exit code 1, found $code: $*"; }
  tail -1 err | grep -q "^nres: .*$file.*: can't write: File too large" || fail "expected $file to be named: $(tail -1 err)"
}

state=$(($(stat -c %s whole/state/00000060/state.safetensors) / 1024))
weights=$(($(stat -c %s whole/extension.safetensors) / 1024))
ids=$(($(stat -c %s "$(find cache -name 00000.ids | head -1)") / 1024))
[ "$ids" -gt 8 ] && [ "$weights" -gt 64 ] || fail "the files are too small for this test"

# While tokenising: nothing is left behind, and the cache is made with room.
rm -rf cache
stopped $((ids / 2)) 00000.ids "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o full
[ ! -e full ] || fail "a run began without its tokens"
[ -z "$(find cache -name '*.ids')" ] || fail "half a cache is left"

# The state doesn't fit: no state yet, so the run starts over with room.
stopped $((state / 2)) state.safetensors "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o full
[ -z "$(ls full/state 2>/dev/null)" ] || fail "half a state is left: $(ls full/state)"
expect 0 "$NRES" resume full
same_run whole full

# best/ doesn't fit.
stopped $((weights / 2)) best/extension.safetensors "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o full --overwrite
expect 0 "$NRES" resume full
same_run whole full

# A later state and a later line of metrics don't fit: the earlier state serves.
"$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o later >out 2>err &
pid=$!
for _ in $(seq 3000); do [ -e later/state/00000010 ] && break || sleep 0.005; done
kill -KILL $pid
wait $pid || true
ls later/state >before
stopped $((state / 2)) state.safetensors "$NRES" resume later
ls later/state | diff before - || fail "the saved states changed"
size=$(($(grep -o "\"metrics_bytes\": [0-9]*" later/state/00000010/state.json | grep -o "[0-9]*$") / 1024))
if [ $((size + 2)) -lt "$weights" ]; then
  stopped $((size + 2)) metrics.jsonl "$NRES" resume later
  ls later/state | diff before - || fail "the saved states changed"
fi
expect 0 "$NRES" resume later
same_run whole later

# An export that doesn't fit leaves nothing, and one that does comes whole.
stopped $((weights / 2)) model.safetensors "$NRES" export -m model -o exported
[ -z "$(find . -maxdepth 1 -name 'exported*')" ] || fail "half an export is left"
expect 0 "$NRES" export -m model -o exported
cmp model/model.safetensors exported/model.safetensors || fail "another model than the one exported"

# The same on a file system that is really full, where one can be mounted.
if mkdir small && mount -t tmpfs -o size=2m tmpfs small 2>/dev/null; then
  trap 'umount "$FOLDER/small"; rm -rf "$FOLDER"' EXIT
  head -c 1200000 /dev/zero >small/ballast
  expect 1 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o small/run
  tail -1 err | grep -q "^nres: small/run/.*: can't write: No space left on device" || fail "$(tail -1 err)"
  [ -e small/run/config.json ] || fail "no run to go on with"
  rm small/ballast
  expect 0 "$NRES" resume small/run
  same_run whole small/run
  head -c 2000000 /dev/zero >small/ballast 2>/dev/null || true
  expect 1 "$NRES" export -m model -o small/exported
  tail -1 err | grep -q "^nres: small/exported.*: can't write: No space left on device" || fail "$(tail -1 err)"
  [ -z "$(find small -name 'exported*')" ] || fail "half an export is left"
  echo "files that may not grow, and a full file system"
else
  echo "files that may not grow; no file system could be mounted here"
fi
