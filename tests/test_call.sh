#!/bin/sh
# `parmap call` as a user meets it: records of all kinds from files and pipes, deaths, hooks, errors, and what is left.
# PARMAP names the program, srcdir the sources; CC and CFLAGS, as "make check" sets them, compile tests/call.c and
# examples/lines.c.  Every command is bounded.  Exits 77 where there is no compiler.
PARMAP=${PARMAP:-./parmap}
srcdir=${srcdir:-.}
CC=${CC:-cc}
CFLAGS=${CFLAGS--O2}
dir=$(mktemp -d) || exit 1
failed=0
LC_ALL=C
PARMAP_TEST_MARK=mark-$$-$(basename "$dir")
GATE=$dir/gate
export LC_ALL PARMAP_TEST_MARK GATE
trap 'rm -rf "$dir"' EXIT
complain() { echo "test_call: $*"; failed=1; }
show() { sed 's/^/    /' "$dir/$1" | head -20; }

command -v "${CC%% *}" >/dev/null || { echo "SKIPPED: ${CC%% *} was not found"; exit 77; }
# CC and CFLAGS are lists of words.
# shellcheck disable=SC2086
for source in tests/call examples/lines; do
    $CC $CFLAGS -I"$srcdir" -Wall -Wextra -shared -fPIC -o "$dir/${source#*/}.so" "$srcdir/$source.c" || exit 1
done

# call EXPECTED-STATUS FUNCTION WORD...: standard input is $in; out and err are then in $dir
in=/dev/null
call()
{
    expected=$1 function=$2
    shift 2
    timeout -k 5 60 "$PARMAP" call "$dir/call.so:$function" "$@" >"$dir/out" 2>"$dir/err" <"$in"
    status=$?
    [ $status -eq "$expected" ] || { complain "call $function $*: status $status, expected $expected"; show err; }
}
piped() { # the same, from a pipe
    expected=$1 function=$2
    shift 2
    cat "$in" | timeout -k 5 60 "$PARMAP" call "$dir/call.so:$function" "$@" >"$dir/out" 2>"$dir/err"
    status=$?
    [ $status -eq "$expected" ] || { complain "| call $function $*: status $status, expected $expected"; show err; }
}
says() { grep -qFe "$2" "$dir/$1" || { complain "$3: expected '$2' in $1"; show "$1"; }; }
silent() { [ ! -s "$dir/err" ] || { complain "$1: expected no message"; show err; }; }
same() { cmp "$dir/$1" "$dir/out" || complain "$2: the output differs"; }
left() { # processes of parmap that carry the mark
    count=0
    for process in /proc/[0-9]*; do
        grep -qs "PARMAP_TEST_MARK=$PARMAP_TEST_MARK" "$process/environ" || continue
        case $(readlink "$process/exe" 2>/dev/null) in *parmap*) count=$((count + 1)) ;; esac
    done
    echo $count
}
gone() {
    turns=100
    while [ "$(left)" -gt 0 ] && [ $turns -gt 0 ]; do
        turns=$((turns - 1))
        sleep 0.1
    done
    [ "$(left)" -eq 0 ] || complain "$1: processes are left"
}

# ---- lines, from a file, a mapped standard input, a pipe; whatever the blocks are, none is lost, doubled or moved
awk 'BEGIN { srand(1); for (i = 1; i <= 40000; i++) printf "%d %*s\n", i, int(rand() * rand() * 200), "x" }' >"$dir/lines"
call 0 copy "$dir/lines"; same lines file; silent file
in=$dir/lines
call 0 copy; same lines 'standard input'
piped 0 copy; same lines pipe
piped 0 copy -j 7; same lines 'seven workers'
call 0 copy --output "$dir/file"; cmp "$dir/lines" "$dir/file" || complain 'the file of --output differs'
in=/dev/null
call 0 copy - "$dir/lines" "$dir/lines"; cat "$dir/lines" "$dir/lines" >"$dir/twice"; same twice 'two files'
printf 'a\n\nb' >"$dir/short"
printf 'a\n\nb\na\n\nb\n' >"$dir/shorts"
call 0 copy "$dir/short" "$dir/short"; same shorts 'a last line without a newline'
: >"$dir/nothing"
call 0 copy "$dir/nothing"; same nothing 'an empty file'
call 0 copy; same nothing 'an empty standard input'
call 0 copy /proc/self/status; says out 'Name:' 'a file without a size'
head -c 1000000 /dev/zero | tr '\0' '\n' >"$dir/empty"
call 0 copy "$dir/empty"; same empty 'a million empty lines'
awk -v file="$dir/lines" '{ printf "%s %d %s\n", file, at, $0; at += length($0) + 1 }' "$dir/lines" >"$dir/where"
call 0 where "$dir/lines"; same where 'files and offsets'
awk '{ printf "- %d %s\n", at, $0; at += length($0) + 1 }' "$dir/lines" >"$dir/where"
in=$dir/lines piped 0 where; same where 'offsets in a pipe'
{ read -r first; cat; } <"$dir/lines" >"$dir/rest"
{ read -r first; timeout 60 "$PARMAP" call "$dir/call.so:copy"; } <"$dir/lines" >"$dir/out"
same rest 'a standard input that was begun'
head -c 30000000 /dev/zero >"$dir/long"; echo >>"$dir/long"
call 0 copy "$dir/long"; same long 'a line of 30 MB'
in=$dir/long piped 0 copy; same long 'a line of 30 MB from a pipe'
in=/dev/null

# ---- other records: NULs, delimiters, fixed sizes
tr '\n' '\0' <"$dir/lines" >"$dir/nuls"
call 0 copy -0 "$dir/nuls"; same lines 'records that end with a NUL'
tr '\n' ';' <"$dir/lines" >"$dir/semicolons"
in=$dir/semicolons piped 0 copy -d ';'; same lines 'records that end with a semicolon'
head -c 100003 "$dir/nuls" >"$dir/bytes"
for size in 1 7 4096 99999 100003 1000000; do
    awk -v n="$(($(wc -c <"$dir/bytes")))" -v size=$size 'BEGIN { for (at = 0; at < n; at += size) print at }' >"$dir/starts"
    call 0 where --records $size "$dir/bytes"
    tr '\0\n' '  ' <"$dir/out" >/dev/null
    call 0 copy --records $size "$dir/bytes"
    # The newlines that copy adds are behind each record.
    in=$dir/bytes piped 0 where --records $size; grep -ac '^- [0-9]* ' "$dir/out" >"$dir/number"
    [ "$(cat "$dir/number")" -ge "$(wc -l <"$dir/starts")" ] || complain "--records $size: not every record came"
    call 0 copy --records $size "$dir/bytes"
    [ "$(wc -c <"$dir/out")" -eq $((100003 + $(wc -l <"$dir/starts"))) ] || complain "--records $size: not as many records"
done
printf 'abcdefgh' >"$dir/abc"; printf 'abc\ndef\ngh\n' >"$dir/want"
call 0 copy --records 3 "$dir/abc"; same want 'a last record that is short'
in=$dir/abc piped 0 copy --records 3; same want 'a last record that is short, from a pipe'
in=/dev/null

# ---- CSV
printf 'id,name\r\n1,"a, ""b"""\r\n2,5" disk\r\n\r\n"3","two\nlines"x\r\n4,"last' >"$dir/csv"
printf '%s\n' 'a, "b":[1][a, "b"]' '5" disk:[2][5" disk]' ':' 'two
linesx:[3][two~linesx]' >"$dir/want"
for how in call piped; do
    in=$dir/csv
    [ $how = call ] && call 123 fields --csv --header : "$dir/csv" || piped 123 fields --csv --header :
    same want "CSV, $how"
    says err 'record 6 (byte 54): has a quote that nothing closes' CSV
done
in=/dev/null
if python3 -c '' 2>/dev/null; then
    python3 - "$dir/random.csv" "$dir/want" <<'PYTHON'
import csv, random, sys
r = random.Random(1)
with open(sys.argv[1], "w", newline="") as f:
    for _ in range(40):
        w = csv.writer(f, lineterminator=r.choice(["\n", "\r\n"]), quoting=r.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        for _ in range(r.choice([1, 300])):
            w.writerow(["".join(r.choice('ab,"\n ') for _ in range(r.randint(0, r.choice([2, 60])))) for _ in range(r.randint(1, 5))])
with open(sys.argv[2], "w") as f:
    for row in csv.reader(open(sys.argv[1], newline="")):
        print("".join("[" + x.replace("\n", "~").replace("\r", "^") + "]" for x in row), file=f)
PYTHON
    call 0 fields --csv "$dir/random.csv"; same want 'random CSV'
    in=$dir/random.csv piped 0 fields --csv; same want 'random CSV from a pipe'
    in=/dev/null
fi
printf 'who\nb c\n' >"$dir/header"; printf 'b c\n' >"$dir/want"
call 0 copy --header : "$dir/header"; same want 'a header of lines'

# ---- deaths: each costs its record
awk '{ print } NR % 4000 == 7 { print "abort " NR; print "fail " NR; print "kill " NR; print "exit " NR }' "$dir/lines" >"$dir/deadly"
grep -v '^[aefk]' "$dir/deadly" >"$dir/want"
for how in call piped; do
    in=$dir/deadly
    [ $how = call ] && call 125 copy "$dir/deadly" || piped 125 copy
    same want "deaths, $how"
    grep -n '^[aefk]' "$dir/deadly" | sed 's/^\([0-9]*\):\([a-z]*\).*/\1 \2/' >"$dir/guilty"
    sed 's/^parmap: .*: line \([0-9]*\) (byte [0-9]*): \(.*\)/\1 \2/
         s/its worker was ended by SIGABRT .*/abort/; s/its worker was ended by SIGKILL .*/kill/
         s/its worker exited with status 3/exit/; s/failed with 7: as it was told: fail [0-9]*/fail/' "$dir/err" >"$dir/named"
    cmp "$dir/guilty" "$dir/named" || { complain "deaths, $how: others are named"; show err; }
done
in=/dev/null
awk 'BEGIN { for (i = 0; i < 100; i++) print "abort" }' >"$dir/deadly"
call 125 copy "$dir/deadly"; same nothing 'nothing but deaths'
[ "$(wc -l <"$dir/err")" -eq 100 ] || { complain 'not every death is told'; show err; }
printf 'a\nfail\nb\n' >"$dir/deadly"; printf 'a\nb\n' >"$dir/want"
call 123 copy "$dir/deadly"; same want 'a code'; says err ': line 2 (byte 2): failed with 7: as it was told: fail' 'a code'
awk 'BEGIN { for (i = 0; i < 1000; i++) print "fail" }' >"$dir/deadly"
call 123 copy "$dir/deadly"; same nothing 'nothing but codes'
[ "$(grep -c 'failed with 7' "$dir/err")" -eq 1000 ] || complain 'not every failure is told'
printf 'a\ntwice\nonce\nb\n' >"$dir/deadly"
call 0 copy --retries 2 "$dir/deadly"; same deadly 'a second attempt'; silent 'a second attempt'
call 125 copy "$dir/deadly"; same want 'no second attempt'
printf 'a\nabort\nfail\nb\n' >"$dir/deadly"
call 125 copy --retries 3 "$dir/deadly"; same want 'three attempts'
says err '(Aborted), 3 times' 'three attempts'; says err 'fail, 3 times' 'three attempts'
printf 'a\nhang\nb\n' >"$dir/deadly"
call 125 copy --timeout 0.2 "$dir/deadly"; same want 'a hang'; says err 'line 2 (byte 2): took longer than 0.2 s' 'a hang'

# ---- much output: a block's is bounded, a record's is not
head -c 60000 "$dir/lines" >"$dir/some"
awk '{ for (i = 1; i <= length($0); i++) {
           c = substr($0, i, 1)
           if (!(c in many)) { many[c] = c; while (length(many[c]) < 1000) many[c] = many[c] many[c] }
           printf "%.1000s", many[c] } }' "$dir/some" >"$dir/want"
call 0 much "$dir/some"; same want 'a thousand times the input'
in=$dir/some piped 0 much --records 50000; [ "$(wc -c <"$dir/out")" -eq 60000000 ] || complain '50 MB of one record'
in=/dev/null

# ---- hooks: sums by blocks are the same with any number of workers, and lose nothing when a record dies
seq 1 500000 >"$dir/numbers"
call 0 count -j 1 "$dir/numbers"; cp "$dir/out" "$dir/want"
[ "$(wc -l <"$dir/want")" -eq 4 ] || complain 'blocks should be of one MiB'
call 0 count -j 3 "$dir/numbers"; same want 'three workers'
in=$dir/numbers piped 0 count; same want 'sums from a pipe'
in=/dev/null
sed 's/000$/&\nabort/' "$dir/numbers" | head -n 20000 >"$dir/deadly"
call 125 count "$dir/deadly"
awk '{ n += $1; s += $2 } END { print n, s }' "$dir/out" >"$dir/sum"
grep -v abort "$dir/deadly" | awk '{ n++; s += $1 } END { print n, s }' >"$dir/want"
cmp "$dir/want" "$dir/sum" || complain 'sums next to deaths are wrong'
grep -n abort "$dir/deadly" | sed 's/:.*//' >"$dir/guilty"
sed 's/.*: line \([0-9]*\) .*/\1/' "$dir/err" | cmp - "$dir/guilty" || { complain 'sums: others are named'; show err; }
call 125 ending "$dir/short"; says err 'the block at byte 0: its worker was ended by SIGABRT' 'a hook that dies'
printf 'a\n\nb\n' >"$dir/want"; same want 'a hook that dies'
call 1 unready "$dir/short"; says err 'init' 'a hook that fails'
call 0 chance --seed 5 -j 1 "$dir/lines"; cp "$dir/out" "$dir/want"
call 0 chance --seed 5 -j 3 "$dir/lines"; same want 'the same seed'
[ "$(sort -u "$dir/out" | wc -l)" -eq 40000 ] || complain 'random numbers repeat'
call 0 chance --seed 6 "$dir/lines"; cmp -s "$dir/want" "$dir/out" && complain 'another seed should give other numbers'

# ---- the example
printf 'a b\n\nc\n' >"$dir/words"; printf '2\n1\n' >"$dir/want"
timeout 60 "$PARMAP" call "$dir/lines.so:words" "$dir/words" >"$dir/out" 2>"$dir/err"
[ $? -eq 123 ] || complain 'an empty line should fail'
same want words; says err 'failed with 1: an empty line' words
awk 'BEGIN { print "name,price"; for (i = 1; i <= 200000; i++) print "\"a, " i "\"," i / 4 }' >"$dir/orders.csv"
sum() { COLUMN=$1 timeout 60 "$PARMAP" call "$dir/lines.so:sum" --csv --header : "$dir/orders.csv" 2>"$dir/err" |
    awk '{ all += $1 } END { printf "%.2f\n", all }'; }
[ "$(sum price)" = 5000025000.00 ] || { complain 'the sum of a column is wrong'; show err; }
head -n 1000 "$dir/orders.csv" >"$dir/few"; mv "$dir/few" "$dir/orders.csv"
sum cost >"$dir/out"; says err 'no column cost' 'a wrong name'

# ---- errors
call 1 copy "$dir/none" "$dir/short" "$dir/never"; same nothing 'missing files'
says err "$dir/none: No such file" 'missing files'; says err "$dir/never: No such file" 'missing files'
call 1 copy "$dir"; says err 'is a directory' 'a directory'
in=$dir call 1 copy; says err 'standard input: is a directory' 'a directory as standard input'
in=/dev/null
if [ "$(id -u)" -ne 0 ]; then
    : >"$dir/secret"; chmod 0 "$dir/secret"; call 1 copy "$dir/secret"; says err 'Permission denied' 'an unreadable file'
fi
call 1 copy --output "$dir/none/file" "$dir/short"; says err 'none/file: cannot be written' 'a folder that is missing'
cp "$dir/short" "$dir/both"; call 1 copy --output "$dir/both" "$dir/both"; says err 'is an input too' 'output into an input'
cmp "$dir/short" "$dir/both" || complain 'an input was changed'
call 126 none "$dir/short"; says err 'call.so has no function none' 'a function that is missing'
timeout 60 "$PARMAP" call "$dir/short:copy" 2>"$dir/err"; [ $? -eq 126 ] || complain 'no library: expected status 126'
says err 'cannot be loaded' 'a file that is no library'
timeout 60 "$PARMAP" call "$dir/none.so:copy" 2>"$dir/err"; [ $? -eq 127 ] || complain 'missing library: expected status 127'
says err 'none.so' 'a library that is missing'
case $PARMAP in /*) parmap=$PARMAP ;; *) parmap=$PWD/$PARMAP ;; esac
(cd "$dir" && timeout 60 "$parmap" call call.so:copy short >out 2>err)
printf 'a\n\nb\n' >"$dir/want"; same want 'a library in the current folder'
call 2 copy --timeout 200% "$dir/short"; says err 'must be a time' 'a median'
if [ -w /dev/full ]; then
    timeout 60 "$PARMAP" call "$dir/call.so:copy" "$dir/lines" >/dev/full 2>"$dir/err"
    [ $? -eq 1 ] || complain 'a full disk: expected status 1'
    says err 'standard output: cannot be written: No space left' 'a full disk'
fi
timeout 60 "$PARMAP" call "$dir/call.so:copy" "$dir/lines" >&- 2>"$dir/err"
[ $? -eq 1 ] || complain 'closed standard output: expected status 1'
{ timeout 60 "$PARMAP" call "$dir/call.so:copy" "$dir/lines" "$dir/lines" 2>"$dir/err"; echo $? >"$dir/status"; } | head -n 1 >"$dir/out"
[ "$(cat "$dir/status")" -eq 1 ] || complain 'a reader that has gone: expected status 1'
says err 'Broken pipe' 'a reader that has gone'
timeout 60 "$PARMAP" call "$dir/call.so:copy" <&- 2>"$dir/err"; [ $? -eq 1 ] || complain 'closed standard input: expected status 1'
call 0 nothing --stats "$dir/lines"; says err '40000 records' '--stats'
call 0 nothing --progress "$dir/lines"; says err '40000 records (100 %)' '--progress'

# ---- what happens while it runs.  A record "gate" ends when this shell has opened and closed $GATE.
mkfifo "$GATE"
start() { timeout -k 5 60 "$PARMAP" call "$dir/call.so:copy" "$@" >"$dir/out" 2>"$dir/err" & started=$!; }
# The pid of parmap, the only child of timeout.  Processes that end while this looks make awk give up: then again.
child()
{
    turns=100
    pid=
    while [ -z "$pid" ] && [ $turns -gt 0 ]; do
        turns=$((turns - 1))
        pid=$(awk -v parent="$started" '{ sub(/^.*\) . /, "") } $1 == parent { split(FILENAME, part, "/"); print part[3] }' \
            /proc/[0-9]*/stat 2>/dev/null)
    done
    echo "$pid"
}
{ echo gate; cat "$dir/lines" "$dir/lines" "$dir/lines"; } >"$dir/shrinks"
start -j 1 "$dir/shrinks"
exec 4>"$GATE" # waits for the worker; the file is mapped
head -c 10000 "$dir/shrinks" >"$dir/want"
: >"$dir/shrinks"
exec 4>&-
wait $started
[ $? -eq 1 ] || complain 'a file that shrinks: expected status 1'
says err 'cannot be read, nor what is behind it' 'a file that shrinks'; says err 'has shrunk from' 'a file that shrinks'

{ echo gate; cat "$dir/lines"; } >"$dir/gated"
start -j 1 "$dir/gated"
exec 4>"$GATE"
kill -INT "$(child)"
exec 4>&-
wait $started
[ $? -eq 130 ] || { complain 'SIGINT: expected status 130'; show err; }
[ "$(head -n 1 "$dir/out")" = gate ] || complain 'SIGINT: what ran should come to its end'
head -c "$(wc -c <"$dir/out")" "$dir/gated" | cmp - "$dir/out" || complain 'SIGINT: the output is no beginning of the whole'
[ "$(wc -c <"$dir/out")" -lt "$(wc -c <"$dir/gated")" ] || complain 'SIGINT: something new was begun'
# Who starts it may want a signal ignored.
timeout -k 5 60 sh -c 'trap "" INT; exec "$@"' sh "$PARMAP" call "$dir/call.so:copy" -j 1 "$dir/gated" >"$dir/out" 2>"$dir/err" & started=$!
exec 4>"$GATE"
kill -INT "$(child)"
exec 4>&-
wait $started || { complain 'an ignored SIGINT: expected status 0'; show err; }
same gated 'an ignored SIGINT'

start -j 1 "$dir/gated"
exec 4>"$GATE"
kill -TERM "$(child)"; kill -TERM "$(child)"
wait $started
[ $? -eq 143 ] || { complain 'two SIGTERMs: expected status 143'; show err; }
exec 4>&-
gone 'two SIGTERMs'

start -j 2 "$dir/gated"
exec 4>"$GATE"
kill -KILL "$(child)"
{ wait $started; } 2>/dev/null
exec 4>&-
gone 'a death of parmap'

# A record is answered while its pipe is open.
mkfifo "$dir/in"
timeout -k 5 60 "$PARMAP" call "$dir/call.so:copy" "$dir/in" >"$dir/out" 2>"$dir/err" & started=$!
exec 5>"$dir/in"
printf 'hello\nhalf' >&5
turns=100
while ! grep -q hello "$dir/out" && [ $turns -gt 0 ]; do
    turns=$((turns - 1))
    sleep 0.1
done
[ "$(cat "$dir/out")" = hello ] || complain 'a record should not wait for the end of its pipe'
printf ' of it' >&5
exec 5>&-
wait $started || complain 'a FIFO: expected status 0'
printf 'hello\nhalf of it\n' >"$dir/want"; same want 'a FIFO'
gone 'the end'
exit $failed
