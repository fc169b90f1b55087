# nres resume: interrupted, killed and finished runs, and what it refuses.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

FLAGS=(--steps 400 --eval-steps 100 --save-every 10)
trains whole "${FLAGS[@]}"

# wait_for RUN STEP: until the metrics reach a step.
wait_for() {
  for _ in $(seq 3000); do
    grep -qs "\"kind\": \"step\", \"step\": $2," "$1/metrics.jsonl" && return
    sleep 0.01
  done
  fail "$1 never reached step $2"
}

# SIGINT: the state is saved at the next step, and the message says how to go on.
"$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o asked >out 2>err &
pid=$!
wait_for asked 23
kill -INT $pid
code=0
wait $pid || code=$?
[ $code -eq 130 ] || fail "expected exit code 130, found $code"
tail -1 err | grep -q 'the state is saved, nres resume asked goes on' || fail "$(tail -1 err)"
[ ! -e asked/extension.safetensors ] || fail "an interrupted run wrote its extension"
expect 0 "$NRES" resume asked
says err 'resumed after step'
same_run whole asked

# SIGKILL between two saves: lines behind the save are written again, once.
"$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o killed >out 2>err &
pid=$!
wait_for killed 37
kill -KILL $pid
wait $pid || true
expect 0 "$NRES" resume killed
same_run whole killed

# Killed before the first save: starts over.
"$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o early >out 2>err &
pid=$!
for _ in $(seq 3000); do [ -s early/config.json ] && break || sleep 0.002; done
kill -KILL $pid
wait $pid || true
if [ ! -e early/state ]; then
  expect 0 "$NRES" resume early
  says err 'no state was saved yet'
  same_run whole early
fi

# Without any state, with the rest of the folder there.
cp -r whole again
rm -r again/state again/extension_config.json again/extension.safetensors
expect 0 "$NRES" resume again
says err 'no state was saved yet'
same_run whole again

# Killed after the last save, before the extension was written.
rm again/extension_config.json again/extension.safetensors
expect 0 "$NRES" resume again
says err 'resumed after step 400'
same_run whole again

# Finished: says so.
expect 0 "$NRES" resume whole
says err 'the run is finished: all 400 steps are done'
[ "$(cat out)" = whole ] || fail "stdout: $(cat out)"

# The newest state is broken: the one before it serves.
cp -r whole broken
rm broken/extension_config.json
newest=$(ls broken/state | tail -1)
printf x | dd of="broken/state/$newest/state.safetensors" bs=1 seek=3000 conv=notrunc 2>/dev/null
expect 0 "$NRES" resume broken
says err 'a saved state is passed over'
says err 'resumed after step 390'
same_run whole broken
rm broken/extension_config.json
for state in broken/state/*; do : >"$state/state.json"; done
expect 1 "$NRES" resume broken
tail -1 err | grep -q 'none of the 2 saved states can be read' || fail "$(tail -1 err)"

# From another folder than it was started in.
cp -r whole moved
rm moved/extension_config.json
mkdir -p elsewhere
(cd elsewhere && expect 0 "$NRES" resume ../moved)
same_run whole moved

# Two processes in one folder.
"$NRES" extend "${SMALL[@]}" --steps 100000 -o busy >out.busy 2>err.busy &
pid=$!
wait_for busy 3
expect 1 "$NRES" resume busy
says err 'another process trains here'
expect 1 "$NRES" extend "${SMALL[@]}" --steps 5 -o busy --overwrite
says err 'another process trains here'
kill -KILL $pid
wait $pid || true

# Another machine is said, other text or another model is refused.
cp -r whole changed
rm changed/extension_config.json
sed -i 's/"instruction_set": "[^"]*"/"instruction_set": "another"/' changed/config.json
expect 0 "$NRES" resume changed
says err 'warning: the run began with another'
rm changed/extension_config.json
cp new.txt kept.txt
echo "one more" >>new.txt
expect 1 "$NRES" resume changed
tail -1 err | grep -q 'new.txt: changed since the run began' || fail "$(tail -1 err)"
cp kept.txt new.txt
mv model model.kept
"$NRES" init --config "$SOURCE/tests/fixtures/tiny/config.json" --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model -s 2 >/dev/null
expect 1 "$NRES" resume changed
tail -1 err | grep -q 'model: changed since the run began' || fail "$(tail -1 err)"
rm -r model
mv model.kept model
expect 1 "$NRES" resume absent
says err 'expected the folder of a run'
mkdir empty
expect 1 "$NRES" resume empty
says err 'not a run'
expect 2 "$NRES" resume
says err 'expected one RUN'
sed -i 's/"steps": 400/"steps": 0/' changed/config.json
expect 1 "$NRES" resume changed
says err 'config.json: steps'
