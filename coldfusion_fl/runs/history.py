"""What the earlier rounds of a run say of its contributors."""

from collections import Counter
from collections.abc import Iterable

from coldfusion_fl.runs.records import RoundRecord

MAX_PAUSE = 16  # rounds


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


def paused_until(records: Iterable[RoundRecord]) -> dict[str, int]:
    """The last round of the pause of each contributor that did not answer in time, also where it is over.

    The first missing answer costs a pause of one round, the next one in a row 2, then 4, and so on up to `MAX_PAUSE`.
    Any answer ends the pause, also a late one or one that is rejected.

    Args:
        records: of the rounds so far, in order.
    """
    missed: Counter[str] = Counter()
    until: dict[str, int] = {}
    for record in records:
        for name in {*record.contributions, *(one.name for one in record.rejected if one.received)}:
            missed.pop(name, None)
            until.pop(name, None)
        for name in (one.name for one in record.rejected if one.timed_out):
            missed[name] += 1
            until[name] = record.round + min(2 ** (missed[name] - 1), MAX_PAUSE)
    return until


def training_seconds(records: Iterable[RoundRecord]) -> dict[str, float]:
    """The duration of each contributor's last training that passed the screening, where it reported one."""
    contributions = (item for record in records for item in record.contributions.items())
    return {name: facts.reported["seconds"] for name, facts in contributions if "seconds" in facts.reported}
