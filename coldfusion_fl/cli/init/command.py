"""`coldfusion init`: from tables of labelled texts to a catalogue and a run file."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfusion_fl.atomic_files import atomic_write, disk_errors
from coldfusion_fl.cli.app import app, console, print_line, program
from coldfusion_fl.cli.init.files import CATALOGUE, RUN, catalogue_text, run_text
from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.catalogue import TaskSpec, check_reading
from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.extras import EXTRAS, require

if TYPE_CHECKING:
    from coldfusion_fl.cli.init.decisions import Given
    from coldfusion_fl.cli.init.drafts import Draft

_WRITTEN_BEFORE = "No file was replaced unless it is named above."


@app.command()
def init(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Tables of labelled texts: csv, tsv, txt, jsonl, json, tab or parquet files, or folders of them. A "
            "folder with train.*, and perhaps validation.* and test.*, is one task.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the two files; it is created if need be.")] = Path(),
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            help="The column of the texts, or a template such as '{title}: {body}'; two with a comma for pairs. Give "
            "it several times for tables with other columns: each takes the first that it has. Default: a guess.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="The column of the label; several times like --text. Default: a guess."),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help=f"The metric: {', '.join(METRICS)} (for numbers). Default: a guess.")
    ] = "",
    delimiter: Annotated[
        str, typer.Option("--delimiter", help=r"The character between cells; \t is a tab. Default: a guess.")
    ] = "",
    encoding: Annotated[
        str, typer.Option("--encoding", help="The encoding of the text files, such as cp1252. Default: a guess.")
    ] = "",
    shards: Annotated[
        int, typer.Option("--shards", min=1, help="Split the train rows of each table over this many contributors.")
    ] = 1,
    base: Annotated[
        str,
        typer.Option(
            "--base",
            help="The base of the run: a folder, a Hub id, or package:PATH. Default: all-MiniLM-L6-v2.",
            show_default=False,
        ),
    ] = "",
    skip_base: Annotated[
        bool,
        typer.Option("--skip-base", help="Do not load the base: no check of the texts with it, no time and memory."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the two files if they exist.")] = False,
    no_input: Annotated[
        bool, typer.Option("--no-input", "--yes", "-y", help="Ask nothing; guess, and say so.")
    ] = False,
) -> None:
    """Look at tables of labelled texts, and write a catalogue (tasks.toml) and a run file (run.toml) for them.

    Each table becomes a task, which is one contributor of the run. Printed are its columns, rows, classes and lengths,
    and each guess with its reason. A question is asked only in a terminal, and only where two answers are likely. All
    tables are read, and a few batches are trained, before anything is written.
    """
    require("`coldfusion init`", *EXTRAS["models"])
    _check_output(out, force)
    given = _given(text or (), label or (), metric, delimiter, encoding, asks=sys.stdin.isatty() and not no_input)
    with console.status("Loading pandas and torch"):
        from coldfusion_fl.cli.init.drafts import read_drafts
        from coldfusion_fl.cli.init.run_plan import plan_run
    drafts = read_drafts(data, given, out, shards)
    plan = plan_run(drafts, base, out, checks=not skip_base)
    texts = {
        CATALOGUE: catalogue_text({draft.name: (draft.keys, draft.task) for draft in drafts}),
        RUN: run_text(plan.table, plan.remarks, plan.estimate),
    }
    _write(out, texts)
    _print_next(out, drafts)


def _check_output(out: Path, force: bool) -> None:
    """Check that the files can be written.

    Raises:
        SettingsError: one exists, and must not be replaced; or the folder is a file.
    """
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out}: this is a file. Name a folder.")
    existing = [str(out / name) for name in (CATALOGUE, RUN) if (out / name).exists()]
    if existing and not force:
        raise SettingsError(
            f"{' and '.join(existing)} would be replaced. Name another folder with --out, or replace with --force.",
            ErrorCode.SETTINGS_CONFLICT,
        )


def _given(
    texts: Sequence[str], labels: Sequence[str], metric: str, delimiter: str, encoding: str, *, asks: bool
) -> "Given":
    """The options as what is decided.

    Raises:
        SettingsError: an option has a value that no table can have.
    """
    from coldfusion_fl.cli.init.decisions import Given

    columns = [split_names(text) for text in texts]
    if wrong := next((text for text, names in zip(texts, columns, strict=True) if len(names) not in (1, 2)), None):
        raise SettingsError(f"--text '{wrong}': name one column, or two with a comma between them for pairs.")
    if metric and metric not in METRICS:
        raise SettingsError(f"--metric: unknown metric '{metric}'.{did_you_mean(metric, METRICS)}")
    keys = {"encoding": encoding, "delimiter": delimiter.replace("\\t", "\t")}
    check_reading(TaskSpec(train="-", encoding=encoding, delimiter=keys["delimiter"]), "--encoding and --delimiter")
    return Given(columns, labels, metric, keys, asks)


def _write(out: Path, texts: Mapping[str, str]) -> None:
    """Write the files, each whole or not at all."""
    console.print()
    with disk_errors(out, left=_WRITTEN_BEFORE):
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with atomic_write(out.resolve() / name) as path:
                path.write_text(text, encoding="utf-8")
            print_line(f"Written: {out / name}")


def _print_next(out: Path, drafts: "Sequence[Draft]") -> None:
    """Print what to do with the files."""
    first = drafts[0]
    commands = {
        "What is read of a table": ["tasks", first.seen[0], "--catalogue", str(out / CATALOGUE)],
        "Run it": ["run", str(out / RUN)],
    }
    if len(drafts) == len(first.seen) == 1:
        print_line(
            "There is one contributor, so nothing is fused with anything. Name several tables, or split this one over "
            "several contributors with --shards 4."
        )
    for title, words in commands.items():
        console.print(f"{title}:\n  {shlex.join([program(), *words])}", markup=False, soft_wrap=True, highlight=False)
