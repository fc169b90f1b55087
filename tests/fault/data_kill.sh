# nres data run killed at random moments, again and again: what it ends with is byte for byte what a run without a kill gives.
. "${SOURCE:?}/tests/cli/lib.sh"
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

# killed KILLS FLAGS...: a run with these flags, killed so often
killed() {
  local wanted=$1 kills=0 runs=0 finished=true longest=250 pid code
  shift
  local run=("$NRES" data run site --part-bytes 40000 --json "$@")
  rm -rf whole single text
  "${run[@]}" -o whole >whole.json
  "${run[@]}" -o single --threads 1 >single.json
  cmp whole.json single.json || fail "$*: the number of threads changes the counts"
  diff -r whole single || fail "$*: the number of threads changes the text"
  while [ $kills -lt "$wanted" ]; do
    if $finished; then
      rm -rf text
      runs=$((runs + 1))
    fi
    "${run[@]}" -o text >text.json 2>err &
    pid=$!
    sleep "0.$(printf '%03d' $((1 + RANDOM % longest)))"
    finished=false
    if kill -KILL $pid 2>/dev/null; then kills=$((kills + 1)); fi
    code=0
    wait $pid 2>/dev/null || code=$?
    case $code in
    0) finished=true ;;
    137) continue ;;
    *)
      cat err >&2
      fail "$*: after $kills kills the run ends with code $code"
      ;;
    esac
    cmp whole.json text.json || fail "$*: after $kills kills the counts differ"
    diff -r whole text || fail "$*: after $kills kills the text differs"
  done
  if ! $finished; then
    "${run[@]}" -o text >text.json
    cmp whole.json text.json || fail "$*: the counts differ at the end"
    diff -r whole text || fail "$*: the text differs at the end"
  fi
  echo "$*: $kills kills over $runs runs: same text, same counts"
}

RANDOM=4711 # the delays are the same ones in every run of this test
killed "$KILLS" --near-share 0.8
killed $((KILLS / 2)) --dedup-error 0.1 # a filter that errs often: errors must be the same ones
