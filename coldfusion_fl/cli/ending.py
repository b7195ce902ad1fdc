"""What `coldfusion run` shows when a run is complete: what was shared, the scores, the files, and what to do next."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from coldfusion_fl.cli.app import console, print_line, program
from coldfusion_fl.config.settings import TaskSettings
from coldfusion_fl.config.tables import frozen_part, join_names
from coldfusion_fl.errors import count
from coldfusion_fl.formatting import duration
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord, UpdateFacts

# More lines on excluded contributors are too many for the end of a run; `coldfusion log` has them all.
_MOST_EXCLUSIONS = 20


def show_result(ledger: Ledger) -> None:
    """Show the result of a complete run."""
    from coldfusion_fl.pages.run_page import write_page_of_finished_run
    from coldfusion_fl.runs.report import score_table, summarize

    write_page_of_finished_run(ledger)  # again, because the peak memory was not known before
    summary = summarize(ledger)
    if summary["tasks"]:
        console.print(score_table(summary, console.width))
    else:
        reason = "evaluate.every is -1" if ledger.settings["evaluate"]["every"] < 0 else "no node evaluated a base"
        console.print(f"The run has no scores: {reason}.", markup=False)
    for kept in summary["kept"]:
        console.print(f"Round {kept['round']} kept its base: {kept['reason']}", markup=False)
    for rejection in summary["rejected"]:
        line = f"Rejected in round {rejection['round']}: {rejection['name']}, {rejection['reason']}"
        console.print(line, markup=False)
    for line in _describe_exclusions(summary["excluded"]):
        console.print(line, markup=False)
    if summary["tasks"]:
        shots = ledger.settings["evaluate"].get("shots", 0)
        few_shot = f" Few-shot: the encoder finetuned on {shots} labels." if shots else ""
        print_line(
            "Seen tasks contributed, unseen tasks did not. Frozen: a linear probe on the encoder as it is." + few_shot
        )
    for line in ["", *describe_exchange(ledger, summary), *(found["sentence"] for found in summary["verdict"])]:
        print_line(line)
    seconds, memory = summary["seconds"], ledger.state.peak_memory_bytes or 0
    console.print(
        f"\nThe run took {duration(seconds['total'])}: {duration(seconds['rounds'])} of training and "
        f"{duration(seconds['evaluations'])} of evaluation. Peak memory: {memory / 2**30:.1f} GiB.",
        markup=False,
    )
    _show_files(ledger)


def _describe_exclusions(excluded: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each contributor and reason, up to a limit: in how many rounds it took no part."""
    rounds = Counter((found["name"], found["reason"]) for found in excluded)
    lines = [f"Excluded in {count(number, 'round')}: {name}, {reason}" for (name, reason), number in rounds.items()]
    more = len(lines) - _MOST_EXCLUSIONS
    shown = lines[:_MOST_EXCLUSIONS]
    return [*shown, f"{count(more, 'more exclusion')}: see coldfusion log."] if more > 0 else lines


def describe_exchange(ledger: Ledger, summary: dict[str, Any]) -> list[str]:
    """What the contributors sent, and what stayed with them: two sentences.

    The numbers of rows are those that the contributors reported, as nobody else knows their rows.
    """
    records = ledger.records()
    received = [facts for record in records for facts in _received(record)]
    names = {name for record in records for name in record.contributions}
    names |= {rejection.name for record in records for rejection in record.rejected if rejection.received}
    size, compression = _base_bytes(ledger), ledger.settings.get("server", {}).get("compression", "float32")
    each = f", each of {decimal(size)}" if size and compression == "float32" else ""
    if size and compression != "float32":
        each = f", each of {decimal(size)} before the compression to {compression}"
    trained = sum(int(facts.reported.get("num-examples", 0)) for facts in received if facts)
    scored = sum(int(row["test-rows"]) for row in summary["tasks"])
    rows = f" ({trained:,} examples trained on, {scored:,} scored)" if trained or scored else ""
    frozen = ", without the word embeddings, which are frozen" if frozen_part(ledger.settings) == "embeddings" else ""
    return [
        f"Shared: {count(len(received), 'contribution')} of {count(len(names), 'contributor')}{each}. They are encoder "
        f"weights{frozen}. Losses, scores and counts were reported with them.",
        f"Not shared: the rows of the tasks{rows}, the heads and the predictions.",
    ]


def _received(record: RoundRecord) -> Sequence[UpdateFacts | None]:
    """What is known of each contribution of a round that arrived, fused or not."""
    return [*record.contributions.values(), *(rejected.facts for rejected in record.rejected if rejected.received)]


def _base_bytes(ledger: Ledger) -> int:
    """The size of the newest base's file; 0 where no base is kept."""
    files = [ledger.round_folder(number) / "base.safetensors" for number in ledger.rounds()]
    return next((file.stat().st_size for file in reversed(files) if file.exists()), 0)


def _show_files(ledger: Ledger) -> None:
    """Show where the files of a run are, and how to use its model."""
    here = Path.cwd()
    folder = ledger.folder.relative_to(here) if ledger.folder.is_relative_to(here) else ledger.folder
    names = ("report.html", "report.csv", "report.json", "scores.png")
    reports = ", ".join(name for name in names if (folder / name).exists())
    last = f"\nThe last base     {folder}/last-base" if (folder / "last-base").exists() else ""
    console.print(
        f"""
The fused model   {folder}/model{last}
The report        {folder}/{reports}
Each round        {folder}/rounds
The log           {folder}/log.txt

{_next_steps(ledger, folder)}
Load it in Python:
  AutoModel.from_pretrained({str(folder / "model")!r})""",
        markup=False,
        soft_wrap=True,
    )


def _next_steps(ledger: Ledger, folder: Path) -> str:
    """How to score the model, and how to score it on other data of one's own."""
    command = evaluate_command(ledger, folder)
    if ledger.federation:
        return f"Evaluate the model where the rows are; TASK and FILE stand in the member's member.toml:\n  {command}"
    own = shlex.join([program(), "evaluate", str(folder), "--mode", "few-shot", "--tasks", "mine"])
    task = task_arguments(ledger)
    finetune = shlex.join([program(), "finetune", str(folder), "--task", *task[1:], "--out", "my-classifier"])
    return (
        f"Evaluate the model:\n  {command}\n"
        "Evaluate it on data of your own, described as [tasks.mine] in a file own.toml:\n"
        f"  {own} --catalogue own.toml\n"
        f"Make a classifier of a task:\n  {finetune}"
    )


def evaluate_command(ledger: Ledger, model: Path) -> str:
    """The command line that evaluates a run's model on its first unseen task, or its first seen one.

    In a federation, the rows are with the members. The command then has names to fill in.
    """
    command = [program(), "evaluate", str(model), "--mode", "few-shot"]
    if ledger.federation:
        return f"{shlex.join(command)} --tasks TASK --catalogue FILE"
    return shlex.join([*command, *task_arguments(ledger)])


def task_arguments(ledger: Ledger) -> list[str]:
    """The words of a command line that name the first unseen task of a run, or its first seen one."""
    tasks = TaskSettings.model_validate(ledger.settings["tasks"])
    words = ["--tasks", join_names((tasks.unseen + tasks.seen)[:1])]
    if tasks.catalogue != TaskSettings().catalogue:
        words += ["--catalogue", join_names(tasks.catalogue)]
    if tasks.data_root:
        words += ["--data-root", tasks.data_root]
    return words
