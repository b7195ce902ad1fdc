"""Commands of a page that are not run: at least their options are those that `coldfusion` has."""

import re
import shlex

import click
import typer

from coldfusion_fl.cli.main import app

COMMANDS = typer.main.get_command(app)
# What separates commands in a line, and what ends them.
_SEPARATORS = ("&&", "||", ";", "|", "&", "do", "then")


def commands_in(text: str) -> list[list[str]]:
    """The words of each `coldfusion` command in lines of a shell, in order."""
    words = list(_words(text))
    starts = [number for number, word in enumerate(words) if word == "coldfusion" or word.endswith("/coldfusion")]
    found = []
    for start in starts:
        command = []
        for word in words[start + 1 :]:
            if word in _SEPARATORS or re.fullmatch(r"\d?>+&?\d?.*|<.*|\n|done|fi", word):
                break
            command.append(word)
        found.append(command)
    return found


def _words(text: str):
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        yield from lexer
        yield "\n"


def check_command(words: list[str]) -> None:
    """Parse the words as `coldfusion` does, and run nothing.

    Raises:
        click.UsageError: there is no such command or option.
    """
    command, context, rest = COMMANDS, None, list(words)
    while True:
        try:
            context = command.make_context(command.name or "coldfusion", rest, parent=context)
        except click.exceptions.Exit:  # --help and --version
            return
        if not isinstance(command, click.Group):
            return
        rest = [*context.protected_args, *context.args] if hasattr(context, "protected_args") else context.args
        _, command, rest = command.resolve_command(context, rest)
