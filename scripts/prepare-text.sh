#!/usr/bin/env bash
# prepare-text.sh [fr|de] [--nres PROGRAM] [--old-bytes N] [--new-bytes N] - turns the
# raw text of fetch-text.sh into documents of prose for training, validation and
# test: LANGUAGE-manuals, LANGUAGE-general, en-wikipedia, en-manuals, en-pubmed.
# --old-bytes, --new-bytes: most text of a test set in English and in the new language.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,5s/^# //p' "$0"; exit 0; fi
HERE="$(cd "$(dirname "$0")" && pwd)"
. "$HERE/fetch-common.sh"

LANGUAGE=fr NRES="${NRES:-$HERE/../build/release/nres}" OLD_BYTES=55000 NEW_BYTES=40000
while [ $# -gt 0 ]; do
    case "$1" in
    fr | de) LANGUAGE="$1" ;;
    --nres) NRES="$2"; shift ;;
    --old-bytes) OLD_BYTES="$2"; shift ;;
    --new-bytes) NEW_BYTES="$2"; shift ;;
    *) die "unknown argument \"$1\"" ;;
    esac
    shift
done
NRES="$(realpath "$NRES")"
[ -x "$NRES" ] || die "$NRES: expected the program"

# Everything the result depends on.
STAMP="$({ echo "$LANGUAGE $OLD_BYTES $NEW_BYTES"; ls -l "$SOURCES" | awk '{print $5, $NF}'; cat "$0" "$HERE"/../src/prepare/prep*; } |
    sha256sum | cut -d' ' -f1)"
complete=1
for set in "$LANGUAGE-manuals" "$LANGUAGE-general" en-wikipedia en-manuals en-pubmed; do
    [ -f "$TEXT/$set.test.jsonl" ] || complete=
done
if [ -n "$complete" ] && [ "$(cat "$TEXT/$LANGUAGE.stamp" 2>/dev/null)" = "$STAMP" ]; then
    say "text is prepared already ($TEXT)"
    exit 0
fi
rm -f "$TEXT"/*.stamp

# What is no running text in these manuals.
# LibreOffice's pages hold each system's and each program's wording, hidden; the one without a class is the default.
LIBREOFFICE_PARTS=(howtoget SearchFrame DonationFrame DEBUG TopLeftHeader rightside leftside
    MAC WIN WRITER CALC IMPRESS DRAW CHART MATH BASE BASIC)
APACHE_PARTS=(page-header path up toplang bottomlang quickview top footer related seealso permalink example lang-toggle)
MANUAL_SECTIONS=(NAME SYNOPSIS LIBRARY "SEE ALSO" AUTHOR AUTHORS COPYRIGHT COLOPHON "REPORTING BUGS" STANDARDS ATTRIBUTES
    NOM BIBLIOTHÈQUE "VOIR AUSSI" AUTEUR AUTEURS TRADUCTION "SIGNALER DES BOGUES" "SIGNALER DES ANOMALIES" "DROITS DE REPRODUCTION" ATTRIBUTS
    BEZEICHNUNG ÜBERSICHT BIBLIOTHEK "SIEHE AUCH" AUTOR AUTOREN ÜBERSETZUNG "FEHLER MELDEN" ATTRIBUTE)

nres_data() { "$NRES" data "$@" --json >>"$WORK/counts.jsonl"; }

# number KEY: of the last count
number() { tail -n 1 "$WORK/counts.jsonl" | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }

MANDOC=mandoc
if ! command -v mandoc >/dev/null; then
    unpack_package mandoc "$WORK/mandoc"
    MANDOC="$WORK/mandoc/usr/bin/mandoc"
fi
export MANDOC

# manual_pages PACKAGE FOLDER-UNDER-MAN OUT: roff to HTML. Files that only name another page are left out.
manual_pages() {
    unpack_package "$1" "$WORK/$1"
    mkdir -p "$3"
    find "$WORK/$1/usr/share/man/$2" -type f -name '*.gz' -path '*/man[1-8]/*' -print0 | sort -z |
        OUT="$3" xargs -0 -n 40 -P "$(nproc)" bash -c '
            for page; do
                zcat "$page" >"$OUT/.page.$$"
                if ! head -c 4 "$OUT/.page.$$" | grep -q "^\.so"; then
                    "$MANDOC" -K utf-8 -T html "$OUT/.page.$$" >"$OUT/$(basename "$page" .gz).html" 2>/dev/null || true
                fi
            done
            rm -f "$OUT/.page.$$"' page
}

# manuals LANGUAGE LIBREOFFICE-PACKAGE LIBREOFFICE-FOLDER MAN-FOLDER PACKAGE... -> $WORK/LANGUAGE.jsonl
manuals() {
    local language="$1" office="$2" folder="$3" man="$4" package
    shift 4
    unpack_package "$office" "$WORK/$office"
    nres_data extract "$WORK/$office/usr/share/libreoffice/help/$folder/text" -o "$WORK/$language.1.jsonl" \
        --label "$office" --keep-hidden --drop-class "${LIBREOFFICE_PARTS[@]}"
    for package; do manual_pages "$package" "$man" "$WORK/pages.$language"; done
    nres_data extract "$WORK/pages.$language" -o "$WORK/$language.2.jsonl" \
        --label "manpages-$language" --drop-class head foot --drop-section "${MANUAL_SECTIONS[@]}"
    unpack_package apache2-doc "$WORK/apache2-doc"
    nres_data extract "$WORK/apache2-doc/usr/share/doc/apache2-doc/manual/$language" -o "$WORK/$language.3.jsonl" \
        --label "apache2-doc-$language" --drop-class "${APACHE_PARTS[@]}"
    nres_data clean "$WORK/$language".[123].jsonl -o "$WORK/$language.clean.jsonl" --language "$language"
}

# deal NAME FILE LEAST-BYTES-KEY LEAST-BYTES [split options]: into the cache, if there is as much as expected.
deal() {
    local name="$1" file="$2" key="$3" least="$4"
    shift 4
    nres_data split "$file" -o "$WORK/$name" "$@"
    [ "$(number "$key")" -ge "$least" ] || die "$name: expected at least $least bytes, found $(number "$key")"
    say "$(printf '%-14s %9s bytes to train, %7s to validate, %6s to test' "$name" \
        "$(number train_bytes)" "$(number validation_bytes)" "$(number test_bytes)")"
}

say "manuals in the new language ($LANGUAGE)"
manuals "$LANGUAGE" "libreoffice-help-$LANGUAGE" "$LANGUAGE" "$LANGUAGE" "manpages-$LANGUAGE" "manpages-$LANGUAGE-dev"
deal "$LANGUAGE-manuals" "$WORK/$LANGUAGE.clean.jsonl" train_bytes 5000000 --validation-share 0.03 --test-share 0.03 \
    --max-document-bytes 2500 --max-test-bytes "$NEW_BYTES"

say "manuals in English, for test only"
manuals en libreoffice-help-en-us en-US . manpages
deal en-manuals "$WORK/en.clean.jsonl" test_bytes "$((OLD_BYTES * 9 / 10))" --validation-share 0 --test-share 1 \
    --max-document-bytes 2500 --max-test-bytes "$OLD_BYTES"

say "Wikipedia passages"
nres_data extract "$SOURCES/boolq.jsonl" -o "$WORK/wikipedia.jsonl" --label wikipedia --field passage --title-mark ' -- '
nres_data clean "$WORK/wikipedia.jsonl" -o "$WORK/wikipedia.clean.jsonl" --language en
deal en-wikipedia "$WORK/wikipedia.clean.jsonl" train_bytes 5000000 --validation-share 0.03 --test-share 0.03 \
    --max-test-bytes "$OLD_BYTES"

say "PubMed passages, for test only"
nres_data extract "$SOURCES/pubmedqa-artificial.jsonl" "$SOURCES/pubmedqa-labelled.jsonl" -o "$WORK/pubmed.jsonl" \
    --label pubmed --field passage --lines --strip 'Context (#): '
nres_data clean "$WORK/pubmed.jsonl" -o "$WORK/pubmed.clean.jsonl" --language en --min-letters 0.6
deal en-pubmed "$WORK/pubmed.clean.jsonl" test_bytes "$((OLD_BYTES * 9 / 10))" --validation-share 0 --test-share 1 \
    --max-test-bytes "$OLD_BYTES"

say "general prose in the new language, for test only"
unpack_package dasher-data "$WORK/dasher"
case "$LANGUAGE" in fr) general=french_FR ;; de) general=german_DE ;; esac
# A sentence a line; headlines have no full stop. Eight sentences make a paragraph. German ones come from web pages:
# the marks of their links go, and lines with lists of addresses or bylines.
grep -E '[.!?…"»]$' "$WORK/dasher/usr/share/dasher/training_$general.txt" |
    grep -vE '\[[0-9]+\] https?://|[0-9]{2}\.[0-9]{2}\.[0-9]{4}' |
    sed -E 's/\( *\[[0-9]+\]/(/g; s/ \[[0-9]+\]([ .,;:)])/\1/g; s/\[[0-9]+\]//g' |
    awk 'length > 40 { print; if (++n % 8 == 0) print "" }' >"$WORK/general.txt"
nres_data extract "$WORK/general.txt" -o "$WORK/general.jsonl" --label dasher --document-bytes 1200
nres_data clean "$WORK/general.jsonl" -o "$WORK/general.clean.jsonl" --language "$LANGUAGE"
deal "$LANGUAGE-general" "$WORK/general.clean.jsonl" test_bytes "$((NEW_BYTES * 9 / 10))" --validation-share 0 --test-share 1 \
    --max-test-bytes "$NEW_BYTES"

# Into place at the end, so that a broken run leaves nothing half-done. Sets for test only have no other parts.
for set in "$LANGUAGE-manuals" en-wikipedia; do
    for part in train validation; do mv "$WORK/$set.$part.jsonl" "$TEXT/"; done
done
for set in "$LANGUAGE-manuals" "$LANGUAGE-general" en-wikipedia en-manuals en-pubmed; do mv "$WORK/$set.test.jsonl" "$TEXT/"; done
cp "$WORK/counts.jsonl" "$TEXT/$LANGUAGE.counts.jsonl"
echo "$STAMP" >"$TEXT/$LANGUAGE.stamp"
