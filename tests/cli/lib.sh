# lib.sh - sourced by the command-line tests: a temporary folder of their own,
# and checks that say what went wrong. NRES is the program, SOURCE the tree.
set -euo pipefail
: "${NRES:?}" "${SOURCE:?}"

FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/nres-cli-XXXXXX")
trap 'rm -rf "$FOLDER"' EXIT
cd "$FOLDER"
# Nothing of the user's is read or written.
export HOME="$FOLDER/home" XDG_CACHE_HOME="$FOLDER/cache" TERM=dumb LC_ALL=C
unset HF_HOME HF_HUB_CACHE
mkdir -p "$HOME"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect CODE COMMAND...: runs it; its output is in ./out and ./err.
expect() {
  local want=$1 got=0
  shift
  "$@" >out 2>err || got=$?
  [ "$got" -eq "$want" ] || {
    cat out err >&2
    fail "expected exit code $want, found $got: $*"
  }
}

# says FILE TEXT: the file holds the text.
says() { grep -qF -- "$2" "$1" || { cat "$1" >&2; fail "$1 doesn't say: $2"; }; }

# one_line FILE: an error is one line.
one_line() { [ "$(wc -l <"$1")" -eq 1 ] || { cat "$1" >&2; fail "expected one line in $1"; }; }

# The commands there are, from the program itself.
commands() { "$NRES" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'; }
