# nres data run killed at random moments, again and again: what it ends with is byte for byte what a run without a kill gives.
. "${SOURCE:?}/tests/cli/lib.sh"
. "$SOURCE/tests/fault/lib_kill.sh"
KILLS=${KILLS:-40}

# Pages with paragraphs that are repeated across files, and some that are nearly the same.
mkdir site
for i in $(seq 1 400); do
  {
    echo "<html><body><div><h1>Page $i</h1>"
    for k in $(seq 1 30); do echo "<p>Paragraph $((i * k % 997)) says that $((i * k % 997)) times $k is not the same as $i, which is so.</p>"; done
    echo "<p>Everything on page $((i / 2)) was written by the same hand, at the same table, under the same lamp, in one long night.</p>"
    echo "</div></body></html>"
  } >"site/$(printf '%04d' "$i").html"
done
cat site/0[0-2]*.html | tr '\n' ' ' | sed 's|</html>|\n|g' | sed 's/.*<body>//; s/["\\]//g; s/.*/{"html": "&"}/' | gzip >site/rows.jsonl.gz

anew() { rm -rf text; }
next() { command=("${run[@]}" -o text); }
same() {
  cmp whole.json out || fail "$flags: after $kills kills the counts differ"
  diff -r whole text || fail "$flags: after $kills kills the text differs"
}

# sweep COUNT FLAGS...: a run with these flags, killed so often
sweep() {
  local count=$1
  shift
  flags="$*"
  run=("$NRES" data run site --part-bytes 40000 --json "$@")
  rm -rf whole single
  "${run[@]}" -o whole >whole.json
  "${run[@]}" -o single --threads 1 >single.json
  cmp whole.json single.json || fail "$flags: the number of threads changes the counts"
  diff -r whole single || fail "$flags: the number of threads changes the text"
  killed "$count" 1 250
  echo "$flags: $kills kills over $runs runs: same text, same counts"
}

sweep "$KILLS" --near-share 0.8
sweep $((KILLS / 2)) --dedup-error 0.1 # a filter that errs often: errors must be the same ones
