# nres report: a made-up run becomes a page, drawings and tables.
. "$SOURCE/tests/cli/lib.sh"

mkdir run
awk 'BEGIN {
  for (s = 0; s <= 60; s++) {
    if (s > 0) printf "{\"kind\": \"step\", \"step\": %d, \"lm_loss\": 3, \"lm_loss_old\": %s, \"lm_loss_new\": %.4f, \"tokens\": %d, \"seconds\": %d}\n", \
      s, s % 2 ? "null" : "2.9", 3 - s / 60, s * 2048, s * 4
    if (s % 20) continue
    printf "{\"kind\": \"eval\", \"step\": %d, \"best\": true, \"old\": {\"bits_per_byte\": %.4f, \"backbone_bits_per_byte\": 1.05, \"kl\": 0.01}, ", s, 1.05 - s / 3000
    printf "\"new\": {\"bits_per_byte\": %.4f, \"backbone_bits_per_byte\": 1.6}, \"layers\": [", 1.6 - s / 200
    for (l = 0; l < 4; l++)
      printf "%s{\"layer\": %d, \"gate_auc\": 0.%d, \"gate_auc_abs\": 0.%d, \"old\": {\"mean_abs_gate\": 0.02, \"norm_ratio\": 0.01}, \"new\": {\"mean_abs_gate\": 0.2, \"norm_ratio\": 0.3}}", \
        l ? ", " : "", l, 6 + l, 6 + l
    print "]}"
  }
}' >run/metrics.jsonl
echo '{"command": "nres extend -m m.gguf --new a&b.txt -o run", "settings": {"steps": 60, "gate": "elu"}}' >run/config.json
echo '{"method": "neutral", "weights": 26974080, "share_of_all_weights": 0.2, "share_of_non_embedding_weights": 0.25, "backbone": {"name": "Tiny"}}' >run/extension_config.json
file() { echo "{\"path\": \"$1\", \"domain\": \"$2\", \"tokens\": 9, \"backbone\": {\"bits_per_byte\": $3}, \"extended\": {\"bits_per_byte\": $4}, \"difference\": {\"bits_per_byte_stderr\": 0.01}, \"kl\": 0.02, \"top1_agreement\": 0.97}"; }
echo "{\"files\": [$(file en.txt old 1.1 1.08), $(file fr.txt new 1.6 1.25)]}" >eval.json
echo '{"texts": [{"tokens": [{"text": "Le", "gates": [0.3, 0.5]}, {"text": " <b>", "gates": [-0.1, -0.3]}]}]}' >gates.json
echo '{"samples": [{"before": {"prompt": "Le chat", "text": " is"}, "after": {"prompt": "Le chat", "text": " dort."}}]}' >samples.json

expect 0 "$NRES" report run --eval eval.json --gates gates.json --samples samples.json
says out run/report.html
[ ! -s err ] || fail "a whole run makes it complain"
for name in learning forgetting loss gates ratio detector; do
  [ -s "run/report/$name.svg" ] || fail "no drawing $name"
  says "run/report/$name.svg" '<desc id='
done
says run/report.html 'mean gate +0.400'
says run/report.html 'mean gate -0.200'
says run/report.html '&lt;b&gt;'
says run/report.html 'a&amp;b.txt'
says run/report.html 'prefers-color-scheme:dark'
says run/report.html '>-21.9 %<'
! grep -q 'https\?://' run/report.html || fail "the page names an address"

expect 0 "$NRES" report run --eval eval.json --table
says out 'neutral res.          1.0800       1.2500'
[ "$(wc -L <out)" -le 80 ] || fail "the table is wider than 80 columns"
expect 0 "$NRES" report run --eval eval.json --json --results r.json --markdown r.md
says out '"extended": 1.25'
says r.json '"name": "fr"'
says r.md '| neutral residues | 1.0800 | 1.2500 |'
[ ! -e run.html ] || fail "--json wrote a page"

# Task scores stand behind the text's, in every form.
figures() { echo "\"$1\": {\"acc\": $2, \"acc_stderr\": 0.02, \"acc_norm\": $3, \"acc_norm_stderr\": 0.0125}"; }
echo "{\"tasks\": [{\"task\": \"piqa\", \"format\": \"harness\", \"items\": 500, \"chance\": 0.5, \"primary\": \"acc\",
  $(figures backbone 0.65 0.6), $(figures extended 0.66 0.6), $(figures difference 0.01 0)},
  {\"task\": \"m_mmlu_fr\", \"format\": \"paper\", \"items\": 285, \"chance\": 0.25, \"primary\": \"acc_norm\",
  $(figures backbone 0.2 0.25), $(figures extended 0.2 0.274), $(figures difference 0 0.024)}]}" >tasks.json
expect 0 "$NRES" report run --eval eval.json --tasks tasks.json --table
says out 'piqa                    500    50.0    65.0 +- 2.0    66.0 +- 2.0    +1.0 +- 2.0'
says out 'm_mmlu_fr:paper         285    25.0    25.0 +- 1.2    27.4 +- 1.2    +2.4 +- 1.2'
[ "$(wc -L <out)" -le 80 ] || fail "the table of tasks is wider than 80 columns"
expect 0 "$NRES" report run --eval eval.json --tasks tasks.json --json --markdown r.md
says out '"difference": 0.024'
says out '"decided_by": "acc_norm"'
says r.md '| m_mmlu_fr:paper | 285 | 25.0 | 25.0 ± 1.2 | 27.4 ± 1.2 | +2.4 ± 1.2 |'
expect 0 "$NRES" report run --eval eval.json --tasks tasks.json -o tasks.html
says tasks.html '<td>+1.0 &plusmn; 2.0</td>'
! grep -q 'Questions answered' run/report.html || fail "tasks in a page without any"

expect 0 "$NRES" report run -o elsewhere.html
[ -s elsewhere.html ] && [ -s elsewhere/loss.svg ] || fail "-o was not heard"

# A run that is going on ends in half a line.
printf '{"kind": "step", "st' >>run/metrics.jsonl
expect 0 "$NRES" report run
says err '1 lines of the metrics'

expect 2 "$NRES" report
expect 2 "$NRES" report run run
expect 2 "$NRES" report run --table
expect 1 "$NRES" report absent
says err absent
expect 1 "$NRES" report run --eval absent.json
one_line err
