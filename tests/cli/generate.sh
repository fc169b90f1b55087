# nres generate: text, JSON, stops, seeds, files, on a random model.
. "${SOURCE:?}/tests/cli/lib.sh"

sed 's/"initializer_range": 0.02/"initializer_range": 0.2/' "$SOURCE/tests/fixtures/tiny/config.json" >shape.json
expect 0 "$NRES" init --config shape.json --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model -s 3
field() { sed -n "s/^ *\"$1\": \(.*[^,]\),*\$/\1/p" out; }
list() { sed -n "/^ *\"$1\": \[/,/\]/p" out | grep -c '^ *[0-9]'; } # how many numbers

# the same in every form
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --ignore-eos
cp out text
[ ! -s err ] || fail "speed is printed without a terminal and without -v"
iconv -f UTF-8 -t UTF-8 text >/dev/null || fail "the text is not UTF-8"
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --ignore-eos -t 3 -v
cmp text out || fail "the number of threads changes the text"
says err 'text 24 tokens'
says err 'ended by length'
printf 'Hello there' >prompt.txt
expect 0 "$NRES" generate -m model -f prompt.txt -n 24 --ignore-eos
cmp text out || fail "-f reads another prompt"
"$NRES" generate -m model -f - -n 24 --ignore-eos <prompt.txt >out
cmp text out || fail "-f - reads another prompt"
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --ignore-eos --json
[ "$(list ids)" = 24 ] || fail "expected 24 ids"
[ "$(field ended)" = '"length"' ] || fail "ended by $(field ended)"
[ "$(field prompt)" = '"Hello there"' ] || fail "prompt $(field prompt)"

# draws
expect 0 "$NRES" generate -m model -p "Hello" -n 20 --temp 1 -s 7 --ignore-eos
cp out seven
expect 0 "$NRES" generate -m model -p "Hello" -n 20 --temp 1 -s 7 --ignore-eos
cmp seven out || fail "the same seed, another text"
expect 0 "$NRES" generate -m model -p "Hello" -n 20 --temp 1 -s 8 --ignore-eos
cmp -s seven out && fail "another seed, the same text"
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --temp 1 --top-k 1 --ignore-eos
cmp text out || fail "top-k 1 is not greedy"

# a stop string ends the text before it, wherever tokens cut it
stop=$(head -c 12 text | tail -c 3)
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --ignore-eos --stop "never, never" "$stop" --json
[ "$(field ended)" = '"stop"' ] || fail "ended by $(field ended)"
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --ignore-eos --stop "$stop"
grep -qF -- "$stop" out && fail "the stop string is printed"
cut=$(head -c -1 out)
case $(cat text) in "$cut$stop"*) ;; *) fail "the text before the stop is another" ;; esac

# end of text: a model whose best token is an end
expect 0 "$NRES" generate -m model -p "Hello there" -n 1 --json --ignore-eos
first=$(sed -n '/^ *"ids": \[/,/\]/p' out | grep -o '[0-9]*' | head -1)
sed "s/\"eos_token_id\": 2/\"eos_token_id\": [2, $first]/" model/config.json >c.json
mkdir ends
cp model/* ends
cp c.json ends/config.json
expect 0 "$NRES" generate -m ends -p "Hello there" -n 24 --json
[ "$(field ended)" = '"eos"' ] && [ "$(list ids)" = 0 ] || fail "an end-of-text id of the list doesn't end the text"

# the context
expect 0 "$NRES" generate -m model -p "Hello there" -n 0 -c 16 --ignore-eos --json
[ "$(field ended)" = '"context"' ] || fail "ended by $(field ended)"
[ $(($(list ids) + $(list prompt_ids))) = 17 ] || fail "a context of 16 holds 16 tokens, and the last draw follows them"
expect 2 "$NRES" generate -m model -p "Hello there, my friend, how are you?" -c 2
says err 'context: 2 tokens are full'

# an extension
printf 'Le chat dort. Il pleut.\n\nLa nuit tombe sur la ville et sur le port.\n' >fr.txt
printf 'The cat sleeps. It rains.\n\nNight falls on the town and on the harbour.\n' >en.txt
printf 'Le pain sort du four et la rue sent bon.\n' >fr2.txt
printf 'The bread is done and the street smells good.\n' >en2.txt
expect 0 "$NRES" extend -m model --new fr.txt --old en.txt -o run -q --steps 4 --batch-size 2 -c 16 \
  --new-validation fr2.txt --old-validation en2.txt --eval-steps 0 --save-every 4 --width 8 --lr 0.1 --old-share 0.5 --warmup-steps 1
expect 0 "$NRES" generate -m model -x run -p "Hello there" -n 24 --ignore-eos
cmp -s text out && fail "the extension changes nothing"
expect 0 "$NRES" generate -m model -x run -p "Hello there" -n 24 --ignore-eos --extension-off
cmp text out || fail "an extension that is off changes the text"

# only to run it: matrices kept as they are, rows left out, the extension in Q8_0
expect 0 "$NRES" generate -m model -p "Hello there" -n 24 --ignore-eos --frozen packed
cmp text out || fail "--frozen packed changes a model without quantised matrices"
expect 0 "$NRES" generate -m model -x run -p "Hello there" -n 24 --ignore-eos --gate-threshold 1e9
cmp text out || fail "a threshold above every gate leaves something of the extension"
expect 0 "$NRES" generate -m model -x run -p "Hello there" -n 24 --ignore-eos --gate-threshold 0.001
expect 0 "$NRES" generate -m model -x run -p "Hello there" -n 24 --ignore-eos --quantise-extension q8_0
cp out q8
expect 0 "$NRES" generate -m model -x run -p "Hello there" -n 24 --ignore-eos --quantise-extension q8_0 -t 3
cmp q8 out || fail "the number of threads changes the text of a quantised extension"

# what is wrong
expect 2 "$NRES" generate -m model -p x --frozen thawed
says err '--frozen: expected auto, packed or quantised'
expect 2 "$NRES" generate -m model -p x --gate-threshold 1
says err '--gate-threshold needs -x'
expect 2 "$NRES" generate -m model -p x --quantise-extension q8_0
says err '--quantise-extension needs -x'
expect 2 "$NRES" generate -m model -x run -p x --quantise-extension q4_0
says err 'expected q8_0'
expect 2 "$NRES" generate -m model -x run -p x --gate-threshold -1
says err '--gate-threshold: expected'
expect 2 "$NRES" generate -p x
says err '-m MODEL is needed'
expect 2 "$NRES" generate -m model
says err 'a prompt is needed'
expect 2 "$NRES" generate -m model -p x -f prompt.txt
says err 'found -p and -f'
expect 2 "$NRES" generate -m model -p x --temp -1
says err '--temp: expected'
expect 2 "$NRES" generate -m model -p x --stop ""
says err '--stop'
expect 2 "$NRES" generate -m model -p x --extension-off
says err '--extension-off needs -x'
expect 2 "$NRES" generate -m model -p x --system y
says err '--system needs --chat'
expect 2 "$NRES" generate -m model -p ""
says err 'prompt: expected at least one token'
expect 1 "$NRES" generate -m model -p x --chat
one_line err
says err 'chat template'
expect 1 "$NRES" generate -m model -f missing.txt
one_line err
says err missing.txt
expect 2 "$NRES" generate -m model -p x --compute fp8
says err 'auto, fp32 or bf16'
