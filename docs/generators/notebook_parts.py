"""The notebook as a part of a page: its texts, its code and what it printed."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
NOTEBOOK = _ROOT / "docs" / "start" / "notebook.ipynb"
# pandas writes a style for each table; the site has its own.
_STYLE = re.compile(r"<style.*?</style>\n?", re.DOTALL)
# Code of a notebook runs in its own test, not in that of the page.
_SKIP = '<!-- skip: next "tests/docs/test_notebook.py runs the notebook" -->'


def notebook_text(file: Path) -> str:
    """The Markdown of a notebook, without its title, which the page has."""
    cells: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(_cell(cell) for cell in cells).partition("\n\n")[2]


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"{_SKIP}\n```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        # A blank line would end the HTML in Markdown.
        return re.sub(r"\n\s*\n", "\n", _STYLE.sub("", "".join(data["text/html"])))
    text = "".join(output.get("text") or data["text/plain"])
    return f"```text\n{text.rstrip()}\n```"


PARTS = {"notebook": partial(notebook_text, NOTEBOOK)}
