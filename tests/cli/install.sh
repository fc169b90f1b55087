# cmake --install: program, library, header, pkg-config file, man page and
# completions; a small C program and the example build and run against them.
. "${SOURCE:?}/tests/cli/lib.sh"
: "${BUILD:?}"
if grep -q '^NRES_SANITIZE:STRING=.' "$BUILD/CMakeCache.txt"; then
  echo "skipped: a sanitized library doesn't link into a plain program"
  exit 77
fi

cmake --install "$BUILD" --prefix "$FOLDER/prefix" >log || { cat log; fail "cmake --install"; }
for file in bin/nres include/nres.h share/man/man1/nres.1 share/bash-completion/completions/nres \
  share/zsh/vendor-completions/_nres; do
  [ -s "prefix/$file" ] || fail "$file isn't installed"
done
[ "$(find prefix/include -name '*.h' | wc -l)" -eq 1 ] || fail "more than the public header is installed"
pc=$(find prefix -name nres.pc)
[ -n "$pc" ] || fail "no pkg-config file"

prefix/bin/nres --version >installed
"$NRES" --version | cmp - installed || fail "the installed program differs"
"$NRES" man | cmp - prefix/share/man/man1/nres.1 || fail "the installed man page differs"

# The definitions of tasks are found from the installed program's place.
prefix/bin/nres eval --list-tasks >out || fail "--list-tasks of the installed program"
says out hellaswag

# The plugin for several processes is found from the installed program's place; MPI then sees one process.
if [ -e "$BUILD/libnres_mpi.so" ]; then
  SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=0 expect 1 prefix/bin/nres resume run
  says err 'found 1 through MPI'
fi

cat >try.c <<'C'
#include <nres.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    nr_settings s;
    nr_error err;
    nr_model *m;
    nr_model_options options = {.use = NR_USE_SHAPES};
    char line[512];
    nr_settings_default(&s);
    if (nr_settings_check(&s, &err) != NR_OK) return 1;
    if (nr_model_open(&m, "/no/such/model", &options, &err) == NR_OK || m) return 2;
    nr_build_info(line, sizeof line);
    printf("%s|%s\n", line, err.message);
    return strcmp(nr_version(), NRES_VERSION) != 0;
}
C
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc")
[ "$(pkg-config --modversion nres)" = "$("$NRES" --version | cut -d' ' -f2)" ] || fail "pkg-config names another version"
# shellcheck disable=SC2046 # words
${CC:-cc} -std=c17 -Wall -Wextra -Werror -pedantic try.c -o try $(pkg-config --cflags --libs nres) || fail "try.c doesn't build"
./try >out || fail "try: exit code $?"
says out "/no/such/model"

# The example extends, measures and generates outside the tree; where it can't, it says why in one line.
# shellcheck disable=SC2046 # words
${CC:-cc} -std=c17 -Wall -Wextra -Werror -pedantic "$SOURCE/examples/extend.c" -o example $(pkg-config --cflags --libs nres) ||
  fail "examples/extend.c doesn't build"
. "$SOURCE/tests/cli/lib_train.sh"
expect 0 ./example model old.txt new.txt run "le de la"
says out 'finished after 4 steps'
says out '"bits_per_byte"'
grep -q '^le de la.' out || fail "nothing was generated: $(tail -1 out)"
[ -s run/extension.safetensors ] || fail "the example left no extension"
expect 1 ./example model old.txt absent.txt other "le"
one_line err
says err 'absent.txt'

