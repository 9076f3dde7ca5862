#!/bin/sh
# Every function that pmap.h declares has a page in man/ and is used by a test or an example.  That the library exports the same ones is for
# .ci/check_symbols.sh to say, which knows how it was built.
srcdir=${srcdir:-.}
failed=0
fail() { echo "FAILED: $*"; failed=1; }

declared=$(sed -n 's/^PMAP_API .*[ *]\(pmap_[a-z_]*\)(.*/\1/p' "$srcdir/pmap/pmap.h" | sort -u)
[ -n "$declared" ] || fail "$srcdir/pmap/pmap.h declares nothing"
for symbol in $declared; do
    [ -f "$srcdir/man/$symbol.3" ] || fail "$symbol: no manual page man/$symbol.3"
    cat "$srcdir"/tests/*.c "$srcdir"/examples/*.c | grep -qw "$symbol" || fail "$symbol: no test or example uses it"
done
[ $failed -ne 0 ] || echo "$(echo "$declared" | wc -l) symbols: declared, documented, used"
exit $failed
