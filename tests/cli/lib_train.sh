# lib_train.sh - sourced by the training tests behind lib.sh: a random tiny
# model, text in two invented languages, and what two runs must have in common.

# sentences COUNT SEED WORD...: documents of a few dozen words.
sentences() {
  local count=$1 seed=$2
  shift 2
  echo "$*" | awk -v count="$count" -v seed="$seed" '{
    state = seed
    for (d = 0; d < count; d++) {
      words = 20 + d % 40
      for (w = 0; w < words; w++) {
        state = (state * 1103515245 + 12345) % 2147483648
        printf "%s%s", $(1 + int(state / 65536) % NF), w + 1 < words ? " " : ".\n\n"
      }
    }
  }'
}

"$NRES" init --config "$SOURCE/tests/fixtures/tiny/config.json" --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" \
  -o model >/dev/null
sentences 300 1 the of and to in is that it was for on are with they at be this from have or by one had not but what >old.txt
sentences 300 2 le de la et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont étaient >new.txt

# One thread: these tests are about files, and the machine may be busy.
SMALL=(-m model --new new.txt --old old.txt --context 32 --eval-tokens 256 --warmup-steps 2 --threads 1)
# trains RUN FLAGS...
trains() {
  local run=$1
  shift
  expect 0 "$NRES" extend "${SMALL[@]}" -o "$run" "$@"
}

# Metrics without what depends on the clock.
metrics() { sed -E 's/, "(seconds|tokens_per_second|exchange_seconds)": [^,}]*//g' "$1/metrics.jsonl"; }
same_bits() { # same_bits A B
  cmp "$1/extension.safetensors" "$2/extension.safetensors" || fail "$2: other weights than $1"
  cmp "$1/best/extension.safetensors" "$2/best/extension.safetensors" || fail "$2: other best weights than $1"
  diff <(metrics "$1") <(metrics "$2") >differences || { cat differences >&2; fail "$2: other metrics than $1"; }
  [ "$(stat -c %s "$1/events.out.tfevents.nres")" = "$(stat -c %s "$2/events.out.tfevents.nres")" ] ||
    fail "$2: event file of another size than $1"
}
same_run() { # the settings too
  same_bits "$1" "$2"
  cmp "$1/extension_config.json" "$2/extension_config.json" || fail "$2: another training record than $1"
}
