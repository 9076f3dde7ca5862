#!/bin/bash
# `parmap run` as people with batch jobs meet it: what goes in and comes out, order, retries, halting, logs and resuming, signals, deaths, exit
# codes. Every command is bounded.
. "$(dirname "$0")/harness.sh"

# ---- In and out ----
printf 'a b\nc  d\n\n' | run 0 run -k printf '<%s>\n' '{}'
is '<a b>\n<c  d>\n<>\n'
printf 'a b\nc  d\n' | run 0 -k printf '<%s>\n'          # without the word run, and {} put behind
is '<a b>\n<c  d>\n'
run 0 run -k echo '{2}-{1}' ::: a b ::: x y </dev/null
is 'x-a\ny-a\nx-b\ny-b\n'
run 0 run -k echo '{1}{2}' ::: a b :::+ x y </dev/null
is 'ax\nby\n'
run 0 run -k echo '{#}' '{/.}' '{//}' ::: /p/q.tar.gz r </dev/null
is '1 q.tar /p\n2 r .\n'
printf 'x\0y z\0' | run 0 run -0 -k echo
is 'x\ny z\n'
seq 5 | run 0 run -k -n 2 echo
is '1 2\n3 4\n5\n'
run 0 run true </dev/null
is ''
printf '$(id)\n`ls`;|\n' | run 0 run -k --shell 'echo {}; echo "{#}."'
is '$(id)\n1.\n`ls`;|\n2.\n'
printf 'echo a; echo b\nexpr 1 + 2\n' | run 0 run -k --shell
is 'a\nb\n3\n'
run 0 run --tag -k echo ::: p q </dev/null
is 'p\tp\nq\tq\n'
run 0 run --tag -k echo ::: p q ::: 1 </dev/null
is 'p 1\tp 1\nq 1\tq 1\n'
run 0 run --tagstring '<{#}>' -k echo ::: p q </dev/null
is '<1>\tp\n<2>\tq\n'
run 0 run --dry-run -k echo 'a b' ::: "it's" </dev/null
is "echo 'a b' 'it'\\\\''s'\n"
# The order of ends without -k, of the arguments with it.
run 0 run -j2 --shell '[ {} = quick ] || until grep -q quick out; do sleep 0.01; done; echo {}' ::: slow quick </dev/null
is 'quick\nslow\n'
run 0 run -k -j2 --shell '[ {} = quick ] && : >ended; until [ -e ended ]; do sleep 0.01; done; echo {}' ::: slow quick </dev/null
is 'slow\nquick\n'
# Whole outputs, never mixed; standard error apart.
run 0 run -j4 --shell 'for i in 1 2 3 4 5 6 7 8; do echo {}; echo e{} >&2; done' ::: 1 2 3 4 </dev/null
[ "$(uniq out | wc -l)" = 4 ] && [ "$(uniq err | wc -l)" = 4 ] || complain "outputs are mixed"
run 0 run -j2 --line-buffer --shell 'echo 1{}; sleep 0.1; echo 2{}' ::: a b </dev/null
[ "$(sort out | tr '\n' ' ')" = '1a 1b 2a 2b ' ] && [ "$(head -c 1 out)" = 1 ] || complain "--line-buffer"
run 0 run -u echo ::: a </dev/null
is 'a\n'
# A reader that is slow, input that comes slowly: nothing is held back.
( echo one; timeout 20 sh -c 'until [ -s got ]; do sleep 0.02; done'; echo two ) | timeout 30 "$PARMAP" run echo | { read -r x; echo "$x" >got; cat >>got; }
is 'one\ntwo\n' got
yes | run 0 run --halt now,done=100 echo
[ "$(wc -l <out)" -ge 100 ] || complain "an endless input does not end at --halt"

# ---- Exit codes ----
run 123 run --shell 'exit {}' ::: 0 1 0 </dev/null
run 124 run --shell 'exit {}' ::: 0 1 255 </dev/null
run 125 run --shell 'kill -9 $$' ::: 0 </dev/null
run 125 run --timeout 0.2 sleep ::: 30 </dev/null
run 127 run no-such-program-here ::: 1 2 3 </dev/null
says err "no-such-program-here"
[ "$(wc -l <err)" -le 3 ] || complain "a program that is not there was tried for all"
echo x >not-a-program
run 126 run ./not-a-program ::: 1 2 3 </dev/null
run 2 run </dev/null
run 2 run --no-such-option true </dev/null
run 2 run --exit=count --shell 'exit {}' ::: 1 0 2 </dev/null
run 7 run --halt now,fail=1 -j1 --shell 'exit {}' ::: 0 7 8 </dev/null
run 1 run true :::: /no/such/file </dev/null
says err "/no/such/file"
run 1 run true :::: "$dir" </dev/null
says err "directory"
printf 'a\0b\n' | run 1 run echo
says err "zero byte"
# An argument that no system takes: that job fails, the others run.
{ head -c 300000 /dev/zero | tr '\0' x; echo; echo y; } | run 126 run -k echo
is 'y\n'
says err "too long"

# ---- Failures ----
rm -f n.*
run 0 run --retries 3 --shell 'echo x >>n.{}; [ $(wc -l <n.{}) -ge {} ] && echo ok{}' ::: 1 2 3 </dev/null
[ "$(sort out | tr '\n' ' ')" = 'ok1 ok2 ok3 ' ] || complain "--retries: $(cat out)"
rm -f n.*
run 123 run --retries 2 --shell 'echo x >>n.{}; exit 5' ::: 1 </dev/null
[ "$(wc -l <n.1)" = 2 ] || complain "--retries 2 ran it $(wc -l <n.1) times"
seq 100 | run 123 run -j1 --halt soon,fail=3 --shell 'exit 1'
run 123 run -j2 --halt soon,fail=1 --shell 'exit {}' ::: 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 </dev/null

# ---- The log, and going on ----
run 123 run -k --joblog log sh -c 'echo $0; exit $0' ::: 0 3 </dev/null
[ "$(cut -f7,8,9 log | tr '\t\n' '  ')" = "Exitval Signal Command 0 0 sh -c 'echo \$0; exit \$0' 0 3 0 sh -c 'echo \$0; exit \$0' 3 " ] || complain "the log: $(cut -f7,8,9 log)"
[ "$(head -n 1 log | cut -f1-9 | tr '\t' ' ')" = 'Seq Host Starttime JobRuntime Send Receive Exitval Signal Command' ] || complain "the log's head"
run 123 run -k --resume-failed --joblog log --shell 'echo {}; exit {}' ::: 0 3 </dev/null
is '3\n'
run 4 run -j1 -k --resume --halt now,fail=1 --joblog log --shell 'echo {}; exit {}' ::: 0 3 4 0 </dev/null
is '4\n'
[ "$(wc -l <log)" -ge 4 ] || complain "the log after --resume"

# A power failure takes results with it that the log tells of: from there on all is made again.
again() { run 0 run -j1 -k --resume --results "$1" --joblog log3 --shell 'echo {}; echo {} >>ran #{}' ::: 1 2 3 4 5 </dev/null; }
for to in left left.jsonl; do
    rm -f log3 ran
    again $to
    if [ -d $to ]; then : >left/4/stdout; else head -n 3 left.jsonl >three; cp three left.jsonl; fi
    again $to
    [ "$(tr '\n' ' ' <ran)" = '1 2 3 4 5 4 5 ' ] || complain "--resume with lost results in $to ran $(tr '\n' ' ' <ran)"
    [ "$(cut -f 1 log3 | grep -vx 0 | tr '\n' ' ')" = 'Seq 1 2 3 4 5 ' ] || { complain "the log behind lost results"; show log3; }
    again $to
    [ "$(wc -l <ran)" = 7 ] || complain "--resume with all results in $to ran something"
done
[ "$(cat left/4/stdout)" = 4 ] || complain 'a lost result of a directory is not there again'
[ "$(cut -c 1-9 left.jsonl | tr -dc '0-9')" = 12345 ] || { complain 'a lost line of a file of results is not there again'; show left.jsonl; }
rm -f log3 ran
run 0 run -k --joblog log3 --shell 'echo {} >>ran #{}' ::: 1 2 </dev/null
run 0 run -k --resume --results other --joblog log3 --shell 'echo {} >>ran #{}' ::: 1 2 3 </dev/null
[ "$(sort ran | tr '\n' ' ')" = '1 2 3 ' ] || complain "--results that came later: ran $(tr '\n' ' ' <ran)"

# Killed at any moment and resumed: the same bytes, and nothing that was logged runs twice.
seq 300 >jobs
cat >job.sh <<'E'
echo "$1" >>"ran.$2"
i=0
while [ $i -lt $(($1 % 40)) ]; do echo "$1 line $i of some length"; i=$((i + 1)); done
E
parmap run -k -j3 sh job.sh '{}' whole <jobs >expected
rm -f log2 result
touch result logged
round=0
for delay in 0.02 0.05 0.11 0.03 0.17 0.07 0.23 0.01 60; do
    round=$((round + 1))
    : >"ran.$round"
    timeout -s KILL $delay "$PARMAP" run -k -j3 --resume --joblog log2 sh job.sh '{}' $round <jobs >>result 2>err
    status=$?
    sort "ran.$round" | join - logged >again
    [ ! -s again ] || complain "logged, and run again after a kill: $(tr '\n' ' ' <again)"
    [ ! -f log2 ] || tail -n +2 log2 | grep -a "$(printf '\t')" | cut -f1 | sort >logged
done
[ $status -eq 0 ] || complain "the last --resume ended with $status: $(cat err)"
same result expected
[ "$(wc -l <logged)" = 300 ] || complain "the log has $(wc -l <logged) of 300 jobs"

# A full disk, and a closed pipe: our own error; what was logged has been written.
parmap run -k --joblog log3 echo ::: a b c </dev/null >/dev/full 2>err
[ $? -eq 1 ] || complain "a full disk"
says err "No space"
[ "$(wc -l <log3)" -le 1 ] || complain "jobs were logged whose output was not written"
yes | timeout 20 "$PARMAP" run -j2 echo 2>err | head -n 3 >out
[ "${PIPESTATUS[1]}" -eq 1 ] || complain "a closed pipe"
is 'y\ny\ny\n'

# ---- Signals ----
for signal in INT:130 TERM:143; do
    wanted=${signal#*:} signal=${signal%:*}
    rm -f began.* go
    env --default-signal=INT "$PARMAP" run -k -j1 --shell ': >began.{}; until [ -e go ]; do sleep 0.01; done; echo {}' ::: 1 2 3 </dev/null >out 2>err &
    pid=$!
    waits_for began.1
    kill -$signal $pid
    await grep -q 'starting no more' err || complain "$signal: it is not told"
    : >go
    wait $pid
    status=$?
    [ $status -eq $wanted ] || complain "$signal: status $status"
    is '1\n'
    rm -f began.*
    env --default-signal=INT "$PARMAP" run -j1 --shell ': >began.{}; sleep 60' ::: 1 2 </dev/null >out 2>err &
    pid=$!
    waits_for began.1
    kill -$signal $pid
    await grep -q 'starting no more' err # two signals at once may arrive as one
    kill -$signal $pid
    wait $pid
    status=$?
    [ $status -eq $wanted ] || complain "$signal twice: status $status"
done
# Killed: its jobs go with it.
rm -f began.*
"$PARMAP" run -j2 --shell ': >began.{}; exec sleep 60' ::: 1 2 </dev/null >out 2>err &
pid=$!
waits_for began.1 && waits_for began.2
kill -9 $pid
wait $pid 2>/dev/null
gone 'after kill -9'

# ---- Much ----
seq 100000 | run 0 run -X -j2 --shell 'printf "%%s\\n" {}' >/dev/null
seq 100000 >many
parmap run -k -X printf '%s\n' '{}' <many >out 2>err
same out many
parmap run -k -j4 echo <jobs >out
same out jobs
# A job that fails, one that hangs, one that dies, among many: every one accounted for.
seq 1 500 >list
run 125 run -j4 --timeout 0.5 --joblog log4 --shell 'n={}; case $((n % 100)) in 50) sleep 60 ;; 51) kill -9 $$ ;; *0) exit 4 ;; *) echo {} ;; esac' <list
[ "$(tail -n +2 log4 | wc -l)" = 500 ] || complain "$(wc -l <log4) lines in the log of 500 jobs"
[ "$(awk -F'\t' 'NR > 1 && $7 == 4' log4 | wc -l)" = 45 ] && [ "$(awk -F'\t' 'NR > 1 && $7 == -1' log4 | wc -l)" = 5 ] &&
    [ "$(awk -F'\t' 'NR > 1 && $8 == 9 && $7 == 0' log4 | wc -l)" = 5 ] || complain "the log of failures, hangs and deaths"
[ "$(sort -n out | md5sum)" = "$(awk '$1 % 10 && $1 % 100 != 51' list | md5sum)" ] || complain "results among failures"

# ---- Real work ----
mkdir files && for i in $(seq 60); do seq $((i * 50)) >"files/a $i.txt"; done
(cd files && sha256sum ./*.txt | sort) >expected
(cd files && find . -name '*.txt' -print0) | run 0 run -0 --shell 'cd files && sha256sum {}'
sort out | cmp -s - expected || complain "sha256sum of a tree"
ls files | run 0 run gzip -k 'files/{}'
for f in files/*.txt; do gzip -dc "$f.gz" | cmp -s - "$f" || complain "gzip of $f"; done
printf 'gr\374n\n%.0s' $(seq 200) >latin
run 0 run -k --shell 'head -n {} latin | tail -n 1 | iconv -f latin1 -t utf8' <list >/dev/null
[ "$(sort -u out)" = "$(printf 'gr\303\274n')" ] && [ "$(wc -l <out)" = 500 ] || complain "iconv"

none_left || complain "$(left) processes are left"
finish
