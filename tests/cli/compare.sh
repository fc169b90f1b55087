# nres compare: a recipe's runs, killed and resumed to the same numbers, a row
# that fails, the table's forms, and what is refused.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

sentences 20 5 the of and to in is that it was for on are with they at be this from have or by one had not but what >old-test.txt
sentences 20 6 le de la et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont étaient >new-test.txt
mkdir recipes
cat >recipes/tiny.yaml <<'Y'
title: Tiny
model: ../$MODEL
texts:
  french: {domain: new, train: ../new.txt, test: ../new-test.txt}
  english: {domain: old, train: [../old.txt], test: ../old-test.txt}
  again: {domain: old, test: ../old-test.txt}
settings: {steps: 40, warmup_steps: 2, context: 32, eval_tokens: 256, eval_steps: 20, save_every: 2, extra: 40, threads: 1}
rows:
  - {method: neutral, learning_rate: [0.001, 0.003, 0.01]}
  - {method: lora, learning_rate: [0.001, 0.003, 0.01]}
  - {name: wild, method: neutral, learning_rate: 10, weight_decay: 10, min_lr_ratio: 1}
  - {method: llama-pro, seed: [1, 2]}
evaluation: {generate: 8}
Y
if ! "$NRES" compare recipes/tiny.yaml --dry-run --set MODEL=model >out 2>err; then
  says err 'built without libyaml' && exit 77
fi

# The plan.
expect 0 "$NRES" compare recipes/tiny.yaml --dry-run --set MODEL=absent MODEL=model # the last of a name counts
for run in neutral,lr=0.001 neutral,lr=0.003 neutral,lr=0.01 lora,lr=0.001 lora,lr=0.003 lora,lr=0.01 wild llama-pro,seed=1 llama-pro,seed=2 backbone old-only new-only; do says out "$run "; done
says out 'together, one after another'
[ ! -e recipes/out ] || fail "--dry-run made a folder"

# A whole comparison: one row diverges, the others are whole, the exit code tells.
expect 3 "$NRES" compare recipes/tiny.yaml -o whole --set MODEL=model
says err '1 of 12 runs failed; the first, wild: '
says err 'expected a finite loss'
says err '12/12  llama-pro,seed=2' # behind what has the first seed
says out 'failed: '
wide=$(awk 'length($0) > 80' out)
[ -z "$wide" ] || fail "wider than 80 columns: $wide"
cp out whole.txt
for file in table.md table.csv table.json report.html figures/tradeoff.svg figures/loss.svg figures/gates.svg results/backbone.json; do
  [ -s "whole/$file" ] || fail "whole/$file is missing"
done
[ "$(grep -c '^' whole/table.csv)" -eq 13 ] || fail "expected a line a run: $(cat whole/table.csv)"
# Every line of the CSV has the columns of its head.
sed -E 's/"[^"]*"/x/g' whole/table.csv | awk -F, 'NR == 1 { n = NF } NF != n || n < 30 { exit 1 }' || fail "ragged: $(cat whole/table.csv)"
for key in french.bits_per_byte english.kl again.top1_agreement off_budget memory_peak; do says whole/table.csv "$key"; done
for key in learning forgetting sum nats_more kl top1_agreement weights off_budget validation_sum rank chosen against columns; do
  says whole/table.json "\"$key\""
done
says whole/figures/tradeoff.svg '>0.001<'
for text in 'new text' 'old text'; do says whole/figures/gates.svg ", $text<"; done
says whole/results/neutral,lr=0.001.json '"command": "nres extend -m '
says whole/results/backbone.json '"kl": 0'
says whole/results/wild.json '"status": "failed"'
# llama-pro's blocks don't meet the budget, and that is marked.
grep llama-pro out | head -1 | grep -qF '0.043* ' || fail "no mark: $(grep llama-pro out)"
# The same text under two names scores the same; the best of neutral's rates is the one that is ranked.
[ "$(sed -n '/"again": {/,/}/p' whole/results/new-only.json | grep -F '"bits_per_byte"')" = \
  "$(sed -n '/"english": {/,/}/p' whole/results/new-only.json | grep -F '"bits_per_byte"')" ] || fail "one text, two scores"
[ "$(grep -cE '^ [123] ' out)" -eq 9 ] || fail "expected three ranked rows in three blocks: $(cat out)"

for run in whole/runs/*; do # only a run that isn't finished has a use for its state
  [ ! -e "$run/extension_config.json" ] || [ ! -e "$run/state" ] || fail "$run keeps its state"
done
expect 0 "$NRES" resume whole/runs/lora,lr=0.01
says err 'is finished'

numbers() { # of a comparison: everything but what depends on the clock
  for file in "$1"/results/*.json; do
    echo "$file" | sed 's|.*/||'
    sed -E '/"cost": \{/,/\}/d; s|"error": "[a-z]*/|"error": "|' "$file" | grep -v '"command"'
  done
}

# Killed three times with its processes, it goes on to the same bits.
RANDOM=17
for kill in 1 2 3; do
  "$NRES" compare recipes/tiny.yaml -o killed --set MODEL=model >out 2>err &
  pid=$!
  for _ in $(seq 3000); do [ "$(cat killed/runs/*/metrics.jsonl 2>/dev/null | wc -l)" -ge $((kill * 90)) ] && break || sleep 0.01; done
  sleep "0.0$((RANDOM % 90 + 10))"
  kill -KILL $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
done
[ "$(ls killed/results 2>/dev/null | wc -l)" -lt 12 ] || fail "the kills came too late to mean anything"
expect 3 "$NRES" compare recipes/tiny.yaml -o killed --set MODEL=model
diff <(numbers whole) <(numbers killed) || fail "other numbers after three kills"
cmp "whole/runs/llama-pro,seed=2/extension.safetensors" "killed/runs/llama-pro,seed=2/extension.safetensors" || fail "other weights after three kills"

# Several at a time: the same.
expect 3 "$NRES" compare recipes/tiny.yaml -o side --set MODEL=model --jobs 3 -q
[ "$(wc -l <err)" -eq 1 ] || fail "--quiet speaks: $(cat err)"
diff <(numbers whole) <(numbers side) || fail "other numbers with three processes"

# Interrupted: the state is saved, and the same command goes on.
"$NRES" compare recipes/tiny.yaml -o asked --set MODEL=model >out 2>err &
pid=$!
for _ in $(seq 3000); do [ -s asked/runs/neutral,lr=0.001/metrics.jsonl ] && break || sleep 0.01; done
kill -INT $pid
code=0
wait $pid || code=$?
[ $code -eq 130 ] || fail "expected exit code 130, found $code: $(cat err)"
says err 'the same command goes on'

# What is done isn't done again; a new row is; one run alone makes no table.
cp -p whole/results/backbone.json before.json
sed -i 's/wild, method: neutral, learning_rate: 10, weight_decay: 10/tame, method: neutral, learning_rate: 0.002, weight_decay: 0/' recipes/tiny.yaml
expect 0 "$NRES" compare recipes/tiny.yaml -o whole --set MODEL=model --only tame
[ ! -s out ] || fail "--only prints: $(cat out)"
expect 0 "$NRES" compare recipes/tiny.yaml -o whole --set MODEL=model
says err '12 of 12 runs are done already'
[ ! whole/results/backbone.json -nt before.json ] || fail "a run that was done was done again"
expect 0 "$NRES" compare recipes/tiny.yaml -o whole --set MODEL=model --json
grep -q '"groups"' out || fail "--json: $(head -c 200 out)"
# The table so far: of the records that are there, while the others are missing and not made.
mkdir -p part/results && cp whole/results/backbone.json whole/results/neutral,lr=0.01.json part/results/
expect 0 "$NRES" compare recipes/tiny.yaml -o part --set MODEL=model --so-far
says out 'Not made yet:'
says part/table.md 'Not made yet: neutral,lr=0.001, '
says part/report.html 'Not made yet: neutral,lr=0.001, '
[ ! -e part/runs ] && [ -s part/report.html ] && [ "$(ls part/results | wc -l)" -eq 2 ] || fail "--so-far made more than the table: $(ls part)"
expect 2 "$NRES" compare recipes/tiny.yaml -o part --set MODEL=model --so-far --only backbone
# Records alone make the table.
mkdir copied && cp -r whole/results copied/
expect 0 "$NRES" compare recipes/tiny.yaml -o copied --set MODEL=model
diff whole/table.md copied/table.md || fail "another table from the records"
# A row that ended worse than the backbone in both would stretch the drawing: it is named instead.
if grep -q 'not drawn' copied/figures/tradeoff.svg; then fail "a row is left out"; fi
sed -i -E 's/("bits_per_byte": )[0-9.]+/\199.5/' 'copied/results/neutral,lr=0.01.json'
expect 0 "$NRES" compare recipes/tiny.yaml -o copied --set MODEL=model --so-far
says copied/figures/tradeoff.svg ' (worse in both, not drawn: neutral,lr=0.01)<'
says out 99.5

# Runs of another comparison count where they are the same, whatever they are called; a record of another backbone doesn't.
sed -e '/name: wild/d; /name: tame/d' -e 's/- {method: llama-pro, seed/- {name: pro, method: llama-pro, seed/' -e 's/0.001, 0.003, //' recipes/tiny.yaml >recipes/other.yaml
expect 0 "$NRES" compare recipes/other.yaml -o other --set MODEL=model --reuse whole --dry-run
[ "$(grep -c ' done$' out)" -eq 5 ] || fail "expected both rows, two seeds and the backbone: $(cat out)"
[ ! -e other ] || fail "--dry-run took records over"
expect 0 "$NRES" compare recipes/other.yaml -o other --set MODEL=model --reuse whole/results --so-far
says err 'pro,seed=2: taken from whole/results/llama-pro,seed=2.json'
says other/table.md 'Not made yet: old-only, new-only'
says other/results/pro,seed=2.json '"label": "pro"'
same() { sed -E '/"(name|label|group|taken_from)": /d' "$1"; }
diff <(same 'whole/results/llama-pro,seed=2.json') <(same 'other/results/pro,seed=2.json') || fail "other numbers were taken over"
# So does one with the other init, of a method that has none; not of one that has.
for row in 'lora 5' 'neutral 4'; do
  sed "s/method: ${row% *},/&  init: low,/" recipes/other.yaml >recipes/init.yaml
  expect 0 "$NRES" compare recipes/init.yaml -o init --set MODEL=model --reuse whole --dry-run
  [ "$(grep -c ' done$' out)" -eq "${row#* }" ] || fail "$row with the low init: $(cat out)"
done
mkdir strange stranger && cp whole/results/neutral,lr=0.01.json stranger/
sed -i -E 's/("backbone": ")./\1-/' stranger/*.json
expect 0 "$NRES" compare recipes/other.yaml -o strange --set MODEL=model --reuse stranger --so-far
[ ! -e strange/results ] || fail "a record of another backbone was taken over"
expect 1 "$NRES" compare recipes/other.yaml -o strange --set MODEL=model --reuse absent --so-far
one_line err
expect 1 "$NRES" compare recipes/other.yaml -o nowhere --set MODEL=model --so-far
says err 'nowhere: no comparison is here yet'

# Other settings under the same name: begun anew.
sed -i 's/steps: 40/steps: 6/' recipes/tiny.yaml
expect 0 "$NRES" compare recipes/tiny.yaml -o whole --set MODEL=model --only tame
says whole/results/tame.json '"training_tokens": 1536'

# Refused, in one line that names file and line.
expect 2 "$NRES" compare recipes/tiny.yaml -o no
says err 'tiny.yaml:2: $MODEL has no value; --set MODEL=VALUE gives it one'
one_line err
sed 's/extra: 40/exttra: 40/' recipes/tiny.yaml >recipes/wrong.yaml
expect 2 "$NRES" compare recipes/wrong.yaml -o no --set MODEL=model
says err 'wrong.yaml:7: "exttra": there is no such setting'
one_line err
sed 's/llama-pro/bogus/' recipes/tiny.yaml >recipes/wrong.yaml
expect 2 "$NRES" compare recipes/wrong.yaml -o no --set MODEL=model
says err 'wrong.yaml:12: method: expected one of those of this build (neutral, lora, '
printf 'model: &a m\n' >recipes/wrong.yaml
expect 1 "$NRES" compare recipes/wrong.yaml -o no
says err 'wrong.yaml:1: a recipe has no anchors'
one_line err
expect 2 "$NRES" compare recipes/tiny.yaml -o no --set MODEL=model --only nobody
says err 'no run is called "nobody"'
expect 2 "$NRES" compare recipes/tiny.yaml --set MODEL=model
says err '-o OUT is needed'
expect 2 "$NRES" compare recipes/tiny.yaml -o no --set MODEL
says err '--set: expected NAME=VALUE'
expect 1 "$NRES" compare absent.yaml -o no
one_line err
expect 2 "$NRES" compare
says err 'expected one recipe'
[ ! -e no ] || fail "a refused recipe left a folder"
