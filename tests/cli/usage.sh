# Wrong usage: exit code 2, one line that names what is wrong and what was meant.
. "${SOURCE:?}/tests/cli/lib.sh"

wrong() { # wrong TEXT ARGUMENTS...
  local text=$1
  shift
  expect 2 "$NRES" "$@"
  [ ! -s out ] || fail "an error prints on stdout: $*"
  one_line err
  says err "$text"
}

wrong 'unknown command "frobnicate"' frobnicate
wrong 'did you mean "version"?' versoin
wrong 'did you mean "completion"?' compl
wrong 'unknown command ""' ""
wrong 'unknown command "nope"' help nope
wrong 'unknown command "a?b"' $'a\nb'
for command in $(commands); do
  wrong "unknown flag --no-such-flag" "$command" --no-such-flag
  wrong "nres $command --help" "$command" --no-such-flag=3
  wrong "unknown flag -Z" "$command" -Z
done
wrong 'did you mean --help?' version --hepl
wrong 'unexpected word "more"' version more
wrong 'expected one shell' completion
wrong 'found 2 words' completion bash zsh
wrong 'expected bash or zsh, found "fish"' completion fish
wrong 'found "--help"' completion -- --help

if commands | grep -qx init; then
  wrong 'did you mean --seed?' init --sed 3
  wrong '--seed: expected a whole number, found "x"' init --seed x
  wrong '--seed: expected a whole number, found "-3"' init --seed -3
  wrong '--seed: expected a whole number, found ""' init --seed=
  wrong '-s: expected a whole number, found "1.5"' init -s1.5
  wrong '--seed: expected a value after it, found nothing' init --seed
  wrong '--seed: expected a value after it, found --config' init --seed --config x
  wrong 'expected a whole number, found "99999999999999999999999"' init --seed 99999999999999999999999
fi
if commands | grep -qx extend; then
  wrong '--steps: expected a whole number from 1 to 1e+12, found "0"' extend --steps 0
  wrong '--old-share: expected a number from 0 to 1, found "1.5"' extend --old-share 1.5
  wrong '--old-share: expected a number from 0 to 1, found "nan"' extend --old_share=nan
  wrong '--gate: expected elu, relu, sigmoid or none, found "tanh"' extend --gate tanh
  wrong '--l1 takes no value, found "3"' extend --l1=3
  wrong '--learning-rate: expected a number from 0 to 10, found "11"' extend --lr 11
  wrong '--context: expected a whole number from 2 to 1e+07, found "1"' extend -c 1
  wrong 'did you mean --batch-size?' extend --batchsize 4
  wrong 'unknown flag --no-steps' extend --no-steps
fi
