# nres bench: every test on a random model, tables within 80 columns, figures that add up.
. "${SOURCE:?}/tests/cli/lib.sh"

expect 0 "$NRES" init --config "$SOURCE/tests/fixtures/tiny/config.json" --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model/ -s 3 # as model
small="--batch-size 4 --context 16 --width 8 -p 12 -n 3 -r 2"
expect 0 "$NRES" bench -m model $small --profile -q
for text in 'GFLOP/s' 'train ' 'forward ' 'prompt ' 'generate, extended' 'adamw' 'linear_back_weight' 'between operations' 'peak memory'; do
  says out "$text"
done
tail -n +2 out | awk 'length > 80 { print; bad = 1 } END { exit bad }' || fail "wider than 80 columns"

expect 0 "$NRES" bench -m model $small --tests train --profile --json -q
[ "$(grep -c '"name": "train"' out)" = 1 ] && ! grep -q '"name": "forward"\|"machine"' out || fail "--tests train ran something else"
[ "$(sed -n '/"seconds": \[/,/\]/p' out | grep -c '^ *[0-9]')" = 2 ] || fail "expected two repetitions"
# shares of the profile, the time between operations included, are the whole
sed -n 's/.*"share": \([-0-9.e]*\).*/\1/p' out | awk '{ s += $1 } END { exit !(s > 0.999999 && s < 1.000001) }' || fail "shares don't add up to 1"
# a step asks for the same work whatever is around it
sed -n 's/.*"flops_per_token": \([0-9.]*\).*/\1/p' out >once
expect 0 "$NRES" bench -m model $small --tests train --json -q -t 3 -r 4
sed -n 's/.*"flops_per_token": \([0-9.]*\).*/\1/p' out >again
cmp once again || fail "the work of a token depends on threads or repetitions"

# with the machine's rates one stands before each repetition and after the last, and what measuring them takes isn't counted
expect 0 "$NRES" bench -m model $small --tests machine,train,generate --json -q -r 1
[ "$(sed -n '/"bound_rates": \[/,/\]/p' out | grep -c '^ *[0-9]')" = 6 ] || fail "expected two rates for each of three tests"
[ "$(grep -c '"share_of_byte_bound"' out)" = 3 ] && [ "$(grep -c '"share_of_flop_bound"' out)" = 3 ] || fail "a share of a bound is missing"
[ ! -w /proc/self/clear_refs ] || grep -q '^NRES_SANITIZE:STRING=.' "$BUILD/CMakeCache.txt" || sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p' out | awk '$1 > 250000000 { bad = 1 } END { exit bad }' || fail "measuring the machine counts as memory"

expect 2 "$NRES" bench -m model --tests train,walk
says err 'found "train,walk"'
expect 2 "$NRES" bench --tests train
expect 1 "$NRES" bench -m nowhere.gguf -q
expect 1 "$NRES" bench -m nowhere.gguf --tests machine -q
says err nowhere.gguf
