# SPDX-License-Identifier: Apache-2.0
"""cdi-hook completion: bash, zsh and fish scripts, made from the table of commands."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NamedTuple

from cdi_hook.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator

HELP = """\
Print a script that completes cdi-hook's commands and options in bash, zsh or fish.
Packages install it. To install it by hand, for instance:

  mkdir -p ~/.local/share/bash-completion/completions
  cdi-hook completion bash >~/.local/share/bash-completion/completions/cdi-hook

exit status: 0; 2 for wrong arguments"""


class Option(NamedTuple):
    """An option; ``flags`` are its spellings."""

    flags: tuple[str, ...]
    help: str
    has_value: bool


class Command(NamedTuple):
    """A command (cdi-hook itself has no words); ``followers`` are words that may follow, with their help."""

    words: tuple[str, ...]
    options: tuple[Option, ...]
    followers: dict[str, str]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="the shell that the script is for")


def run(options: argparse.Namespace) -> int:
    for line in _SHELLS[options.shell](list(commands(options.whole_parser()))):
        output.say(line)
    return 0


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Yield the parser's command, then its subcommands."""
    options, followers, below = [], {}, {}
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way to ask
        help_text = action.help or ""
        if action.option_strings:
            options.append(Option(tuple(action.option_strings), help_text, action.nargs is None))
        elif isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            below = action.choices
            said = {str(one.dest): one.help or "" for one in action._choices_actions}  # noqa: SLF001
            followers = {
                name: said.get(name) or child.get_default("summary") for name, child in below.items()
            }
        else:
            followers |= dict.fromkeys(action.choices or (), help_text)
    yield Command(words, tuple(options), followers)
    for name, child in below.items():
        yield from commands(child, (*words, name))


def _bash(known: list[Command]) -> Iterator[str]:
    yield "# bash completion of cdi-hook, made by `cdi-hook completion bash`"
    yield "_cdi_hook() {"
    yield '    local at="" index words="" word="${COMP_WORDS[COMP_CWORD]}"'
    yield "    for ((index = 1; index < COMP_CWORD; index++)); do"
    yield '        case "$at ${COMP_WORDS[index]}" in'
    places = {"".join(f" {word}" for word in command.words): command for command in known}
    for words in [*places][1:]:
        yield f"        '{words}') at='{words}' ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$at ${COMP_WORDS[COMP_CWORD - 1]}" in'
    yield "    # the word is an option's value: bash completes file names"
    for words, command in places.items():
        flags = [flag for option in command.options if option.has_value for flag in option.flags]
        if flags:
            yield f"    {' | '.join(_quoted(f'{words} {flag}') for flag in flags)}) return ;;"
    yield "    esac"
    yield '    case "$at" in'
    for words, command in places.items():
        choice = [*command.followers, *(flag for option in command.options for flag in option.flags)]
        yield f"    '{words}') words='{' '.join(choice)}' ;;"
    yield "    esac"
    yield '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")'
    yield "}"
    yield "complete -o bashdefault -o default -F _cdi_hook cdi-hook"


def _zsh(known: list[Command]) -> Iterator[str]:
    yield "#compdef cdi-hook"
    yield "# zsh completion of cdi-hook, made by `cdi-hook completion zsh`"
    for command in known:
        yield f"_{'_'.join(('cdi-hook', *command.words))}() {{"
        yield "    local context state state_descr line"
        yield "    typeset -A opt_args"
        yield "    _arguments -S \\"
        for option in command.options:
            value = ":value:_files" if option.has_value else ""
            for flag in option.flags:
                equals = "=" if value and flag[:2] == "--" else ""
                yield f"        {_quoted(f'{flag}{equals}[{_zsh_text(option.help)}]{value}')} \\"
        if not command.followers:
            yield "        '*:file:_files'"
        else:
            pairs = " ".join(
                f"{name}\\:{_quoted(_zsh_text(text))}" for name, text in command.followers.items()
            )
            name = " ".join(("cdi-hook", *command.words))
            yield f"        {_quoted(f'1:{name}:(({pairs}))')} \\"
            yield "        '*::arguments:->arguments'"
            inner = f"_{'_'.join(('cdi-hook', *command.words))}_$line[1]"
            yield f"    (( ! $+functions[{inner}] )) || {inner}"
        yield "}"
    yield '_cdi-hook "$@"'


def _fish(known: list[Command]) -> Iterator[str]:
    yield "# fish completion of cdi-hook, made by `cdi-hook completion fish`"
    for command in known:
        conditions = [f"__fish_seen_subcommand_from {word}" for word in command.words]
        if command.followers:
            conditions.append(f"not __fish_seen_subcommand_from {' '.join(command.followers)}")
        when = _quoted("; and ".join(conditions)) if conditions else "true"
        for name, text in command.followers.items():
            yield f"complete -c cdi-hook -f -n {when} -a {name} -d {_quoted(text)}"
        for option in command.options:
            flags = " ".join(
                f"{'-l' if flag[:2] == '--' else '-s'} {flag.lstrip('-')}" for flag in option.flags
            )
            value = " -r" if option.has_value else ""
            yield f"complete -c cdi-hook -n {when} {flags}{value} -d {_quoted(option.help)}"


_SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_text(text: str) -> str:
    """Escape the characters that would end a description in _arguments."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text)
