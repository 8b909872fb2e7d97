/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions for bash, zsh and fish, from the tables of options. They are printed when twinlog is built, and
 * installed where each shell looks for them.
 */
#include "options.h"

#include <stdio.h>
#include <string.h>

/* ---- what is completed ------------------------------------------------------------------------- */

static bool has_words(const struct option_row *row)
{
    return row->argument && strchr(row->argument, '|');
}

static bool is_directory(const struct option_row *row)
{
    return row->argument && strcmp(row->argument, "NEW") == 0;
}

static bool takes_file(const struct command *command)
{
    return command == &sink_command;
}

/* The words of an argument, with blanks between them. */
static void print_words(const char *words)
{
    for (; *words; words++)
        putchar(*words == '|' ? ' ' : *words);
}

/* The beginning of a help text up to its first ':', ';', bracket or full stop, for between single quotes;
 * `escaped` are characters that get a backslash. */
static void print_summary(const char *text, const char *escaped)
{
    for (; *text; text++) {
        if (strchr(":;", *text) || strncmp(text, ". ", 2) == 0 || strncmp(text, " (", 2) == 0)
            return;
        if (*text == '\'') {
            printf("'\\''");
            continue;
        }
        if (strchr(escaped, *text))
            putchar('\\');
        putchar(*text);
    }
}

/* ---- bash -------------------------------------------------------------------------------------- */

/* The options of a command with an argument that no word completes, as a pattern of `case`. */
static void print_bash_arguments(const struct option_row *row)
{
    const char *separator = "        ";

    for (; row->help; row++)
        if (row->argument && !has_words(row) && !is_directory(row)) {
            printf("%s--%s", separator, row->name);
            if (row->value < OPTION_HELP)
                printf(" | -%c", row->value);
            separator = " | ";
        }

    if (separator[0] == ' ' && separator[1] == '|')
        printf(") return ;;\n");
}

static void print_bash_command(const struct command *command)
{
    printf("    %s)\n        case $before in\n", command->name);
    for (const struct option_row *row = command->options; row->help; row++) {
        if (has_words(row)) {
            printf("        --%s) mapfile -t COMPREPLY < <(compgen -W '", row->name);
            print_words(row->argument);
            printf("' -- \"$word\"); return ;;\n");
        } else if (is_directory(row)) {
            printf("        --%s) mapfile -t COMPREPLY < <(compgen -d -- \"$word\"); return ;;\n", row->name);
        }
    }

    print_bash_arguments(command->options);
    printf("        esac\n        options='");
    for (const struct option_row *row = command->options; row->help; row++)
        if (row->name)
            printf("--%s ", row->name);
    printf("'\n        files=-%c ;;\n", takes_file(command) ? 'f' : 'd');
}

static void print_bash(void)
{
    printf("# Completions of twinlog for bash, made by 'twinlog --completion bash'.\n"
           "_twinlog() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options files\n"
           "    COMPREPLY=()\n"
           "    if ((COMP_CWORD == 1)); then\n"
           "        mapfile -t COMPREPLY < <(compgen -W '");
    for (size_t i = 0; i < command_count; i++)
        printf("%s ", commands[i]->name);
    printf("--help --version --completion' -- \"$word\")\n"
           "        return\n"
           "    fi\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < command_count; i++)
        print_bash_command(commands[i]);
    printf("    *) return ;;\n"
           "    esac\n"
           "    if [[ $word == -* ]]; then\n"
           "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")\n"
           "    else\n"
           "        mapfile -t COMPREPLY < <(compgen \"$files\" -- \"$word\")\n"
           "    fi\n"
           "}\n"
           "complete -o filenames -F _twinlog twinlog\n");
}

/* ---- zsh --------------------------------------------------------------------------------------- */

static void print_zsh_option(const struct option_row *row)
{
    printf(" \\\n            ");
    if (row->value < OPTION_HELP)
        printf("'(-%c --%s)'{-%c,--%s}", row->value, row->name, row->value, row->name);
    else
        printf("--%s", row->name);
    printf("'[");
    print_summary(row->help, "[]\\");
    printf("]");
    if (has_words(row)) {
        printf(":%s:(", row->name);
        print_words(row->argument);
        printf(")");
    } else if (row->argument) {
        printf(":%s:%s", row->argument, is_directory(row) ? "_directories" : "");
    }
    printf("'");
}

static void print_zsh(void)
{
    printf("#compdef twinlog\n"
           "# Completions of twinlog for zsh, made by 'twinlog --completion zsh'.\n"
           "_twinlog() {\n"
           "    local -a commands=(\n");
    for (size_t i = 0; i < command_count; i++) {
        printf("        '%s:", commands[i]->name);
        print_summary(commands[i]->summary, "\\");
        printf("'\n");
    }

    printf("    )\n"
           "    if ((CURRENT == 2)); then\n"
           "        _describe command commands\n"
           "        return\n"
           "    fi\n"
           "    shift words\n"
           "    ((CURRENT--))\n"
           "    case $words[1] in\n");
    for (size_t i = 0; i < command_count; i++) {
        printf("    %s)\n        _arguments", commands[i]->name);
        for (const struct option_row *row = commands[i]->options; row->help; row++)
            if (row->name)
                print_zsh_option(row);
        printf(" \\\n            '*:%s ;;\n",
               takes_file(commands[i]) ? "file:_files'" : "directory:_directories'");
    }

    printf("    esac\n"
           "}\n"
           "_twinlog \"$@\"\n");
}

/* ---- fish -------------------------------------------------------------------------------------- */

static void print_fish_option(const struct command *command, const struct option_row *row)
{
    printf("complete -c twinlog -n '__fish_seen_subcommand_from %s' -l %s", command->name, row->name);
    if (row->value < OPTION_HELP)
        printf(" -s %c", row->value);
    if (has_words(row)) {
        printf(" -x -a '");
        print_words(row->argument);
        printf("'");
    } else if (is_directory(row)) {
        printf(" -x -a '(__fish_complete_directories)'");
    } else if (row->argument) {
        printf(" -x");
    }
    printf(" -d '");
    print_summary(row->help, "\\");
    printf("'\n");
}

static void print_fish(void)
{
    printf("# Completions of twinlog for fish, made by 'twinlog --completion fish'.\n"
           "complete -c twinlog -f\n");
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = commands[i];
        printf("complete -c twinlog -n __fish_use_subcommand -a %s -d '", command->name);
        print_summary(command->summary, "\\");
        printf("'\n");
        for (const struct option_row *row = command->options; row->help; row++)
            if (row->name)
                print_fish_option(command, row);
        printf("complete -c twinlog -n '__fish_seen_subcommand_from %s' %s\n", command->name,
               takes_file(command) ? "-F" : "-a '(__fish_complete_directories)'");
    }
}

int print_completions(const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        print_bash();
    else if (strcmp(shell, "zsh") == 0)
        print_zsh();
    else if (strcmp(shell, "fish") == 0)
        print_fish();
    else
        usage_error("--completion: '%s' is none of bash, zsh, fish", shell);
    return finish_output(STATUS_FINE);
}
