"""Try everything on a page of the documentation that can be typed: commands, files, Python and changes to files.

Sybil finds the blocks. On a page, in this order:

- ```console: the lines after `$ ` (and `> `, which continues them) are typed into one shell.
- ```toml: read by the parser of its kind of file. With title="NAME" it is also written as this file, like all others
  with a title.
- ```python without a title: run in one namespace; with `>>>` as a doctest.
- ```diff: applied to the file that `<!-- apply-to: PATH -->` above it names, a path in the repository.

Comments that readers do not see:

- `<!-- skip: next "REASON" -->`: the next block is not run. Its `coldfusion` commands must still have valid options,
  its Python must compile, and its TOML is still read. A table in the test has the number of these on each page.
- `<!-- expect: output -->`: each line of the next block was printed by the commands before; `…` stands for anything.
- `<!-- invisible-code-block: console` or `python`, with code up to `-->`: run like a visible block.
"""

import contextlib
import os
import re
import socket
from pathlib import Path
from typing import Any

from command_lines import check_command, commands_in
from expand import expand
from shell import Shell
from sybil import Document, Example, Region
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer
from toml_blocks import check_toml

ROOT = Path(__file__).parents[3]
_INFO = re.compile(r"(?P<language>[\w-]*)(?P<info>[^\n]*)\n")
_TITLE = re.compile(r'title="([^"]+)"')
_FENCES = RawFencedCodeBlockLexer(_INFO)
_HIDDEN = DirectiveInHTMLCommentLexer(r"invisible-code-block", r"\w+")
_DIRECTIVES = DirectiveInHTMLCommentLexer(r"skip|expect|apply-to")
# An address of this machine with a port, which may be in use.
_LOCAL = re.compile(r"127\.0\.0\.1:(\d{4,5})")


class Page:
    """A page, and the folder in which its commands are run.

    Args:
        file: the page.
        folder: an empty folder.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        text = expand(file.read_text(encoding="utf-8"))
        for port in sorted(set(_LOCAL.findall(text))):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{_free_port()}")
        self.document = Document(text, str(file))
        self.skipped: list[str] = []
        for region in _regions(self.document, self._evaluate):
            self.document.add(region)
        self._shell: Shell | None = None
        self._printed = ""
        self._directives: dict[str, str] = {}

    def run(self) -> None:
        """Try all blocks in order.

        Raises:
            Exception: of the first block that does not work; a note names its line.
        """
        try:
            with contextlib.chdir(self.folder):
                for example in self.document.examples():
                    try:
                        example.evaluate()
                    except Exception as failure:
                        failure.add_note(f"{self.file.relative_to(ROOT)}, line {example.line}")
                        raise
        finally:
            left = self._shell.close() if self._shell else []
        assert not left, f"still running at the end of the page: {', '.join(left)}"
        assert not self._directives, f"no block follows {self._directives}"

    def _evaluate(self, example: Example) -> None:
        lexemes: dict[str, Any] = example.region.lexemes
        if lexemes.get("directive") in ("skip", "expect", "apply-to"):
            self._directives[lexemes["directive"]] = lexemes["arguments"]
            return
        directives, self._directives = self._directives, {}
        language = lexemes.get("language") or lexemes.get("arguments", "")
        source, title = str(lexemes["source"]), _TITLE.search(lexemes.get("info", ""))
        if title:
            file = self.folder / title[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        if "skip" in directives:
            reason = re.fullmatch(r'next "(.+)"', directives["skip"])
            assert reason, 'write <!-- skip: next "REASON" -->'
            self.skipped.append(reason[1])
            _check_without_running(language, source, self.folder)
        elif "expect" in directives:
            _check_output(source, self._printed)
        elif language == "console":
            self._type(source)
        elif language == "toml":
            check_toml(source, self.folder)
        elif language == "python" and not title:
            self._run_python(example, source)
        elif language == "diff":
            _apply(source, ROOT / directives["apply-to"])

    def _type(self, source: str) -> None:
        self._shell = self._shell or Shell(self.folder)
        self._printed = "".join(self._shell.run(command) for command in typed(source))

    def _run_python(self, example: Example, source: str) -> None:
        example.region.parsed = source
        if ">>>" not in source:
            PythonEvaluator()(example)
            return
        for region in DocTestStringParser(DocTestEvaluator())(source, self.document.path):
            region.start, region.end = example.region.start, example.region.end
            one = Example(self.document, example.line, example.column, region, example.namespace)
            assert not (problem := DocTestEvaluator()(one)), problem


def typed(source: str) -> list[str]:
    """The commands of a console block."""
    commands: list[str] = []
    for line in source.splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
        elif line.startswith(">"):
            commands[-1] += "\n" + line[1:].removeprefix(" ")
        else:
            raise AssertionError(f"a line of a console block begins with '$ ' or '> ', not so: {line}")
    return commands


def _regions(document: Document, evaluate: Any) -> list[Region]:
    found = [*_FENCES(document), *_HIDDEN(document), *_DIRECTIVES(document)]
    for region in found:
        region.parsed, region.evaluator = region.lexemes["source"], evaluate
    # A comment inside a block is a part of the block.
    blocks = [one for one in found if "directive" not in one.lexemes]
    return [
        one
        for one in found
        if "directive" not in one.lexemes or not any(block.start < one.start < block.end for block in blocks)
    ]


def _check_without_running(language: str, source: str, folder: Path) -> None:
    if language == "console":
        for command in typed(source):
            for words in commands_in(command):
                check_command(words)
    elif language == "toml":
        check_toml(source, folder)
    elif language == "python":
        compile(source, "<page>", "exec")


def _check_output(expected: str, printed: str) -> None:
    """Each expected line is a part of a printed one, in the same order."""
    lines = iter(printed.splitlines())
    for line in filter(str.strip, expected.splitlines()):
        pattern = re.compile(r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split()))
        assert any(pattern.search(one) for one in lines), f"not printed, or not in this order: {line}\n{printed}"


def _apply(source: str, file: Path) -> None:
    """Apply a change to a file's text: the lines before it must be there, and the text after it must compile."""
    text = file.read_text(encoding="utf-8")
    for hunk in re.split(r"^…\n", source, flags=re.MULTILINE):
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, f"{os.path.relpath(file, ROOT)} does not have once:\n{before}"
        text = text.replace(before, after)
    compile(text, str(file), "exec")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
