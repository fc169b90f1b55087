# nres eval: tables and JSON, with and without an extension, on a random model.
. "${SOURCE:?}/tests/cli/lib.sh"

sed 's/"initializer_range": 0.02/"initializer_range": 0.2/' "$SOURCE/tests/fixtures/tiny/config.json" >shape.json
expect 0 "$NRES" init --config shape.json --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model -s 3
documents="$SOURCE/tests/fixtures/eval/documents.jsonl"
printf 'Le chat dort.\nIl pleut.\n\nLa nuit tombe sur la ville et sur le port.\n' >fr.txt
printf 'The cat sleeps.\nIt rains.\n\nNight falls on the town and on the harbour.\n' >en.txt
field() { sed -n "s/^ *\"$1\": \(.*[^,]\),*\$/\1/p" out; } # of the last run's JSON, one a line

# the backbone alone
expect 0 "$NRES" eval -m model "$documents" fr.txt -q
[ ! -s err ] || fail "-q prints on stderr"
says out 'documents.jsonl'
says out '10 documents, 1981 tokens, 3564 bytes'
says out 'fr.txt'
says out '2 documents'
says out 'backbone'
grep -q extended out && fail "an extension without -x"
[ "$(wc -L <out)" -le 80 ] || { cat out; fail "wider than 80 columns"; }

# settings arrive
expect 0 "$NRES" eval -m model fr.txt --json -q --documents line -c 8 --stride 2
[ "$(field documents)" = 3 ] || fail "--documents line: $(field documents)"
[ "$(field context)" = 8 ] && [ "$(field stride)" = 2 ] || fail "-c and --stride don't arrive"
expect 0 "$NRES" eval -m model fr.txt --json -q --documents file
[ "$(field documents)" = 1 ] || fail "--documents file"
expect 0 "$NRES" eval -m model "$documents" --json -q --max-documents 4
[ "$(field documents)" = 4 ] || fail "--max-documents"
printf '{"body": "x y z"}\n' >body.jsonl
expect 0 "$NRES" eval -m model body.jsonl --json -q --text-field body
expect 1 "$NRES" eval -m model body.jsonl -q
says err text

# an extension: both, their difference, gates by layer, old against new
printf 'Le pain sort du four et la rue sent bon.\n' >fr2.txt
printf 'The bread is done and the street smells good.\n' >en2.txt
expect 0 "$NRES" extend -m model --new fr.txt --old en.txt -o run -q --steps 4 --batch-size 2 -c 16 \
  --new-validation fr2.txt --old-validation en2.txt --eval-steps 0 --save-every 4 --width 8 --lr 0.02 --old-share 0.5 --warmup-steps 1
expect 0 "$NRES" eval -m model -x run --old en.txt --new fr.txt -q --layers
for text in extended difference 'KL(backbone || extended)' '|g a| / |FFN|' 'area under the curve' 'en.txt, old' 'fr.txt, new'; do
  says out "$text"
done
[ "$(wc -L <out)" -le 80 ] || { cat out; fail "wider than 80 columns"; }
expect 0 "$NRES" eval -m model -x run --old en.txt --new fr.txt -q --json
[ "$(field auc | wc -l)" = 4 ] && [ "$(field auc_abs | wc -l)" = 4 ] || fail "expected both AUC of 4 layers"
[ "$(field top1_agreement | wc -l)" = 2 ] || fail "expected two files"
cp out first
expect 0 "$NRES" eval -m model -x run --old en.txt --new fr.txt -q --json -t 3
cmp first out || fail "the number of threads changes the result"

# as it is run
expect 0 "$NRES" eval -m model -x run fr.txt -c 32 -q --json
cp out as_trained
expect 0 "$NRES" eval -m model -x run fr.txt -c 32 -q --json --frozen quantised
cmp as_trained out || fail "--frozen quantised changes a model without quantised matrices"
expect 0 "$NRES" eval -m model -x run fr.txt -c 32 -q --json --quantise-extension q8_0
cmp -s as_trained out && fail "--quantise-extension changes nothing"
expect 0 "$NRES" eval -m model -x run fr.txt -c 32 -q --json --gate-threshold 1e9
grep -q '"kl": 0.0,*$' out || fail "a threshold above every gate leaves something: $(grep '"kl"' out)"

# gates by token
expect 0 "$NRES" eval -m model -x run --token-gates gates.json --text "Le chat dort." "The cat sleeps."
grep -q '"gates":' gates.json || fail "no gates in gates.json"
[ "$(grep -o '"tokens":' gates.json | wc -l)" = 2 ] || fail "expected two texts"

# what is wrong
expect 2 "$NRES" eval fr.txt
says err '-m MODEL is needed'
expect 2 "$NRES" eval -m model
says err 'files to score are needed'
expect 2 "$NRES" eval -m model fr.txt -c 513
says err 'context: expected at most 512 tokens'
expect 2 "$NRES" eval -m model fr.txt -c 8 --stride 9
says err 'stride: expected 1 to the context, 8, found 9'
expect 2 "$NRES" eval -m model fr.txt --documents page
says err 'auto, line or file'
expect 2 "$NRES" eval -m model fr.txt --token-gates g.json --text a
says err '--token-gates needs -x EXT'
expect 2 "$NRES" eval -m model -x run --token-gates g.json
says err 'go together'
expect 1 "$NRES" eval -m model missing.txt
one_line err
says err 'missing.txt'
expect 1 "$NRES" eval -m model -x nowhere fr.txt
one_line err
says err nowhere
expect 1 "$NRES" eval -m model -x run --token-gates /nonexistent/g.json --text a
says err '/nonexistent/g.json'
