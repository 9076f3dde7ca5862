#!/bin/bash
# man/parmap.7 and the EXAMPLES of man/parmap.1, line by line: where it shows a command for xargs or GNU parallel with parmap's under it, both are run and print what the page's
# comment says.  A peer that is not installed is not run: parmap's line still is.
. "$(dirname "$0")/harness.sh"
page=$srcdir/man/parmap.7
seen=0 seen_there=0 no_csv=
export PARALLEL=--will-cite PARALLEL_HOME=$dir/home
mkdir home && : >home/will-cite

# Each side has a folder of its own, which it keeps from line to line.
for side in peer ours shown; do
    mkdir "$dir/$side" && cd "$dir/$side" || exit 1
    printf 'red\ngreen\nblue\n' >list
    printf 'name,age\nbob,3\neve,4\n' >people
    seq 10000 >numbers
    seq 2 >one.txt
    seq 3 >two.txt
done

# Other programs have these names too.
have_xargs= have_parallel=
command -v xargs >/dev/null && have_xargs=yes
case $(parallel --version 2>/dev/null) in GNU\ parallel*) have_parallel=yes ;; esac
[ -n "$have_parallel" ] || echo "test_pairs: no GNU parallel: its lines are SKIPPED"

perl -MText::CSV -e 1 2>/dev/null || no_csv=yes # what it needs for --csv

# compare SIDE COMMAND: `order` and `expected` are the comment's
compare()
{
    cd "$dir/$1" || exit 1
    eval "$2" </dev/null >../out 2>../err
    cd "$dir" || exit 1
    printf "$expected" >expected
    if [ "$order" = sorted ]; then
        sort -o out out
        sort -o expected expected
    fi
    cmp -s out expected && return
    complain "$2"
    diff expected out | head -n 6 | sed 's/^/    /'
    head -n 3 err | sed 's/^/    /'
}

# The page as a reader sees it: \- is -, \e is \.
# read_page KIND LINES PAGE: what is behind each comment of that kind, and the lines that follow.
read_page()
{
    awk -v kind="$1" -v lines="$2" 'sub("^\\.\\\\\" " kind " ", "") { print; left = lines; next }
        left-- > 0 { gsub(/\\-/, "-"); gsub(/\\e/, "\\"); sub(/^\\&/, ""); print }' "$3"
}
read_page pair 2 "$page" >"$dir/pairs"
while IFS= read -r head && IFS= read -r theirs && IFS= read -r ours; do
    seen=$((seen + 1))
    order=${head%%:*} expected=${head#*:}
    expected=${expected# }
    case "$theirs/$ours" in
    *xargs*/*parmap*) [ -z "$have_xargs" ] || compare peer "$theirs" ;;
    *parallel*--csv*/*parmap*) [ -z "$have_parallel" ] || [ -n "$no_csv" ] || compare peer "$theirs" ;;
    *parallel*/*parmap*) [ -z "$have_parallel" ] || compare peer "$theirs" ;;
    *) complain "no pair: $theirs" "$ours" ;;
    esac
    compare ours "$ours"
done <"$dir/pairs"
# What parmap.1 shows has no peer.
read_page shown 1 "$srcdir/man/parmap.1" >"$dir/lines"
while IFS= read -r head && IFS= read -r line; do
    seen_there=$((seen_there + 1))
    order=${head%%:*} expected=${head#*:}
    expected=${expected# }
    compare shown "$line"
done <"$dir/lines"
[ $seen_there -ge 8 ] && [ $seen_there -eq "$(grep -c '^\.\\" shown ' "$srcdir/man/parmap.1")" ] || complain "found $seen_there lines in parmap.1"
[ $seen -ge 40 ] && [ $seen -eq "$(grep -c '^\.\\" pair ' "$page")" ] || complain "found $seen pairs"
finish
