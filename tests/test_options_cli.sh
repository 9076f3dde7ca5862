#!/bin/sh
# What a user reads of the options of parmap: refusals that name the wrong word and what was expected, --help, the
# manual page's list, and completions of shells; a shell that is not installed is not asked.  What values become is in test_options_batch.c.
. "$(dirname "$0")/harness.sh"

# refuse WORDS TEXT...: status 2, nothing on standard output, every TEXT in the message
refuse()
{
    # shellcheck disable=SC2086
    run 2 $1
    [ ! -s out ] || complain "parmap $1: expected nothing on standard output"
    shift
    for text in "$@"; do tells err "$text"; done
}

# ---- refusals: the wrong word, what was expected, and where to read more
refuse 'run --jbos 4 echo' "unknown option '--jbos', did you mean '--jobs'?" 'try: parmap help run'
refuse 'pipe --blok 1M cat' "'--blok', did you mean '--block'?" 'try: parmap help pipe'
refuse '--jbos 4 echo' "did you mean '--jobs'?" 'try: parmap help run'
refuse 'run --keep echo' "unknown option '--keep'"
refuse 'run -kZ echo' "unknown option '-Z'"
refuse 'run -keep echo' "unknown option '-e'"
refuse 'run --tag=x echo' '--tag takes no argument' "'x'"
refuse 'run --timeout' '--timeout needs an argument: --timeout TIME'
refuse 'run -j' '-j needs an argument: -j N'
refuse 'run --block 1M echo' "unknown option '--block'"
refuse 'rnu' "unknown command 'rnu', did you mean 'run'?"
refuse 'run' 'no command was given (with --shell each line may be a command)'
refuse 'pipe' 'no command was given'
refuse 'call' 'LIB.so:FUNCTION'
refuse 'call lib.so' "'lib.so'" 'LIB.so:FUNCTION'
refuse 'pipe cat ::: a' "':::' is not expected" "'::::'"
refuse 'echo :::+ a' "':::+' has no source before it"
refuse 'echo ::::' "'::::' needs the name of a file"
refuse '-a - echo :::: -' "'-': standard input can be read by one source only"
refuse 'completion' 'bash, zsh or fish'
refuse 'completion bahs' "'bahs', did you mean 'bash'?"
refuse 'help --man' 'parmap help --man run'
value() { refuse "run $1 $2 echo" "$1: '${4-$2}' is not $3"; }
value --delimiter ab 'one byte'
value --max-args 0 'a whole number from 1 on'
value --max-chars x 'a whole number from 1 on'
value --colsep 'x*' 'a regular expression that divides columns: it matches an empty text'
value --colsep '(' 'an extended regular expression: '
value --header 1 "':'"
value --window 1T 'a number of bytes'
value --jobs none 'a number up to 65536, N%, +N, 0 or the name of a file that can be read'
value --timeout 1x 'a time such as 30, 1.5, 2m, 1h or 1d, or more than 100%'
value --retries 0 'how often a job is run in all'
value --retry-delay 1,2 'a time, and perhaps a factor'
value --halt later,fail=1 'never, now or soon' later
value --halt now,flop=1 'fail, success or done' flop
value --halt now,fail=x 'a number of jobs from 1 on, or N%' x
value --nice 20 'a niceness from -20 to 19'
value --load none 'a load average'
value --exit all 'xargs or count'
clash() { refuse "$1" "$2 does not go with $3: "; }
clash 'run -X -n3 echo' '--context (-X)' '--max-args (-n)'
clash 'run --csv -0 echo' --csv '--null (-0)'
clash 'run -uk echo' '--ungroup (-u)' '--keep-order (-k)'
clash 'run --tag -u echo' '--ungroup (-u)' --tag
clash 'pipe --filter -k cat' --filter '--keep-order (-k)'
clash 'pipe --filter --group cat' --filter --group
clash 'pipe --filter --retries 2 cat' --filter --retries
clash 'pipe --filter --joblog x --resume cat' --filter --resume
clash 'pipe --filter --joblog x --resume-failed cat' --filter --resume-failed
clash 'pipe --filter --dry-run cat' --filter --dry-run
clash 'pipe --filter --jobserver cat' --filter --jobserver
refuse 'pipe --joblog x --retry-failed cat' "unknown option '--retry-failed'"
refuse 'run --resume echo' '--resume needs --joblog'
refuse 'run --resume-failed --results dir echo' '--resume-failed needs --joblog'
refuse 'run --retry-delay 1 echo' '--retry-delay needs --retries'

# ---- help: `help X` is `X --help`, under headings; help and the manual page have the same options
for command in run pipe call bench info completion help; do
    run 0 help $command; cp out "help.$command"
    [ ! -s err ] || { complain "help $command: expected nothing on standard error"; show err; }
    for option in --help -h; do
        run 0 $command $option
        cmp -s out "help.$command" || complain "'help $command' and '$command $option' differ"
    done
    run 0 help --man $command; cp out "man.$command"
done
headings() { sed -n 's/^\([A-Z][a-z]*\):$/\1/p' "help.$1" | tr '\n' ' '; }
[ "$(headings run)" = 'Input Output Control Record Show Other ' ] || complain "headings of run: $(headings run)"
[ "$(headings call)" = 'Input Output Control Show Other ' ] || complain "headings of call: $(headings call)"
[ "$(headings bench)" = 'Options Other ' ] || complain "headings of bench: $(headings bench)"
grep -q '^  -j, -P, --jobs N  ' help.run || complain 'help run does not show -j'
awk 'length > 120 { exit 1 }' help.* || complain 'a line of help is too long'
run 0 -k --help; tells out 'Usage: parmap COMMAND'
run 0 --help pipe; cmp -s out help.pipe || complain "'--help pipe' and 'help pipe' differ"
run 0 -V; tells out 'parmap '

tags() { sed -n '/^\.TP$/{n;/^\.B \\-/p;}'; }
cat man.* | tags | sort -u >table
awk '/^\.SH/ { on = /^\.SH OPTIONS/ } on' "$srcdir/man/parmap.1" | tags | sort -u >page
[ "$(wc -l <table)" -ge 70 ] || complain 'help --man lists too little'
diff table page >diff ||
    { complain 'options (<) and the entries of parmap.1 (>) differ'; show diff; }
tags <man.run | grep -qFx '.B \-j\fR, \fB\-P\fR, \fB\-\-jobs\fR, \fB\-\-max\-procs \fIN' ||
    complain 'the entry of -j'

# ---- completions: every option is in each script, and each shell understands its own
for shell in bash zsh fish; do
    run 0 completion $shell; cp out "completion.$shell"
    [ ! -s err ] || { complain "completion $shell: expected nothing on standard error"; show err; }
    case $shell in
    bash) before="[ ']--" after=' ' ;;
    zsh) before=')--' after='=\{0,1\}\[' ;;
    fish) before=' -l ' after=' ' ;;
    esac
    for option in $(sed -n 's/^ .* --\([a-z-]*\) .*/\1/p' help.*); do
        grep -q -e "$before$option$after" -e "'\*--$option" "completion.$shell" ||
            complain "completion $shell does not know --$option"
    done
done

if command -v bash >/dev/null; then
    bash -n completion.bash || complain 'bash does not understand its completion'
    cat >ask <<'BASH'
. "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
_parmap parmap "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
BASH
    # offers WORD WORD...: the first word is among what is offered for the others; ! offers: it is not
    offers()
    {
        expected=$1
        shift
        bash ask completion.bash "$@" 2>err >offered
        [ ! -s err ] || { complain "bash: $*"; show err; }
        grep -qxFe "$expected" offered
    }
    offer() { offers "$@" || { complain "bash: '$1' is not offered for '$*'"; show offered; }; }
    withhold() { ! offers "$@" || { complain "bash: '$1' is offered for '$*'"; show offered; }; }
    offer --keep-order parmap run --ke
    offer --keep-order parmap --ke
    offer -j parmap run -
    withhold --block parmap run --
    offer --block parmap pipe --bl
    offer --filter parmap pipe -k -j 4 --f
    withhold --filter parmap pipe cat --f # behind the command's first word its own options begin
    withhold --jobs parmap run -- cat --j
    offer bench parmap be
    offer sort parmap so
    withhold bench parmap run be
    offer factorize parmap bench fa
    offer shm-copy parmap bench --path sh
    offer json parmap bench --format = js
    offer json parmap bench --format =
    offer count parmap --exit c
    offer completion.bash parmap -k -a comp
    offer completion.bash parmap call comp
    withhold completion.bash parmap run --timeout comp
    offer pipe parmap help pi
    offer fish parmap completion f
fi
if command -v zsh >/dev/null; then
    zsh -n completion.zsh || complain 'zsh does not understand its completion'
fi
if command -v fish >/dev/null; then
    HOME=$dir fish --no-execute completion.fish || complain 'fish does not understand its completion'
    fish_offers()
    {
        HOME=$dir fish --no-config -c "source $dir/completion.fish; complete -C '$2'" >offered 2>&1
        cut -f 1 offered | grep -qxFe "$1" || { complain "fish: '$1' is not offered for '$2'"; show offered; }
    }
    fish_offers --keep-order 'parmap run --ke'
    fish_offers --block 'parmap pipe --bl'
    fish_offers factorize 'parmap bench fa'
    fish_offers bench 'parmap be'
fi

finish
