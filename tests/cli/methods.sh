# Every method through the program: listed, trained, cut off and resumed to the bit, scored, generated with; and
# LoRA to PEFT's folder and back.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

expect 0 "$NRES" methods
grep -E '^[a-z]' out >listed
[ "$(wc -l <listed)" -ge 10 ] || fail "methods lists: $(cat listed)"
expect 0 "$NRES" methods --json
grep -o '"name": "[a-z-]*"' out | cut -d'"' -f4 >names
cmp -s listed names || fail "methods and methods --json differ"
[ "$(grep -c '"source": "..*"' out)" -eq "$(wc -l <names)" ] || fail "a method without its source"
expect 0 "$NRES" extend --help
for method in $(cat names); do says out "$method"; done
expect 2 "$NRES" extend "${SMALL[@]}" -o refused --method lorra
says err '--method: expected neutral, lora, '
says err 'found "lorra"'
expect 2 "$NRES" extend "${SMALL[@]}" -o refused --method loramoe --experts 1
says err '--experts: expected at least 2'
[ ! -e refused ] || fail "a refused run left a folder"

head -20 new.txt >valid.txt
for method in $(grep -vx neutral names); do
  flags=(--method $method --extra 40 --steps 6 --save-every 2 --eval-steps 3 --lr 0.003)
  [ $method != adapter ] || flags+=(--placement serial)
  trains $method "${flags[@]}"
  says err "$method on"
  # Back to the state after step 4 and on again: the same bits as without the cut.
  cp -r $method cut
  rm -r cut/state/00000006 cut/extension.safetensors cut/extension_config.json
  expect 0 "$NRES" resume cut
  says err 'resumed after step 4'
  same_run $method cut
  rm -r cut
  # Scored, and the generated text is the same each time.
  expect 0 "$NRES" eval -m model -x $method --new valid.txt --json -q -c 32
  says out '"bits_per_byte"'
  expect 0 "$NRES" generate -m model -x $method -p "le de la" -n 12 --ignore-eos
  cp out first
  expect 0 "$NRES" generate -m model -x $method -p "le de la" -n 12 --ignore-eos -t 3
  cmp -s first out || fail "$method: the number of threads changes the text"
  [ -s first ] || fail "$method generates nothing"
done
# Balance is a loss of its own in the metrics, and only there.
grep -q '"kind": "step".*"balance": 0\.0*[1-9]' loramoe/metrics.jsonl || fail "loramoe: no balance in the metrics"
grep -q '"kind": "step".*"balance": 0,' houlsby/metrics.jsonl || fail "houlsby: a balance in the metrics"

# LoRA on all seven matrices, to PEFT's folder and back: the same text.
trains seven --method lora --lora-targets q,k,v,o,gate,up,down --width 3 --steps 4 --lr 0.01
expect 0 "$NRES" export -m model -x seven --format peft -o peft
for file in adapter_config.json adapter_model.safetensors; do [ -s peft/$file ] || fail "no peft/$file"; done
says peft/adapter_config.json '"peft_type": "LORA"'
expect 0 "$NRES" generate -m model -x seven -p "le de la" -n 12 --ignore-eos
cp out own
expect 0 "$NRES" generate -m model -x peft -p "le de la" -n 12 --ignore-eos
cmp -s own out || fail "the extension says something else from PEFT's folder"
expect 1 "$NRES" export -m model -x houlsby --format peft -o refused
says err 'expected an extension of method lora, found houlsby'
[ ! -e refused ] || fail "a refused export left a folder"
