# The quickstart on a tiny model and little text, with stand-ins for what reaches the network or builds: every stage,
# a second run, an interrupted one, a short one, the user's own text in each form.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

# A tree of its own. Its scripts/ put the built-in text into the cache; cmake has nothing to do.
mkdir -p tree/scripts tree/src tree/build/release bin
cp "$SOURCE/quickstart" tree/
cp -r "$SOURCE"/src/{data,prepare} tree/src/
cp -r "$SOURCE/tasks" tree/
ln -s "$NRES" tree/build/release/nres
touch tree/build/release/build.ninja
printf '#!/bin/sh\n' | tee tree/scripts/install-dependencies.sh tree/scripts/fetch-text.sh bin/cmake >/dev/null
cat >tree/scripts/fetch-model.sh <<S
#!/bin/sh
echo "$FOLDER/model"
S
printf '#!/bin/sh\necho "%s"\n' "$SOURCE/tests/fixtures/tasks" >tree/scripts/fetch-tasks.sh
cat >tree/scripts/prepare-text.sh <<S
#!/bin/sh
cd "$FOLDER"
mkdir -p cache/nres/text
for set in \$1-manuals \$1-general en-wikipedia en-manuals en-pubmed; do
  [ ! -e cache/nres/text/\$set.test.jsonl ] || continue
  case \$set in en-*) text=old.txt ;; *) text=new.txt ;; esac
  "$NRES" data extract \$text -o all.jsonl --document-bytes 500 >/dev/null
  "$NRES" data split all.jsonl -o cache/nres/text/\$set --validation-share 0.1 --test-share 0.1 >/dev/null
done
S
chmod +x tree/scripts/* bin/*
export PATH="$FOLDER/bin:$PATH" OMP_WAIT_POLICY=passive # threads that wait must not hold a core

expect 2 tree/quickstart --steps 0
says err '--steps: expected a whole number from 1, found "0"'
expect 2 tree/quickstart --language xx
says err '--language: expected fr or de, found "xx"'
expect 2 tree/quickstart --new
says err '--new needs a value'
expect 2 tree/quickstart --model
says err '--model needs a value'
expect 2 tree/quickstart --new absent.txt
says err 'absent.txt'
expect 1 tree/quickstart --model absent.gguf
says err 'absent.gguf'
[ ! -e cache/nres/text ] || fail "the text comes before the refusal of a model"
expect 2 tree/quickstart --speed 3
says err 'unknown argument "--speed"'
expect 0 tree/quickstart --help
[ -z "$(awk 'length > 80' out)" ] || fail "help is too wide"

# A run shorter than the usual warm-up warms up for half its steps, and says so.
run=tree/runs/quickstart-fast/run
expect 0 tree/quickstart --fast
says out 'Training: 4 steps, the first 2 of them warm-up'
grep -q '"warmup_steps": 2' $run/config.json || fail "another warm-up than was said"
for file in before.json eval.json tasks.json samples.json gates.json RESULTS.md results.json report.html; do
  [ -s $run/$file ] || fail "$file is missing"
done
says out 'bits per byte'
grep -q '^m_mmlu_fr:paper  *3  *25.0 .* +- .* +- .* +- ' out || fail "no line of a task with its errors"
says $run/RESULTS.md '| piqa:paper | 3 | 50.0 |'
says $run/results.json '"difference_stderr"'
says $run/report.html 'Questions answered'

# Once more: nothing is done again.
cp $run/extension.safetensors first
expect 0 tree/quickstart --fast
[ "$(grep -c 'done already' out)" -eq 4 ] || fail "stages are done again: $(grep -B1 -A1 == out)"
cmp first $run/extension.safetensors || fail "a second run trained again"

# Interrupted in the middle of the training, then killed: a further call goes on, to the same bits.
long=(--steps 200)
run=$FOLDER/cut/run
expect 0 tree/quickstart "${long[@]}" --out whole
usual=$(sed -n 's/^WARMUP=\([0-9]*\).*/\1/p' "$SOURCE/quickstart")
says out "Training: 200 steps, the first $usual of them warm-up"
stopped() { # stopped SIGNAL STEP: sends it to all of a quickstart once STEP is logged
  set -m # a process group of its own, as in a terminal
  tree/quickstart "${long[@]}" --out cut >log 2>&1 &
  local pid=$!
  set +m
  for _ in $(seq 6000); do grep -qs "\"step\": $2," "$run/metrics.jsonl" && break || sleep 0.01; done
  kill "-$1" -- "-$pid"
  if wait $pid 2>/dev/null; then fail "$1: ended well: $(tail -3 log)"; fi
}
stopped INT 20
says log 'the state is saved'
[ ! -e "$run/extension.safetensors" ] || fail "the training was over before it was interrupted"
stopped KILL 100
says log 'going on where it stopped'
says log 'resumed after step'
[ ! -e "$run/extension.safetensors" ] || fail "the training was over before it was killed"
expect 0 tree/quickstart "${long[@]}" --out cut
says out 'going on where it stopped'
cmp whole/run/extension.safetensors "$run/extension.safetensors" || fail "interrupted and killed: other weights"

# The user's own model and text: a folder, plain, JSONL, .gz and .zst together; HTML.
mkdir -p own/html
head -c 30000 new.txt >own/a.txt
tail -c 30000 new.txt | gzip -c >own/b.txt.gz
"$NRES" data extract own/a.txt -o own/c.jsonl >/dev/null
zstd -q -c own/c.jsonl >own/d.jsonl.zst
printf '<html><body><p>%s</p></body></html>' "$(head -c 400 new.txt)" >own/html/page.html
cat >own/dump.xml <<'END'
<mediawiki>
<page>
<title>Port</title>
<ns>0</ns>
<revision><text>Le '''port''' de [[Brest]] reçoit des bateaux.</text></revision>
</page>
</mediawiki>
END
expect 0 tree/quickstart --fast --model model --new own/a.txt own/b.txt.gz own/c.jsonl own/d.jsonl.zst own/html own/dump.xml --old old.txt
says out 'your text (--new): what each step read and left out'
grep -q 'dropped: seen before  *[1-9]' out || fail "the same text twice, and nothing is dropped"
cat tree/runs/quickstart-fast/text/own-new.*.jsonl >all
[ "$(grep -c 'Le port de Brest' all)" = 1 ] || fail "the dump's page is missing"
[ "$(awk 'length > 4000' all | wc -l)" = 0 ] || fail "a document wasn't cut"
for part in train validation test; do [ -s tree/runs/quickstart-fast/text/own-new.$part.jsonl ] || fail "no $part text"; done
says out "model: $FOLDER/model"

# Too little text is said as such.
head -c 300 new.txt >little.txt
expect 2 tree/quickstart --fast --new little.txt
says err 'too little text'
