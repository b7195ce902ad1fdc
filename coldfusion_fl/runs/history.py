"""What the earlier rounds of a run say of its contributors."""

from collections import Counter
from collections.abc import Iterable

from coldfusion_fl.runs.records import RoundRecord


def past_norms(records: Iterable[RoundRecord]) -> dict[str, list[float]]:
    """The norms of each contributor's fused updates, oldest first."""
    norms: dict[str, list[float]] = {}
    for record in records:
        if record.fused:
            for name, contribution in record.contributions.items():
                norms.setdefault(name, []).append(contribution.norm)
    return norms


def rejection_counts(records: Iterable[RoundRecord]) -> Counter[str]:
    """The number of rejections that count against each contributor."""
    return Counter(
        rejection.name for record in records for rejection in record.rejected if rejection.counts_toward_exclusion
    )


def training_seconds(records: Iterable[RoundRecord]) -> dict[str, float]:
    """The duration of each contributor's last training that passed the screening, where it reported one."""
    contributions = (item for record in records for item in record.contributions.items())
    return {name: facts.reported["seconds"] for name, facts in contributions if "seconds" in facts.reported}
