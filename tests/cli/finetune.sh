# nres extend --method finetune, ewc, lwf: the backbone's own weights train.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/cli/lib_train.sh"

# value RUN KEY: of the last step.
value() { grep '"kind": "step"' "$1/metrics.jsonl" | tail -1 | sed "s/.*\"$2\": \([^,}]*\).*/\1/"; }

# The plan says what can't be kept, and that nothing is packed twice.
expect 0 "$NRES" extend "${SMALL[@]}" --method finetune --dry-run
says out "100.00 % of the backbone's"
says out "can't keep to --extra"
bytes() { "$NRES" extend "${SMALL[@]}" --dry-run --json --compute fp32 "$@" | sed "s/.*\"weights_bytes\": \([0-9]*\).*/\1/"; }
[ "$(bytes --method finetune)" -lt "$(bytes --method neutral)" ] || fail "the backbone's matrices are packed beside the trained ones"
[ "$(bytes --method lwf)" -eq "$(bytes --method neutral)" ] || fail "distillation lacks the backbone's packings"
[ "$(bytes --method lwf --frozen quantised)" -eq "$(bytes --method finetune)" ] || fail "--frozen quantised packs them"

# All three train from the backbone bit for bit, on any number of threads, and the backbone stays.
cp -r model untouched
for method in finetune ewc lwf; do
  for threads in 1 3; do
    trains $method-$threads --method $method --steps 8 --eval-steps 4 --lr 1e-3 -t $threads
  done
  same_bits $method-1 $method-3
  head -1 $method-1/metrics.jsonl | grep -q '"step": 0, .*"old": {[^}]*"kl": 0, "top1_agreement": 1}.*"new": {[^}]*"kl": 0, "top1_agreement": 1}' ||
    fail "$method: step 0 differs from the backbone"
done
diff -r model untouched || fail "training changed the backbone"
[ ! -e finetune-1/fisher.safetensors ] || fail "finetune has a Fisher information"
says ewc-1/metrics.jsonl '"ewc": '
says lwf-1/metrics.jsonl '"distillation": '
grep -q '"lwf_alpha": 1' lwf-1/config.json || fail "config.json lacks the method's own weight of the distillation"
awk -v a="$(value ewc-1 ewc)" -v b="$(value lwf-1 distillation)" 'BEGIN { exit !(a > 0 && b > 0) }' || fail "a loss that holds is 0"
# The weights' file has the backbone's names.
expect 0 "$NRES" extend "${SMALL[@]}" -o some --method finetune --steps 3 --train-weights 'layers.*.mlp.*,norm' --layers 1-2
head -c 4096 some/extension.safetensors | grep -ao '"model[^"]*"' >names
for name in model.layers.1.mlp.up_proj.weight model.layers.2.mlp.down_proj.weight model.norm.weight; do
  grep -q "\"$name\"" names || fail "no $name in the extension"
done
! grep -q 'layers.0\|self_attn\|embed' names || fail "other weights than asked for: $(cat names)"

# What holds the weights holds them: the further, the nearer to the backbone on old text.
far() { grep '"kind": "eval"' "$1/metrics.jsonl" | tail -1 | sed 's/.*"old": {[^}]*"kl": \([^,]*\),.*/\1/'; }
trains free --method finetune --steps 30 --lr 1e-3 --old-share 0
trains held --method ewc --steps 30 --lr 1e-3 --old-share 0 --ewc-lambda 1e7
trains taught --method lwf --steps 30 --lr 1e-3 --old-share 0 --lwf-alpha 30
awk -v a="$(far free)" -v b="$(far held)" -v c="$(far taught)" 'BEGIN { exit !(b < a && c < a) }' ||
  fail "KL on old text: finetune $(far free), ewc $(far held), lwf $(far taught)"
trains rehearsed --method lwf --steps 3 --lwf-rows old --old-share 0.5
trains beside --method neutral --steps 3 --lwf-alpha 2 --lwf-rows all
says beside/metrics.jsonl '"distillation": '

# Resumed after an interruption: the same bits; F is read, not found again.
LONG=(--method ewc --steps 60 --save-every 10 --ewc-sequences 8)
trains whole "${LONG[@]}"
"$NRES" extend "${SMALL[@]}" "${LONG[@]}" -o killed >out 2>err &
pid=$!
for _ in $(seq 3000); do grep -qs '"step": 23,' killed/metrics.jsonl && break || sleep 0.01; done
kill -KILL $pid
wait $pid || true
cp -r killed broken
cp -r killed missing
expect 0 "$NRES" resume killed
! grep -q 'Fisher information from' err || fail "F was found again"
same_run whole killed
cmp whole/fisher.safetensors killed/fisher.safetensors || fail "another Fisher information"
printf x | dd of=broken/fisher.safetensors bs=1 seek=3000 conv=notrunc 2>/dev/null
expect 1 "$NRES" resume broken
tail -1 err | grep -q 'fisher.safetensors: expected the SHA-256' || fail "$(tail -1 err)"
rm missing/fisher.safetensors
expect 1 "$NRES" resume missing
tail -1 err | grep -q 'fisher.safetensors' || fail "$(tail -1 err)"
rm -r missing/state
expect 0 "$NRES" resume missing
says err 'Fisher information from 8 old rows'
same_run whole missing
for method in finetune lwf; do
  trains $method-whole --method $method --steps 40 --save-every 10
  cp -r $method-whole $method-again
  rm -r $method-again/extension* $method-again/state/*40
  expect 0 "$NRES" resume $method-again
  says err 'resumed after step 30'
  same_run $method-whole $method-again
done

# Loaded: evaluation and generation, packed and in Q8_0.
for run in finetune-1 ewc-1 lwf-1 some; do
  expect 0 "$NRES" eval -m model -x $run new.txt -c 32 -t 1
  expect 0 "$NRES" generate -m model -x $run -p "the of" -n 8 -c 64 -t 1
done
expect 0 "$NRES" generate -m model -x some -p "the of" -n 8 -c 64 -t 1 --quantise-extension q8_0

expect 0 "$NRES" report finetune-1
for text in 'Finetuning: ' 'weights trained: ' 'keep to 20 %'; do says finetune-1/report.html "$text"; done

# Refusals.
expect 2 "$NRES" extend "${SMALL[@]}" --method finetune --train-weights 'layers.*.moe.*' -o x
says err '"layers.*.moe.*", which names none'
expect 2 "$NRES" extend -m model --new new.txt -c 32 --method ewc --old-share 0 -o x
says err 'ewc: expected --old text'
expect 2 "$NRES" extend "${SMALL[@]}" --method lwf --lwf-rows old --old-share 0 -o x
says err '--lwf-rows old: expected --old-share above 0'
[ ! -e x ] || fail "a refused run left a folder"
