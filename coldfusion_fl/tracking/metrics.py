"""What is logged: the metrics of a round and of its scores, by name.

The names are stable. They have two or three parts with `/` between them: `round/NAME`, `contributor/TASK/NAME`,
`score/MODE/TASK` and `mean/MODE/GROUP`. docs/how-to/tracking.md lists them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from coldfusion_fl.config.message_keys import ROUND
from coldfusion_fl.config.settings import MODES
from coldfusion_fl.evaluation.reported_scores import DIFFERENCE_ERROR
from coldfusion_fl.runs.records import RoundRecord, UpdateFacts, ValidationScores

# What this package's contributors report. Others may report anything: see `_reported_names`.
_REPORTED = ("loss", "dev-score", "num-examples", "steps", "seconds")
# Numbers beside the scores, or at home in another metric.
_NO_METRIC = {"num-examples", ROUND}
# A name that every tracker takes as a part of a metric's name. No name may look like one that `name_part` makes.
_PLAIN = re.compile(r"(?!\.+$)(?!.*-[0-9a-f]{8}$)[A-Za-z0-9_.-]{1,80}")
_MAX_PART = 80


def round_metrics(record: RoundRecord) -> dict[str, float]:
    """The metrics of a round and of each contributor in it.

    Args:
        record: the record of the round; round 0, the base that the run began with, has few metrics.
    """
    rejected = {rejection.name: rejection.facts for rejection in record.rejected}
    facts: dict[str, UpdateFacts | None] = {**rejected, **record.contributions}
    metrics = {f"round/{name}": value for name, value in _of_round(record).items() if value is not None}
    if record.round:
        names = _reported_names(contribution.reported for contribution in record.contributions.values())
        for name, known in facts.items():
            prefix = f"contributor/{name_part(name)}"
            metrics[f"{prefix}/rejected"] = float(name not in record.contributions)
            if known:
                metrics |= {f"{prefix}/{key}": value for key, value in _of_contribution(known, names).items()}
    return {name: float(value) for name, value in metrics.items()}


def score_metrics(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The score of each task and the means over the seen, the unseen and all tasks, in points.

    The errors of the differences are left out: they are no scores, and their mean is not the error of a mean.

    Args:
        scores: as `Ledger.load_scores` returns them: by node, each with its modes and what describes them.
    """
    numbers = {name: {key: v for key, v in table.items() if _is_score(key, v)} for name, table in scores.items()}
    modes = [*MODES, *sorted(_common(numbers.values()) - {*MODES, *_NO_METRIC})]
    groups = {
        "seen": [name for name, table in scores.items() if table.get("seen", True)],
        "unseen": [name for name, table in scores.items() if not table.get("seen", True)],
        "all": list(scores),
    }
    metrics: dict[str, float] = {}
    for mode in modes:
        values = {name: table[mode] for name, table in numbers.items() if mode in table}
        part = name_part(mode)
        metrics |= {f"score/{part}/{name_part(name)}": value for name, value in values.items()}
        for group, names in groups.items():
            if found := [values[name] for name in names if name in values]:
                metrics[f"mean/{part}/{group}"] = sum(found) / len(found)
    return metrics


def name_part(name: str) -> str:
    """A name from another party as a part of a metric's name, one to one.

    Trackers make paths of the names of metrics, and each has its own rules. A name with other characters than ASCII
    letters, digits, `_`, `.` and `-`, or that is too long, gets the beginning of its hash.
    """
    if _PLAIN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:_MAX_PART]}-{digest}"


def _of_round(record: RoundRecord) -> dict[str, float | None]:
    if not record.round:
        return {"fused": 0}
    contributions = record.contributions.values()
    losses = [contribution.reported["loss"] for contribution in contributions if "loss" in contribution.reported]
    known = [*contributions, *(rejection.facts for rejection in record.rejected if rejection.facts)]
    sizes = [facts.bytes for facts in known if facts.bytes is not None]
    validation = record.server_validation or ValidationScores()
    return {
        "sampled": len(record.sampled),
        "contributions": len(contributions),
        "rejected": len(record.rejected),
        "missing": len(record.missing),
        "excluded": len(record.excluded),
        "paused": len(record.paused),
        "fused": record.fused,
        "loss": sum(losses) / len(losses) if losses else None,
        "update-norm": record.update_norm,
        "bytes": sum(sizes) if sizes else None,
        "seconds": None if record.began is None else record.ended - record.began,
        "training-seconds": None if record.began is None or record.trained is None else record.trained - record.began,
        "epsilon": record.privacy.epsilon if record.privacy else None,
        "validation-before": validation.before,
        "validation-after": validation.after,
    }


def _of_contribution(facts: UpdateFacts, names: Iterable[str]) -> dict[str, float]:
    own = {name: getattr(facts, name, None) for name in ("norm", "cosine", "share", "staleness", "bytes")}
    reported = {name_part(name): facts.reported[name] for name in names if name in facts.reported}
    return reported | {name: value for name, value in own.items() if value is not None}


def _reported_names(reports: Iterable[Mapping[str, float]]) -> list[str]:
    """The numbers that are logged of what contributors report: those of this package, and those that all report.

    A contributor alone can neither add names, of which it could send many, nor hide the loss of the others.
    """
    return sorted({*_REPORTED, *_common(reports)} - {ROUND})


def _is_score(key: str, value: Any) -> bool:
    return isinstance(value, float) and not key.endswith(DIFFERENCE_ERROR)


def _common(tables: Iterable[Mapping[str, Any]]) -> set[str]:
    names = [set(table) for table in tables]
    return set.intersection(*names) if names else set()
