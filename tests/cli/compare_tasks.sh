# nres compare with questions: scored as nres eval scores them, in every form of the table, kept with the record; progress
# while runs are scored; what is refused.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

sentences 20 5 the of and to in is that it was for on are with they at be this from have or by one had not but what >old-test.txt
sentences 20 6 le de la et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont étaient >new-test.txt
cat >tasks.yaml <<'Y'
title: Tasks
model: $MODEL
variables: {LIMIT: 6, NEW: "arc_fr,belebele_fra_Latn"}
texts:
  french: {domain: new, train: new.txt, test: new-test.txt}
  english: {domain: old, train: old.txt, test: old-test.txt}
tasks:
  data: $DATA
  limit: $LIMIT
  old: [arc_challenge, "hellaswag:paper", "commonsense_qa:olmes"]
  new: $NEW
settings: {steps: 8, warmup_steps: 2, context: 32, eval_tokens: 256, save_every: 4, extra: 40, threads: 1, learning_rate: 0.02, compute: fp32}
rows:
  - {method: neutral, seed: [1, 2]}
  - {method: lora}
controls: [backbone]
evaluation: {generate: 8}
Y
cp -r "$SOURCE/tests/fixtures/tasks" data
SET=(--set MODEL=model DATA=data)
if ! "$NRES" compare tasks.yaml --dry-run "${SET[@]}" >out 2>err; then
  says err 'built without libyaml' && exit 77
fi

# The plan counts what is read to score a run, the questions with it.
scoring() { "$NRES" compare tasks.yaml --dry-run --json --set MODEL=model "$@" | sed -nE 's/.*"scoring_tokens": ([0-9.]+).*/\1/p'; }
awk -v none="$(scoring DATA=none)" -v six="$(scoring DATA=data)" -v two="$(scoring DATA=data LIMIT=2)" \
  'BEGIN { exit !(none > 0 && two > none && six - none > 1.5 * (two - none)) }' || fail "the plan doesn't count questions"

expect 0 "$NRES" compare tasks.yaml -o whole "${SET[@]}"
wide=$(awk 'length($0) > 80' out)
[ -z "$wide" ] || fail "wider than 80 columns: $wide"
for text in 'correct, % +- 95 %' 'mean, old' 'mean, new' guessing belebele_; do says out "$text"; done
cp out whole.txt

# accuracy FILE TASK: of a record; the same task asked by nres eval.
accuracy() { sed -n "/\"$2\": {/,/}/s/.*\"accuracy\": \([0-9.]*\).*/\1/p" "$1"; }
asked() { # MODEL... : the extension's (or backbone's) figure that decides
  expect 0 "$NRES" eval --tasks "$task" --task-data data --limit 6 --json -q --compute fp32 "$@"
  local which=backbone
  grep -q '"extended": {' out && which=extended
  sed -n "/\"$which\": {/,/}/s/.*\"$decided\": \([0-9.]*\).*/\1/p" out
}
for pair in arc_challenge/acc hellaswag:paper/acc_per_char arc_fr/acc; do
  task=${pair%/*} decided=${pair#*/}
  [ "$(accuracy whole/results/lora.json "$task")" = "$(asked -m model -x whole/runs/lora)" ] || fail "lora, $task: another figure than nres eval's"
  [ "$(accuracy whole/results/backbone.json "$task")" = "$(asked -m model)" ] || fail "the backbone, $task: another figure than nres eval's"
  [ -n "$(accuracy whole/results/backbone.json "$task")" ] || fail "no figure of $task"
done
# The better of OLMES's formulations.
expect 0 "$NRES" eval -m model --tasks commonsense_qa --format olmes --task-data data --limit 6 --json -q --compute fp32
best=$(sed -nE '/"backbone": \{/,/\}/s/.*"(acc|acc_uncond)": ([0-9.]*).*/\2/p' out | sort -g | tail -1)
says whole/results/backbone.json '"format": "olmes"'
awk -v a="$best" -v b="$(accuracy whole/results/backbone.json commonsense_qa:olmes)" 'BEGIN { exit !(b <= a) }' || fail "olmes: more than the better one"

# A mean over seeds and over tasks, by hand from the records.
for table in md csv json; do says whole/table.$table arc_challenge; done
says whole/report.html 'Questions answered'
says whole/report.html '&plusmn;'
mean=$(for t in arc_challenge hellaswag:paper commonsense_qa:olmes; do for s in 1 2; do accuracy "whole/results/neutral,seed=$s.json" $t; done; done |
  awk '{ s += $1 } END { printf "%.1f", 100 * s / NR }')
grep -E '^\| neutral \|' whole/table.md | grep -qF "**$mean " || fail "expected the mean $mean: $(grep neutral whole/table.md)"
# Every line of the CSV has the columns of its head.
sed -E 's/"[^"]*"/x/g' whole/table.csv | awk -F, 'NR == 1 { n = NF } NF != n { exit 1 }' || fail "ragged: $(cat whole/table.csv)"
says whole/table.csv ',tasks_old.accuracy,tasks_old.stderr,'

# What is done isn't done again; other tasks are asked again, without training.
stat -c '%y %n' whole/runs/*/extension.safetensors >before
expect 0 "$NRES" compare tasks.yaml -o whole "${SET[@]}"
says err '4 of 4 runs are done already'
expect 0 "$NRES" compare tasks.yaml -o whole "${SET[@]}" LIMIT=4
if grep -q 'done already' err; then fail "a record of other tasks counts"; fi
says whole/results/lora.json '"items": 4'
stat -c '%y %n' whole/runs/*/extension.safetensors | diff before - || fail "trained again for other questions"
tail -1 data/arc_fr_test.jsonl >>data/arc_fr_test.jsonl
expect 0 "$NRES" compare tasks.yaml -o whole "${SET[@]}" LIMIT=4
if grep -q 'done already' err; then fail "a record of another file of questions counts"; fi
# The texts' scores are those of a comparison without tasks.
sed '/^tasks:/,/^  new:/d' tasks.yaml >plain.yaml
expect 0 "$NRES" compare plain.yaml -o plain "${SET[@]}"
if grep -q guessing out; then fail "a table of tasks without any"; fi
# Measured in another way: scored again, from the same weights.
stat -c '%y %n' plain/runs/*/extension.safetensors >before
sed 's/^evaluation: .*/evaluation: {generate: 8, spectra: true, max_documents: 3}/' plain.yaml >other.yaml
expect 0 "$NRES" compare other.yaml -o plain "${SET[@]}"
if grep -q 'done already' err; then fail "a record that was measured in another way counts"; fi
[ -s plain/figures/spectrum.svg ] || fail "no spectra: $(ls plain/figures)"
stat -c '%y %n' plain/runs/*/extension.safetensors | diff before - || fail "trained again to be measured in another way"
expect 0 "$NRES" compare plain.yaml -o plain "${SET[@]}"
diff <(sed -n '/"scores"/,/^  }/p' plain/results/lora.json) <(sed -n '/"scores"/,/^  }/p' whole/results/lora.json) || fail "other scores with tasks"

# Two rows with the same seeds are held against each other seed by seed.
sed 's/{method: lora}/{method: lora, seed: [1, 2]}/' plain.yaml >paired.yaml
expect 0 "$NRES" compare paired.yaml -o paired --reuse plain "${SET[@]}"
bits() { sed -n '/"scores"/,/^  }/p' "paired/results/$1.json" | sed -n '/"french": {/,/}/s/.*"bits_per_byte": \([0-9.]*\).*/\1/p'; }
mean=$(for s in 1 2; do echo "$(bits "lora,seed=$s") $(bits "neutral,seed=$s")"; done | awk '{ d += $1 - $2 } END { printf "%+.4f", d / NR }')
says out "$mean +- "
says paired/table.md "| $mean ("
says paired/report.html "<td>$mean &plusmn; "

# nres tune hands the tasks on.
sed 's/{method: lora}/{method: lora, width: [2, 3]}/; s/validation_share.*//' tasks.yaml >choose.yaml
expect 0 "$NRES" tune choose.yaml -o tuned --rounds 2 --keep 2 "${SET[@]}"
says tuned/choice.yaml 'hellaswag:paper'
[ -z "$(grep -l '"tasks"' tuned/round*/results/*.json)" ] || fail "questions were asked to choose settings"
expect 0 "$NRES" compare tuned/choice.yaml --dry-run

# How far scoring is, while it lasts, and nothing of it afterwards.
for _ in $(seq 300); do cat old-test.txt; done >long.txt
sed -E 's/(english: .*test: )old-test.txt/\1long.txt/; /^tasks:/,/^  new:/d; s/, save_every/, validation_share: 0.1, save_every/' tasks.yaml >long.yaml
"$NRES" compare long.yaml -o long "${SET[@]}" >out 2>err &
pid=$!
seen=
while kill -0 $pid 2>/dev/null; do
  cat long/logs/*.progress 2>/dev/null >seen && grep -q '"what":"scoring long.txt"' seen && seen=$(cat seen) || true
  sleep 0.02
done
wait $pid || fail "$(cat err)"
[ -n "$seen" ] || fail "no progress of scoring was seen"
echo "$seen" | grep -q '"unit":"tokens"' || fail "progress without its unit: $seen"
[ -z "$(ls long/logs | grep progress)" ] || fail "progress is left behind"

# Refused, in one line that names file and line, before anything is trained.
refuses() { # PATTERN SED-EXPRESSION
  sed "$2" tasks.yaml >wrong.yaml
  expect 2 "$NRES" compare wrong.yaml -o no "${SET[@]}"
  says err "$1"
  one_line err
}
refuses 'wrong.yaml:10: tasks: unknown task "arc_challeng"' 's/arc_challenge/arc_challeng/'
refuses 'wrong.yaml:10: tasks: ' 's/hellaswag:paper/hellaswag:papers/'
refuses 'wrong.yaml:10: tasks: arc_fr stands there twice' 's/"hellaswag:paper", /arc_fr, arc_fr, /'
refuses 'wrong.yaml:8: tasks: data: expected the folder' '/  data:/d'
refuses 'wrong.yaml:9: limit: expected a whole number' 's/limit: \$LIMIT/limit: some/'
refuses 'tasks: expected data|path|format|limit|shots|old|new, found "formats"' 's/  limit:/  formats: x\n  limit:/'
rm data/belebele_fra_Latn_test.jsonl
expect 2 "$NRES" compare tasks.yaml -o no "${SET[@]}"
says err 'tasks.yaml:11: tasks: belebele_fra_Latn: expected a file belebele_fra_Latn_test.jsonl in data, found none'
[ ! -e no ] || fail "a refused recipe left a folder"
