# nres extend: a whole run, its folder, its numbers, and what it refuses.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

# A plan takes nothing.
expect 0 "$NRES" extend "${SMALL[@]}" --dry-run
says out 'memory  backbone'
says out 'disk    at most'
expect 0 "$NRES" extend "${SMALL[@]}" --dry-run --json -o nothing
says out '"total_bytes": '
[ ! -e nothing ] || fail "--dry-run made a folder"

cp -r model untouched
expect 0 "$NRES" extend "${SMALL[@]}" -o run --steps 12 --eval-steps 4 --save-every 5 --lr 0.003
[ "$(cat out)" = run ] || fail "stdout: $(cat out)"
says err 'micro_batch_size=8'
says err 'lora_targets=gate,up,down'
says err 'time    about'
says err 'step 12  old '
says err 'best validation was at step 12'
diff -r model untouched || fail "training changed the backbone"
for file in config.json extension_config.json extension.safetensors best/extension.safetensors best/extension_config.json \
  state/00000010/state.json state/00000012/state.safetensors metrics.jsonl log.txt events.out.tfevents.nres; do
  [ -s "run/$file" ] || fail "run/$file is missing"
done
[ "$(ls run/state | wc -l)" -eq 2 ] || fail "expected two generations: $(ls run/state)"
[ "$(grep -c '"kind": "step"' run/metrics.jsonl)" -eq 12 ] || fail "expected 12 steps"
[ "$(grep -c '"kind": "eval"' run/metrics.jsonl)" -eq 4 ] || fail "expected validation at 0, 4, 8 and 12"
# A fresh extension is the backbone: no distance at step 0, and equal bits per byte.
head -1 run/metrics.jsonl | grep -q '"step": 0, .*"old": {[^}]*"kl": 0, "top1_agreement": 1}.*"new": {[^}]*"kl": 0, "top1_agreement": 1}' ||
  fail "step 0 differs from the backbone"
head -1 run/metrics.jsonl | sed -E 's/.*"bits_per_byte": ([0-9.]+), "backbone_bits_per_byte": ([0-9.]+).*/\1 \2/' |
  awk '$1 != $2 { exit 1 }' || fail "step 0: other bits per byte than the backbone"
# It learns: the new text costs fewer bits in the end.
awk -F'"new": ' '/"kind": "eval"/ { split($2, a, /[:,]/); for (i = 1; i < 12; i++) if (a[i] ~ /"bits_per_byte"/) bits[++n] = a[i + 1] }
  END { exit !(n == 4 && bits[4] < bits[1] - 0.01) }' run/metrics.jsonl || fail "new text got no cheaper"
# One old row in ten.
[ "$(grep -o '"old_rows": [0-9]*' run/metrics.jsonl | awk '{ n += $2 } END { print n }')" -eq 10 ] || fail "expected 10 old rows of 96"
for key in settings model machine files tokens command instruction_set matrix_library sha256; do says run/config.json "\"$key\""; done

# What stands there is kept unless told otherwise.
expect 2 "$NRES" extend "${SMALL[@]}" -o run --steps 2
says err 'holds a run already'
one_line err
cp run/extension.safetensors first
expect 0 "$NRES" extend "${SMALL[@]}" -o run --steps 12 --eval-steps 4 --save-every 5 --lr 0.003 --overwrite
cmp first run/extension.safetensors || fail "the same run gives other weights"
[ "$(grep -c '"kind": "step"' run/metrics.jsonl)" -eq 12 ] || fail "--overwrite kept old metrics"

# JSON on stdout: every line an object.
expect 0 "$NRES" extend "${SMALL[@]}" -o run2 --steps 3 --json -q
[ ! -s err ] || fail "--quiet says: $(cat err)"
head -1 out | grep -q '^{"kind":"start",' || fail "no start event: $(head -1 out)"
says out '{"kind": "step", "step": 3, '
says out '{"kind": "saved", "step": 3}'
tail -1 out | grep -q '"done"' || fail "no done event"
! grep -qv '^{.*}$' out || fail "a line is no object"

# Shares.
trains alone --old-share 0 --steps 3
says err 'the local losses (l1, cross-entropy) are off'
says err 'l1=false'
grep -q '"kind": "step", .*"l1": 0, .*"old_rows": 0' alone/metrics.jsonl || fail "p = 0 has old rows or a local loss"
expect 0 "$NRES" extend -m model --new new.txt -o none -c 32 --steps 2 --warmup-steps 1 --old-share 0 --eval-tokens 256 -t 1
says none/metrics.jsonl '"old": null'
expect 0 "$NRES" extend -m model --old old.txt -o control -c 32 --steps 2 --old-share 1 --eval-tokens 256 -t 1 --warmup-steps 1
says control/metrics.jsonl '"old_rows": 8'
expect 2 "$NRES" extend -m model --new new.txt -o refused -c 32
says err '--old-share 0.1: expected --old text'
expect 2 "$NRES" extend -m model --old old.txt -o refused -c 32
says err 'expected --new text'
expect 2 "$NRES" extend --new new.txt --old old.txt -o refused
says err '-m MODEL is needed'
expect 2 "$NRES" extend -m model --new new.txt --old old.txt
says err '-o RUN is needed'
expect 2 "$NRES" extend "${SMALL[@]}" -o refused --context 4096
says err 'at most the 512 tokens'
expect 2 "$NRES" extend "${SMALL[@]}" -o refused --steps 1
says err 'warmup'
[ ! -e refused ] || fail "a refused run left a folder"

# Validation files: documents that training has too are left out of it.
head -40 new.txt >valid.txt
expect 0 "$NRES" extend "${SMALL[@]}" --new-validation valid.txt -o valid --steps 2
says err 'new text: 20 training documents stand in the validation files too'

# A loss that is not finite ends the run with its own exit code and advice.
expect 3 "$NRES" extend "${SMALL[@]}" -o wild --steps 40 --lr 10 --weight-decay 10 --min-lr-ratio 1 --save-every 2
tail -1 err | grep -q 'expected a finite loss and gradient.*--learning-rate below 10' || fail "no advice: $(tail -1 err)"
[ "$(ls wild/state | wc -l)" -eq 2 ] || fail "the saved states are gone"
[ ! -e wild/extension.safetensors ] || fail "a failed run wrote its extension"

# Texts that can't be read, in the middle of a list: the file is named, nothing is left.
rm -rf cache
printf 'good\n\nb\351d\n' >bad.txt
expect 1 "$NRES" extend "${SMALL[@]}" --new bad.txt -o refused
tail -1 err | grep -q 'bad.txt.*expected UTF-8.*0xE9 at offset 7' || fail "$(tail -1 err)"
gzip -c new.txt | head -c 500 >cut.txt.gz
expect 1 "$NRES" extend "${SMALL[@]}" --new cut.txt.gz -o refused
tail -1 err | grep -q 'cut.txt.gz: the gzip data ends early' || fail "$(tail -1 err)"
expect 1 "$NRES" extend "${SMALL[@]}" --new absent.txt -o refused
tail -1 err | grep -q 'absent.txt' || fail "$(tail -1 err)"
expect 1 "$NRES" extend "${SMALL[@]}" --old model -o refused
tail -1 err | grep -q 'a folder' || fail "$(tail -1 err)"
[ ! -e refused ] || fail "a refused run left a folder"
[ -z "$(find cache -name '*.tmp*')" ] || fail "a broken text left something in the cache: $(find cache)"

# The same text, compressed, gives the same run.
gzip -c new.txt >packed.gz
expect 0 "$NRES" extend "${SMALL[@]}" -o plain --steps 3
expect 0 "$NRES" extend -m model --new packed.gz --old old.txt -c 32 --eval-tokens 256 --warmup-steps 2 -t 1 -o packed --steps 3
cmp plain/extension.safetensors packed/extension.safetensors || fail "compressed text trains otherwise"

# Every method runs, and any number of threads gives the same bits.
for method in neutral lora llama-pro; do
  for threads in 1 2 3; do
    expect 0 "$NRES" extend -m model --new new.txt --old old.txt -c 16 --batch-size 4 --micro-batch-size 2 --steps 3 --warmup-steps 1 \
      --eval-tokens 128 --method $method --extra 40 -t $threads -o "$method-$threads"
  done
  for threads in 2 3; do same_bits "$method-1" "$method-$threads"; done
done

# Accumulation changes rounding only.
for micro in 8 2; do
  trains micro-$micro --micro-batch-size $micro --steps 4 --compute fp32 --document-mask --recompute layer
done
paste <(grep -o '"loss": [0-9.]*' micro-8/metrics.jsonl) <(grep -o '"loss": [0-9.]*' micro-2/metrics.jsonl) |
  awk '{ d = $2 - $4; if (d < -1e-4 || d > 1e-4) exit 1; n++ } END { exit n != 4 }' || fail "the micro-batch changes the loss"

# Quantised matrices kept in the file's blocks: nothing of a model that has none changes, and the plan says so.
expect 0 "$NRES" extend "${SMALL[@]}" -o blocks --steps 3 --frozen quantised
cmp plain/extension.safetensors blocks/extension.safetensors || fail "--frozen quantised trains otherwise"
grep -q '"frozen": "quantised"' blocks/config.json || fail "config.json doesn't say how the backbone was kept"

# Frozen products in int8: near the same curve, the same bits on any number of threads; not beside quantised blocks.
if "$NRES" extend "${SMALL[@]}" --frozen-products int8 --steps 4 -o int8-1 >out 2>err; then
  trains int8-3 --frozen-products int8 --steps 4 -t 3
  cmp int8-1/extension.safetensors int8-3/extension.safetensors || fail "int8: the number of threads changes the weights"
  trains int8-forward --frozen-products int8-forward --steps 4
  trains exact --steps 4 --compute fp32
  for run in int8-1 int8-forward; do
    paste <(grep -o '"loss": [0-9.]*' exact/metrics.jsonl) <(grep -o '"loss": [0-9.]*' $run/metrics.jsonl) |
      awk '{ d = $2 / $4 - 1; if (d < -5e-3 || d > 5e-3) exit 1; n++ } END { exit n != 4 }' || fail "$run: another loss curve"
  done
  expect 2 "$NRES" extend "${SMALL[@]}" --frozen-products int8 --frozen quantised -o refused
  says err 'expected --frozen packed'
else
  says err 'expected a processor with avx512-vnni'
fi
