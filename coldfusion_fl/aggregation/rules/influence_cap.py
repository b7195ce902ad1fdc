"""The rule `influence-cap`: limit each contributor's share of all updates."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.aggregation.screening import Rule, ScreeningResult, ScreeningRound
from coldfusion_fl.fusion import relative_weights


class InfluenceCap(Rule):
    """Caps each contributor's influence: its share of Σ_c w_c ‖θ_c − θ‖, the length of all fused updates.

    A contributor with more influence gets a lower weight. With few updates, all shares cannot be as small as the
    limit; then they become equal. An update of zero has no influence, and its weight stays.

    Use it where contributors with long updates should not decide the result alone.
    """

    name: ClassVar[str] = "influence-cap"
    changes_weights: ClassVar[bool] = True
    share: float = Field(0.25, gt=0, le=1, description="Maximum share of the length of all updates.")

    def __call__(self, round_: ScreeningRound) -> ScreeningResult:
        """See `Rule`."""
        contributions = [candidate.contribution for candidate in round_.candidates.values()]
        norms = [candidate.norm for candidate in round_.candidates.values()]
        influence = np.array(relative_weights(round_.operator, contributions)) * norms
        limit = max(self.share, 1 / max(1, int(np.count_nonzero(influence))))
        capped = _cap(influence, limit)
        factors = np.divide(capped, influence, out=np.ones_like(influence), where=influence > 0)
        lowered = zip(round_.candidates, contributions, factors, strict=True)
        return ScreeningResult(weights={name: one.weight * float(f) for name, one, f in lowered if f < 1})


def _cap(influence: np.ndarray, limit: float) -> np.ndarray:
    """Lower the largest values until none has more than its share `limit` of the new sum.

    With the k largest values capped at a level L and the rest R unchanged, L = limit · (k L + R), so
    L = limit · R / (1 − k · limit). The smallest k is taken for which the next value is not above L.
    """
    order = np.argsort(-influence)
    ordered = influence[order]
    for capped in range(len(ordered)):
        rest = ordered[capped:].sum()
        level = limit * rest / (1 - capped * limit) if capped * limit < 1 else ordered[-1]
        if ordered[capped] <= level * (1 + 1e-12):
            break
    else:
        level = ordered[-1]
    result = influence.copy()
    result[order] = np.minimum(ordered, level)
    return result
