# nres inspect: the table, the JSON, and one line for every kind of bad model.
. "${SOURCE:?}/tests/cli/lib.sh"
formats=$SOURCE/tests/fixtures/formats

# fits FILE: no line is wider than a terminal.
fits() { awk 'length($0) > 80 { print; wide = 1 } END { exit wide }' "$1" >&2 || fail "wider than 80 columns"; }

expect 0 "$NRES" inspect "$formats/tiny.gguf" --tensors --fingerprint
fits out
says out "layers        2 of width 32, FFN 64 (silu)"
says out "heads         4 of size 8, 2 for keys and values"
says out "biases        attention and FFN"
says out "rotary        divisors, base 10000"
says out "vocabulary    48, head of its own"
says out "tokenizer     gpt2, pre-tokenizer smollm, chat template present"
says out "special ids   bos 1, eos 2, bos put first"
says out "model.layers.1.self_attn.k_proj.weight"
grep -Eq '^  [0-9a-f]{64}$' out || fail "no fingerprint"

expect 0 "$NRES" inspect -m "$formats/quant.gguf"
says out "Q4_1"
grep -Eq '^  F32 +672 +19 +2.6 KiB$' out || { cat out; fail "wrong count of F32 weights"; }
! grep -q '^Tensors' out || fail "tensors without --tensors"

# Two shards are one model; the budget is 20 % of 22,176 weights, to the nearest multiple of 8.
expect 0 "$NRES" inspect "$formats/sharded"
fits out
says out "format        safetensors, 2 files"
says out "rotary        llama3, base 10000, factor 8, from 64 tokens"
says out "all                    22,176"
says out "width                      24 a layer"
says out "weights                 4,672: 21.07 % of all"

expect 0 "$NRES" inspect "$formats/single" --json
says out '"kv_heads": 2'
says out '"all": 22176'
! grep -q '"tensors": \[' out || fail "tensors without --tensors"
expect 0 "$NRES" inspect "$formats/single" --json --tensors --fingerprint
says out '"name": "model.norm.weight"'
says out '"fingerprint": "'
if command -v python3 >/dev/null; then python3 -m json.tool out >/dev/null || fail "not JSON"; fi

# The hub's folders.
mkdir -p hub/models--org--small/refs hub/models--org--small/snapshots
printf abc123 >hub/models--org--small/refs/main
ln -s "$formats/single" hub/models--org--small/snapshots/abc123
expect 0 env HF_HUB_CACHE="$PWD/hub" "$NRES" inspect org/small
says out "name          small"
expect 0 env HF_HOME="$PWD/home2" sh -c 'mkdir -p home2 && ln -s ../hub home2/hub && "$0" inspect org/small' "$NRES"

# Bad models: one line, exit 1, the file's name in it.
bad() {
  local path=$1 text=$2
  expect 1 "$NRES" inspect "$path"
  one_line err
  says err "$text"
  [ ! -s out ] || fail "printed something on stdout for $path"
}
bad gone "gone: expected a GGUF file, a Hugging Face folder or ORG/NAME in its cache"
: >empty.gguf
bad empty.gguf "empty.gguf: magic number: expected 4 bytes at offset 0"
echo "not a model at all" >text
bad text "text: magic number: expected GGUF"
head -c 3000 "$formats/tiny.gguf" >cut.gguf
bad cut.gguf "cut.gguf: "
mkdir nothing
bad nothing "config.json: can't open"
cp -r "$formats/single" changed
sed 's/"llama"/"gpt_neox"/' "$formats/single/config.json" >changed/config.json
bad changed '"model_type": expected one of llama, mistral, found gpt_neox'
sed 's/"hidden_size": 32/"hidden_size": 64/' "$formats/single/config.json" >changed/config.json
bad changed "tensor model.embed_tokens.weight: expected 48 x 64, found 48 x 32"
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' "$formats/single/config.json" >changed/config.json
bad changed "expected tensors of a llama model with 1 layers"
rm changed/model.safetensors
bad changed "expected model.safetensors or model.safetensors.index.json, found neither"

expect 2 "$NRES" inspect
one_line err
expect 2 "$NRES" inspect a b
one_line err
says err 'expected one model, found "b" too'
