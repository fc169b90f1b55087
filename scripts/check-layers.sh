#!/bin/bash
# Every folder of src/ includes only from the folders before it in this order
# (and from itself). Exit 1 names each include that looks the other way.
set -euo pipefail
cd "$(dirname "$0")/.."
order=(base plugins tensor formats tokenizer kernels model methods data prepare train eval infer tasks bench report compare cli)

declare -A rank
for i in "${!order[@]}"; do rank[${order[$i]}]=$i; done

bad=0 seen=0
while IFS=: read -r file line include; do
  folder=${file#src/} folder=${folder%%/*}
  target=$(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' <<<"$include")
  seen=$((seen + 1))
  if [ -z "${rank[$folder]+x}" ]; then
    echo "$file: the folder $folder isn't in the order of scripts/check-layers.sh"
    bad=1
    continue
  fi
  case $target in
  */*) ;;
  nres.h) continue ;;
  *)
    # A file of the same folder, named without it.
    if [ ! -e "src/$folder/$target" ]; then
      echo "$file:$line: \"$target\" is neither nres.h nor a file of src/$folder"
      bad=1
    fi
    continue
    ;;
  esac
  other=${target%%/*}
  if [ -z "${rank[$other]+x}" ]; then
    echo "$file:$line: \"$target\" names no folder of src/"
    bad=1
  elif [ "${rank[$other]}" -gt "${rank[$folder]}" ]; then
    echo "$file:$line: src/$folder must not include \"$target\": $other stands above it"
    bad=1
  elif [ ! -e "src/$target" ]; then
    echo "$file:$line: \"$target\" doesn't exist"
    bad=1
  fi
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src --include='*.c' --include='*.h' --include='*.inc')
[ "$seen" -gt 0 ] || { echo "no includes found"; exit 1; }
exit $bad
