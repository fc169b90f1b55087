# Several processes: the same curve as one, the same bits when repeated; killed,
# stopped and failing ranks; resumed with another number of them.
. "${SOURCE:?}/tests/cli/lib.sh"
: "${BUILD:?}"
if ! command -v mpirun >/dev/null; then
  echo "skipped: mpirun isn't installed (Debian: openmpi-bin)"
  exit 77
fi
if [ ! -e "$BUILD/libnres_mpi.so" ]; then
  echo "skipped: this build has no libnres_mpi.so (-DNRES_MPI)"
  exit 77
fi
if grep -q '^NRES_SANITIZE:STRING=.' "$BUILD/CMakeCache.txt"; then
  echo "skipped: MPI's own code isn't made for a sanitized program"
  exit 77
fi
. "$SOURCE/tests/cli/lib_train.sh"
# Any user, any number of cores, no network but this machine's.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
  OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_orte_tmpdir_base="$FOLDER"
export NRES
FLAGS=(--steps 40 --eval-steps 10 --save-every 7 --batch-size 8 --micro-batch-size 2 --lr 1e-3 --old-share 0.3 --compute fp32)

# ranks COUNT CODE COMMAND...
ranks() {
  local count=$1 code=$2
  shift 2
  expect "$code" timeout 300 mpirun -np "$count" "$@"
}
# parallel COUNT RUN FLAGS...
parallel() {
  local count=$1 run=$2
  shift 2
  ranks "$count" 0 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o "$run" "$@"
}
# error TEXT: one line of the program's, with this text; the launcher adds its own.
error() {
  grep '^nres' err >lines || true
  one_line lines
  says lines "$1"
}
# numbers RUN: of every step and validation, one a line.
numbers() {
  grep -oE '"(step|loss|lm_loss|lm_loss_old|lm_loss_new|l1|grad_norm|score|bits_per_byte|kl|mean_abs_gate|norm_ratio)": [^,}]*' \
    "$1/metrics.jsonl"
}
# near A B TOLERANCE: the same lines, and numbers that differ by no more, relative to the larger.
near() {
  paste -d ' ' <(numbers "$1") <(numbers "$2") | awk -v most="$3" '
    $1 != $3 { print "another line: " $0; bad = 1; exit }
    {
      a = $2; b = $4
      if (a == b) next
      d = a - b; if (d < 0) d = -d
      if (a < 0) a = -a
      if (b < 0) b = -b
      if (d > most * (a > b ? a : b) + 1e-7) { print NR ": " $0; bad = 1 }
    }
    END { if (NR < 100) { print "only " NR " numbers"; bad = 1 } exit bad }' >differences ||
    { head -5 differences >&2; fail "$2: other numbers than $1"; }
}

trains one "${FLAGS[@]}"
parallel 2 two
[ "$(cat out)" = two ] || fail "stdout: $(cat out)"
[ "$(grep -c '^2 ranks, 2 of them on' err)" -eq 1 ] || fail "the ranks aren't said once: $(cat err)"
[ "$(grep -c '^finished after' err)" -eq 1 ] || fail "more than one rank speaks: $(cat err)"
parallel 4 four
near one two 1e-5
near one four 1e-5
diff <(metrics one | head -1) <(metrics four | head -1) >differences || fail "the first validation differs: $(cat differences)"
says two/metrics.jsonl '"ranks": 2, "bytes_sent": '

# Repeated: the same bits.
parallel 2 two-again
same_run two two-again
parallel 4 four-again
same_run four four-again

# Every other method; gradients as bf16, which halves what they take and stays near.
"$NRES" methods | grep -E '^[a-z]' | grep -vx neutral >methods
[ "$(wc -l <methods)" -ge 12 ] || fail "methods lists: $(cat methods)"
for method in $(cat methods); do
  trains one-$method "${FLAGS[@]}" --method $method
  parallel 2 two-$method --method $method
  near one-$method two-$method 1e-5
done
parallel 2 short --gradient-exchange bf16
near one short 0.02
sent() { sed -n '2s/.*"bytes_sent": \([0-9]*\).*/\1/p' "$1/metrics.jsonl"; }
[ $(($(sent short) * 4)) -eq $(($(sent two) * 3)) ] || fail "bytes sent: $(sent two) in fp32, $(sent short) in bf16"
if numbers short | cmp -s - <(numbers two); then fail "bf16 changes nothing"; fi

# By itself the plugin is neither needed nor loaded; one rank of MPI is one process.
mkdir alone
cp "$NRES" alone/nres
expect 0 alone/nres extend "${SMALL[@]}" "${FLAGS[@]}" -o alone/run
same_run one alone/run
OMPI_COMM_WORLD_SIZE=2 expect 1 alone/nres extend "${SMALL[@]}" "${FLAGS[@]}" -o x
says err 'expected libnres_mpi.so beside the program, found none'
expect 0 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o mpi --mpi
same_run one mpi
SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=0 expect 1 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o x
error 'expected the 2 processes that the launcher started, found 1'

# Sizes that don't fit.
ranks 3 2 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o x
error '--batch-size 8: expected a multiple of the 3 ranks, which get equal shares; 6 or 9 fit'
ranks 4 2 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o x --micro-batch-size 4
error 'with --batch-size 8, 1 or 2 fit'
ranks 2 2 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" -o two
error 'holds a run already'
ranks 2 2 "$NRES" extend "${SMALL[@]}" --stepz 3
error 'did you mean --steps?'

# One rank fails: one line, which names it, and no rank hangs.
cat >one-other.sh <<'S'
if [ "$OMPI_COMM_WORLD_RANK" = "$WHO" ]; then eval "$THERE"; fi
exec "$NRES" extend -m model --new ${NEW:-new.txt} --old old.txt --context 32 --eval-tokens 256 --threads 1 \
  --steps 30 --warmup-steps 2 --eval-steps 10 --save-every 10 --batch-size 8 --micro-batch-size 2 -q "$@"
S
WHO=1 THERE='NEW=missing.txt' ranks 2 1 bash one-other.sh -o bad
error 'rank 1 on '
says lines 'missing.txt: '
WHO=1 THERE='NEW=old.txt' ranks 2 1 bash one-other.sh -o bad
says err "another text (new) than rank 0's"
[ ! -e bad/config.json ] || fail "a run began with ranks that differ"
state=$(($(stat -c %s two/state/*40/state.safetensors) / 1024))
WHO=0 THERE="trap '' XFSZ; ulimit -f $((state / 2))" ranks 2 1 bash one-other.sh -o full
error 'rank 0 on '
says lines 'File too large'
ranks 2 3 "$NRES" extend "${SMALL[@]}" -o wild --steps 40 --lr 10 --weight-decay 10 --min-lr-ratio 1 --save-every 2
error 'expected a finite loss and gradient'
[ "$(ls wild/state | wc -l)" -eq 2 ] || fail "the saved states are gone"

# A rank is killed: the launcher ends the others and names it; any number of ranks goes on.
# wait_for RUN STEP: until the metrics reach a step.
wait_for() {
  for _ in $(seq 3000); do
    grep -qs "\"kind\": \"step\", \"step\": $2," "$1/metrics.jsonl" && return
    sleep 0.01
  done
  fail "$1 never reached step $2"
}
LONG=("${FLAGS[@]}" --steps 200 --eval-steps 50 --save-every 20 --lr 3e-4) # float error grows with the rate and the steps
trains long "${LONG[@]}"
mpirun -np 2 "$NRES" extend "${SMALL[@]}" "${LONG[@]}" -o killed >out 2>err &
launcher=$!
wait_for killed 45
kill -KILL "$(pgrep -P $launcher | tail -1)"
code=0
wait $launcher || code=$?
[ $code -eq 137 ] || { cat err >&2; fail "expected exit code 137, found $code"; }
says err 'process rank 1'
[ -e killed/state ] && [ ! -e killed/extension.safetensors ] || fail "no state to go on from"
cp -r killed killed-one
ranks 4 0 "$NRES" resume killed
says err 'resumed after step'
near long killed 1e-4
expect 0 "$NRES" resume killed-one
near long killed-one 1e-4

# Asked to stop, all save and stop at the same step; the same number of ranks goes on to the same bits.
parallel 2 long-two "${LONG[@]}"
mpirun -np 2 "$NRES" extend "${SMALL[@]}" "${LONG[@]}" -o asked >out 2>err &
launcher=$!
wait_for asked 45
kill -USR1 $launcher
code=0
wait $launcher || code=$?
[ $code -eq 130 ] || { cat err >&2; fail "expected exit code 130, found $code"; }
grep '^nres: asked' err >lines
one_line lines
says lines 'the state is saved, nres resume asked goes on'
ranks 2 0 "$NRES" resume asked
same_run long-two asked
ranks 2 0 "$NRES" resume asked
says err 'the run is finished'

# More ranks than micro-batches: smaller ones, said.
rm asked/extension_config.json asked/extension.safetensors
ranks 8 0 "$NRES" resume asked
says err 'micro-batches of 1 rows instead of 2'

# The plan is a rank's.
ranks 4 0 "$NRES" extend "${SMALL[@]}" "${FLAGS[@]}" --dry-run --json
one_line out
grep -q '"exchange_bytes": [1-9]' out || fail "no exchange in the plan: $(cat out)"
