"""The exceptions, and every reason of an error with its meaning and what to do."""

import inspect
from collections.abc import Iterator

from setting_entries import cell

from coldfusion_fl import errors
from coldfusion_fl.error_codes import ErrorCode
from coldfusion_fl.errors import ColdFusionError


def _tree() -> str:
    tree = (errors.__doc__ or "").split("::\n\n")[1].split("\n\nEach message")[0]
    return f"```text\n{inspect.cleandoc(tree)}\n```"


def _exceptions() -> str:
    kinds = [ColdFusionError, *ColdFusionError.__subclasses__()]
    rows = "\n".join(
        f"| `{kind.__name__}` | {cell(_first_paragraph(kind))} | `{kind.usual_code}` | {kind.exit_code} |"
        for kind in kinds
        if kind.__module__ == errors.__name__
    )
    return f"| exception | meaning | usual code | exit code |\n|---|---|---|---|\n{rows}"


def _first_paragraph(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n", maxsplit=1)[0]


def _codes() -> str:
    parts = []
    for title, codes in grouped_codes():
        rows = "\n".join(
            f'| <span id="{code.value}"></span>`{code.value}` | {cell(code.meaning)} | {cell(code.remedy)} |'
            for code in codes
        )
        parts.append(f"### {title}\n\n| code | meaning | what to do |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def grouped_codes() -> Iterator[tuple[str, list[ErrorCode]]]:
    """The codes below the comments that group them in the source."""
    title = ""
    codes: list[ErrorCode] = []
    for line in inspect.getsource(ErrorCode).splitlines():
        name = line.strip().split(" = ")[0]
        if line.startswith("    # "):
            if codes:
                yield title, codes
            title, codes = line.removeprefix("    # ").rstrip("."), []
        elif name in ErrorCode.__members__:
            codes.append(ErrorCode[name])
    yield title, codes


PARTS = {"tree of exceptions": _tree, "table of exceptions": _exceptions, "codes of errors": _codes}
