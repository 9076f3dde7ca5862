#!/bin/sh
# Holds the public header, the shared library, the manual and the tests together: what pmap.h declares is exactly what the
# library exports, it all begins with pmap_, and each symbol has a page in man/ and is used by a test or an example.
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
    [ -f "$source/man/$symbol.3" ] || fail "$symbol: no manual page man/$symbol.3"
    cat "$source"/tests/*.c "$source"/examples/*.c | grep -qw "$symbol" || fail "$symbol: no test or example uses it"
done
[ $failed -eq 0 ] && echo "$(echo "$declared" | wc -l) symbols: declared, exported, documented, used"
exit $failed
