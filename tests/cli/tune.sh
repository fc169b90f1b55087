# nres tune: rounds of halving on validation text, killed and resumed to the same choice.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

cat >recipe.yaml <<'Y'
model: model
texts:
  french: {domain: new, train: new.txt, test: absent.txt}
  english: {domain: old, train: old.txt}
settings: {steps: 18, warmup_steps: 4, context: 32, eval_tokens: 256, save_every: 2, extra: 40, threads: 1}
rows:
  - {method: neutral, learning_rate: [0.0001, 0.001, 0.01, 10], alpha: [0, 1], weight_decay: 1, min_lr_ratio: 1}
  - {method: lora, learning_rate: 0.002, seed: [1, 2]}
Y
if ! "$NRES" compare recipe.yaml --dry-run >out 2>err; then
  says err 'built without libyaml' && exit 77
fi

# 8 candidates, then 4, then 2: the test text isn't even there; lora has nothing to choose.
expect 0 "$NRES" tune recipe.yaml -o tuned --keep 2
[ "$(ls tuned/round1/results | wc -l)" -eq 8 ] || fail "round 1: $(ls tuned/round1/results)"
[ "$(ls tuned/round2/results | wc -l)" -eq 4 ] || fail "round 2: $(ls tuned/round2/results)"
[ "$(ls tuned/round3/results | wc -l)" -eq 2 ] || fail "round 3: $(ls tuned/round3/results)"
says tuned/round1/recipe.yaml 'steps: "4"'
says out 'round 3, up to 18 steps'
says out 'kept'
sed -n '/^chosen/,$p' out >chosen
grep -q 'neutral,lr=0.001' chosen || fail "a rate in the middle learns most here: $(cat out)"
grep -q '^  lora$' chosen || fail "lora is not in the choice: $(cat out)"
# The lowest score of the last round is the choice.
best=$(sed -n '/^round 3/,/^chosen/p' out | grep lr= | sort -k2 -n | head -1 | awk '{ print $1 }')
grep -qF "  $best" chosen || fail "chose another than $best"
grep -q 'name: lora.*seed: \[1, 2\]' tuned/choice.yaml || fail "$(cat tuned/choice.yaml)"
expect 0 "$NRES" compare tuned/choice.yaml --dry-run
says out 'lora,seed=2'

# Killed twice: the same choice.
for _ in 1 2; do
  "$NRES" tune recipe.yaml -o killed --keep 2 >out 2>err &
  pid=$!
  sleep 0.4
  kill -KILL $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
done
expect 0 "$NRES" tune recipe.yaml -o killed --keep 2
sed -n '/^chosen/,/^written/p' out | grep -v written >again
diff <(grep -v written chosen) again || fail "another choice after two kills"
cmp tuned/choice.yaml killed/choice.yaml || fail "another recipe after two kills"

sed -i 's/learning_rate: \[.*\], alpha: \[0, 1\]/learning_rate: 0.001/' recipe.yaml
expect 2 "$NRES" tune recipe.yaml -o no
says err 'expected a row with a list of values to choose from'
expect 2 "$NRES" tune recipe.yaml
says err '-o OUT is needed'
[ ! -e no ] || fail "a refused tuning left a folder"
