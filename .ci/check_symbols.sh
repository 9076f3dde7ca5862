#!/bin/sh
# Holds the public header and the shared library together: what pmap.h declares is exactly what the library exports, and it all begins
# with pmap_.  tests/test_symbols.sh holds them together with the manual and the tests.
# usage: .ci/check_symbols.sh LIBRARY.so [source folder]
[ -f "${1:-}" ] || { echo "usage: $0 LIBRARY.so [source folder]"; exit 2; }
library=$1
source=${2:-.}
failed=0
fail() { echo "$*"; failed=1; }

exported=$(nm -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
declared=$(sed -n 's/^PMAP_API .*[ *]\(pmap_[a-z_]*\)(.*/\1/p' "$source/pmap/pmap.h" | sort -u)
[ -n "$exported" ] || fail "$library exports nothing"
[ -n "$declared" ] || fail "$source/pmap/pmap.h declares nothing"

for symbol in $exported; do
    case $symbol in pmap_*) ;; *) fail "$symbol: exported, but is not pmap_*" ;; esac
    echo "$declared" | grep -qx "$symbol" || fail "$symbol: exported, but pmap.h does not declare it"
done
for symbol in $declared; do
    echo "$exported" | grep -qx "$symbol" || fail "$symbol: declared in pmap.h, but the library does not export it"
done
[ $failed -eq 0 ] && echo "$(echo "$declared" | wc -l) symbols: declared and exported"
exit $failed
