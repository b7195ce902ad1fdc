"""The contributions to a run, as rows of tables."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coldfusion_fl.formatting import finite
from coldfusion_fl.runs.lineage import BaseRecord
from coldfusion_fl.runs.records import RoundRecord, UpdateFacts

# More rows, or more columns, are too many to read and too much for a phone; `coldfusion log` has them all.
MAX_ROWS = 2000
MAX_ROUNDS = 40
# The same of nodes that were excluded in all rounds: where members have no keys, anybody can connect such nodes.
MAX_EXCLUDED = 100

# What became of a contributor in a round, with the sign that stands for it in the overview.
SIGNS = {
    "fused": "●",
    "passed, but the base was kept": "○",
    "rejected": "✕",
    "excluded": "⊘",
    "not connected": "–",
    "paused": "‖",
    "not sampled": "·",
}


@dataclass(frozen=True)
class ContributionRow:
    """What became of a contributor in a round; None where a fact is not known."""

    round: int
    name: str
    outcome: str
    reason: str = ""
    share: float | None = None
    norm: float | None = None
    cosine: float | None = None
    staleness: int | None = None
    loss: float | None = None
    seconds: float | None = None
    sha256: str = ""


@dataclass
class Contributor:
    """A contributor over all rounds.

    Attributes:
        name: its name.
        by_round: what became of it in each round in which something did.
        norm: the mean norm of its updates.
        cosine: the mean of their cosines to the others' mean direction.
        seconds: the time of its trainings in all.
    """

    name: str
    by_round: dict[int, ContributionRow] = field(default_factory=dict)
    norm: float | None = None
    cosine: float | None = None
    seconds: float | None = None

    def count(self, outcome: str) -> int:
        """The number of rounds with this outcome."""
        return sum(row.outcome == outcome for row in self.by_round.values())


def contribution_rows(records: Sequence[RoundRecord]) -> list[ContributionRow]:
    """A row for each contributor of each round: fused, rejected, missing, paused or excluded; the last round first."""
    return [row for record in reversed(records) if record.round for row in _rows(record)]


def _rows(record: RoundRecord) -> list[ContributionRow]:
    outcome = "fused" if record.fused else "passed, but the base was kept"
    rows = [
        ContributionRow(record.round, name, outcome, share=finite(one.share), **_facts(one))
        for name, one in sorted(record.contributions.items())
    ]
    rows += [
        ContributionRow(record.round, one.name, "rejected", one.reason, **_facts(one.facts))
        for one in sorted(record.rejected, key=lambda rejection: rejection.name)
    ]
    rows += [
        ContributionRow(record.round, name, "excluded", reason) for name, reason in sorted(record.excluded.items())
    ]
    rows += [ContributionRow(record.round, name, "not connected") for name in sorted(record.missing)]
    rows += [
        ContributionRow(record.round, name, "paused", f"it did not answer; until round {last}")
        for name, last in sorted(record.paused.items())
    ]
    return rows


def _facts(facts: UpdateFacts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    return {
        "norm": finite(facts.norm),
        "cosine": finite(facts.cosine),
        "staleness": facts.staleness,
        "loss": finite(facts.reported.get("loss")),
        "seconds": finite(facts.reported.get("seconds")),
        "sha256": facts.sha256,
    }


def contributors(rows: Sequence[ContributionRow]) -> list[Contributor]:
    """The contributors of some rows, by name; of those that were only ever excluded, the first `MAX_EXCLUDED`."""
    found: dict[str, Contributor] = {}
    for row in rows:
        # A contributor that is both rejected and excluded in a round is shown as rejected: the row has the reason.
        found.setdefault(row.name, Contributor(row.name)).by_round.setdefault(row.round, row)
    only_excluded = (name for name in sorted(found) if found[name].count("excluded") == len(found[name].by_round))
    for name in itertools.islice(only_excluded, MAX_EXCLUDED, None):
        del found[name]
    for one in found.values():
        for key in ("norm", "cosine"):
            values = [value for row in one.by_round.values() if (value := getattr(row, key)) is not None]
            setattr(one, key, statistics.fmean(values) if values else None)
        times = [row.seconds for row in one.by_round.values() if row.seconds is not None]
        one.seconds = sum(times) if times else None
    return [found[name] for name in sorted(found)]


def round_rows(bases: Sequence[BaseRecord]) -> list[dict[str, Any]]:
    """The rounds of a run as rows of a table, oldest first."""
    return [_round_row(base) for base in bases]


def _round_row(base: BaseRecord) -> dict[str, Any]:
    record = base.record
    began, trained = finite(record.began), finite(record.trained)
    ended = finite(record.ended) if began is not None else None
    compared = record.server_validation
    return {
        "round": record.round,
        "outcome": "first base" if not record.round else "fused" if record.fused else "base kept",
        "reason": record.kept_because or "",
        "fused": len(record.contributions) if record.fused else 0,
        "rejected": len(record.rejected),
        "norm": finite(record.update_norm),
        "score": finite(base.mean_frozen_score),
        "validation": None if compared is None else (compared.before, compared.after),
        "training": None if trained is None or began is None else trained - began,
        "seconds": None if ended is None or began is None else ended - began,
        "sha256": record.base_sha256,
        "epsilon": record.privacy.epsilon if record.privacy else None,
    }
