# The recipes of examples/paper: each expands in its sizes. One that names
# a method which this build lacks is refused by that name and nothing else.
. "${SOURCE:?}/tests/cli/lib.sh"

"$NRES" init --config "$SOURCE/tests/fixtures/tiny/config.json" --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model >/dev/null
if ! "$NRES" compare "$SOURCE/examples/paper/table7.yaml" --dry-run --set MODEL=model TEXT=text >out 2>err; then
  says err 'built without libyaml' && exit 77
fi
[ "$(grep -c '^neutral,' out)" -eq 15 ] || fail "expected 5 weights in 3 seeds: $(cat out)"
sizes=("")
for size in "$SOURCE"/examples/paper/*.set; do sizes+=("$(cat "$size")"); done
for recipe in "$SOURCE"/examples/paper/*.yaml; do
  for size in "${sizes[@]}"; do
    # shellcheck disable=SC2086 # a list of words
    if ! "$NRES" compare "$recipe" --dry-run --set MODEL=model TEXT=text TASKS=text FRENCH=absent $size >out 2>err; then
      grep -qE 'expected one of those of this build|there is no such setting' err || fail "$recipe: $(cat err)"
      continue
    fi
    grep -qE '^(backbone|below) ' out || fail "$recipe: no control: $(cat out)"
  done
done
# The shapes of the paper's backbones are shapes that nres init takes: their small sisters are made.
for shape in "$SOURCE"/examples/paper/*.config.json; do
  sed -E 's/"(vocab_size)": [0-9]+/"\1": 512/; s/"(hidden_size)": [0-9]+/"\1": 64/; s/"(intermediate_size)": [0-9]+/"\1": 128/;
    s/"(num_hidden_layers)": [0-9]+/"\1": 2/; s/"(head_dim)": [0-9]+/"\1": 8/; s/"(num_attention_heads)": 16/"\1": 8/;
    s/"(num_key_value_heads)": 16/"\1": 8/' "$shape" >small.json
  expect 0 "$NRES" init --config small.json -o "small-$(basename "$shape" .config.json)"
done
bash -n "$SOURCE/examples/paper/raw-english.sh"
