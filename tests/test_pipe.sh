#!/bin/bash
# `parmap pipe`: blocks that are cut between records and come out complete, once, and in order, from files and pipes; what commands that fail, do
# not read, or die make of it; filters.  Every command is bounded.
. "$(dirname "$0")/harness.sh"

# pipe EXPECTED-STATUS WORD...: as run of the harness
pipe()
{
    wanted=$1
    shift
    run "$wanted" pipe "$@"
}

# both EXPECTED-STATUS FILE WORD...: the same from the file, from standard input that is the file, and from a pipe; out is what all of them gave.
both()
{
    status_of=$1 input=$2
    shift 2
    pipe "$status_of" -a "$input" "$@" </dev/null
    mv out out.file
    pipe "$status_of" "$@" <"$input"
    same out out.file
    cat "$input" | pipe "$status_of" "$@"
    same out out.file
}

seq 200000 >lines                      # 1.3 MB

# ---- Nothing is lost, doubled or cut, and order holds ----
head -n 30 lines >few
for block in 1 7; do
    both 0 few --block $block -k cat
    same out few
done
for block in 20000 65536 1M 10M; do
    both 0 lines --block $block -k -j3 cat
    same out lines
done
both 0 lines --block 64Ki -k sh -c 'tail -c 1 | od -An -c'
[ "$(tr -d ' ' <out | sort -u)" = '\n' ] || complain "blocks do not end with their records: $(sort out | uniq -c)"
pipe 0 --block 10k wc -l <lines
[ "$(awk '{ n += $1 } END { print n }' out)" = 200000 ] && [ "$(wc -l <out)" -gt 100 ] || complain "wc -l: $(head -n 3 out)"
pipe 0 -k --block 600k --shell 'head -n 1; echo {#}' <lines
[ "$(sed -n '2p;4p;6p' out | tr '\n' ' ')" = '1 2 3 ' ] || complain "{#}: $(tr '\n' ' ' <out)"

# ---- Odd ends ----
: >empty
both 0 empty cat
is ''
printf 'a\nb' >short
both 0 short -k --block 1 cat
is 'a\nb'
both 0 short -k --block 1 wc -c
is '2\n1\n'
printf '\n\n\n' >newlines
both 0 newlines -k --block 2 wc -c
is '2\n1\n'
yes '' | head -n 1000000 >newlines
both 0 newlines -k --block 300k wc -l
[ "$(awk '{ n += $1 } END { print n }' out)" = 1000000 ] || complain 'empty lines'
{ echo first; head -c 30000000 /dev/zero | tr '\0' x; printf '\nlast\n'; } >long
both 0 long -k --block 1k wc -c
is '6\n30000001\n5\n'
printf 'a\nb\0c\0d' >zeros
both 0 zeros -k -0 --block 1 od -An -c
is '   a  \\n   b  \\0\n   c  \\0\n   d\n'
printf 'a;b;c' >semicolons
both 0 semicolons -k -d ';' --block 2 sh -c 'cat; echo'
is 'a;\nb;\nc\n'
printf '0123456789' >digits
both 0 digits -k --records 4 --block 1 sh -c 'cat; echo'
is '0123\n4567\n89\n'
both 0 digits -k --records 2 --block 5 sh -c 'cat; echo'
is '0123\n4567\n89\n'
printf '>a\nxx\n>b\n\n>c\ny>z\n' >fasta
both 0 fasta -k --recstart '>' --block 6 wc -c
is '6\n4\n4\n3\n'
both 0 fasta -k --recstart '>' --recend '\n' --block 1 sh -c 'tr "\n" .; echo'
is '>a.xx.\n>b..\n>c.y>z.\n'
printf 'a--b--c--' >dashes
both 0 dashes -k --recend=-- --block 1 sh -c 'cat; echo'
is 'a--\nb--\nc--\n'
both 0 dashes -k --recend=-- --block 6 sh -c 'cat; echo'
is 'a--b--\nc--\n'
# A marker that lies over what is looked at together, and blocks whose last record began far before.
{ head -c 65530 /dev/zero | tr '\0' y; printf 'END-MARK'; head -c 200000 /dev/zero | tr '\0' z; printf 'END-MARKrest'; } >marks
for block in 1 65530 65537 65538 265537 265538 265546; do
    both 0 marks -k --recend END-MARK --block $block wc -c
    [ $block -lt 200012 ] && is '65538\n200008\n4\n'
    both 0 marks -k --recstart END-MARK --block $block sh -c 'head -c 8; wc -c'
    [ $block -gt 70000 ] || [ "$(tr '\n' ' ' <out)" = 'yyyyyyyy65522 END-MARK200000 END-MARK4 ' ] || complain "recstart, block $block: $(cat out)"
done
# Several files: no block has bytes of two.
printf 'a\nb' >one
printf 'c\nd\n' >two
pipe 0 -k -a one -a two sh -c 'cat; echo .' </dev/null
is 'a\nb.\nc\nd\n.\n'
pipe 0 -k cat :::: one two - <lines
cat one two lines | cmp -s - out || complain ':::: one two -'
# Only from where standard input is; and whoever reads on finds the end.
{ read -r _; timeout 20 "$PARMAP" pipe -k cat; cat; } <lines >out 2>err
tail -n +2 lines | cmp -s - out || complain 'standard input that was read before'
# Files that say nothing of their size.
pipe 0 -k -a /proc/self/status cat </dev/null
says out '^Name:'
# A FIFO, and a pipe that delivers slowly.
mkfifo fifo
(timeout 20 sh -c 'cat lines >fifo' &)
pipe 0 -k --block 100k -a fifo cat </dev/null
same out lines
( printf 'one\ntw'; timeout 20 sh -c 'until [ -s got ]; do sleep 0.02; done'; printf 'o\nthree\n' ) | timeout 30 "$PARMAP" pipe -k --block 4 cat | { read -r x; echo "$x" >got; cat >>got; }
is 'one\ntwo\nthree\n' got
pipe 1 -a no-such-file cat </dev/null
says err no-such-file
pipe 1 -a "$dir" cat </dev/null
says err irectory
pipe 2 </dev/null

# A file that becomes shorter while it is read: said, and no crash.
seq 3000000 >shrinks
pipe 1 -a shrinks -j1 --block 1M --shell 'cat >/dev/null; : >shrinks' </dev/null
says err 'shrinks: cannot be read: it has become shorter'
seq 3000000 >shrinks
pipe 123 -a shrinks -j1 --block 100M --shell ': >shrinks; cat >/dev/null' </dev/null
says err 'job 1: byte [0-9]* of a command.s input cannot be written'

# ---- Commands that do not do as they should ----
pipe 0 -k --block 100k -a lines head -c 1 </dev/null
[ "$(wc -c <out)" -ge 12 ] || complain "head -c 1: $(wc -c <out)"
pipe 0 --block 100k true <lines
yes | timeout 20 "$PARMAP" pipe --halt now,fail=1 sh -c 'exit 9' >out 2>err
[ "${PIPESTATUS[1]}" = 9 ] || complain "--halt now of an endless input: ${PIPESTATUS[1]}"
pipe 123 -k --block 500k --shell 'cat; [ {#} != 2 ]' <lines
same out lines
pipe 125 --block 500k --shell '[ {#} != 2 ] || kill -9 $$; cat >/dev/null' <lines
pipe 125 --timeout 0.3 sleep 20 <two
pipe 127 no-such-program-here <lines
rm -f n.*
pipe 0 -k --retries 3 --block 500k --shell 'cat; echo x >>n.{#}; [ $(wc -l <n.{#}) -eq {#} ]' <lines
same out lines
cat lines | pipe 0 -k --retries 3 -j1 --retry-delay 0.05 --block 100k --shell 'cat; echo x >>n.{#}; [ $(wc -l <n.{#}) -ge 2 ]'
same out lines
pipe 0 -k --tag cat <two
is '1\tc\n1\td\n'
pipe 0 -k sed -nE '/^1{3}/p' <lines
[ "$(wc -l <out)" = "$(grep -cE '^1{3}' lines)" ] || complain 'an {3} of a regular expression was replaced'

# Blocks of a pipe are few at a time, also while they wait to be run again: 5 MB each, 100 MB in all.
rm -f tried.*
head -c 100000000 /dev/zero | pipe 0 -j2 --records 100 --block 5M --retries 2 --retry-delay 0.1 --shell 'cat >/dev/null; sed -n "s/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p" /proc/$PPID/status; [ -e tried.{#} ] || { : >tried.{#}; exit 1; }'
[ "$(sort -n out | tail -n 1)" -lt 60000 ] && [ "$(wc -l <out)" = 20 ] || complain "memory for blocks: $(sort -n out | tail -n 1) KiB, $(wc -l <out) blocks"

# ---- The log ----
pipe 0 -k --joblog log --block 500k cat <lines
[ "$(awk -F'\t' 'NR > 1 { s += $5; r += $6 } END { print s, r }' log)" = "$(wc -c <lines) $(wc -c <lines)" ] || complain "Send and Receive: $(cut -f5,6 log)"
rm -f log2 result
touch result
for delay in 0.02 0.05 0.11 0.03 0.17 0.07 60; do
    { timeout -s KILL $delay "$PARMAP" pipe -k -j3 --block 30k --resume --joblog log2 -a lines sh -c 'cat; sleep 0.003' >>result 2>err </dev/null; } 2>killed
    status=$?
done
[ $status -eq 0 ] || complain "the last --resume ended with $status: $(cat err)"
same result lines
pipe 2 --retry-failed --joblog log2 cat <lines

# ---- Filters ----
sort lines >sorted
for source in '-a lines' ''; do
    cat lines | pipe 0 --filter -j3 --block 10k $source cat
    sort out | cmp -s - sorted || complain "--filter $source cat"
    cat lines | pipe 0 --filter -j3 --block 10k $source sort -u
    sort -u out | cmp -s - sorted || complain "--filter $source sort -u"
done
pipe 0 --filter -j3 --block 10k --tag sh -c 'cat; echo end' <lines
[ "$(grep -c 'end$' out)" -le 3 ] && [ "$(grep -vc end out)" = 200000 ] || complain "--filter --tag"
[ "$(grep -vcE '^[123]	([0-9]+|end)$' out)" = 0 ] || complain 'lines of filters were mixed'
pipe 0 --filter cat <empty
is ''
pipe 0 --filter -j4 sh -c 'cat; echo end' <two # no filter is started for nothing
is 'c\nd\nend\n'
pipe 2 --filter -k cat <lines
pipe 2 --filter --retries 2 cat <lines
# One dies: it is said, the others do the rest.
pipe 125 --filter -j2 --block 1k --joblog log4 --shell 'if [ {#} = 1 ]; then read -r x; kill -9 $$; fi; cat' <lines
says err 'filter 1 ended before its input did: the [0-9]* bytes'
given=$(sed -n 's/.*did: the \([0-9]*\) bytes.*/\1/p' err)
[ $(($(wc -c <out) + given)) = "$(wc -c <lines)" ] || complain "a filter died: $(wc -c <out) bytes came out, it had got $given"
[ "$(awk -F'\t' 'NR > 1 { s += $5 } END { print s }' log4)" = "$(wc -c <lines)" ] || complain "Send of filters: $(cut -f5 log4)"
pipe 123 --filter -j2 --block 1k --shell 'exit {#}' <lines
yes | pipe 123 --filter -j2 --shell 'exit 1' # none is left
says err 'no filter is left'
yes | pipe 123 --filter -j2 --shell 'exec <&-; sleep 0.2'
pipe 123 --filter -j2 --block 100k -a lines head -n 1 </dev/null
pipe 127 --filter no-such-program-here <lines
says err no-such-program-here
yes | pipe 7 --filter -j2 --halt now,fail=1 --shell 'head -n 10 >/dev/null; [ {#} = 1 ] && exit 7; cat >/dev/null'
pipe 125 --filter -j1 --timeout 0.3 sleep 20 <lines
# Interrupted: what they have got they finish, and the second time they are ended.
mkfifo endless
two_lines() { [ "$(wc -l <out)" -ge 2 ]; }
for times in 1 2; do
    rm -f began.*
    (exec yes >endless) &
    feeder=$!
    env --default-signal=INT "$PARMAP" pipe --filter -j2 -a endless --shell ': >began.{#}; cat >/dev/null; echo done; '"[ $times = 1 ] || sleep 60" </dev/null >out 2>err &
    pid=$!
    waits_for began.1 && waits_for began.2
    kill -INT $pid
    [ $times = 1 ] || { await two_lines; kill -INT $pid; }
    wait $pid
    [ $? -eq 130 ] || complain "SIGINT, $times: status $?"
    is 'done\ndone\n'
    kill $feeder 2>/dev/null
    wait $feeder 2>/dev/null
done

# ---- Real work ----
for i in $(seq 30); do cat lines; echo "needle $i"; done >text
pipe 0 -k -a text --block 1M --shell 'grep needle; [ $? -le 1 ]' </dev/null
grep needle text >expected
same out expected
gzip -c lines >lines.gz
pipe 0 -k --block 300k gzip -c <lines
gzip -dc out | cmp -s - lines || complain 'gzip of blocks is not gzip of the whole'

finish
