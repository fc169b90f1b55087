# A second language on a model that already has one: trained with the first
# frozen, scored and generated with any of the two, killed and resumed.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

sentences 300 3 der die das und in zu den mit von auf ist nicht ein eine als auch an werden aus er hat dass sie nach >german.txt
trains french --steps 20 --eval-steps 10 --lr 0.01
cp -r french untouched
GERMAN=(-m model --new german.txt --old old.txt new.txt --context 32 --eval-tokens 256 --warmup-steps 2 --threads 1
  -x french --steps 40 --eval-steps 20 --save-every 5 --lr 0.01)
expect 0 "$NRES" extend "${GERMAN[@]}" -o german
says err 'it stands on '
says german/config.json '"stands_on"'
diff -r french untouched || fail "training on top changed what is below"
# A fresh one is an identity on what it stands on; then it learns.
head -1 german/metrics.jsonl | grep -q '"step": 0, .*"old": {[^}]*"kl": 0, "top1_agreement": 1}.*"new": {[^}]*"kl": 0, "top1_agreement": 1}' ||
  fail "step 0 differs from the model with the first extension"
# Also on weights of the backbone that were trained, its head among them.
trains tuned --method finetune --steps 3
trains above -x tuned --steps 3
head -1 above/metrics.jsonl | grep -q '"new": {[^}]*"kl": 0, "top1_agreement": 1}' || fail "a fresh one isn't an identity on finetuned weights"
expect 0 "$NRES" extend "${GERMAN[@]}" --dry-run
says out 'memory  backbone'

# Any subset: the backbone is the same in all, both together know both languages.
score() { # score NAME -x ...
  local name=$1
  shift
  expect 0 "$NRES" eval -m model "$@" --new new.txt --new german.txt --max-documents 40 -t 1 --json -q
  cp out "$name.json"
}
bits() { # bits NAME FILE KEY
  sed -n "/\"path\": \"$2\"/,/\"difference\"/p" "$1.json" | sed -n "/\"$3\": {/,/}/p" | sed -n 's/.*"bits_per_byte": \([0-9.]*\).*/\1/p' | head -1
}
score french -x french
score german -x german
score both -x french -x german
! grep -q '"extensions"' french.json || fail "one extension is listed as several"
[ "$(sed -n '/"extensions"/,$p' both.json | grep -c '"share_of_all_weights"')" -eq 2 ] || fail "two extensions aren't both named"
for name in german both; do [ "$(bits $name new.txt backbone)" = "$(bits french new.txt backbone)" ] || fail "another backbone in $name"; done
awk "BEGIN { exit !($(bits both german.txt extended) < $(bits french german.txt extended) - 0.1) }" || fail "German wasn't learned"
awk "BEGIN { exit !($(bits both new.txt extended) < $(bits both new.txt backbone) - 0.05) }" || fail "French is lost with both"
[ "$(bits both new.txt extended)" != "$(bits french new.txt extended)" ] || fail "the second extension does nothing"

# Generation with either, both, or both switched off.
text() { "$NRES" generate -m model "$@" -p "le der" -n 12 --ignore-eos -t 1 2>/dev/null; }
[ "$(text -x french -x german --extension-off)" = "$(text)" ] || fail "switched off isn't the backbone"
text -x french >one
text -x french -x german >two
! cmp -s one two || fail "the second extension doesn't generate"
expect 0 "$NRES" eval -m model -x french -x german --token-gates gates.json --text "der die le"
[ -s gates.json ] || fail "no gates"

# Killed and resumed: the same bits; what it stands on must be the same.
"$NRES" extend "${GERMAN[@]}" -o killed >out 2>err &
pid=$!
for _ in $(seq 3000); do grep -qs '"kind": "step", "step": 13,' killed/metrics.jsonl && break || sleep 0.01; done
kill -KILL $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
rm -f killed/extension_config.json
cp french/extension.safetensors kept
cp french/best/extension.safetensors french/extension.safetensors
printf x | dd of=french/extension.safetensors bs=1 seek=4000 conv=notrunc 2>/dev/null
expect 1 "$NRES" resume killed
says err 'french: changed since the run began'
cp kept french/extension.safetensors
expect 0 "$NRES" resume killed
same_bits german killed

# A comparison on top of it: what the rows start from is a row, and every language a column.
cat >recipe.yaml <<'Y'
model: model
stands_on: french
texts:
  german: {domain: new, train: german.txt, test: german.txt}
  french: {domain: old, train: new.txt, test: new.txt}
  english: {domain: old, train: old.txt, test: old.txt}
settings: {steps: 12, warmup_steps: 2, context: 32, eval_tokens: 256, extra: 40, threads: 1, learning_rate: 0.01}
rows:
  - {method: neutral}
controls: [backbone]
evaluation: {generate: 4, max_documents: 20}
Y
if "$NRES" compare recipe.yaml -o compared >out 2>err; then
  grep -q '^   below ' out || fail "no row of what it stands on: $(cat out)"
  for column in german french english; do says out " $column"; done
  grep -q -- '-x [^ ]*french ' compared/results/neutral.json || fail "the command doesn't name what it stands on"
else
  says err 'built without libyaml'
fi

expect 1 "$NRES" extend "${GERMAN[@]}" -x absent -o no
says err 'absent'
expect 2 "$NRES" eval -m model -x
says err 'expected a value after it'
[ ! -e no ] || fail "a refused run left a folder"
