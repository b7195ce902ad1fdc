"""The page of catalogues: the keys of a task, and the shipped catalogues with their tasks."""

from collections.abc import Iterator

from pydantic.fields import FieldInfo
from setting_entries import cell, entries, example, toml_value

from coldfusion_fl.data.catalogue import SHIPPED, TaskSpec, read_catalogues

_INTRODUCTION = """\
# Catalogues

A catalogue is a TOML file that says where labelled data is and how to read it. It has one table `[tasks.NAME]` for each
task. A task has one of three sources: files (`train`, and perhaps `validation` and `test`), a `folder` whose files have
the names of the splits, or a data set of the Hugging Face `hub`.

```toml
[tasks.reviews]
train = "reviews/train.csv"         # jsonl, json, csv, tsv, txt, tab or parquet; the text ones also as .gz, .bz2 or .xz
test = "reviews/test.csv"
text = "body"
label = "stars"
labels = { "1" = "bad", "5" = "good" }

[tasks.mail]
folder = "mail"                     # with train.*, validation.* and test.* in it
metric = "macro-f1"
shards = 5                          # mail-1 to mail-5, each with a fifth of the train rows

[tasks.rte]
hub = "nyu-mll/glue"
config = "rte"
text = ["sentence1", "sentence2"]
test = "validation"
```

`coldfusion tasks --catalogue FILE` reads the rows of every task and prints what the files decided.
"""

# What the shipped catalogues are; their tasks are listed from the files.
_ABOUT = {
    "packaged": "Real texts inside packages of the Python Package Index. They need no network once the packages are "
    "installed.",
    "paper36": "The 36 data sets of the paper on the Hugging Face Hub. It was written from data set cards and public "
    "code, and has not been loaded from the Hub yet. The comments in the file say what is not verified.",
    "excerpts": "A folder of small jsonl excerpts, with one sub-folder for each data set. Set the folder with "
    "`data-root` or `--data-root`.",
}


def render() -> str:
    """The page as Markdown."""
    return "\n\n".join([_INTRODUCTION, *_keys(), *_shipped()]) + "\n"


def _keys() -> Iterator[str]:
    yield "## The keys of a task"
    yield from entries(TaskSpec, "task.", _in_toml)


def _in_toml(key: str, field: FieldInfo) -> Iterator[tuple[str, str]]:
    yield "TOML", f"`{key.rpartition('.')[2]} = {toml_value(example(field))}`"


def _shipped() -> Iterator[str]:
    yield "## Shipped catalogues { #shipped }"
    for name in SHIPPED:
        specs = read_catalogues([name]).specs
        rows = "\n".join(f"| `{task}` | {cell(_source(spec))} | {spec.metric} |" for task, spec in specs.items())
        yield f"### `{name}` {{ #{name} }}\n\n{_ABOUT[name]}\n\n| task | source | metric |\n|---|---|---|\n{rows}"


def _source(spec: TaskSpec) -> str:
    if spec.hub:
        return f"Hub: `{spec.hub}`" + (f", config `{spec.config}`" if spec.config else "")
    return f"package `{spec.requires}`" if spec.requires else f"folder `{spec.folder}`" if spec.folder else spec.train
