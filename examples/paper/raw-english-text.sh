#!/usr/bin/env bash
# raw-english-text.sh - raw English of several kinds for raw-english.sh: six novels, definitions from biology, the
# Debian handbook, general prose and the quickstart's Wikipedia passages; none of PubMed's, which measures forgetting.
#
#   examples/paper/raw-english-text.sh NRES OUT
#
# NRES: the program. OUT: a folder; gets train.jsonl and held-out.jsonl. ./quickstart must have prepared its text.
# The packages are kept with the quickstart's sources and never fetched twice.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
. "$(dirname "$0")/../../scripts/fetch-common.sh"
nres="$(realpath "$1")" out="$2"
wikipedia="$TEXT/en-wikipedia"
[ -f "$wikipedia.train.jsonl" ] || die "$wikipedia.train.jsonl: no such file; run ./quickstart first"

for package in r-cran-janeaustenr r-bioc-go.db debian-handbook dasher-data; do
    fetch_package "$package"
    unpack_package "$package" "$WORK/$package"
done

# Novels lie in an R data file: compressed pieces of strings. A line is a string, an empty one ends a paragraph.
# Definitions lie in an SQLite table; eight make a document.
python3 - "$WORK" <<'PYTHON'
import glob, json, random, re, sqlite3, struct, sys, zlib

work = sys.argv[1]

def write(name, documents):
    with open(f"{work}/{name}.jsonl", "w", encoding="utf-8") as file:
        for i, text in enumerate(documents): # parts are dealt by source
            file.write(json.dumps({"text": text, "source": f"{name}/{i}"}, ensure_ascii=False) + "\n")

def strings(piece):
    at = 0
    while (at := piece.find(b"\x00\x04\x00\x09", at)) >= 0:
        size = struct.unpack(">i", piece[at + 4 : at + 8])[0]
        yield piece[at + 8 : at + 8 + max(size, 0)].decode("utf-8", "replace")
        at += 8 + max(size, 0)

def novels():
    data = open(glob.glob(f"{work}/r-cran-janeaustenr/**/data/Rdata.rdb", recursive=True)[0], "rb").read()
    at = 0
    while at < len(data):
        unpack = zlib.decompressobj()
        piece = unpack.decompress(data[at + 4 :])
        at = len(data) - len(unpack.unused_data)
        paragraphs = [" ".join(p.split("\n")) for p in "\n".join(strings(piece)).split("\n\n")]
        text, size = [], 0
        for paragraph in paragraphs:
            text.append(paragraph.strip().replace("_", ""))
            size += len(paragraph)
            if size > 2000:
                yield "\n\n".join(text)
                text, size = [], 0

def definitions():
    table = sqlite3.connect(glob.glob(f"{work}/r-bioc-go.db/**/GO.sqlite", recursive=True)[0])
    rows = [re.sub(r"\s*\[[^\]]*\]", "", d).strip() for (d,) in table.execute("select definition from go_term order by go_id") if d]
    rows = [d for d in rows if len(d) > 60]
    random.Random(1).shuffle(rows)
    for i in range(0, len(rows), 8):
        yield "\n\n".join(rows[i : i + 8])

write("novels", novels())
write("definitions", definitions())
PYTHON

"$nres" data extract "$WORK/debian-handbook/usr/share/doc/debian-handbook/html/en-US" -o "$WORK/handbook.raw.jsonl" --label handbook >/dev/null
awk 'length > 40 { print; if (++n % 8 == 0) print "" }' "$WORK/dasher-data/usr/share/dasher/training_english_GB.txt" >"$WORK/general.txt"
"$nres" data extract "$WORK/general.txt" -o "$WORK/general.raw.jsonl" --label dasher --document-bytes 1200 >/dev/null
for set in handbook general; do "$nres" data clean "$WORK/$set.raw.jsonl" -o "$WORK/$set.jsonl" --language en >/dev/null; done
for set in novels definitions handbook general; do
    "$nres" data split "$WORK/$set.jsonl" -o "$WORK/$set" --validation-share 0.05 --test-share 0 --max-document-bytes 2500 >/dev/null
done

# A share of each kind, about 25 kB, tells when to stop.
mkdir -p "$out"
cat "$WORK"/{novels,definitions,handbook,general}.train.jsonl "$wikipedia.train.jsonl" >"$WORK/train"
for file in "$WORK"/{novels,definitions,handbook,general}.validation.jsonl "$wikipedia.validation.jsonl"; do
    awk '{ size += length } size < 25000' "$file"
done >"$WORK/held-out"
mv "$WORK/train" "$out/train.jsonl"
mv "$WORK/held-out" "$out/held-out.jsonl"
say "$(wc -c <"$out/train.jsonl") bytes in $out/train.jsonl, $(wc -c <"$out/held-out.jsonl") in $out/held-out.jsonl"
