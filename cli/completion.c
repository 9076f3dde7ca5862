/* Scripts from the option table that teach bash, zsh and fish to complete the words of parmap.  See options.h. */
#include "cli/option.h"

#include <string.h>

/* The words of ours that a command takes; none for those that take programs, files or nothing. */
static void print_words(FILE *file, enum command command)
{
    if (command == COMMAND_BENCH)
        for (int i = 0; i < WORKLOADS; i++) fprintf(file, "%s%s", i ? " " : "", workload_names[i]);
    if (command == COMMAND_HELP)
        for (int i = 0; i < COMMANDS; i++) fprintf(file, "%s%s", i ? " " : "", command_table[i].name);
    if (command == COMMAND_COMPLETION)
        for (int i = 0; i < SHELLS; i++) fprintf(file, "%s%s", i ? " " : "", shell_names[i]);
}

static void print_commands(FILE *file, const char *between)
{
    for (int c = 0; c < COMMANDS; c++) fprintf(file, "%s%s", c ? between : "", command_table[c].name);
}

/* ---- bash ---- */

static const char bash_begin[] =
    "# Completion of parmap for bash, as `parmap completion bash` prints it.\n"
    "_parmap()\n"
    "{\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=run first=1\n"
    "    local options takers words= i\n"
    "    COMPREPLY=()\n"
    "    # bash makes three words of --option=value.\n"
    "    if [[ $word == '=' ]]; then word=\n"
    "    elif [[ $before == '=' ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n"
    "    if ((COMP_CWORD > 1)); then\n"
    "        case ${COMP_WORDS[1]} in\n"
    "        ";
static const char bash_command[] =
    ") command=${COMP_WORDS[1]} first=2 ;;\n        esac\n    fi\n    case $command in\n";
static const char bash_program[] = "    esac\n"
                                   "    if [[ $command == run || $command == pipe ]]; then\n"
                                   "        # The first word that is neither an option nor its argument begins a "
                                   "command with completions of its own.\n"
                                   "        for ((i = first; i < COMP_CWORD; i++)); do\n"
                                   "            [[ ${COMP_WORDS[i]} == -- ]] && { ((i++)); break; }\n"
                                   "            [[ ${COMP_WORDS[i]} == -?* ]] || break\n"
                                   "            [[ $takers == *\" ${COMP_WORDS[i]} \"* ]] || continue\n"
                                   "            ((++i < COMP_CWORD)) && [[ ${COMP_WORDS[i]} == '=' ]] && ((i++))\n"
                                   "        done\n"
                                   "        if ((i < COMP_CWORD)); then\n"
                                   "            if declare -F _command_offset >/dev/null; then _command_offset \"$i\"\n"
                                   "            else mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                                   "            fi\n"
                                   "            return\n"
                                   "        fi\n"
                                   "    fi\n"
                                   "    case $command:$before in\n";
static const char bash_end[] =
    "    esac\n"
    "    [[ $takers == *\" $before \"* ]] && return\n"
    "    if [[ $word == -* ]]; then words=$options\n"
    "    elif [[ $command == call ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
    "        return\n"
    "    fi\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
    "    if [[ $word != -* && ($command == run || $command == pipe) ]]; then\n"
    "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -c -- \"$word\")\n"
    "    fi\n"
    "}\n"
    "complete -F _parmap parmap\n";

static void bash_names(FILE *file, enum command command, bool with_argument)
{
    for (size_t i = 0; i < option_count; i++) {
        struct option_name names[MOST_NAMES];
        size_t n = option_names(&option_table[i], names);

        if (!option_of(command, &option_table[i]) || (with_argument && !option_table[i].argument)) continue;
        for (size_t k = 0; k < n; k++) fprintf(file, "%s ", names[k].text);
    }
}

/* The options whose arguments can be completed. */
static void bash_arguments(FILE *file, enum command command)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        struct option_name names[MOST_NAMES];
        size_t n = option_names(o, names);

        if (!option_of(command, o) || !(o->values || option_takes_file(o))) continue;
        for (size_t k = 0; k < n; k++)
            fprintf(file, "%s%s:%s", k ? "|" : "    ", command_table[command].name, names[k].text);
        if (o->values)
            fprintf(file, ") mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$word\"); return ;;\n", o->values);
        else
            fputs(")\n        compopt -o filenames 2>/dev/null\n"
                  "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n        return ;;\n", file);
    }
}

static void bash(FILE *file)
{
    fputs(bash_begin, file);
    print_commands(file, "|");
    fputs(bash_command, file);
    for (int c = 0; c < COMMANDS; c++) {
        fprintf(file, "    %s)\n        options='", command_table[c].name);
        bash_names(file, (enum command)c, false);
        fputs("'\n        takers=' ", file);
        bash_names(file, (enum command)c, true);
        fputs("'\n        words='", file);
        print_words(file, (enum command)c);
        fputs("' ;;\n", file);
    }
    fputs(bash_program, file);
    for (int c = 0; c < COMMANDS; c++) bash_arguments(file, (enum command)c);
    fputs("    run:*) ((COMP_CWORD == 1)) && words='", file);
    print_commands(file, " ");
    fputs("' ;;\n", file);
    fputs(bash_end, file);
}

/* ---- zsh ---- */

/* Inside single quotes and the brackets or colons of a specification. */
static void zsh_text(FILE *file, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'') fputs("'\\''", file);
        else {
            if (strchr("[]:\\", *text)) fputc('\\', file);
            fputc(*text, file);
        }
    }
}

static void zsh_option(FILE *file, const struct option *o)
{
    struct option_name names[MOST_NAMES];
    size_t n = option_names(o, names);

    for (size_t k = 0; k < n; k++) {
        fputs(" \\\n            '", file);
        /* Who has given an option is not offered its other names; -a may be given again. */
        if (o->set == set_arg_file) fputc('*', file);
        else {
            for (size_t other = 0; other < n; other++) fprintf(file, "%s%s", other ? " " : "(", names[other].text);
            fputc(')', file);
        }
        fprintf(file, "%s%s[", names[k].text, !o->argument ? "" : names[k].text[1] == '-' ? "=" : "+");
        zsh_text(file, o->help);
        fputc(']', file);
        if (o->argument) {
            fputc(':', file);
            zsh_text(file, o->argument);
            fputc(':', file);
            if (o->values) {
                fputc('(', file);
                zsh_text(file, o->values);
                fputc(')', file);
            } else fputs(option_takes_file(o) ? "_files" : " ", file);
        }
        fputc('\'', file);
    }
}

static void zsh(FILE *file)
{
    fputs("#compdef parmap\n# Completion of parmap for zsh, as `parmap completion zsh` prints it.\n_parmap()\n{\n"
          "    local command=run\n    local -a ours\n    ours=(\n", file);
    for (int c = 0; c < COMMANDS; c++) {
        fprintf(file, "        '%s:", command_table[c].name);
        zsh_text(file, command_table[c].help);
        fputs("'\n", file);
    }
    fputs("    )\n    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then\n"
          "        _describe -t commands 'command of parmap' ours\n        _command_names -e\n        return\n    fi\n"
          "    case $words[2] in\n    ", file);
    print_commands(file, "|");
    fputs(") command=$words[2]; shift words; ((CURRENT--)) ;;\n    esac\n    case $command in\n", file);
    for (int c = 0; c < COMMANDS; c++) {
        bool program = c == COMMAND_RUN || c == COMMAND_PIPE;

        /* Behind the first word of a command options are the command's. */
        fprintf(file, "    %s)\n        _arguments -s -S%s :", command_table[c].name, program ? " -A '-*'" : "");
        for (size_t i = 0; i < option_count; i++)
            if (option_of((enum command)c, &option_table[i])) zsh_option(file, &option_table[i]);
        if (program) fputs(" \\\n            '(-)1:program:_command_names -e' '*::word:_normal'", file);
        else if (c == COMMAND_CALL) fputs(" \\\n            '*:file:_files'", file);
        else if (c != COMMAND_INFO) {
            fputs(" \\\n            '*:word:(", file);
            print_words(file, (enum command)c);
            fputs(")'", file);
        }
        fputs(" ;;\n", file);
    }
    fputs("    esac\n}\n"
          "if [[ $funcstack[1] == _parmap ]]; then _parmap \"$@\"; else compdef _parmap parmap; fi\n", file);
}

/* ---- fish ---- */

static void fish_text(FILE *file, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\') fputc('\\', file);
        fputc(*text, file);
    }
}

static void fish_option(FILE *file, const char *command, const struct option *o)
{
    struct option_name names[MOST_NAMES];
    size_t n = option_names(o, names);

    fprintf(file, "complete -c parmap -n '__parmap_is %s'", command);
    for (size_t k = 0; k < n; k++) {
        if (names[k].text[1] == '-') fprintf(file, " -l %s", names[k].text + 2);
        else fprintf(file, " -s %s", names[k].text + 1);
    }
    if (o->argument) fputs(option_takes_file(o) ? " -r -F" : " -x", file);
    if (o->values) fprintf(file, " -a '%s'", o->values);
    fputs(" -d '", file);
    fish_text(file, o->help);
    fputs("'\n", file);
}

static void fish(FILE *file)
{
    fputs("# Completion of parmap for fish, as `parmap completion fish` prints it.\n"
          "function __parmap_is --description 'Is the command line about this command of parmap?'\n"
          "    set -l words (commandline -opc)\n    set -l command run\n"
          "    if set -q words[2]; and contains -- $words[2] ", file);
    print_commands(file, " ");
    fputs("\n        set command $words[2]\n    end\n    test $command = $argv[1]\nend\n", file);
    for (int c = 0; c < COMMANDS; c++) {
        const char *name = command_table[c].name;
        bool files = c == COMMAND_RUN || c == COMMAND_PIPE || c == COMMAND_CALL;

        fprintf(file, "complete -c parmap -n 'test (count (commandline -opc)) -eq 1' -a %s -d '", name);
        fish_text(file, command_table[c].help);
        fputs("'\n", file);
        if (!files) {
            fprintf(file, "complete -c parmap -n '__parmap_is %s' -f -a '", name);
            print_words(file, (enum command)c);
            fputs("'\n", file);
        } else if (c != COMMAND_CALL) {
            fprintf(file, "complete -c parmap -n '__parmap_is %s' -a '(__fish_complete_command)'\n", name);
        }
        for (size_t i = 0; i < option_count; i++)
            if (option_of((enum command)c, &option_table[i])) fish_option(file, name, &option_table[i]);
    }
}

void options_completion(FILE *file, enum shell shell)
{
    if (shell == SHELL_BASH) bash(file);
    if (shell == SHELL_ZSH) zsh(file);
    if (shell == SHELL_FISH) fish(file);
}
