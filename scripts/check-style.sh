#!/bin/bash
# Style that a script can see. Exit 1 names each file and line.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
complain() {
  echo "$1"
  bad=1
}

# What git knows, or everything where there is no git (a source archive).
list_files() {
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files -- "$@"
  else
    find "$@" -type f 2>/dev/null
  fi
}
mapfile -t sources < <(list_files include src tests bench examples | grep -E '\.(c|h|inc)$')
mapfile -t texts < <(list_files include src tests bench examples scripts cmake docs man .ci \
  README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md CMakeLists.txt CMakePresets.json check quickstart |
  grep -vE '^tests/(fixtures|fuzz/corpus)/|\.(png|svg|gz|zst)$')
[ "${#sources[@]}" -gt 0 ] || { echo "no sources found"; exit 1; }

for file in "${sources[@]}"; do
  [ -e "$file" ] || continue
  case $file in
  *_tables.inc | *_classes.inc | *_nfc.inc) continue ;; # generated
  esac
  lines=$(wc -l <"$file")
  [ "$lines" -le 1000 ] || complain "$file: $lines lines, at most 1000"
done

# One file name means one file, so that "pass.c" says which.
while read -r name; do
  complain "src: the file name $name is used twice: $(printf '%s ' "${sources[@]}" | tr ' ' '\n' | grep "^src/.*/$name\$" | tr '\n' ' ')"
done < <(printf '%s\n' "${sources[@]}" | grep '^src/' | sed 's|.*/||' | sort | uniq -d)

search() { # search PATTERN WHAT FILE...
  local pattern=$1 what=$2
  shift 2
  local hits
  hits=$(grep -nHIE -e "$pattern" -- "$@" 2>/dev/null || true)
  [ -z "$hits" ] || complain "$what:
$hits"
}
search '[[:space:]]+$' 'blanks at the end of a line' "${texts[@]}"
search $'\t' 'tabs' "${sources[@]}"
search $'\r' 'carriage returns' "${texts[@]}"

# Words of unfinished work; spelled so that this file doesn't find itself.
search "\\b(TO""DO|FIX""ME|XX""X|HA""CK)\\b|not impl""emented" 'unfinished work' "${texts[@]}"

# The library never exits, prints, reads the environment, nor uses alloca.
mapfile -t library < <(printf '%s\n' "${sources[@]}" | grep '^src/' | grep -v '^src/cli/')
calls='exit|_exit|abort|printf|vprintf|puts|putchar|perror|getenv|secure_getenv|alloca|system'
for file in "${library[@]}"; do
  [ -e "$file" ] || continue
  # Words in strings and in comments of one line don't count.
  hits=$(sed -E 's/"([^"\\]|\\.)*"/""/g; s|//.*||; s|/\*.*\*/||; s|^ \*.*||' "$file" |
    grep -nE "(^|[^a-zA-Z0-9_.>])($calls)[[:space:]]*\(|(^|[^a-zA-Z0-9_])(stdout|stderr)([^a-zA-Z0-9_]|\$)" || true)
  [ -z "$hits" ] || complain "$file: the library must not exit, print or read the environment:
$hits"
done
# Threads come from one place, which works with every compiler.
search '^#[[:space:]]*pragma[[:space:]]+omp' 'threads go through nr_parallel' "${sources[@]}"
exit $bad
