#!/bin/sh
# Installs the Debian 12 packages that nres needs and that are missing.
#   scripts/install-dependencies.sh [--tests] [--quickstart] [--bench]
# --tests: also what ./check needs. --quickstart: also what ./quickstart needs.
# --bench: also what the peers of bench/compare.py need.
# Says nothing and does nothing where nothing is missing; asks nothing.
set -eu

packages="gcc libc6-dev make cmake ninja-build pkg-config
  libdnnl-dev libjansson-dev zlib1g-dev libzstd-dev libssl-dev libgumbo-dev
  libarchive-dev g++ libfasttext-dev" # the last line: nres builds without them, and says so
for argument in "$@"; do
  case $argument in
  --tests) packages="$packages libcmocka-dev clang libclang-rt-14-dev valgrind crossbuild-essential-arm64
    libopenmpi-dev openmpi-bin" ;;
  --quickstart) packages="$packages python3-pip ca-certificates" ;;
  --bench) packages="$packages g++ python3-venv python3-dev ca-certificates" ;;
  *)
    echo "usage: $0 [--tests] [--quickstart] [--bench]" >&2
    exit 2
    ;;
  esac
done

if ! command -v dpkg-query >/dev/null 2>&1; then
  # shellcheck disable=SC2086 # a list of words
  echo "This system has no Debian packages; what Debian calls these is needed:" $packages >&2
  exit 1
fi

missing=
for package in $packages; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

by_hand="apt-get update && apt-get install --no-install-recommends$missing"
as_root=
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    printf 'Missing packages, and neither root nor sudo to install them. As root:\n  %s\n' "$by_hand" >&2
    exit 1
  fi
  as_root=sudo
fi
echo "Installing Debian packages:$missing" >&2
# shellcheck disable=SC2086 # a list of words
if ! { $as_root apt-get -qq update &&
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing; } >&2; then
  printf 'The packages could not be installed. As root:\n  %s\n' "$by_hand" >&2
  exit 1
fi
