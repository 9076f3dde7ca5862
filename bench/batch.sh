#!/bin/bash
# What `parmap run`, `pipe` and `call` cost beside xargs and GNU parallel, whichever of them is installed: each row is two commands, run in
# turn so that a noisy machine is fair to both; medians, and the median of the ratios of neighbours.
#
#     bench/batch.sh [-r RUNS] [-p PARMAP] [ROW...]       rows: true start order log lines pipe call
#
# The row true also has the bare limit, spawn.c: posix_spawn() and waitpid() alone, by one thread a CPU.  How much of that rate parmap
# reaches is its own affair; how much faster than xargs the limit itself is, is the machine's: nothing can be faster than xargs by more.
#
# Data is made in a new folder under $TMPDIR, 400 MB for the rows pipe and call, and removed again.
set -u
runs=5 parmap=parmap
while getopts r:p: option; do
    case $option in r) runs=$OPTARG ;; p) parmap=$OPTARG ;; *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
done
shift $((OPTIND - 1))
parmap=$(command -v "$parmap") && parmap=$(realpath "$parmap") || { echo "batch.sh: no parmap: -p PATH" >&2; exit 2; }
rows=${*:-true start order log lines pipe call}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
source=${PMAP_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
here=$(cd "$(dirname "$0")" && pwd)
cd "$dir" || exit 1
export LC_ALL=C
cpus=$(nproc)
have() { command -v "$1" >/dev/null; }
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
now() { echo "${EPOCHREALTIME/./}"; }
once() { local t=$(now); eval "$1" >/dev/null 2>>errors; echo $(($(now) - t)); }

# row NAME TARGET LEFT RIGHT: microseconds of both, and how many times as long RIGHT takes; TARGET is for people.
row()
{
    local l r i
    : >left; : >right; : >ratio
    once "$3" >/dev/null
    once "$4" >/dev/null
    for i in $(seq "$runs"); do
        l=$(once "$3") r=$(once "$4")
        echo "$l" >>left; echo "$r" >>right
        awk -v l="$l" -v r="$r" 'BEGIN { print r / l }' >>ratio
    done
    printf '%-46s %9.1f ms %9.1f ms  x %-7.2f %s\n' "$1" "$(awk -v v="$(median <left)" 'BEGIN { print v / 1000 }')" \
        "$(awk -v v="$(median <right)" 'BEGIN { print v / 1000 }')" "$(median <ratio)" "$2"
}

printf '%-46s %12s %12s  %s\n' "parmap / other" "parmap" "other" "times as fast, and what is aimed at"
P="$parmap run -j$cpus"
lines() { [ -f lines ] || yes "$(head -c 99 /dev/zero | tr '\0' x)" | head -n 4000000 >lines; cat lines >/dev/null; }
for name in $rows; do
    case $name in
    true)
        seq 20000 >many; seq 2000 >some
        row "20,000 x /bin/true / xargs -P$cpus -n1" ">= 1.6" "$P /bin/true <many" "xargs -P$cpus -n1 /bin/true <many"
        if ${CC:-cc} -O2 -pthread "$here/spawn.c" -o spawn; then
            row "the same / posix_spawn(), $cpus threads" ">= 0.9" "$P /bin/true <many" "./spawn 20000 $cpus"
            row "posix_spawn(), $cpus threads / xargs -P$cpus -n1" "(the most that is possible)" "./spawn 20000 $cpus" "xargs -P$cpus -n1 /bin/true <many"
        fi
        have parallel && row "2,000 x /bin/true / GNU parallel" ">= 10" "$P /bin/true <some" "parallel -j$cpus /bin/true <some"
        ;;
    start)
        row "from start to the end of one command / xargs" "<= 4 ms" "$P true ::: a" "echo a | xargs true"
        have parallel && row "the same / GNU parallel" "" "$P true ::: a" "parallel true ::: a"
        ;;
    order)
        seq 5000 >some
        row "5,000 x echo with -k / without" "(<= 5 % slower)" "$P -k echo <some" "$P echo <some"
        ;;
    log)
        seq 5000 >some
        row "5,000 x echo with --joblog / without" "(<= 5 % slower)" "rm -f log; $P --joblog log echo <some" "$P echo <some"
        ;;
    lines)
        seq 10000000 >many
        row "10,000,000 lines through -X true / xargs" ">= 2" "$P -X true <many" "xargs -d'\\n' true <many"
        ;;
    pipe)
        lines
        have parallel && row "pipe, 400 MB, file / parallel --pipepart" ">= 2" "$parmap pipe --block 10M -j$cpus -a lines wc -l" \
            "parallel -j$cpus --block 10M --pipepart -a lines wc -l"
        have parallel && row "pipe, 400 MB, a pipe / parallel --pipe" ">= 3" "cat lines | $parmap pipe --block 10M -j$cpus wc -l" \
            "cat lines | parallel -j$cpus --block 10M --pipe wc -l"
        ;;
    call)
        lines
        printf '#include <pmap/call.h>\nint none(parmap_call *c, const char *r, size_t n) { (void)c; (void)r; (void)n; return 0; }\n' >none.c
        # The header of the installed parmap, or of the tree that this script lies in.
        ${CC:-cc} -O2 -shared -fPIC -I"$(dirname "$parmap")/../include" -I"$source" none.c -o none.so ||
            { echo "call: pmap/call.h was not found: set PMAP_SOURCE"; continue; }
        row "call of a function that does nothing / wc -l" "(<= 1.2 x as long)" "$parmap call -j$cpus ./none.so:none lines" "wc -l lines"
        ;;
    *) echo "batch.sh: no row '$name'" >&2; exit 2 ;;
    esac
done
[ ! -s errors ] || { echo "on standard error:"; sort errors | uniq -c | head -n 5; } >&2
