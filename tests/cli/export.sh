# Models written as Hugging Face folders: the same scores and text as before, and what can't be written so.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

head -20 new.txt >valid.txt
# bits MODEL FLAGS...: bits per byte of valid.txt; with -x, of the extended model.
bits() {
  expect 0 "$NRES" eval -m "$@" --new valid.txt --json -q -c 32 --compute fp32
  local which=backbone
  grep -q '"extended": {' out && which=extended
  sed -n "/\"$which\": {/,/}/s/.*\"bits_per_byte\": \([0-9.]*\).*/\1/p" out
}
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0 && a - b < 1e-6 && b - a < 1e-6) }' || fail "$3: $1 and $2"; }
says_the_same() { # A B: arguments of generate
  expect 0 "$NRES" generate $1 -p "le de la" -n 12 --ignore-eos --compute fp32 --frozen packed
  cp out first
  expect 0 "$NRES" generate $2 -p "le de la" -n 12 --ignore-eos --compute fp32 --frozen packed
  cmp -s first out || fail "another text from $2 than from $1"
}

# A GGUF file becomes a folder.
gguf=$SOURCE/tests/fixtures/export/tiny.gguf
expect 0 "$NRES" export -m "$gguf" -o plain
says out plain
for file in config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json; do
  [ -s plain/$file ] || fail "no plain/$file"
done
near "$(bits "$gguf")" "$(bits plain)" "the folder of a GGUF file"
says_the_same "-m $gguf" "-m plain"
expect 0 "$NRES" export -m plain/ -o again/ -q --max-shard-size 0
cmp plain/model.safetensors again/model.safetensors || fail "exported again, other bytes"
cmp plain/config.json again/config.json || fail "exported again, another config.json"
[ ! -s err ] || fail "-q isn't quiet: $(cat err)"
# Half as large, and in shards.
expect 0 "$NRES" export -m model -o half --type bf16 -q
says half/config.json '"torch_dtype": "bfloat16"'
[ "$(stat -c %s half/model.safetensors)" -lt "$(stat -c %s model/model.safetensors)" ] || fail "bf16 isn't smaller"

# Extensions that are weights or layers.
trains finetune --method finetune --steps 4 --lr 0.01
trains llama-pro --method llama-pro --width 2 --steps 4 --lr 0.01
trains lora --method lora --width 3 --steps 4 --lr 0.01
for method in finetune llama-pro lora; do
  expect 0 "$NRES" export -m model -x $method -o merged-$method -q
  near "$(bits model -x $method)" "$(bits merged-$method)" "$method"
  [ "$(bits model)" != "$(bits merged-$method)" ] || fail "$method: the export is the backbone"
  says_the_same "-m model -x $method" "-m merged-$method"
done
says merged-llama-pro/config.json '"num_hidden_layers": 6'
expect 0 "$NRES" export -m model -x finetune lora -o both -q
near "$(bits model -x finetune -x lora)" "$(bits both)" "two at once"

# What can't be written so.
trains neutral --method neutral --steps 2
expect 1 "$NRES" export -m model -x neutral -o refused
one_line err
says err 'expected a method whose result is a plain llama model (lora, llama-pro, finetune, ewc, lwf), found neutral; nres runs it with -x'
expect 1 "$NRES" export -m model -o plain
says err 'plain: expected a folder that is yet to be made, found one that is there'
expect 2 "$NRES" export -m model -o refused --format gguf
says err '--format: expected hf or peft, found "gguf"'
expect 2 "$NRES" export -m model -o refused --type int8
says err '--type: expected fp32, bf16 or fp16, found "int8"'
expect 2 "$NRES" export -m model -o refused --format peft
says err '--format peft: expected one -x EXT, found 0'
expect 2 "$NRES" export -m model
says err 'are needed'
[ ! -e refused ] || fail "a refused export left a folder"
expect 1 "$NRES" export -m plain -x finetune -o refused
says err 'finetune/extension_config.json: trained on backbone model'
[ -z "$(find . -maxdepth 1 -name '*.tmp')" ] || fail "half a folder is left: $(ls -d *.tmp)"

# An instruct model brought back to raw text, as a folder to compare on.
tail -20 old.txt >held.txt
STEPS=12 EVERY=4 BATCH=2 CONTEXT=32 LR=0.01 expect 0 bash "$SOURCE/examples/paper/raw-english.sh" "$NRES" model raw held.txt old.txt
[ "$(tail -1 out)" = raw/model ] || fail "expected raw/model as the last line: $(cat out)"
near "$(bits model -x raw/best)" "$(bits raw/model)" "raw-english.sh"
