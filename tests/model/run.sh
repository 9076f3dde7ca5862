#!/bin/sh
# Checks the models of the claim protocol, of the queue and of tasks with Spin: every good configuration must be searched completely without an error, every mutant
# must be caught.  One line each: ok/FAILED name states seconds.  With names as arguments, runs only those.
# Exit: 0 all as it must be, 1 not, 77 Spin or a C compiler is missing.
set -u

folder=$(cd "$(dirname "$0")" && pwd)
model=$folder/job.pml
compiler=${CC:-cc}
command -v spin >/dev/null 2>&1 || { echo "spin is not installed: skipped"; exit 77; }
command -v "${compiler%% *}" >/dev/null 2>&1 || { echo "$compiler is not installed: skipped"; exit 77; }

# Without names: all of them, as many at a time as there are CPUs, each by another run of this script.
if [ $# -eq 0 ]; then
    cpus=$(nproc 2>/dev/null || echo 1)
    if grep -Eo '^ *run (good|mutant) [a-zA-Z_-]+' "$0" | awk '{ print $3 }' | xargs -P "$cpus" -n 1 sh "$0"; then exit 0; fi
    exit 1
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1
status=0
only=" $* "

# run good|mutant NAME DEFINITION...: a good one must be complete with 0 errors, a mutant must end in an error.
run()
{
    kind=$1
    name=$2
    shift 2
    case $only in
    "  " | *" $name "*) ;;
    *) return ;;
    esac
    rm -f ./pan* log
    began=$(date +%s)
    if [ "$kind" = good ]; then optimise=-O2; else optimise=-O0; fi # a mutant takes longer to compile than to be caught
    if spin -a "$@" "$model" >log 2>&1 &&
        $compiler "$optimise" -w -DSAFETY -DVECTORSZ=512 -DMEMLIM=3500 -o pan pan.c >>log 2>&1; then
        ./pan -m100000 >log 2>&1
    fi
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log)
    errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
    # "Search not completed" is also said of a search that stopped at its first error, hence it counts for good ones only.
    if grep -Eq 'Search not completed|max search depth too small|out of memory' log; then whole=no; else whole=yes; fi
    case $kind,$whole,${errors:-none} in
    good,yes,0 | mutant,*,[1-9]*) verdict=ok ;;
    *) verdict=FAILED status=1 ;;
    esac
    echo "$verdict $name ${states:-?} $(($(date +%s) - began))"
    if [ "$verdict" = FAILED ]; then grep -E 'rror|pan:|depth' log | head -n 5 >&2; fi
}

one="-DN11=1 -DN12=0 -DN21=2 -DN22=0"    # a job of one chunk, then one of two
moves="-DN11=1 -DN12=1 -DN21=1 -DN22=0"  # two rounds of one chunk, then another job
grows="-DN11=1 -DN12=0 -DN21=1 -DN22=2"  # the second use of a parity has more chunks than the first
single="-DJOBS=1 -DN12=0"
slots="-DITEMS=2 $single -DN11=1"        # one chunk of two items

# shellcheck disable=SC2086  # the lists of definitions are meant to be split
{
    run good rounds -DSPLIT
    run good sizes -DSPLIT $grows
    run good failed -DMAXA=1
    run good deaths -DKILLS=2 -DJOBS=1 -DN11=1 -DN12=1
    run good cancel -DCANCELS=1 $moves
    run good stop -DCANCELS=1 -DSTOP $single -DN11=2
    run good ranges -DRANGES $one
    run good items -DKILLS=2 $slots
    run good deadline -DKILLS=0 -DDEADLINES=1 -DMAXA=1 -DITEMS=2
    run good deadline-death -DDEADLINES=1 -DJOBS=1 -DN11=1 -DN12=1
    run good store-commit -DBLIND_COMMIT -DKILLS=2 -DJOBS=1 -DN11=1 -DN12=1 # what the code does: right as long as the living are left alone
    run good store-cancel -DBLIND_COMMIT -DCANCELS=1 $moves
    run good DEATHS_AFTER -DDEATHS_AFTER # the order within a repair does not matter, see README.md

    run mutant NO_ROUND_TAG -DNO_ROUND_TAG
    run mutant NEWER_IS_FREE -DNEWER_IS_FREE
    run mutant NO_HEAD_RECHECK -DNO_HEAD_RECHECK -DKILLS=0 $grows
    run mutant REPAIR_ALIVE -DREPAIR_ALIVE
    run mutant BLIND_COMMIT -DREPAIR_ALIVE -DBLIND_COMMIT
    run mutant COUNT_ONLY -DCOUNT_ONLY
    run mutant UNTAGGED_LEFT -DUNTAGGED_LEFT
    run mutant DEATHS_AFTER_WAKE -DDEATHS_AFTER_WAKE
    run mutant LATE_KEY -DLATE_KEY
    run mutant NO_CALLER_WAKE -DNO_CALLER_WAKE
    run mutant REPAIR_KEEPS_MOVING -DREPAIR_KEEPS_MOVING
    run mutant CANCEL_STORES -DCANCEL_STORES -DCANCELS=1
    run mutant CANCEL_OVERTAKES -DCANCEL_OVERTAKES -DCANCELS=1
    run mutant SWEEP_ONCE -DSWEEP_ONCE -DCANCELS=1 $moves
    run mutant RANGE_NEWER_IS_OLD -DRANGE_NEWER_IS_OLD -DRANGES -DKILLS=0 $one
    run mutant CHARGE_INNOCENT -DCHARGE_INNOCENT -DKILLS=0 -DDEADLINES=1 -DMAXA=1
    run mutant AT_AFTER_CLAIM -DAT_AFTER_CLAIM -DITEMS=2
    run mutant CHARGE_NEXT -DCHARGE_NEXT -DKILLS=2 $slots
}

# The queue of shm/queue.c.
model=$folder/queue.pml
{
    run good queue-join -DJOIN -DC=2 -DM=2
    run good queue-join-death -DJOIN -DC=1 -DM=1 -DKILLS=1
    run good queue-order -DM=3
    run good queue-deaths -DKILLS=2
    run good queue-producers -DNP=2 -DM=1 -DKILLS=1
    run good queue-consumers -DNC=2 -DC=1 -DM=2
    run good queue-consumers-death -DNC=2 -DC=1 -DM=1 -DKILLS=1
    run good queue-close -DNP=2 -DC=1 -DM=1 -DCLOSE_ANY -DKILLS=1

    run mutant queue-NO_KEY_CHECK -DNO_KEY_CHECK -DJOIN
    run mutant queue-NO_BEFORE -DNO_BEFORE -DM=3
    run mutant queue-NO_FENCE -DNO_FENCE
    run mutant queue-NO_MEND -DNO_MEND -DKILLS=1
    run mutant queue-TAKE_FIRST -DTAKE_FIRST -DC=1
    run mutant queue-LATE_KEY -DLATE_KEY -DC=1
    run mutant queue-NO_RECHECK -DNO_RECHECK -DCLOSE_ANY -DC=1 -DM=1
    run mutant queue-NO_DRAIN_WAKE -DNO_DRAIN_WAKE -DNC=2 -DC=1 -DM=1
    run mutant queue-OPEN_AFTER -DOPEN_AFTER -DJOIN -DC=1 -DM=1
    run mutant queue-MEMBERS_FIRST -DMEMBERS_FIRST -DJOIN -DC=1 -DM=1
}

# The tasks of workers/tasks.c.
model=$folder/task.pml
task="-DENTRIES=1 -DSUBMITS=1"
# shellcheck disable=SC2086  # the lists of definitions are meant to be split
{
    run good task-death $task -DKILLS=1
    run good task-failed $task -DKILLS=1 -DRETRIES=0
    run good task-again -DENTRIES=1 -DSUBMITS=2 -DKILLS=1
    run good task-two -DKILLS=0
    run good task-cancel -DENTRIES=1 -DSUBMITS=2 -DKILLS=0 -DCANCELS=1
    run good task-kill $task -DKILLS=0 -DENDS=1 -DENDLESS

    run mutant task-NO_ORPHAN -DNO_ORPHAN $task -DKILLS=1
    run mutant task-LATE_SPOT -DLATE_SPOT $task -DKILLS=1
    run mutant task-NO_REPAIR_HINT -DNO_REPAIR_HINT $task -DKILLS=1
    run mutant task-ORPHANS_STORE -DORPHANS_STORE $task -DKILLS=2
    run mutant task-NO_LIMBO -DNO_LIMBO -DSUBMITS=3 -DKILLS=0 -DCANCELS=2
    run mutant task-BLIND_CLAIM -DBLIND_CLAIM $task -DKILLS=0 -DCANCELS=1
    run mutant task-RETRY_DOOMED -DRETRY_DOOMED $task -DKILLS=1 -DENDS=1 -DENDLESS
    run mutant task-ORDER_FIRST -DORDER_FIRST $task -DKILLS=0 -DENDS=1 -DENDLESS
    run mutant task-NO_LOST -DNO_LOST -DKILLS=0
}
exit $status
