#!/bin/sh
# From a fresh clone to a result in one command; every step says what it does and may be repeated.
#   ./autogen.sh         prepares ./configure, and nothing else
#   ./autogen.sh bench   installs what is missing, configures, builds, runs "parmap bench sum actions"
#   ./autogen.sh check   the same set-up, then all tests
# CONFIGURE_FLAGS in the environment is handed to ./configure when it runs for the first time.
set -u

say() { printf '==> %s\n' "$*"; }
die() { printf 'autogen.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

compiles() { # compiles COMPILER LANGUAGE: is there a compiler with the C library's headers?
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | "$1" -x "$2" - -o /dev/null >/dev/null 2>&1
}

# Asks for what is used, not for packages, so that it is also right where the packages have other names.
missing_packages() {
    missing=
    need() { case " $missing " in *" $1 "*) ;; *) missing="${missing:+$missing }$1" ;; esac; }
    have autoconf || need autoconf
    have automake || need automake
    have libtoolize || need libtool
    have pkg-config || need pkg-config
    [ "$1" = prepare ] && return 0
    have make || need build-essential
    compiles "${CC:-cc}" c || need build-essential
    pkg-config --exists libzmq 2>/dev/null || need libzmq3-dev
    [ "$1" = check ] || return 0
    compiles "${CXX:-c++}" c++ || need build-essential
    pkg-config --exists cmocka 2>/dev/null || need libcmocka-dev
    pkg-config --exists libcurl 2>/dev/null || need libcurl4-openssl-dev
}

installed=no
install_packages() {
    missing_packages "$1"
    [ -n "$missing" ] || { say "all packages are there"; return 0; }
    line="apt-get install -y --no-install-recommends $missing"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        as_root="sudo -n"
        have sudo && sudo -n true 2>/dev/null || as_root=no
    fi
    if [ "$1" = prepare ] || [ "$as_root" = no ] || ! have apt-get; then
        printf 'Missing: %s\nInstall it, then run this again.  On Debian:\n    sudo %s\n' "$missing" "$line" >&2
        exit 1
    fi
    say "installing $missing"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null ||
        say "apt-get update failed: trying with the package lists that are here"
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive $line </dev/null || die "could not install: $missing"
    missing_packages "$1"
    [ -z "$missing" ] || die "still missing after the installation: $missing"
    installed=yes
}

prepare() {
    say "preparing configure (autoreconf)"
    mkdir -p m4 && autoreconf --force --install || die "autoreconf failed: see the messages above"
}

configure_tree() {
    if [ ! -f configure ] || [ ! -f Makefile.in ] || [ -n "$(find configure.ac -newer configure)" ]; then prepare; fi
    if [ -f Makefile ] && [ -f config.status ]; then
        # A tree that was configured before cmocka or libzmq were there would go on without them.
        if [ $installed = yes ] || { [ "$1" = check ] && ! grep -q '^have_cmocka = yes' Makefile; }; then
            say "configuring again, with what is there now"
            ./config.status --recheck && ./config.status || die "configure failed: see config.log"
        else
            say "already configured (remove Makefile to start afresh)"
        fi
        return 0
    fi
    say "configuring"
    # shellcheck disable=SC2086
    ./configure ${CONFIGURE_FLAGS:-} || die "configure failed: see config.log"
}

build() {
    jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    say "building with $jobs jobs"
    make -j "$jobs" "$@" || die "the build failed: see the messages above"
}

cd "$(dirname "$0")" || die "cannot enter $(dirname "$0")"
[ $# -le 1 ] || die "one word at most: bench or check"
case ${1:-} in
'')
    install_packages prepare
    prepare
    say "done.  Next: ./configure && make && make check"
    ;;
bench)
    install_packages bench
    configure_tree bench
    build
    say "./parmap bench sum actions"
    ./parmap bench sum actions || die "parmap bench failed"
    ;;
check)
    install_packages check
    configure_tree check
    build
    say "building the tests"
    build build-tests
    say "make check"
    make -j "$jobs" check || die "tests failed: see tests/*.log"
    ;;
-h | --help) sed -n '2,6s/^# *//p' "$0" ;;
*) die "unknown word '$1': expected nothing, bench or check" ;;
esac
