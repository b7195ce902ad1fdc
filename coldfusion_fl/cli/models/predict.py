"""`coldfusion predict`: the predictions of a classifier for a table of texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from coldfusion_fl.atomic_files import atomic_write, disk_errors
from coldfusion_fl.cli.app import app, console, print_line
from coldfusion_fl.cli.models.output_files import check_new_output
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.catalogue import PLACEHOLDER, TaskSpec
from coldfusion_fl.errors import DataError, ErrorCode, SettingsError, count

if TYPE_CHECKING:
    import pandas as pd

    from coldfusion_fl.classifier import Classifier, Predicted

_FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


@app.command()
def predict(
    classifier: Annotated[
        str, typer.Argument(help="The folder of a classifier, or a Hub id of a sequence classification model.")
    ],
    file: Annotated[Path, typer.Argument(help="A table of texts: csv, tsv, txt, json, jsonl, tab or parquet.")],
    out: Annotated[
        Path, typer.Option("--out", help=f"The file to write; its suffix decides the format: {', '.join(_FORMATS)}.")
    ],
    text: Annotated[
        str,
        typer.Option(
            "--text",
            help="The column of the texts, or a template such as '{title}: {body}'; two with a comma for pairs. "
            "Default: what the classifier was trained on.",
        ),
    ] = "",
) -> None:
    """Add the predicted class and the probability of each class to a table.

    The columns of the table stay. Added are `prediction`, `probability` (of the predicted class) and a column
    `probability.CLASS` for each class. A row without a text has no prediction. A regression adds `prediction` alone.
    """
    if out.suffix.lower() not in _FORMATS:
        raise SettingsError(f"--out {out}: the suffix must be one of {', '.join(_FORMATS)}.")
    check_new_output(out, "file")
    if not file.is_file():
        raise DataError(f"{file}: this file does not exist.", ErrorCode.DATA_MISSING)
    with console.status("Loading torch and the classifier"):
        from coldfusion_fl.classifier.folder import open_classifier
        from coldfusion_fl.classifier.prediction import LABEL, PROBABILITY
        from coldfusion_fl.data.columns import select_texts
        from coldfusion_fl.data.report import ReadReport
        from coldfusion_fl.data.rows import read_rows

        opened = open_classifier(classifier)
        names = split_names(text) or opened.text
        report = ReadReport()
        # A table of texts need not have labels: the reader is told to look for the columns of the texts alone.
        columns = PLACEHOLDER.findall(names[0]) or names
        try:
            table = read_rows([file], TaskSpec(train=str(file), text=names, label=columns[0]), report)
            texts = select_texts(table, names)
        except DataError as error:
            raise DataError(f"{error} This command has no catalogue: name the texts with --text.", error.code) from None
    for note in report.notes:
        print_line(note)
    if taken := sorted({str(column) for column in table.columns} & {LABEL, PROBABILITY}):
        raise DataError(f"{file}: it has a column '{taken[0]}' already, which this command adds. Rename it.")
    filled = [index for index in range(len(table)) if all(column[index] for column in texts)]
    if empty := len(table) - len(filled):
        console.print(f"{count(empty, 'row')} without a text: no prediction.")
    found = _predict(opened, [[column[index] for index in filled] for column in texts])
    result = _add_predictions(table, filled, found)
    with disk_errors(out.resolve().parent), atomic_write(out.resolve()) as path:
        _write(result, path, out.suffix.lower())
    console.print(f"{count(len(filled), 'prediction')} written to {out}", markup=False)


def _predict(classifier: "Classifier", texts: list[list[str]]) -> "Predicted":
    """Predict with a progress bar; where the output is no terminal, nothing is drawn."""
    from coldfusion_fl.classifier.prediction import predict_texts

    first, pairs = texts[0], texts[1] if len(texts) > 1 else None
    with Progress(console=console, transient=True) as bar:
        shown = bar.add_task("predicting", total=len(first))
        return predict_texts(classifier, first, pairs, progress=lambda done: bar.update(shown, completed=done))


def _add_predictions(table: "pd.DataFrame", rows: list[int], found: "Predicted") -> "pd.DataFrame":
    """The table with the columns of the predictions; they are empty in other rows than these."""
    import pandas as pd

    added = found.to_dataframe().set_axis(rows).reindex(range(len(table)))
    return pd.concat([table.reset_index(drop=True), added], axis=1)


def _write(table: "pd.DataFrame", path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
