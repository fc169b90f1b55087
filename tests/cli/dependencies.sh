# The installer of packages, against stand-ins for dpkg-query and apt-get: silent
# where nothing is missing, else one update and one install of what is missing.
. "${SOURCE:?}/tests/cli/lib.sh"

mkdir bin
export PATH="$FOLDER/bin:$PATH" CALLS="$FOLDER/calls" MISSING=
cat >bin/dpkg-query <<'S'
#!/bin/sh
for package in "$@"; do :; done
case " $MISSING " in *" $package "*) exit 1 ;; esac
echo "$package" >>"$CALLS.asked"
printf installed
S
cat >bin/apt-get <<'S'
#!/bin/sh
echo "apt-get $*" >>"$CALLS"
S
cat >bin/sudo <<'S'
#!/bin/sh
echo sudo >>"$CALLS"
exec "$@"
S
chmod +x bin/*
install="$SOURCE/scripts/install-dependencies.sh"

expect 0 sh "$install" --tests --quickstart
[ ! -s out ] && [ ! -s err ] || fail "speaks where nothing is missing: $(cat out err)"
[ ! -e calls ] || fail "calls apt-get where nothing is missing"
for package in gcc cmake libdnnl-dev libcmocka-dev python3-pip; do
  grep -qx "$package" calls.asked || fail "doesn't ask for $package"
done

export MISSING="libgumbo-dev valgrind"
expect 0 sh "$install"
says err "libgumbo-dev"
if grep -q valgrind err calls; then fail "installs what only the tests need"; fi
grep -v sudo calls >apt || true
[ "$(wc -l <apt)" -eq 2 ] || fail "expected update and install, found: $(cat calls)"
sed -n 1p apt | grep -q update || fail "no update first"
sed -n 2p apt | grep -q -- '-y .*install libgumbo-dev$' || fail "installs: $(cat apt)"

rm calls
expect 0 sh "$install" --tests
says calls "install libgumbo-dev valgrind"
[ ! -s out ] || fail "prints on stdout"
expect 2 sh "$install" --everything

# Neither root nor sudo, or a sudo that refuses: what to type as root is said in one line.
cat >bin/id <<'S'
#!/bin/sh
echo 1000
S
chmod +x bin/id
expect 0 sh "$install"
grep -q sudo calls || fail "another user than root installs without sudo"
printf '#!/bin/sh\necho "sudo: a password is required" >&2\nexit 1\n' >bin/sudo
expect 1 sh "$install"
says err "a password is required"
says err "  apt-get update && apt-get install --no-install-recommends libgumbo-dev"
rm bin/sudo calls
mkdir only
for tool in sh grep env; do ln -s "$(command -v $tool)" only/; done
expect 1 env PATH="$FOLDER/bin:$FOLDER/only" sh "$install"
says err "neither root nor sudo"
says err "  apt-get update && apt-get install --no-install-recommends libgumbo-dev"
[ ! -e calls ] || fail "calls apt-get without the right to"
