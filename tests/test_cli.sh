#!/bin/sh
# The program parmap as a user meets it: words and numbers, exit codes, files, formats, and what is left after a death.
# The options of run, pipe and call, --help and completions are in test_options_cli.sh.
# Every command is bounded.  Waiting for a process to appear or to end is polling with a bound.
. "$(dirname "$0")/harness.sh"

# Nothing but a note that a path is not in this build.
silent() { ! grep -qv 'is left out' "$1" 2>/dev/null || { complain "expected nothing in $1"; show "$1"; }; }
column() { # the values of a CSV column, by name
    awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) c = i; next } { print $c }' out
}
all() { # all VALUE NAME: every row has it
    for got in $(column "$2") nothing; do
        [ "$got" = nothing ] || [ "$got" = "$1" ] || complain "column $2 is $got, expected $1"
    done
    [ -n "$(column "$2")" ] || complain "no column $2"
}

# ---- usage: status 2, the wrong word, the right ones, and nothing on standard output
run 2; says err '^Usage: parmap'; silent out
run 2 benhc; says err "'benhc', did you mean 'bench'"; silent out
run 2 bench smu; says err "workload 'smu', did you mean 'sum'"; says err 'sum actions factorize sleep empty'
run 2 bench --pth shm; says err "'--pth', did you mean '--path'"
run 2 bench -runs 3; says err "'-runs', did you mean '--runs'"
run 2 bench --path shm,zmp; says err "'zmp', did you mean 'zmq'"; says err 'serial openmp shm shm-copy zmq all'
run 2 bench --format xml; says err 'table csv json'
run 2 bench --dtype f16; says err 'f64 f32 i64 i32 u8'
for value in 0 4096 x 1, -1; do run 2 bench --workers $value; says err 'from 1 to 4095'; done
for value in '' 3x 3KiB 99999999999999999999 -5; do run 2 bench --size "$value"; says err 'number of items'; done
run 2 bench --runs 0; says err "'0'"
run 2 bench --runs; says err 'needs an argument'
run 2 bench --help=3; says err 'takes no argument'
run 2 bench --plot a.pdf; says err 'svg or .png'
run 2 bench --input f --size 3; says err '\-\-size does not go with --input'
run 2 bench actions --input f; says err 'for the workload sum'
run 2 info now; says err "'now'"
run 2 help bnch; says err "did you mean 'bench'"

# ---- help and version
run 0 --version; says out '^parmap [0-9]'; silent err
run 0 --help; says out '^Usage: parmap COMMAND'
run 0 help bench; cp out help
run 0 bench --help; cmp -s out help || complain "'help bench' and 'bench --help' differ"
run 0 info; says out '^parmap: '; says out '^compiler: '; says out '^cpu'

# ---- what starts commands has not loaded libzmq and the thirty libraries below it
run 0 run --shell 'cat /proc/$PPID/{}' ::: maps; says out parmap
grep libzmq "$dir/out" && complain 'parmap run has loaded libzmq'

# ---- what cannot be written is an error
if [ -w /dev/full ]; then
    for words in --help info 'bench actions --size 100 --runs 1 --path serial'; do
        timeout 60 "$PARMAP" $words >/dev/full 2>err
        [ $? -eq 1 ] || complain "parmap $words >/dev/full: expected status 1"
        says err 'cannot be written'
    done
fi
timeout 60 "$PARMAP" --help >&- 2>err
[ $? -eq 1 ] || complain "closed standard output: expected status 1"
run 1 bench actions --size 10 --output missing/file; says err 'missing/file: cannot be written'

# ---- every workload on every path, in every format
run 0 bench sum actions factorize sleep empty --numbers 12 97 --runs 1 --workers 2 --chunk 1 --size 20 --format csv
all true correct
[ "$(column workload | uniq | tr '\n' ' ')" = 'sum actions factorize sleep empty ' ] || complain 'workloads are missing'
[ "$(column path | head -3 | tr '\n' ' ')" = 'serial openmp shm ' ] || complain 'paths are missing'
run 0 bench sum actions --size 300k --runs 2 --workers 1,2,3 --format csv
all true correct
[ "$(column path | grep -c '^shm$')" -eq 6 ] || complain 'each number of workers should be timed'
[ "$(column path | grep -c '^serial$')" -eq 2 ] || complain 'serial should be timed once a workload'
run 0 bench factorize --numbers 12,97 100 28 --runs 1 --path serial,shm --format csv
all 23 result
run 0 bench actions --size 10Ki --runs 1 --path openmp --format csv; all 10240 result
run 0 bench actions --size 10k --runs 1 --path openmp --format csv; all 10000 result
for size in 0 1 3; do
    run 0 bench sum actions factorize sleep empty --numbers 28 --size $size --runs 1 --format csv
    all true correct; all $size items
done
run 0 bench sum --size 100k --runs 2
says out '^sum: 100,000 items of f64, 800,000 bytes'; says out 'speed-up'; says out 'fastest'; silent err
run 0 bench sum --size 1M --runs 3 --format json --output json; silent out
if python3 -c '' 2>/dev/null; then
    python3 - json <<'PYTHON' || complain 'the JSON is not as agreed'
import json, sys
whole = json.load(open(sys.argv[1]))
assert set(whole) == {"parmap", "machine", "results"}, set(whole)
assert set(whole["machine"]) == {"cpus", "cpu", "kernel", "compiler"}
for r in whole["results"]:
    assert set(r) == {"workload", "path", "workers", "items", "input_bytes", "chunk", "runs", "wall_ms", "speedup",
                      "worker_ms", "bytes_copied", "result", "correct", "deaths", "retries"}, set(r)
    assert set(r["wall_ms"]) == {"min", "median", "max"}
    assert set(r["worker_ms"]) == {"transfer_in", "compute", "transfer_out", "dispatch", "idle"}
    assert r["correct"] is True and r["items"] == 1000000 and r["input_bytes"] == 8000000
    total, parts = r["workers"] * r["wall_ms"]["median"], sum(r["worker_ms"].values())
    # Not a microsecond is missing.  Too much could be where a worker was just leaving.
    assert 0.9999 * total <= parts <= 1.05 * total, (r["path"], parts, total)
assert [r["path"] for r in whole["results"]][:2] == ["serial", "openmp"]
PYTHON
fi

# ---- files of numbers: 1 2 3 4 as doubles, as bytes; then what is wrong with each
header="{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }"
zeros='\000\000\000\000\000\000'
data="$zeros\\360\\077$zeros\\000\\100$zeros\\010\\100$zeros\\020\\100"
npy() { # npy VERSION HEADER: a file on standard output, its header filled to 118 bytes
    case $1 in
    1) printf '\223NUMPY\001\000\166\000' ;;
    *) printf "\\223NUMPY\\00$1\\000\\166\\000\\000\\000" ;;
    esac
    printf '%-117s\n' "$2"
}
sum() { run 0 bench sum --runs 1 --path serial,shm --format csv --input "$@"; }
for version in 1 2 3; do
    { npy $version "$header"; printf "$data"; } >a.npy
    sum a.npy; all 10 result; all 4 items; all true correct # in 2 and 3 the data are not aligned
done
{ npy 1 '{"shape": (4L,), "fortran_order": True, "descr": "<f8"}'; printf "$data"; } >b.npy
sum b.npy; all 10 result
npy 1 "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }" >c.npy; sum c.npy; all 0 result
printf '\001\002\003\377' >raw; sum raw --dtype u8; all 261 result
sum raw --dtype i32; all -16580095 result
printf "$data" >raw; sum raw; all 10 result
wrong() { run 1 bench sum --runs 1 --path serial --input "$@"; says err "$(basename "$1")"; }
printf '123' >bad; wrong bad; says err 'byte 3: expected 5 bytes more'
printf '123' >bad.npy; wrong bad.npy; says err 'byte 0: expected the magic string'
{ npy 4 "$header"; printf "$data"; } >bad.npy; wrong bad.npy; says err 'byte 6: expected version'
{ npy 1 "$header"; printf "$data"; printf x; } >bad.npy
wrong bad.npy; says err 'byte 128: expected 4 items of f64'
npy 1 "$header" >bad.npy; wrong bad.npy; says err 'found 0 bytes'
npy 1 "{'descr': '>f8', 'fortran_order': False, 'shape': (2, 2), }" >bad.npy
wrong bad.npy; says err "byte 20: expected a type among '<f8'"
npy 1 "{'descr': '<f8', 'fortran_order': False, }" >bad.npy; wrong bad.npy; says err "and 'shape'"
npy 1 "{'descr': '<f8', 'fortran_order': False, 'shape': (2 2)}" >bad.npy
wrong bad.npy; says err "expected ',' or ')'"
npy 1 "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}" >bad.npy
wrong bad.npy; says err 'fits in 64 bits'
head -c 60 a.npy >bad.npy; wrong bad.npy; says err 'a header that ends in the file'
wrong a.npy --dtype f32; says err 'but --dtype says f32'
wrong none; says err 'No such file'
wrong "$dir"; says err 'regular file'

# ---- the plot, where there is a gnuplot; without one a clear word
if command -v gnuplot >/dev/null 2>&1; then
    run 0 bench sum --size 10k --runs 1 --workers 1,2 --plot plot.svg --format csv; silent err
    grep -q '</svg>' plot.svg || complain 'no picture was drawn'
fi
mkdir empty
PATH=empty "$PARMAP" bench sum --size 10 --runs 1 --plot no.svg >/dev/null 2>err
says err 'gnuplot-nox'

# ---- deaths: of workers, of a path's process, of parmap; results stay right, nothing is left
paths=shm,shm-copy
timeout 60 "$PARMAP" bench actions --path zmq --size 10 --runs 1 >/dev/null 2>err && paths=$paths,zmq
grep -qv 'built without ZeroMQ' err && { complain 'the path zmq'; show err; }
run 0 bench factorize --path $paths --workers 2 --numbers 200003 --size 400 --runs 2 --kill-every 40 --format csv
all true correct
[ "$(column path | tr '\n' ,)" = "$paths," ] || complain "not all of $paths were timed"
for deaths in $(column deaths); do [ "$deaths" -gt 0 ] || complain 'no worker died on a path'; done
for signal in INT:130 TERM:143; do
    timeout --preserve-status -k 20 -s ${signal%:*} 2 "$PARMAP" bench sleep --runs 100 >out 2>err
    status=$?
    [ $status -eq ${signal#*:} ] || complain "after SIG${signal%:*}: status $status"
    none_left || complain "after SIG${signal%:*} $(left) processes are left"
done

# A parmap with one path, and the pid of that path's process: parmap's only child, once that has one (its pool is open).
children() { awk -v parent="$1" '{ sub(/^.*\) . /, "") } $1 == parent { split(FILENAME, part, "/"); print part[3] }' \
    /proc/[0-9]*/stat 2>/dev/null; }
start()
{
    timeout -k 5 60 "$PARMAP" bench sleep --path shm --runs 100 >out 2>err &
    bounded=$!
    await started || complain 'parmap did not start a path'
}
started()
{
    parent=$(children $bounded)
    [ -n "$parent" ] && runner=$(children "$parent") && [ -n "$runner" ] && [ -n "$(children "$runner")" ]
}
start; kill -KILL "$runner"; wait $bounded # SIGSEGV would do, but a sanitizer catches it
[ $? -eq 1 ] || complain 'a path whose process dies should end in status 1'
says err 'sleep on shm with 10 workers: its process was ended by signal 9 '
none_left || complain "after a path's death $(left) processes are left"
start; kill -KILL "$parent"; { wait $bounded; } 2>/dev/null
gone 'after the death of parmap'

finish
