"""The messages in the guide for troubleshooting are those of the code."""

import ast
import re
from functools import cache

import pytest
from links import ROOT

GUIDE = ROOT / "docs" / "operations" / "troubleshooting.md"
MESSAGES = re.findall(r"^### `(.+)`$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
GAP = "\0"  # in the place of a value


@cache
def texts():
    """All texts in the code, with a gap for each value that a message is filled with."""
    found = []
    for folder in ("coldfusion_fl", "strategies", "clients", "engines"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(one.value if isinstance(one, ast.Constant) else GAP for one in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def occurs(message):
    """Whether a text of the code has the parts of the message in its order, with values in its gaps alone."""
    parts = [re.escape(part) for part in message.split("…")]
    pattern = re.compile(f"[^{GAP}]*?{GAP}[^{GAP}]*?".join(parts).replace(r"\ ", " "))
    return any(pattern.search(text) for text in texts())


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_in_the_code(message):
    assert occurs(message)


def test_a_message_that_is_not_in_the_code_is_found():
    assert not occurs("unknown setup '…'.")
    assert len(MESSAGES) >= 20


def test_each_message_has_a_cause_and_a_remedy():
    sections = re.split(r"^### ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert all("**Cause.**" in section and "**Remedy.**" in section for section in sections)
