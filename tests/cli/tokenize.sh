# nres tokenize: ids out and text back, exactly; errors in one line.
. "${SOURCE:?}/tests/cli/lib.sh"
TINY=$SOURCE/tests/fixtures/tiny

printf 'Le chat a 12 ans.\n\tfin\\ <|im_end|>' >text
expect 0 "$NRES" tokenize -m "$TINY" --json <text
cp out ids.json
says ids.json '{"ids": ['
one_line ids.json
expect 0 "$NRES" tokenize -m "$TINY/tokenizer.json" --decode <ids.json
cmp out text || fail "decoding differs from the text"

# One line a token: its id, a tab, its text with escapes.
expect 0 "$NRES" tokenize -m "$TINY" <text
[ "$(cut -f1 out | paste -sd, | sed 's/,/, /g')" = "$(sed 's/{"ids": \[//; s/\]}//' ids.json)" ] || fail "the two forms differ"
says out '\n'
says out '\t'
cut -f2 out | tr -d '\n' >joined
printf 'Le chat a 12 ans.\\n\\tfin\\\\ <|im_end|>' >want
cmp joined want || fail "the tokens' texts differ from the text"

# Special tokens are text until they are asked for.
grep -qx "2	<|im_end|>" out && fail "a special token without --special"
expect 0 "$NRES" tokenize -m "$TINY" --special <text
says out "2	<|im_end|>"

# The prompt in place of standard input; any bytes; nothing.
expect 0 "$NRES" tokenize -m "$TINY" -p 'Le chat' --json
cp out one
printf 'Le chat' | "$NRES" tokenize -m "$TINY" --json >two
cmp one two || fail "-p and standard input differ"
head -c 100000 "$NRES" >bytes
expect 0 "$NRES" tokenize -m "$TINY" --json <bytes
cp out ids.json
expect 0 "$NRES" tokenize -m "$TINY" --decode <ids.json
cmp out bytes || fail "bytes don't come back"
expect 0 "$NRES" tokenize -m "$TINY" --json </dev/null
[ "$(cat out)" = '{"ids": []}' ] || fail "no text, no ids"
expect 0 "$NRES" tokenize -m "$TINY" --decode -p '{"ids": []}'
[ ! -s out ] || fail "no ids, no text"

wrong() { # wrong CODE TEXT ARGUMENTS...
  local code=$1 text=$2
  shift 2
  expect "$code" "$NRES" tokenize "$@"
  [ ! -s out ] || fail "an error prints on stdout: $*"
  one_line err
  says err "$text"
}
wrong 1 'token 1: expected an id from 0 to 511, found 512' -m "$TINY" --decode -p '{"ids": [3, 512]}'
wrong 1 'token 0: expected an id from 0 to 511, found -1' -m "$TINY" --decode -p '{"ids": [-1]}'
wrong 1 'ids: 0: expected a token'"'"'s id, found 99999999999' -m "$TINY" --decode -p '{"ids": [99999999999]}'
wrong 1 'ids: 1: expected a whole number' -m "$TINY" --decode -p '{"ids": [1, 2.5]}'
wrong 1 'expected {"ids": [...]}' -m "$TINY" --decode -p '{"id": [1]}'
wrong 1 'not JSON' -m "$TINY" --decode -p 'x'
wrong 1 'nothing-here' -m nothing-here -p x
mkdir empty
wrong 1 'expected a file tokenizer.json' -m empty -p x
echo '{"model": {"type": "Unigram", "vocab": []}}' >other.json
wrong 1 'model: expected BPE, found Unigram' -m other.json -p x
wrong 2 '-m MODEL is needed' -p x
wrong 2 'found "word"' -m "$TINY" word
wrong 2 '--decode goes with neither' -m "$TINY" --decode --json -p x
