#!/bin/bash
# The options of `parmap run`, one by one, where tests/test_run.sh has the work as a whole: what shows on a terminal, how many run at once and
# when, limits, sources and columns. Every wait is bounded.
. "$(dirname "$0")/harness.sh"

milliseconds() { echo $((${EPOCHREALTIME/./} / 1000)); }

# A job that tells when it begins and ends, and waits until it may: for a file go.N, or nothing where that is "-".
cat >job <<'E2'
echo "+ $1" >>trace
: >began.$1
i=0
while [ "$2" = wait ] && ! [ -e go.$1 ] && [ $i -lt 1000 ]; do i=$((i + 1)); sleep 0.01; done
[ "$2" = nap ] && sleep 0.03
echo "- $1" >>trace
E2
fresh() { rm -f began.* go.* trace; }
most() { awk '$1 == "+" { if (++n > most) most = n } $1 == "-" { n-- } END { print most + 0 }' trace; } # at once

# ---- On a terminal ----
# What is on the screen in the end: a line that was written over is gone, and so is what ESC [ K wipes out.
screen() { tr -d '\000' | awk '{ sub(/\r$/, ""); while (match($0, /^[^\r]*\r/)) $0 = substr($0, RLENGTH + 1); gsub(/\033\[K/, ""); print }'; }
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
    on_terminal() { timeout -k 5 60 script -qec "$1" /dev/null >typed; }
    for show in --bar --eta --progress '--bar --eta --progress'; do
        on_terminal "\$PARMAP $show -k -j2 --shell 'sleep 0.0{}; seq {} 50' ::: 1 2 3 4 5" </dev/null
        screen <typed | grep -x '[0-9]*' >out
        for i in 1 2 3 4 5; do seq $i 50; done | cmp -s - out || complain "$show: output and the line mix: $(screen <typed | grep -vx '[0-9]*' | head -n 3)"
        grep -q '5 of 5 done (100 %)' typed || complain "$show does not show how much is done"
    done
    on_terminal "\$PARMAP --bar -k --shell 'printf x{}' ::: 1 2 3" </dev/null
    [ "$(screen <typed | tr -d '\n' | sed 's/[0-9] of 3 done[^]]*\]//g')" = x1x2x3 ] || complain "a line without its end is written over: $(cat -v typed)"
    on_terminal "\$PARMAP --bar -k echo ::: 1 2 3 >out" </dev/null
    is '1\n2\n3\n'
    printf 'y\nn\nyes\n' | on_terminal "\$PARMAP -p -k -j1 echo ::: a 'b b' c >out"
    is 'a\nc\n'
    says typed "echo 'b b' ?"
else
    echo "test_run_options: no script(1): terminals are SKIPPED"
fi
setsid -w "$PARMAP" -p echo ::: a </dev/null >out 2>err
[ $? -eq 1 ] || complain "-p without a terminal"
run 0 run --bar -k echo ::: a b </dev/null
is 'a\nb\n'
says err '^2 of 2 done (100 %)'
grep -q "$(printf '[\r\033]')" err && complain "--bar writes over lines in a file"

# ---- What is shown ----
run 0 run -t -k -j1 echo ::: 'a b' "it's" </dev/null
is "a b\nit's\n"
is "echo 'a b'\necho 'it'\\\\''s'\n" err
run 0 run --dry-run --shell 'touch {}.made; echo {}' ::: x 'y z' </dev/null
is "touch 'x'.made; echo 'x'\ntouch 'y z'.made; echo 'y z'\n"
ls ./*.made >/dev/null 2>&1 && complain "--dry-run runs"
run 0 run --stats -j3 true ::: a b c d </dev/null
says err '^parmap: 4 jobs in .*, 0 failed, 3 at most at once$'
run 0 run --quiet --shell 'echo {}; echo e{} >&2' ::: a </dev/null
is ''
is '' err
run 0 run --tagstring '{#}/{}' -k echo x ::: a 'b b' </dev/null
is '1/a\tx a\n2/b b\tx b b\n'
run 0 run --results tree -k --shell 'echo {}; echo e{} >&2' ::: a b </dev/null
[ "$(cat tree/1/stdout tree/1/stderr tree/2/stdout tree/2/stderr | tr '\n' ' ')" = 'a ea b eb ' ] || complain "--results DIR"
run 123 run --results rows.jsonl --quiet -k --shell 'printf {}; exit 3' ::: a '"\' </dev/null
[ "$(sed 's/.*"exit": 3, "signal": 0, //' rows.jsonl)" = '"stdout": "a", "stderr": ""}
"stdout": "\"\\", "stderr": ""}' ] || complain "--results FILE.jsonl: $(cat rows.jsonl)"

# ---- How many at once ----
at_once() { run 0 run --stats "$@" true ::: a </dev/null; sed -n 's/.*, \([0-9]*\) at most at once$/\1/p' err; }
cpus=$(at_once -j100%)
[ "${cpus:-0}" -ge 1 ] || complain "-j100%: '$cpus'"
[ "$(at_once -P7)" = 7 ] && [ "$(at_once -j200%)" = $((2 * cpus)) ] && [ "$(at_once -j+3)" = $((cpus + 3)) ] && [ "$(at_once)" = "$cpus" ] ||
    complain "-j: $(at_once -P7) $(at_once -j200%) $(at_once -j+3) $(at_once)"
[ "$(at_once -j0)" -gt 7 ] || complain "-j0: $(at_once -j0)"
echo 5 >number
[ "$(at_once -j number)" = 5 ] || complain "-j FILE: $(at_once -j number)"
# More than the limits allow fails for no job: there are fewer at once.
(ulimit -n 100 && seq 60 | run 0 run -j 50 --shell 'sleep 0.01; echo {}' && [ "$(wc -l <out)" = 60 ]) || complain "-j above the limit of open files: $(cat err)"
says err '^parmap: -j 50: [1-9][0-9]* at once is what the limits'

fresh
seq 8 | "$PARMAP" run -j1 sh job '{}' wait >out 2>err &
pid=$!
waits_for began.1
for n in 2 3; do kill -USR1 $pid; waits_for began.$n; done
: >go.1
waits_for began.4 # the place that is free is taken: three run
[ "$(most)" = 3 ] || complain "SIGUSR1: $(most) run at once"
touch go.2 go.3 go.4 go.5 go.6 go.7 go.8
wait $pid || complain "SIGUSR1: status $?"

fresh
seq 12 | "$PARMAP" run -j2 sh job '{}' wait >out 2>err &
pid=$!
waits_for began.1 began.2
kill -USR2 $pid
touch go.1
await grep -q '^- 1' trace
kill -USR2 $pid # one always runs
for i in $(seq 2 12); do : >go.$i; done
wait $pid || complain "SIGUSR2: status $?"
awk '$1 == "+" && $2 > 2 { if (++n > most) most = n } $1 == "-" && $2 > 2 { n-- } END { exit most != 1 }' trace || complain "SIGUSR2: more than one at once: $(tr '\n' ' ' <trace)"

fresh
echo 1 >number
seq 3 | "$PARMAP" run -j number sh job '{}' wait >out 2>err &
pid=$!
waits_for began.1
[ -e began.2 ] && complain "-j FILE: more run than it says"
echo 3 >number
waits_for began.2 began.3
touch go.1 go.2 go.3
wait $pid || complain "-j FILE: status $?"

# A slot is one job's at a time, and with --pin one CPU's.
run 0 run -j3 --shell 'mkdir slot{%} && sleep 0.01 && rmdir slot{%} #{}' ::: 1 2 3 4 5 6 7 8 9 </dev/null
run 0 run --pin -k -j2 --shell 'grep Cpus_allowed_list /proc/self/status #{}' ::: 1 2 3 </dev/null
grep -qv "$(printf 'Cpus_allowed_list:\t[0-9]*$')" out && complain "--pin: $(cat out)"
[ "$cpus" -lt 2 ] || { run 0 run --pin -j2 --shell ': >at.{#}; until [ -e at.1 ] && [ -e at.2 ]; do sleep 0.01; done; grep Cpus_allowed_list /proc/self/status #{}' ::: 1 2 </dev/null; [ "$(sort -u out | wc -l)" = 2 ]; } ||
    complain "--pin: two slots on one CPU"

# GNU make's tokens: make -j2 leaves two jobs, whatever -j says.
fresh
printf 'all:\n\t+seq 6 | "$$PARMAP" run -j6 --jobserver sh job {} nap\n' >Makefile
timeout -k 5 60 make -s -j2 >out 2>err || complain "--jobserver: $(cat err)"
[ "$(most)" = 2 ] && [ "$(grep -c '^-' trace)" = 6 ] || complain "--jobserver: $(most) at once: $(tr '\n' ' ' <trace)"

# ---- When ----
began=$(milliseconds)
run 0 run -j4 --delay 0.1 true ::: 1 2 3 </dev/null
[ $(($(milliseconds) - began)) -ge 200 ] || complain "--delay: $(($(milliseconds) - began)) ms"
began=$(milliseconds)
run 123 run --retries 4 --retry-delay 0.05,x2 false ::: 1 </dev/null
[ $(($(milliseconds) - began)) -ge 350 ] || complain "--retry-delay: $(($(milliseconds) - began)) ms"
# A gate that will not open lets one job run at a time.
run 0 run --load 0.0001 -k echo ::: a b c </dev/null
is 'a\nb\nc\n'
fresh
seq 4 | run 0 run -j4 --memfree 1000000G sh job '{}' nap
[ "$(most)" = 1 ] && [ "$(grep -c '^-' trace)" = 4 ] || complain "--memfree: $(most) at once"
run 125 run -j1 --timeout 10000% sleep ::: 0.001 0.001 0.001 0.001 50 </dev/null

# ---- Limits ----
run 0 run --nice 3 --shell 'nice #{}' ::: a </dev/null
is "$(($(nice) + 3))\n"
cat >eat <<'E2'
BEGIN { x = "0123456789abcdef"; while (length(x) < n) x = x x; print length(x) }
E2
run 123 run -k --mem 200M awk -v 'n={}' -f eat ::: 16 500000000 32 </dev/null
is '16\n32\n'
{ printf 'a\nb\0c\nd\n' | run 1 run -j1 --shell 'sleep 0.1; echo {}'; }
is 'a\n' # the lines before the one that is no argument are done
says err "job 2: .* zero byte, behind 'b'"

# ---- Sources and columns ----
printf 'name,age\nbob,3\n"a, ""b""",4\n' >people
run 0 run -k --csv --header : echo '{age} is {name}, {2}' :::: people </dev/null
is '3 is bob, 3\n4 is a, "b", 4\n'
printf 'a: b\nc :d:e\n' | run 0 run -k --colsep ' *: *' echo '{2}{1}' '{-1}' '{3}'
is 'ba b\ndc e e\n'
run 0 run -k echo '{1}{2}{3}' ::: a b :::+ x y ::: 1 2 </dev/null
is 'ax1\nax2\nby1\nby2\n'
run 0 run -k --link echo '{1}{2}' ::: a b c ::: x y </dev/null
is 'ax\nby\ncx\n'
seq 20 | run 0 run -k --shuf --seed 7 echo
cp out first
sort -n out | cmp -s - <(seq 20) || complain "--shuf loses or doubles"
seq 20 | cmp -s - out && complain "--shuf shuffles nothing"
seq 20 | run 0 run -k --shuf --seed 7 echo
cmp -s out first || complain "--shuf --seed: another order"
printf 'a\n\n  \nb\n' | run 0 run -k -r echo
is 'a\nb\n'
printf 'a \nb\n\nc\n' | run 0 run -k -L 1 echo
is 'a b\nc\n'
printf 'x;y' | run 0 run -k -d ';' echo
is 'x\ny\n'
run 0 run -k -I % echo '%-{}' ::: a </dev/null
is 'a-{}\n'
printf 'one\n' >list
printf 'two\n' | run 0 run -k -a list -a - echo '{1}{2}'
is 'onetwo\n'

# ---- Ctrl-Z ----
state() { sed -n 's/^State:[^A-Z]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null; }
stopped() { [ "$(state "$1")" = T ]; }
runs() { ! stopped "$1"; }
fresh
set -m # a group of its own, which a terminal can stop
mkfifo go # a job that starts nothing: who starts something cannot stop while what it starts is stopped before it
"$PARMAP" run -j1 --shell 'echo $$ >pid; : >began.1; read x <go #{}' ::: 1 </dev/null >out 2>err &
pid=$!
set +m
waits_for began.1
kill -TSTP $pid
for process in $pid $(cat pid); do await stopped $process || complain "Ctrl-Z: $process is in state $(state $process)"; done
kill -CONT $pid
await runs "$(cat pid)" || complain "on after Ctrl-Z: the job is still stopped"
timeout -k 5 20 sh -c 'echo on >go' || complain "on after Ctrl-Z: the job reads no more"
wait $pid || complain "Ctrl-Z, then on: status $?"
finish
