#!/bin/sh
# The manual pages: every public function has one, groff has no complaint, and the programs under EXAMPLES do what
# they say.
# usage: tests/test_man.sh, from the build's top folder, as "make check" does: CC and CFLAGS too are in the environment.  Exits 77 where a tool
# that it needs is missing.
#
# An example is what lies between   .\" example NAME: what it prints   and the next .EE of a page; a function for
# `parmap call` between   .\" plugin NAME: standard input, as for printf : what it prints   and .EE.
. "$(dirname "$0")/harness.sh"
CC=${CC:-cc}
CFLAGS=${CFLAGS--O2}
man=$srcdir/man
header=$srcdir/pmap/pmap.h

# ${CC%% *}: CC may have options, such as "gcc -m64".
for tool in "${CC%% *}" timeout "$builddir/libtool"; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: $tool was not found"; exit 77; }
done

# What the NAME section of a page names, one a line.
named() { sed -n '/^\.SH NAME/,/^\.SH SYNOPSIS/s/^\(pmap.*\) \\-.*/\1/p' "$1" | tr -d ' ' | tr ',' '\n'; }

# ---- Every function of the header has a page, in it or in one that it links to ----
sed -n 's/^PMAP_API .*\(pmap_[a-z_]*\)(.*/\1/p' "$header" >"$dir/functions"
[ "$(wc -l <"$dir/functions")" -ge 20 ] || complain "found only $(wc -l <"$dir/functions") functions in $header"
while read -r name; do
    page=$man/$name.3
    [ -f "$page" ] || { complain "$name has neither a page nor a link"; continue; }
    link=$(sed -n '1s/^\.so man3\///p' "$page")
    [ -z "$link" ] || page=$man/$link
    [ -f "$page" ] || { complain "$name.3 links to $link, which is not there"; continue; }
    named "$page" | grep -qx "$name" || complain "$page does not name $name in its NAME section"
    sed -n '/^\.SH SYNOPSIS/,/^\.SH DESCRIPTION/p' "$page" | grep -q "[ *]$name(" ||
        complain "the synopsis of $page lacks $name"
done <"$dir/functions"

# ---- Every page is about something that is there, is whole, and will be installed ----
version=$(sed -n 's/^#define PMAP_VERSION "\(.*\)"$/\1/p' "$header")
for page in "$man"/*.[37]; do
    file=${page##*/}
    name=${file%.*}
    grep -q "man/$file" "$srcdir/Makefile.am" || complain "$file is not in Makefile.am"
    case $name in
    pmap | parmap | pmap_task | parmap_call) ;;
    *) grep -qx "$name" "$dir/functions" || complain "$file is about nothing in $header" ;;
    esac
    head -n 1 "$page" | grep -q '^\.so ' && continue
    head -n 1 "$page" | grep -q "\"pmap $version\"" || complain "$file is not of version $version"
    case $file in *.3)
        for section in NAME SYNOPSIS DESCRIPTION 'RETURN VALUE' ERRORS THREADS EXAMPLES 'SEE ALSO'; do
            grep -qx "\.SH $section" "$page" || complain "$file has no section $section"
        done
        named "$page" | while read -r other; do [ -f "$man/$other.3" ] || echo "$other"; done >"$dir/absent"
        [ ! -s "$dir/absent" ] || complain "$file names what has no page: $(tr '\n' ' ' <"$dir/absent")"
        ;;
    esac
    # A macro that is not at the beginning of its line is printed; groff does not mind.
    grep -nE '[^ ]\.(PP|P|TP|SS|SH|RS|RE|EX|EE)$' "$page" >"$dir/late" && complain "$file prints a macro: $(cat "$dir/late")"
    if command -v groff >/dev/null; then
        groff -man -Tutf8 -ww -z "$page" >"$dir/groff" 2>&1
        [ ! -s "$dir/groff" ] || complain "groff says of $file: $(cat "$dir/groff")"
    fi
done

# ---- The examples ----
# The program as a reader sees it: \- is -, \(aq is ', \e is \ and so on.
extract() { # extract PAGE example|plugin NAME
    awk -v start=".\\\\\" $2 $3: " '
        index($0, start) == 1 { on = 1; next }
        on && $0 == ".EE" { exit }
        on && $0 != ".EX"' "$1" |
        sed -e 's/^\\&//' -e 's/\\-/-/g' -e "s/\\\\(aq/'/g" -e 's/\\(ha/^/g' -e 's/\\(ti/~/g' -e 's/\\(ga/`/g' \
            -e 's/\\e/\\/g'
}

judge() # judge STATUS WHAT PRINTED EXPECTED
{
    if [ "$1" -eq 0 ] && [ "$3" = "$4" ]; then
        echo "ok: $2"
    else
        complain "$2: status $1, printed '$3', expected '$4'"
        show log
    fi
}

seen=0
for page in "$man"/*.[37]; do
    sed -n 's/^\.\\" example \([a-z]*\): \(.*\)/\1 \2/p' "$page" >"$dir/list"
    sed -n 's/^\.\\" plugin \([a-z]*\): \(.*\) : \(.*\)/\1;\2;\3/p' "$page" >"$dir/plugins"
    grep -qx '\.SH EXAMPLES' "$page" && [ ! -s "$dir/list" ] && [ ! -s "$dir/plugins" ] && complain "${page##*/} has no example that can be run"
    while read -r name expected; do
        seen=$((seen + 1))
        extract "$page" example "$name" >"$dir/$name.c"
        # Through libtool, so that it links the library of the build, with what that needs, shared or not.
        # CC and CFLAGS are lists of words.
        # shellcheck disable=SC2086
        if ! { timeout -k 5 60 $CC $CFLAGS -I"$srcdir" -c -o "$dir/$name.o" "$dir/$name.c" &&
            timeout -k 5 60 "$builddir/libtool" --silent --tag=CC --mode=link $CC $CFLAGS -no-install \
                -o "$dir/$name" "$dir/$name.o" "$builddir/libpmap.la"; } >"$dir/log" 2>&1; then
            complain "example $name of ${page##*/} does not compile: $(cat "$dir/log")"
            continue
        fi
        got=$(timeout -k 5 60 "$dir/$name" 2>"$dir/log" </dev/null)
        judge $? "example $name of ${page##*/}" "$got" "$expected"
    done <"$dir/list"
    while IFS=';' read -r name input expected; do
        seen=$((seen + 1))
        extract "$page" plugin "$name" >"$dir/$name.c"
        # shellcheck disable=SC2086
        if ! timeout -k 5 60 $CC $CFLAGS -I"$srcdir" -shared -fPIC -o "$dir/$name.so" "$dir/$name.c" >"$dir/log" 2>&1; then
            complain "plugin $name of ${page##*/} does not compile: $(cat "$dir/log")"
            continue
        fi
        got=$(printf '%b' "$input" | timeout -k 5 60 "$PARMAP" call "$dir/$name.so:$name" 2>"$dir/log")
        judge $? "plugin $name of ${page##*/}" "$(echo $got)" "$expected"
    done <"$dir/plugins"
done
[ $seen -gt 0 ] || complain "no example was found"
finish
