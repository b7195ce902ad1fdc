"""What a run's earlier rounds say of a contributor."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Records = Sequence[Mapping[str, Any]]


def past_norms(records: Records) -> dict[str, list[float]]:
    """The norms of each contributor's fused updates, oldest first."""
    norms: dict[str, list[float]] = {}
    for record in records:
        if record.get("fused"):
            for name, facts in record["contributions"].items():
                norms.setdefault(name, []).append(facts["norm"])
    return norms


def rejection_counts(records: Records) -> Counter[str]:
    """How often something came from each contributor that was not fit to be fused."""
    return Counter(
        rejection["name"] for record in records for rejection in record.get("rejected", []) if rejection.get("counts")
    )


def seconds(records: Records) -> dict[str, float]:
    """How long each contributor's last training that passed the screening took, where it said so."""
    told = (item for record in records for item in record.get("contributions", {}).items())
    return {name: facts["reported"]["seconds"] for name, facts in told if "seconds" in facts["reported"]}
