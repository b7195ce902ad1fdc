"""Three saboteurs among eight contributors, against the five honest ones alone.

    python -m coldfusion_fl.experiments.sabotage FOLDER

One contributor sends NaN, one its update times 1000, one its update with the sign turned. The rules are `size` and
`direction`. What is compared is the mean frozen score over the tasks of the honest five and the unseen ones. A run that
is there already goes on.
"""

import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
from coldfusion_fl.clients.client_app import contributor_app
from flwr.app import Array, Context, Message
from flwr.clientapp.typing import ClientAppCallable

from coldfusion_fl.display import plain_console
from coldfusion_fl.ledger import Ledger
from coldfusion_fl.lineage import lineage, print_lineage
from coldfusion_fl.report import score_table, summarize
from coldfusion_fl.settings import Settings, read_settings, to_table

from .simulation import simulate, with_run_config

SABOTEURS = {"reuters_r52": "nan", "election_tweets": "scaled", "convention_party": "turned"}


def sabotage(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod that spoils what the saboteurs send."""
    reply = call_next(message, context)
    if message.metadata.message_type != "train" or reply.has_error():
        return reply
    names = str(context.run_config["tasks.seen"]).split(", ")
    kind = SABOTEURS.get(names[int(context.node_config["partition-id"])])
    spoil = {
        "nan": lambda base, array: np.full_like(array, np.nan),
        "scaled": lambda base, array: base + 1000 * (array - base),
        "turned": lambda base, array: base - (array - base),
    }
    if kind:
        base, sent = message.content["arrays"], reply.content["arrays"]
        for name in list(sent):
            sent[name] = Array(spoil[kind](base[name].numpy(), sent[name].numpy()).astype(np.float32))
    return reply


def run(settings: Settings, folder: Path, saboteurs: bool) -> Ledger:
    """A whole run, or the rest of one."""
    settings = replace(settings, out=str(folder))
    if Ledger(folder).status.get("state") == "finished":
        return Ledger(folder)
    ledger = Ledger.open(folder, to_table(settings))
    ledger.event("began")
    mods = [with_run_config(settings)] + ([sabotage] if saboteurs else [])
    simulate(settings, ledger, contributor_app(mods=mods))
    return ledger


def main() -> None:
    """Run both, and print the lineage of the first and the scores of both."""
    folder, console = Path(sys.argv[1]).resolve(), plain_console()
    with resources.as_file(resources.files("coldfusion_fl.experiments") / "sabotage.toml") as file:
        settings = read_settings(file)
    honest = tuple(name for name in settings.tasks.seen if name not in SABOTEURS)
    alone = replace(
        settings,
        contributors_per_round=len(honest),
        tasks=replace(settings.tasks, seen=honest, unseen=settings.tasks.unseen),
    )
    sabotaged = run(settings, folder / "sabotaged", saboteurs=True)
    print_lineage(sabotaged, lineage(sabotaged, check=True), console)
    rows = {}
    for ledger in (sabotaged, run(alone, folder / "honest", saboteurs=False)):
        summary = summarize(ledger)
        console.print(f"\n{ledger.folder.name}", markup=False)
        console.print(score_table(summary))
        rows[ledger.folder.name] = {row["task"]: row["frozen-fused"] for row in summary["tasks"]}
    common = sorted(rows["honest"])
    for name, scores in rows.items():
        mean = sum(scores[task] for task in common) / len(common)
        console.print(f"{name}: mean frozen score {mean:.2f} over {', '.join(common)}", markup=False)


if __name__ == "__main__":
    main()
