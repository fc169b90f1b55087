# nres data run and its steps: every kind of file, what each step drops and why, parts, manifest, errors.
. "$SOURCE/tests/cli/lib.sh"

# text FOLDER: the documents of a result
text() { cat "$1"/text/part-*.jsonl; }
# record TYPE URI CONTENT-TYPE BODY: one of a WARC file
record() {
  printf 'WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n' \
    "$1" "$2" "$3" "${#4}" "$4"
}
answer() { printf 'HTTP/1.1 %s\r\nContent-Type: %s\r\n\r\n%s' "$1" "$2" "$3"; }
page() { echo "<html><head><title>t</title></head><body><nav>Menu</nav><div><p>$1</p></div><footer>Legal</footer></body></html>"; }

A="The first paragraph of this page says what the page is about."
{
  record warcinfo "" application/warc-fields "software: test"
  record response http://a/1 "application/http; msgtype=response" "$(answer "200 OK" text/html "$(page "$A")")"
  record response http://a/2 "application/http; msgtype=response" "$(answer "404 Not Found" text/html "$(page "gone")")"
  record response http://a/3 "application/http; msgtype=response" "$(answer "200 OK" image/png PNG)"
  record request http://a/1 "application/http; msgtype=request" "GET / HTTP/1.1"
  record response http://a/4 "application/http; msgtype=response" "$(answer "200 OK" "text/html; charset=x" "$(page "$A")")"
  printf 'garbage\r\n'
  record response http://a/5 "application/http; msgtype=response" "$(printf 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n<p>Cut in the middle of a \r\n0d\r\nsentence.</p>\r\n0\r\n\r\n')"
} >crawl.warc
record conversion http://w/1 text/plain "Plain text of a page.

With two paragraphs." | gzip >pages.wet.gz
expect 0 "$NRES" data read crawl.warc pages.wet.gz -o raw --json
for count in '"records":8' '"http_errors":1' '"other_types":1' '"other_records":2' '"broken_records":1' '"documents":4' '"broken_files":0'; do
  says out "$count"
done
text raw >text
says text '{"source":"http://a/1","text":"The first paragraph of this page says what the page is about."}'
says text '"text":"Cut in the middle of a sentence."'
says text '"text":"Plain text of a page.\n\nWith two paragraphs."'
! grep -q 'Menu\|Legal\|gone' text || fail "kept what is to be left out"
[ ! -e raw/work ] || fail "work/ was left behind"

# The same command again changes nothing; other settings are refused.
expect 0 "$NRES" data read crawl.warc pages.wet.gz -o raw --json
says out '"documents":4'
expect 1 "$NRES" data read crawl.warc -o raw
one_line err
says err 'raw/manifest.json'

# A file that breaks off is read up to there, counted, and doesn't end the others.
gzip -c crawl.warc | head -c 400 >cut.warc.gz
expect 0 "$NRES" data read cut.warc.gz pages.wet.gz -o cut --json
says out '"broken_files":1'
says err cut.warc.gz
text cut >text
says text 'Plain text of a page.'

# A .warc.zst begins with the dictionary of its frames, itself packed or not.
data="$SOURCE/tests/fixtures/data"
expect 0 "$NRES" data read "$data/dictionary.warc.zst" "$data/packed_dictionary.warc.zst" -o zst --json
says out '"documents":5'
text zst >text
says text '{"source":"http://w/3","text":"Text no 003"}'
head -c 300 "$data/dictionary.warc.zst" >cut.warc.zst
expect 0 "$NRES" data read cut.warc.zst -o cut.zst --json
says out '"broken_files":1'
says err 'ends inside its zstd dictionary'

# A dump: the text without templates, tables, references, pictures.
if "$NRES" version | grep -q "with libarchive"; then
  expect 0 "$NRES" data read "$SOURCE/tests/fixtures/data/dump.xml.bz2" -o dump --json
  says out '"other_records":2'
  text dump >text
  says text '{"source":"Lamp","text":"A lamp is a source of light that persons carry. See the page.\n\nHistory\n\n- oil & wick\n- gas"}'
else
  expect 0 "$NRES" data read "$SOURCE/tests/fixtures/data/dump.xml.bz2" -o dump
  says err 'built without'
fi

# Pages in old charsets, rows, text.
mkdir site
printf '<html><head><meta charset="iso-8859-1"></head><body><p>caf\351 \200</p></body></html>' >site/latin.html
printf '<html><body><p>caf\303\251</p></body></html>' >site/utf.html.fr
printf '\377\376c\0a\0f\0\351\0' >site/wide.txt
printf '{"text":"row one","url":"http://r/1"}\nno json\n{"html":"<p>row <b>two</b></p>","id":"r2"}\n{"text":3}\n' >site/rows.jsonl
expect 0 "$NRES" data read site -o site.out --json
says out '"broken_records":2'
text site.out >text
[ "$(grep -c '"caf' text)" -eq 3 ] || fail "a charset was misread: $(cat text)"
says text '"text":"café €"'
says text '{"source":"http://r/1","text":"row one"}'
says text '{"source":"r2","text":"row two"}'
expect 0 "$NRES" data read site/utf.html.fr -o as-is --extract none
text as-is >text
says text '"html":"<html>'
expect 0 "$NRES" data read as-is -o again
text again >text
says text '"text":"café"'

# Repeats: paragraphs across files, documents, near-duplicates; the first stays.
words() { seq -s ' ' -f 'word%g' "$1" "$2"; }
{
  echo '{"source":"1","text":"Same.\n\nOne."}'
  echo "{\"source\":\"2\",\"text\":\"Two.\\n\\nSame.\"}"
  echo '{"source":"3","text":"Same."}'
  echo "{\"source\":\"4\",\"text\":\"$(words 1 200)\"}"
} >a.jsonl
echo "{\"source\":\"5\",\"text\":\"$(words 1 196) $(words 900 901)\"}" >b.jsonl
echo "{\"source\":\"6\",\"text\":\"$(words 100 300)\"}" >>b.jsonl
expect 0 "$NRES" data dedup a.jsonl b.jsonl -o once --json
says out '"repeated_paragraphs":2'
says out '"repeated_documents":1'
text once >text
says text '{"source":"2","text":"Two."}'
expect 0 "$NRES" data dedup a.jsonl a.jsonl -o docs --dedup documents --json
says out '"repeated_documents":4'
# In one pass with a filter: the same where the error is small, the numbers in the manifest, and no more memory than allowed.
expect 0 "$NRES" data dedup a.jsonl b.jsonl -o filtered --dedup-error 1e-9 --json
says out '"repeated_paragraphs":2'
says out '"repeated_documents":1'
says err 'a filter of at most 1024.0 MiB'
text filtered >text2
cmp text text2 || fail "the filter gives another text"
says filtered/manifest.json '"keys": 6'
says filtered/manifest.json '"expected_wrong":'
[ ! -e filtered/text/filter.keys ] || fail "the filter's keys were left behind"
expect 0 "$NRES" data dedup a.jsonl a.jsonl -o docs2 --dedup documents --dedup-error 1e-9 --json
says out '"repeated_documents":4'
for i in $(seq 20000); do echo "{\"text\":\"row $i\"}"; done >rows.jsonl
expect 1 "$NRES" data dedup rows.jsonl -o full --dedup-error 1e-6 --dedup-memory 65536 --part-bytes 100000
says err '(--dedup-memory) goes on'
expect 0 "$NRES" data dedup rows.jsonl -o full --dedup-error 1e-6 --part-bytes 100000
expect 0 "$NRES" data dedup rows.jsonl -o fresh --dedup-error 1e-6 --part-bytes 100000
diff -r full fresh || fail "more memory for the filter gives another text"
expect 2 "$NRES" data dedup a.jsonl -o x --dedup-error 0.6
expect 0 "$NRES" data near once -o near --json
says out '"near_documents":1'
text near >text
says text '"source":"4"'
says text '"source":"6"'
! grep -q '"source":"5"' text || fail "kept a near-duplicate"

# Everything in one: parts, and a manifest that training reads.
expect 0 "$NRES" data run a.jsonl b.jsonl -o all --near-share 0.8 --part-bytes 100 --threads 2
says out 'documents dropped: nearly seen before                                         1'
text all >both
cmp both text || fail "run gives another text than its steps"
says all/manifest.json '"name": "text/part-00000.jsonl"'
says all/manifest.json "$(sha256sum a.jsonl | cut -d' ' -f1)"
"$NRES" init --config "$SOURCE/tests/fixtures/tiny/config.json" --tokenizer "$SOURCE/tests/fixtures/tiny/tokenizer.json" -o model >/dev/null
for i in $(seq 300); do echo "{\"source\":\"$i\",\"text\":\"$(words "$i" $((i + 60)))\"}"; done >many.jsonl
expect 0 "$NRES" data run many.jsonl -o many --tokenizer model
says out tokens
train=("$NRES" extend -m model --new many/text/part-00000.jsonl --old many.jsonl --context 32 --steps 2 --warmup-steps 1 --eval-tokens 64 --threads 1)
expect 0 "${train[@]}" -o trained
sed -i 's/word1 /word2 /' many/text/part-00000.jsonl
expect 1 "${train[@]}" -o other
says err 'its manifest says'

# Languages and quality.
if "$NRES" version | grep -q "with libfasttext"; then
  for i in $(seq 200); do echo "{\"text\":\"the careful reader of page $i knows what a sentence is and how it ends $((i * 7))\"}"; done >good.jsonl
  for i in $(seq 200); do echo "{\"text\":\"buy cheap now click offer $i best price sale sale win $((i * 7))\"}"; done >bad.jsonl
  expect 0 "$NRES" data quality train --good good.jsonl --random bad.jsonl -o quality.bin
  says out 'precision 1.000, recall 1.000'
  cp quality.bin first.bin
  expect 0 "$NRES" data quality train --good good.jsonl --random bad.jsonl -o quality.bin
  cmp quality.bin first.bin || fail "the same text gives another classifier"
  cat good.jsonl bad.jsonl >mixed.jsonl
  expect 0 "$NRES" data quality apply mixed.jsonl --quality-model quality.bin -o kept --json
  says out '"poor_documents":200'
  # The classifier's two labels stand for languages here.
  expect 0 "$NRES" data language mixed.jsonl --language-model quality.bin --languages good -o spoken --json
  says out '"other_documents":200'
  says out '"good":{"bytes":'
  head -c 3000 quality.bin >broken.bin
  expect 1 "$NRES" data quality apply mixed.jsonl --quality-model broken.bin -o none
  one_line err
  says err broken.bin
else
  expect 1 "$NRES" data quality train --good a.jsonl --random b.jsonl -o quality.bin
  says err 'built without'
fi

# Wrong words are usage errors; a text that isn't finished is no input.
expect 2 "$NRES" data run a.jsonl
expect 2 "$NRES" data run -o x
expect 2 "$NRES" data run a.jsonl -o x --dedup lines
expect 2 "$NRES" data run a.jsonl -o x --extract some
expect 2 "$NRES" data run a.jsonl -o x --languages fr
expect 2 "$NRES" data quality a.jsonl -o x
expect 2 "$NRES" data language a.jsonl -o x
expect 1 "$NRES" data run absent -o x
says err absent
mkdir -p half/work
expect 1 "$NRES" data run half -o x
says err "isn't finished"
expect 1 "$NRES" data run a.jsonl -o b.jsonl
one_line err
