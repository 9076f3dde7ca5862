# What the tests that are shell scripts share, as tests/harness.h is for those in C: a folder, bounded ways to run the
# program and to wait, to say what is wrong, and a check that nothing is left.  Such a script begins with
#     . "$(dirname "$0")/harness.sh"
# and ends with the word finish.  It works in any POSIX shell; where that is bash, a complaint tells its line too.
#
# PARMAP names the program, srcdir the sources and builddir the build, as "make check" sets them; here they become
# absolute.  The current folder is then $dir, new and empty, standard input has nothing, and no make is above us.
PARMAP=$(realpath "${PARMAP:-./parmap}")
srcdir=$(realpath "${srcdir:-$(dirname "$0")/..}")
builddir=$(realpath "${builddir:-.}")
harness=$(mktemp -d) || exit 1
# No variable, which would be lost where a complaint comes from a subshell, such as behind a pipe.
harness_failed=$harness/failed
trap 'cd / && rm -rf "$harness"' EXIT
dir=$harness/$(basename "$0" .sh)
mkdir "$dir" && cd "$dir" || exit 1
exec </dev/null
# Whatever is started from here on inherits this, so that any of it that is left can be found.
PARMAP_TEST_MARK=mark-$$-$(basename "$harness")
LC_ALL=C TMPDIR=$dir
export PARMAP LC_ALL TMPDIR PARMAP_TEST_MARK
unset MAKEFLAGS MFLAGS MAKELEVEL COLUMNS

# The line of the script that called, however deep in functions we are.
line()
{
    command -v caller >/dev/null || return 0
    frame=0 called=
    while called=$(caller $frame); do outermost=${called%% *} frame=$((frame + 1)); done
    echo "line $outermost: "
}
complain() { echo "$(basename "$0" .sh): $(line)$*"; : >"$harness_failed"; }
show() { head -n 20 "$1" | cut -c 1-300 | sed 's/^/    /'; }

parmap() { timeout -k 5 60 "$PARMAP" "$@"; }
# run EXPECTED-STATUS WORD...: then its output is in the files out and err, and its status in $status.
run()
{
    expected=$1
    shift
    parmap "$@" >out 2>err
    status=$?
    [ $status -eq "$expected" ] || { complain "parmap $*: status $status, expected $expected"; show err; }
}
# In all of these, WHAT is what it is about.
# says FILE PATTERN [WHAT]; tells FILE TEXT [WHAT]: that is somewhere in the file.
says() { grep -qe "$2" "$1" || { complain "${3:+$3: }expected '$2' in $1"; show "$1"; }; }
tells() { grep -qFe "$2" "$1" || { complain "${3:+$3: }expected '$2' in $1"; show "$1"; }; }
# is TEXT [FILE]: that is all there is in the file, or in out; printf understands the text.
is() { printf "$1" | cmp -s - "${2:-out}" || { complain "${2:-out} is"; show "${2:-out}"; }; }
# same FILE FILE [WHAT]
same() { cmp -s "$1" "$2" || complain "${3:+$3: }$1 and $2 differ: $(cmp "$1" "$2" 2>&1)"; }

# await COMMAND...: until it succeeds, for 20 s at the most.
await()
{
    turns=1000
    while ! "$@"; do
        [ $turns -gt 0 ] || return 1
        turns=$((turns - 1))
        sleep 0.02
    done
}
waits_for() { for name; do await test -e "$name" || complain "no $name"; done; } # waits_for FILE...

# The processes that we started and that still run.  One that has ended and waits for its parent has no environment,
# and is not among them; nor is this shell, which had no mark when it was started, or what looks, which is younger than
# the names.
ours()
{
    set -- /proc/[0-9]*/environ
    echo $(grep -lsF "PARMAP_TEST_MARK=$PARMAP_TEST_MARK" "$@" | tr -dc '0-9\n')
}
left() { set -- $(ours); echo $#; }
none_left() { [ -z "$(ours)" ]; }
# gone WHAT: soon none is left.  One that is, is ended, so that it does not outlive the test.
gone()
{
    await none_left && return
    for process in $(ours); do
        complain "$1: a process is left: $process, $(tr '\0' ' ' <"/proc/$process/cmdline")"
        kill -KILL "$process"
    done
}

finish()
{
    gone 'the end'
    ! ls | grep '^pmap-' || complain 'files of the library are left'
    [ ! -e "$harness_failed" ]
    exit
}
