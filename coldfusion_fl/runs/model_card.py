"""The model card of a fused model: its README."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub.repocard_data import EvalResult

from coldfusion_fl.config.tables import frozen_part, split_names
from coldfusion_fl.data.catalogue import TaskSpec, read_catalogues
from coldfusion_fl.errors import CatalogueError, count
from coldfusion_fl.evaluation.intervals import outcome
from coldfusion_fl.formatting import interval, number
from coldfusion_fl.model.card import as_code, as_text, encoder_header, encoder_usage, licence_text, score_result
from coldfusion_fl.model.origin import Origin
from coldfusion_fl.runs.intervals import SCORED
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import CheckpointRecord, ContributionRecord, RoundRecord, RoundSettings
from coldfusion_fl.runs.report import notes, summarize

# Which encoder of a run a model is: its result, the last base where the result is an average, or the base of a round.
Which = Literal["result", "last-base", "round"]

_NAME = "ColD Fusion base"
_CARD = """\
---
{header}
---

# A ColD Fusion base

Made with coldfusion-fl in {rounds} from the base {base} (SHA-256 of its arrays: {base_hash}), {contributors},
{components}, seed {seed}. {how} {what} SHA-256 of this model's arrays: {hash}.

{licence}

Fused contributors, with the number of rounds: {fused}.

Tasks for evaluation only: {unseen}.

## Use

{usage}
## Test scores{scores}

## Method

Don-Yehiya, Venezian, Raffel, Slonim, Choshen: ColD Fusion: Collaborative Descent for Distributed Multitask Finetuning,
ACL 2023.

Software: {versions}.
{checkpoints}"""
_CHECKPOINTS = """
## Checkpoints

| round | checkpoint | revision | licence | norm | share | SHA-256 of its arrays |
|---|---|---|---|---|---|---|
{rows}

Norm: the length of the update from the base of the round before. Share: the
factor of its update in the fused update, where the fusion has one.
"""

_SCORES = """\
, in points

| task | | test rows | frozen: base | fused | difference | few-shot: base | fused | difference |
|---|---|---|---|---|---|---|---|---|
{rows}

{verdict}

{noise}Head: {heads}. Frozen: a linear probe. Few-shot: finetuned on {shots} labelled examples.{notes}"""
_NOISE = "‡ The interval holds 0: this difference may be noise.\n\n"


@dataclass(frozen=True)
class _FusedCheckpoint:
    """A checkpoint that was fused in a round.

    Attributes:
        round: the round.
        checkpoint: where it comes from.
        found: its part in the round.
    """

    round: int
    checkpoint: CheckpointRecord
    found: ContributionRecord

    @property
    def name(self) -> str:
        """Its name in public; of a local folder, the last part of its path."""
        return Origin(self.checkpoint.reference, self.checkpoint.revision).name


def model_card(
    ledger: Ledger,
    encoder_hash: str,
    origin: Origin,
    which: Which = "result",
    until: int | None = None,
) -> str:
    """The Markdown card of a model of a run: how it was made, of which checkpoints, and its scores.

    Args:
        ledger: the run; its rounds are saved.
        encoder_hash: the SHA-256 of the model's arrays.
        origin: the base that the run began with.
        which: the model. The last base of a run with an average has no scores.
        until: the last round that the model depends on; None: the last one.
    """
    settings = ledger.settings
    records = [record for record in ledger.records() if until is None or record.round <= until]
    fused = Counter(name for record in records if record.fused for name in record.contributions)
    made = records[-1].settings
    assert made  # every saved round has them
    kept = sum(not record.fused for record in records if record.round)
    summary = _summary(ledger, which, records[-1].round, made)
    checkpoints = _fused_checkpoints(records)
    others = _other_licences(checkpoints, licence_text(origin.licence))
    return _CARD.format(
        header=encoder_header(
            has_sentence_pooling=origin.has_sentence_pooling,
            tags=["federated-learning", "model-merging"],
            # A model of several licences has the terms of all of them, which one name in the header would hide.
            licence={} if others else origin.licence,
            base_models=[origin.hub_id] if origin.hub_id else [],
            datasets=_data_sets(ledger),
            results=_results(ledger, summary) if summary else [],
            name=_NAME,
        ),
        rounds=count(records[-1].round, "round") + (f", of which {kept} kept its base," if kept else ""),
        base=origin.to_markdown(),
        base_hash=records[0].base_sha256,
        what=_what(made, settings["server"]["blend"] if made.ema else 1, which, records[-1].round),
        hash=encoder_hash,
        licence=_licence_sentence(origin.licence, others),
        contributors=_contributors(settings),
        how=_how(records) + _other_components(records, made),
        components=_components(made),
        seed=settings["seed"],
        fused=", ".join(f"{as_text(name)} ({number})" for name, number in sorted(fused.items())) or "none",
        unseen=", ".join(map(as_text, settings["tasks"]["unseen"])) or "none",
        usage=encoder_usage(has_sentence_pooling=origin.has_sentence_pooling),
        scores=_scores(summary, settings) if summary else _no_scores(which),
        versions=", ".join(f"{name} {version}" for name, version in ledger.versions.items()),
        checkpoints=_checkpoint_table(checkpoints),
    )


def _what(made: RoundSettings, blend: float, which: Which, last: int) -> str:
    """Which encoder of the run this is."""
    if which == "round":
        return f"This is the base that round {last} ended with."
    if which == "last-base":
        return "This is the last base. The result of the run is the average of its bases, `model`."
    if not made.ema:
        return "This is the last base."
    rest = f", with the weight {blend:g}, blended with the first base" if blend < 1 else ""
    return f"This is the moving average of the bases (decay {made.ema:g}){rest}."


def _contributors(settings: Mapping[str, Any]) -> str:
    number = settings.get("contributors-per-round")  # a run of checkpoints has none
    made_of = "each of finetuned checkpoints" if number is None else f"{count(number, 'contributor')} per round"
    return made_of + (", with the word embeddings of the base" if frozen_part(settings) == "embeddings" else "")


def _components(made: RoundSettings) -> str:
    """How a round was fused, as a part of a sentence."""
    screening = ", ".join(map(as_code, made.screening)) or "none beyond the array checks"
    return f"fusion {as_code(made.fusion)}, server optimizer {as_code(made.server_optimizer)}, screening {screening}"


def _other_components(records: Sequence[RoundRecord], made: RoundSettings) -> str:
    """The rounds that were fused in another way than the last one, as sentences."""
    rounds: dict[str, list[int]] = {}
    for record in records:
        if record.round and record.settings and _components(record.settings) != _components(made):
            rounds.setdefault(_components(record.settings), []).append(record.round)
    return "".join(
        f" In {'round' if len(numbers) == 1 else 'the rounds'} {', '.join(map(str, numbers))}: {components}."
        for components, numbers in rounds.items()
    )


def _how(records: Sequence[RoundRecord]) -> str:
    """How the rounds were made: by contributors that train, of checkpoints, or both."""
    trained = "Each contributor finetuned the shared encoder on its own data and sent back the encoder alone."
    rounds = [record for record in records if record.round]
    by_hand = [record.round for record in rounds if record.checkpoints is not None]
    if not by_hand:
        return trained
    fused = "finetuned checkpoints were fused, without their heads."
    if len(by_hand) == len(rounds):
        return f"In each round, {fused}"
    named = f"round {by_hand[0]}" if len(by_hand) == 1 else f"the rounds {', '.join(map(str, by_hand))}"
    return f"{trained} In {named}, {fused}"


def _licence_sentence(licence: Mapping[str, Any], others: Sequence[str]) -> str:
    own = f"Licence of the base: {as_text(licence_text(licence))}."
    if "license" not in licence:
        own = "No licence could be read from the README.md of the base's folder."
    if not others:
        return own
    return f"{own} Some checkpoints have other licences, and their terms count too: {as_text('; '.join(others))}."


def _fused_checkpoints(records: Sequence[RoundRecord]) -> list[_FusedCheckpoint]:
    """The checkpoints that `coldfusion fuse` added and that a base was made of."""
    return [
        _FusedCheckpoint(record.round, checkpoint, found)
        for record in records
        if record.fused
        for name, checkpoint in (record.checkpoints or {}).items()
        if (found := record.contributions.get(name))
    ]


def _other_licences(checkpoints: Sequence[_FusedCheckpoint], licence: str) -> list[str]:
    """The checkpoints whose licence is known and is not the base's, as clauses.

    Args:
        checkpoints: those that were fused.
        licence: the base's; empty: it is not known.
    """
    known = [(one.name, one.checkpoint.licence) for one in checkpoints if one.checkpoint.licence]
    return list(dict.fromkeys(f"{name}: {found}" for name, found in known if found != licence))


def _checkpoint_table(checkpoints: Sequence[_FusedCheckpoint]) -> str:
    """The checkpoints as a section of the card; empty: there are none."""
    rows = [
        f"| {one.round} | {as_code(one.name).replace('|', chr(92) + '|')} | {as_text(one.checkpoint.revision)} | "
        f"{as_text(one.checkpoint.licence) or 'not known'} | {number(one.found.norm, 3)} | "
        f"{number(one.found.share, 3)} | {one.found.sha256} |"
        for one in checkpoints
    ]
    return _CHECKPOINTS.format(rows="\n".join(rows)) if rows else ""


def _summary(ledger: Ledger, which: Which, last: int, made: RoundSettings) -> dict[str, Any] | None:
    """The scores of a model; None if it has none of its own."""
    # With an average, the scores of a round are those of the average. A round may also not have been evaluated.
    is_scored = which == "result" or (which == "round" and not made.ema and ledger.load_scores(last))
    summary = summarize(ledger, last) if is_scored else None
    return summary if summary and summary["tasks"] else None


def _no_scores(which: Which) -> str:
    reasons = {
        "result": "The run has no scores.",
        "last-base": "The scores of the run are those of its result, `model`.",
        "round": "The base of this round was not evaluated.",
    }
    return f"\n\n{reasons[which]}"


def _scores(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    rows = summary["tasks"] + summary["means"]
    may_be_noise = any(_may_be_noise(row, mode) for row in rows for mode in SCORED)
    return _SCORES.format(
        rows="\n".join(map(_table_row, rows)),
        verdict="\n".join(f"- {as_text(found['sentence'])}" for found in summary["verdict"]),
        noise=_NOISE if may_be_noise else "",
        heads=", ".join(sorted({as_text(row["head"]) for row in summary["tasks"]})),
        shots=settings["evaluate"]["shots"],
        notes="".join(f" {note}" for note in notes(dict(summary))),
    )


def _table_row(row: dict[str, Any]) -> str:
    role = "" if row["seen"] == "" else "seen" if row["seen"] else "unseen"
    written = " | ".join(cell for mode in SCORED for cell in _cells(row, mode))
    return f"| {as_text(row['task'])}{'†' if row.get('differs') else ''} | {role} | {row['test-rows']} | {written} |"


def _cells(row: dict[str, Any], mode: str) -> list[str]:
    """The two scores, and their difference with its interval, as far as they are known."""
    scores = ["" if (points := row[f"{mode}-{which}"]) is None else f"{points:.1f}" for which in ("base", "fused")]
    difference, low, high = (row[f"{mode}-{which}"] for which in ("difference", "low", "high"))
    if difference is None:
        return [*scores, ""]
    mark = "‡" if _may_be_noise(row, mode) else ""
    return [*scores, f"{number(difference, signed=True)} {interval(low, high)}".rstrip() + mark]


def _may_be_noise(row: Mapping[str, Any], mode: str) -> bool:
    return outcome(row[f"{mode}-low"], row[f"{mode}-high"]) == "same"


# -- the header -------------------------------------------------------------------------------------------------------


def _results(ledger: Ledger, summary: Mapping[str, Any]) -> list[EvalResult]:
    """The scores of the model, one for each task and mode, for programs."""
    specs, found = _specs(ledger), []
    for row in summary["tasks"]:
        for mode in SCORED:
            if row[f"{mode}-fused"] is None:
                continue
            facts = {key: row[f"{mode}-{key}"] for key in ("base", "difference", "low", "high")}
            score, rows, spec = row[f"{mode}-fused"], row["test-rows"], specs.get(row["task"])
            found.append(score_result(row["task"], row["metric"], score, rows=rows, mode=mode, facts=facts, spec=spec))
    return found


def _data_sets(ledger: Ledger) -> Sequence[str]:
    """The data sets of the Hub that contributed."""
    specs, seen = _specs(ledger), _names(ledger.settings["tasks"].get("seen", ()))
    return sorted({specs[name].hub for name in seen if name in specs and specs[name].hub})


def _specs(ledger: Ledger) -> Mapping[str, TaskSpec]:
    """The tasks of a simulation by name. The members of a federation have catalogues of their own."""
    tasks = ledger.settings["tasks"]
    if ledger.federation or not tasks.get("catalogue"):
        return {}
    try:
        return read_catalogues(_names(tasks["catalogue"]), tasks.get("data-root", "")).specs
    except CatalogueError:  # the catalogue has been moved since
        return {}


def _names(value: str | Sequence[str]) -> Sequence[str]:
    return split_names(value) if isinstance(value, str) else value
