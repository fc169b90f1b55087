# The man page and the completions, generated from the tables.
. "${SOURCE:?}/tests/cli/lib.sh"

expect 0 "$NRES" man
cp out nres.1
for command in $(commands); do says nres.1 ".SS $command"; done
says nres.1 '\-\-learning\-rate, \-\-lr'
says nres.1 '\-\-batch\-size'
if command -v man >/dev/null && command -v groff >/dev/null; then
  groff -man -Tutf8 -ww -z nres.1 2>warnings
  [ ! -s warnings ] || fail "groff: $(cat warnings)"
fi

expect 0 "$NRES" completion bash
cp out completion.bash
bash -n completion.bash
# Ask it as bash would: complete WORD...
complete_words() {
  bash -c '. ./completion.bash
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _nres
    printf "%s\n" "${COMPREPLY[@]}"' completion "$@" >out
}
complete_words nres ve
[ "$(cat out)" = version ] || fail "completes \"ve\" to: $(cat out)"
complete_words nres completion ""
says out zsh
complete_words nres version --
says out --help
if commands | grep -qx extend; then
  complete_words nres extend --lea
  [ "$(cat out)" = --learning-rate ] || fail "completes --lea to: $(cat out)"
  complete_words nres extend --gate s
  [ "$(cat out)" = sigmoid ] || fail "completes --gate s to: $(cat out)"
  complete_words nres extend --no-l
  says out --no-l1
fi
complete_words nres version --st
[ -z "$(cat out)" ] || fail "offers settings where there are none: $(cat out)"

expect 0 "$NRES" completion zsh
cp out completion.zsh
says completion.zsh '#compdef nres'
for command in $(commands); do says completion.zsh "    $command)"; done
if command -v zsh >/dev/null; then zsh -n completion.zsh; fi
