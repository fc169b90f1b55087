#!/bin/bash
# Compiles the library for 64-bit ARM, without linking: nothing may depend on
# x86. The dependencies' own headers don't depend on the processor, so the ones
# of this machine are used, copied into the build folder (/usr/include itself
# would bring this machine's C library along).
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-build/aarch64}/headers"
build=$(realpath "${1:-build/aarch64}")
for package in libjansson-dev zlib1g-dev libzstd-dev libssl-dev libgumbo-dev; do
  dpkg -L "$package" | grep '^/usr/include/.*\.h$' | while read -r header; do
    name=${header#/usr/include/}
    name=${name#*-linux-gnu/}
    mkdir -p "$build/headers/$(dirname "$name")"
    cp -u "$header" "$build/headers/$name"
  done
done
cmake -S . -B "$build/objects" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64.cmake" \
  -DNRES_CROSS_INCLUDES="$build/headers" -DNRES_ONEDNN=OFF -DNRES_PROGRAM=OFF -DNRES_TESTS=OFF -DNRES_WERROR=ON
cmake --build "$build/objects"
