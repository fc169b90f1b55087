# Help of the program and of every command: there, useful, at most 80 columns.
. "${SOURCE:?}/tests/cli/lib.sh"

check_help() { # check_help WHAT
  [ ! -s err ] || fail "$1: help prints on stderr"
  says out "Usage: nres"
  local wide
  wide=$(awk 'length($0) > 80' out)
  [ -z "$wide" ] || fail "$1: wider than 80 columns: $wide"
  if grep -nE '[[:space:]]$' out; then fail "$1: blanks at the end of a line"; fi
}

expect 0 "$NRES"
cp out bare
expect 0 "$NRES" --help
cmp -s out bare || fail "nres and nres --help differ"
check_help "nres"
expect 0 "$NRES" -h
cmp -s out bare || fail "nres -h differs"

[ "$(commands | wc -l)" -ge 4 ] || fail "no list of commands"
for command in $(commands); do
  expect 0 "$NRES" "$command" --help
  check_help "$command"
  says out "Usage: nres $command"
  says out "--help"
  says out "Examples:"
  sed '1,/^Examples:/d' out | grep -qF "nres $command" || fail "$command: no example of it"
  cp out long
  expect 0 "$NRES" "$command" -h
  cmp -s out long || fail "$command: -h and --help differ"
  expect 0 "$NRES" help "$command"
  cmp -s out long || fail "nres help $command differs"
done

expect 0 "$NRES" --version
grep -qE '^nres [0-9]+\.[0-9]+\.[0-9]+$' out || fail "--version: $(cat out)"
expect 0 "$NRES" version
grep -qE '^nres [0-9.]+, .+, [0-9]+ cores, .+' out || fail "version: $(cat out)"
grep -qE '^with(out)? libarchive .+, with(out)? libfasttext' out || fail "version: $(cat out)"
for command in version methods; do
  expect 0 "$NRES" "$command"
  wide=$(awk 'length($0) > 80' out)
  [ -z "$wide" ] || fail "$command: wider than 80 columns: $wide"
done
