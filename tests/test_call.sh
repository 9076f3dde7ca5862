#!/bin/sh
# `parmap call` as a user meets it: records of all kinds from files and pipes, deaths, hooks, errors, and what is left.
# CC and CFLAGS, as "make check" sets them, compile tests/call.c and examples/lines.c.
# Every command is bounded.  Exits 77 where there is no compiler.
. "$(dirname "$0")/harness.sh"
CC=${CC:-cc}
CFLAGS=${CFLAGS--O2}
GATE=$dir/gate
export GATE

command -v "${CC%% *}" >/dev/null || { echo "SKIPPED: ${CC%% *} was not found"; exit 77; }
# CC and CFLAGS are lists of words.
# shellcheck disable=SC2086
for source in tests/call examples/lines; do
    $CC $CFLAGS -I"$srcdir" -Wall -Wextra -shared -fPIC -o "$dir/${source#*/}.so" "$srcdir/$source.c" || exit 1
done

# call EXPECTED-STATUS FUNCTION WORD...: standard input is $in
in=/dev/null
call()
{
    wanted=$1 function=$2
    shift 2
    run "$wanted" call "$dir/call.so:$function" "$@" <"$in"
}
piped() { # the same, from a pipe
    wanted=$1 function=$2
    shift 2
    cat "$in" | run "$wanted" call "$dir/call.so:$function" "$@"
}
silent() { [ ! -s err ] || { complain "$1: expected no message"; show err; }; }
gives() { same "$1" out "$2"; } # gives FILE WHAT: the output is the file's

# ---- lines, from a file, a mapped standard input, a pipe; whatever the blocks are, none is lost, doubled or moved
awk 'BEGIN { srand(1); for (i = 1; i <= 40000; i++) printf "%d %*s\n", i, int(rand() * rand() * 200), "x" }' >lines
call 0 copy lines; gives lines file; silent file
in=$dir/lines
call 0 copy; gives lines 'standard input'
piped 0 copy; gives lines pipe
piped 0 copy -j 7; gives lines 'seven workers'
call 0 copy --output file; cmp lines file || complain 'the file of --output differs'
in=/dev/null
call 0 copy - lines lines; cat lines lines >twice; gives twice 'two files'
printf 'a\n\nb' >short
printf 'a\n\nb\na\n\nb\n' >shorts
call 0 copy short short; gives shorts 'a last line without a newline'
: >nothing
call 0 copy nothing; gives nothing 'an empty file'
call 0 copy; gives nothing 'an empty standard input'
call 0 copy /proc/self/status; tells out 'Name:' 'a file without a size'
head -c 1000000 /dev/zero | tr '\0' '\n' >empty
call 0 copy empty; gives empty 'a million empty lines'
awk -v file=lines '{ printf "%s %d %s\n", file, at, $0; at += length($0) + 1 }' lines >where
call 0 where lines; gives where 'files and offsets'
awk '{ printf "- %d %s\n", at, $0; at += length($0) + 1 }' lines >where
in=$dir/lines piped 0 where; gives where 'offsets in a pipe'
{ read -r first; cat; } <lines >rest
{ read -r first; timeout 60 "$PARMAP" call ./call.so:copy; } <lines >out
gives rest 'a standard input that was begun'
head -c 30000000 /dev/zero >long; echo >>long
call 0 copy long; gives long 'a line of 30 MB'
in=$dir/long piped 0 copy; gives long 'a line of 30 MB from a pipe'
in=/dev/null

# ---- other records: NULs, delimiters, fixed sizes
tr '\n' '\0' <lines >nuls
call 0 copy -0 nuls; gives lines 'records that end with a NUL'
tr '\n' ';' <lines >semicolons
in=$dir/semicolons piped 0 copy -d ';'; gives lines 'records that end with a semicolon'
head -c 100003 nuls >bytes
for size in 1 7 4096 99999 100003 1000000; do
    awk -v n="$(($(wc -c <bytes)))" -v size=$size 'BEGIN { for (at = 0; at < n; at += size) print at }' >starts
    call 0 where --records $size bytes
    tr '\0\n' '  ' <out >/dev/null
    call 0 copy --records $size bytes
    # The newlines that copy adds are behind each record.
    in=$dir/bytes piped 0 where --records $size; grep -ac '^- [0-9]* ' out >number
    [ "$(cat number)" -ge "$(wc -l <starts)" ] || complain "--records $size: not every record came"
    call 0 copy --records $size bytes
    [ "$(wc -c <out)" -eq $((100003 + $(wc -l <starts))) ] || complain "--records $size: not as many records"
done
printf 'abcdefgh' >abc; printf 'abc\ndef\ngh\n' >want
call 0 copy --records 3 abc; gives want 'a last record that is short'
in=$dir/abc piped 0 copy --records 3; gives want 'a last record that is short, from a pipe'
in=/dev/null

# ---- CSV
printf 'id,name\r\n1,"a, ""b"""\r\n2,5" disk\r\n\r\n"3","two\nlines"x\r\n4,"last' >csv
printf '%s\n' 'a, "b":[1][a, "b"]' '5" disk:[2][5" disk]' ':' 'two
linesx:[3][two~linesx]' >want
for how in call piped; do
    in=$dir/csv
    [ $how = call ] && call 123 fields --csv --header : csv || piped 123 fields --csv --header :
    gives want "CSV, $how"
    tells err 'record 6 (byte 54): has a quote that nothing closes' CSV
done
in=/dev/null
if python3 -c '' 2>/dev/null; then
    python3 - random.csv want <<'PYTHON'
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
    call 0 fields --csv random.csv; gives want 'random CSV'
    in=$dir/random.csv piped 0 fields --csv; gives want 'random CSV from a pipe'
    in=/dev/null
fi
printf 'who\nb c\n' >header; printf 'b c\n' >want
call 0 copy --header : header; gives want 'a header of lines'

# ---- deaths: each costs its record
awk '{ print } NR % 4000 == 7 { print "abort " NR; print "fail " NR; print "kill " NR; print "exit " NR }' lines >deadly
grep -v '^[aefk]' deadly >want
for how in call piped; do
    in=$dir/deadly
    [ $how = call ] && call 125 copy deadly || piped 125 copy
    gives want "deaths, $how"
    grep -n '^[aefk]' deadly | sed 's/^\([0-9]*\):\([a-z]*\).*/\1 \2/' >guilty
    sed 's/^parmap: .*: line \([0-9]*\) (byte [0-9]*): \(.*\)/\1 \2/
         s/its worker was ended by SIGABRT .*/abort/; s/its worker was ended by SIGKILL .*/kill/
         s/its worker exited with status 3/exit/; s/failed with 7: as it was told: fail [0-9]*/fail/' err >named
    cmp guilty named || { complain "deaths, $how: others are named"; show err; }
done
in=/dev/null
awk 'BEGIN { for (i = 0; i < 100; i++) print "abort" }' >deadly
call 125 copy deadly; gives nothing 'nothing but deaths'
[ "$(wc -l <err)" -eq 100 ] || { complain 'not every death is told'; show err; }
printf 'a\nfail\nb\n' >deadly; printf 'a\nb\n' >want
call 123 copy deadly; gives want 'a code'; tells err ': line 2 (byte 2): failed with 7: as it was told: fail' 'a code'
awk 'BEGIN { for (i = 0; i < 1000; i++) print "fail" }' >deadly
call 123 copy deadly; gives nothing 'nothing but codes'
[ "$(grep -c 'failed with 7' err)" -eq 1000 ] || complain 'not every failure is told'
printf 'a\ntwice\nonce\nb\n' >deadly
call 0 copy --retries 2 deadly; gives deadly 'a second attempt'; silent 'a second attempt'
call 125 copy deadly; gives want 'no second attempt'
printf 'a\nabort\nfail\nb\n' >deadly
call 125 copy --retries 3 deadly; gives want 'three attempts'
tells err '(Aborted), 3 times' 'three attempts'; tells err 'fail, 3 times' 'three attempts'
printf 'a\nhang\nb\n' >deadly
call 125 copy --timeout 0.2 deadly; gives want 'a hang'; tells err 'line 2 (byte 2): took longer than 0.2 s' 'a hang'

# ---- much output: a block's is bounded, a record's is not
head -c 60000 lines >some
awk '{ for (i = 1; i <= length($0); i++) {
           c = substr($0, i, 1)
           if (!(c in many)) { many[c] = c; while (length(many[c]) < 1000) many[c] = many[c] many[c] }
           printf "%.1000s", many[c] } }' some >want
call 0 much some; gives want 'a thousand times the input'
in=$dir/some piped 0 much --records 50000; [ "$(wc -c <out)" -eq 60000000 ] || complain '50 MB of one record'
in=/dev/null

# ---- hooks: sums by blocks are the same with any number of workers, and lose nothing when a record dies
seq 1 500000 >numbers
call 0 count -j 1 numbers; cp out want
[ "$(wc -l <want)" -eq 4 ] || complain 'blocks should be of one MiB'
call 0 count -j 3 numbers; gives want 'three workers'
in=$dir/numbers piped 0 count; gives want 'sums from a pipe'
in=/dev/null
sed 's/000$/&\nabort/' numbers | head -n 20000 >deadly
call 125 count deadly
awk '{ n += $1; s += $2 } END { print n, s }' out >sum
grep -v abort deadly | awk '{ n++; s += $1 } END { print n, s }' >want
cmp want sum || complain 'sums next to deaths are wrong'
grep -n abort deadly | sed 's/:.*//' >guilty
sed 's/.*: line \([0-9]*\) .*/\1/' err | cmp - guilty || { complain 'sums: others are named'; show err; }
call 125 ending short; tells err 'the block at byte 0: its worker was ended by SIGABRT' 'a hook that dies'
printf 'a\n\nb\n' >want; gives want 'a hook that dies'
for i in 1 2 3 4 5 6 7 8; do call 1 unready short; tells err 'init' 'a hook that fails'; done # before or behind the first look at the pool
call 0 chance --seed 5 -j 1 lines; cp out want
call 0 chance --seed 5 -j 3 lines; gives want 'the same seed'
[ "$(sort -u out | wc -l)" -eq 40000 ] || complain 'random numbers repeat'
call 0 chance --seed 6 lines; cmp -s want out && complain 'another seed should give other numbers'

# ---- the example
printf 'a b\n\nc\n' >words; printf '2\n1\n' >want
timeout 60 "$PARMAP" call "$dir/lines.so:words" words >out 2>err
[ $? -eq 123 ] || complain 'an empty line should fail'
gives want words; tells err 'failed with 1: an empty line' words
awk 'BEGIN { print "name,price"; for (i = 1; i <= 200000; i++) print "\"a, " i "\"," i / 4 }' >orders.csv
sum() { COLUMN=$1 timeout 60 "$PARMAP" call "$dir/lines.so:sum" --csv --header : orders.csv 2>err |
    awk '{ all += $1 } END { printf "%.2f\n", all }'; }
[ "$(sum price)" = 5000025000.00 ] || { complain 'the sum of a column is wrong'; show err; }
head -n 1000 orders.csv >few; mv few orders.csv
sum cost >out; tells err 'no column cost' 'a wrong name'

# ---- errors
call 1 copy none short never; gives nothing 'missing files'
tells err ' none: No such file' 'missing files'; tells err ' never: No such file' 'missing files'
call 1 copy "$dir"; tells err 'is a directory' 'a directory'
in=$dir call 1 copy; tells err 'standard input: is a directory' 'a directory as standard input'
in=/dev/null
if [ "$(id -u)" -ne 0 ]; then
    : >secret; chmod 0 secret; call 1 copy secret; tells err 'Permission denied' 'an unreadable file'
fi
call 1 copy --output "$dir/none/file" short; tells err 'none/file: cannot be written' 'a folder that is missing'
cp short both; call 1 copy --output both both; tells err 'is an input too' 'output into an input'
cmp short both || complain 'an input was changed'
call 126 none short; tells err 'call.so has no function none' 'a function that is missing'
timeout 60 "$PARMAP" call "$dir/short:copy" 2>err; [ $? -eq 126 ] || complain 'no library: expected status 126'
tells err 'cannot be loaded' 'a file that is no library'
timeout 60 "$PARMAP" call "$dir/none.so:copy" 2>err; [ $? -eq 127 ] || complain 'missing library: expected status 127'
tells err 'none.so' 'a library that is missing'
run 0 call call.so:copy short
printf 'a\n\nb\n' >want; gives want 'a library in the current folder'
call 2 copy --timeout 200% short; tells err 'must be a time' 'a median'
if [ -w /dev/full ]; then
    timeout 60 "$PARMAP" call ./call.so:copy lines >/dev/full 2>err
    [ $? -eq 1 ] || complain 'a full disk: expected status 1'
    tells err 'standard output: cannot be written: No space left' 'a full disk'
fi
timeout 60 "$PARMAP" call ./call.so:copy lines >&- 2>err
[ $? -eq 1 ] || complain 'closed standard output: expected status 1'
{ timeout 60 "$PARMAP" call ./call.so:copy lines lines 2>err; echo $? >status; } | head -n 1 >out
[ "$(cat status)" -eq 1 ] || complain 'a reader that has gone: expected status 1'
tells err 'Broken pipe' 'a reader that has gone'
timeout 60 "$PARMAP" call ./call.so:copy <&- 2>err; [ $? -eq 1 ] || complain 'closed standard input: expected status 1'
call 0 nothing --stats lines; tells err '40000 records' '--stats'
call 0 nothing --progress lines; tells err '40000 records (100 %)' '--progress'

# ---- what happens while it runs.  A record "gate" ends when this shell has opened and closed $GATE.
mkfifo "$GATE"
start() { timeout -k 5 60 "$PARMAP" call ./call.so:copy "$@" >out 2>err & started=$!; }
# The pid of parmap, the only child of timeout.  Processes that end while this looks make awk give up: then again.
child()
{
    pid=
    await found
    echo "$pid"
}
found()
{
    pid=$(awk -v parent="$started" '{ sub(/^.*\) . /, "") } $1 == parent { split(FILENAME, part, "/"); print part[3] }' \
        /proc/[0-9]*/stat 2>/dev/null)
    [ -n "$pid" ]
}
{ echo gate; cat lines lines lines; } >shrinks
start -j 1 shrinks
exec 4>"$GATE" # waits for the worker; the file is mapped
head -c 10000 shrinks >want
: >shrinks
exec 4>&-
wait $started
[ $? -eq 1 ] || complain 'a file that shrinks: expected status 1'
tells err 'cannot be read, nor what is behind it' 'a file that shrinks'; tells err 'has shrunk from' 'a file that shrinks'

{ echo gate; cat lines; } >gated
start -j 1 gated
exec 4>"$GATE"
kill -INT "$(child)"
exec 4>&-
wait $started
[ $? -eq 130 ] || { complain 'SIGINT: expected status 130'; show err; }
[ "$(head -n 1 out)" = gate ] || complain 'SIGINT: what ran should come to its end'
head -c "$(wc -c <out)" gated | cmp - out || complain 'SIGINT: the output is no beginning of the whole'
[ "$(wc -c <out)" -lt "$(wc -c <gated)" ] || complain 'SIGINT: something new was begun'
# Who starts it may want a signal ignored.
timeout -k 5 60 sh -c 'trap "" INT; exec "$@"' sh "$PARMAP" call ./call.so:copy -j 1 gated >out 2>err & started=$!
exec 4>"$GATE"
kill -INT "$(child)"
exec 4>&-
wait $started || { complain 'an ignored SIGINT: expected status 0'; show err; }
gives gated 'an ignored SIGINT'

start -j 1 gated
exec 4>"$GATE"
kill -TERM "$(child)"; kill -TERM "$(child)"
wait $started
[ $? -eq 143 ] || { complain 'two SIGTERMs: expected status 143'; show err; }
exec 4>&-
gone 'two SIGTERMs'

start -j 2 gated
exec 4>"$GATE"
kill -KILL "$(child)"
{ wait $started; } 2>/dev/null
exec 4>&-
gone 'a death of parmap'

# ---- where workers run, and how many
for i in 1 2 3 4 5 6 7 8 9; do echo "meet 3" >meet$i; echo nap >nap$i; done
call 0 placed --pin -j 2 lines
[ "$(sort -u out | cut -d ' ' -f 1 | uniq -d)" = '' ] || { complain '--pin: a worker on more than one CPU'; sort -u out >where; show where; }
[ "$(sort -u out | cut -d ' ' -f 2 | uniq -d)" = '' ] || [ "$(nproc)" = 1 ] || { complain '--pin: two workers on one CPU'; sort -u out >where; show where; }
# GNU make's tokens: make -j2 leaves two, whatever -j says.  Without them three can meet.
most() { awk '/\+/ { if (++n > most) most = n } /-/ { n-- } END { print most + 0 }' trace; }
call 0 traced -j 3 meet[1-9]
[ "$(most)" = 3 ] || complain "-j 3: $(most) at once"
if command -v make >/dev/null; then
    rm trace
    printf 'all:\n\t+"$$PARMAP" call -j6 --jobserver ./call.so:traced nap[1-9]\n' >Makefile
    timeout -k 5 60 make -s -j2 >out 2>err || { complain '--jobserver'; show err; }
    [ "$(most)" -le 2 ] && [ "$(grep -c - trace)" = 9 ] || complain "--jobserver: $(most) at once, $(grep -c - trace) in all"
fi

# A record is answered while its pipe is open.
mkfifo in
timeout -k 5 60 "$PARMAP" call ./call.so:copy in >out 2>err & started=$!
exec 5>in
printf 'hello\nhalf' >&5
await grep -q hello out
[ "$(cat out)" = hello ] || complain 'a record should not wait for the end of its pipe'
printf ' of it' >&5
exec 5>&-
wait $started || complain 'a FIFO: expected status 0'
printf 'hello\nhalf of it\n' >want; gives want 'a FIFO'
finish
