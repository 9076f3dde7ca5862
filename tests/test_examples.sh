#!/bin/sh
# Runs every built example and compares what it prints with what it must print.  Each has 60 seconds.
# usage: tests/test_examples.sh [FOLDER], from the build's top folder, as "make check" does.  FOLDER has the programs; without one it is the
# build's own.
folder=${1:-examples}
failed=0
seen=0

expect() { # expect NAME [ARGUMENT...], with the expected output on standard input; N is for a time at the end of a line, such as 0.123
    wanted=$(cat)
    program=$1
    shift
    seen=$((seen + 1))
    got=$(timeout -k 5 60 "$folder/$program" "$@" 2>&1 </dev/null)
    status=$?
    got=$(printf '%s\n' "$got" | sed 's/ [0-9]*\.[0-9][0-9][0-9] s$/ N s/')
    if [ $status -eq 0 ] && [ "$got" = "$wanted" ]; then
        echo "ok: $program"
    else
        printf 'FAILED: %s (exit status %s)\n--- expected\n%s\n--- printed\n%s\n' "$program" "$status" "$wanted" "$got"
        failed=$((failed + 1))
    fi
}

expect sum <<'END'
serial: sum 45000000, N s
threads: sum 45000000, N s
processes: sum 45000000, N s
END

expect actions <<'END'
serial: 40000000 actions, N s
threads: 40000000 actions, N s
processes: 40000000 actions, N s
END

expect factorize <<'END'
serial: N s
threads: N s
processes: N s
1 101 21179 2139079
1 7 13 49 91 637 1907 13349 24791 93443 173537 1214759
1 19 79823 1516637
1 5 271 1355 1367 6835 370457 1852285
all three agree: yes
END

expect pipeline <<'END'
Processed 1000 items, in order: yes
Finished in N s
END

# The server ends when descriptor 3, the other end of its input, is closed: also when this script dies.
if grep -q '^#define HAVE_CURL 1' config.h; then
    dir=$(mktemp -d) || exit 1
    mkfifo "$dir/in" "$dir/out"
    ./tests/http_server <"$dir/in" >"$dir/out" &
    exec 3>"$dir/in"
    read -r port <"$dir/out"
    rm -r "$dir"
    expect pages "http://127.0.0.1:$port" 3>&- <<'END'
one after another: 8 pages, 800 bytes, N s
at once: 8 pages, 800 bytes, N s
at once is faster: yes
END
    exec 3>&-
    wait
else
    seen=$((seen + 1))
    echo "SKIPPED: pages: libcurl was not found by configure (Debian: libcurl4-openssl-dev)"
fi

expect crash <<'END'
the map says: some items failed
item 777: signal SIGSEGV, run 3 times
right: 9999 of 10000
END

expect reduce <<'END'
from 7 to 900007
END

expect starmap <<'END'
32 9 1000
10 4 6
15 6 9
50 20 30
END

expect for <<'END'
primes below 200000: 17984
END

expect private <<'END'
half of 999999 is 499999.5; 1000000 items, at least 16 MB copied: yes
END

expect queue <<'END'
put 0
got 0
put 1
got 1
put 2
got 2
put 3
got 3
put 4
got 4
END

expect random <<'END'
pi is about 3.14; 1 and 3 workers agree: yes
END

expect state <<'END'
primes from 99000 to 99999: 87; items that the exit hooks have counted: 1000
END

expect errors <<'END'
10 + 20 + 30 = 60
item 2 failed with code 22; its own words: listed
END

expect future <<'END'
given in
banana: a 3 b 1 n 2
R2D2: item 1: the function returned 2: 'R' is no small letter, 1 attempt
mississippi: i 4 m 1 p 2 s 4
END

expect poll <<'END'
steps from 27: 111, from 97: 118, from 871: 178
END

expect deadline <<'END'
item 3: ran too long
0 10 20 . 40 50
END

if grep -q '^#define HAVE_ZMQ 1' config.h; then zmq=249500250000; else zmq='not in this build'; fi
expect paths <<END
serial: 249500250000
threads: 249500250000
processes: 249500250000
processes over ZeroMQ: $zmq
END

expect barrier <<'END'
sum 1000, top 56.35, even: yes
END

expect race <<'END'
expected: 500000
without a lock: fewer
with a lock: 500000
with a counter: 500000
with an accumulator: 500000
END

expect recursive <<'END'
recursive: no error
plain: the caller would wait for itself
after a death: the last owner died while it held the lock
repaired: no error
and again: no error
END

version=$(sed -n 's/^#define PMAP_VERSION "\(.*\)"$/\1/p' "${srcdir:-.}/pmap/pmap.h")
expect info <<END
header $version, library $version
CPUs: some; about the machine: plenty
a pool of as many workers as CPUs
workers: 2, processes: 2
after a kill: ok, workers known: yes
END

expect command <<'END'
Hello from the child!
Working...
Exit status 0
END

expect timeout <<'END'
'sleep 10' was ended after its time-out of 0.1 s
ended by SIGTERM: yes; as one number: 124
sooner than in 5 s: yes
END

if command -v openssl >/dev/null; then expect openssl <<'END'
a: 32 bytes, e90c0279dbf03f94
b: 32 bytes, 6696ce172c7168c1
c: 32 bytes, 76d4d5f15ba0ddf0
END
else expect openssl <<'END'
openssl is not installed
END
fi

expect sleeps <<'END'
10 sleeps took ten times the time of one: no
END

expect imap <<'END'
line 0: 4 words
line 1: 3 words
item 2: the function returned 1: an empty line, 1 attempt
line 3: 4 words
END

expect minimum <<'END'
send 10: 10
send 4: 4
send 22: 4
send -1: -1
END

expect async <<'END'
5 calls of 0.3 s, 0 failed, in less than 1.2 s: yes
the main program computed meanwhile: yes
END

# An example that nobody compares would rot.
there=$(grep -l '^int main' "${srcdir:-.}"/examples/*.c | wc -l) # the other is a plug-in: test_call.sh has it
if [ "$there" -ne $seen ]; then
    echo "FAILED: $there examples in examples/, $seen compared here"
    failed=$((failed + 1))
fi
[ $failed -eq 0 ]
