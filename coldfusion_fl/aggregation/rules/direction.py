"""The rule `direction`: reject updates that point away from the others."""

from typing import ClassVar

from pydantic import Field

from coldfusion_fl.aggregation.screening import Rule, ScreeningResult, ScreeningRound

# Of two updates that point away from each other, nothing shows which one is the outlier.
_MIN_CANDIDATES = 3


class Direction(Rule):
    """Rejects an update that points away from the mean direction of the others, in rounds of three or more candidates.

    It finds an outlier among updates that share a direction, as updates of one model with one head do. Short
    finetunings with new heads do not share one: the updates of eight data sets had cosines between −0.03 and 0.03,
    including those whose sign was flipped (experiments/results/attacks/logs). A head with the opposite sign would have
    flipped the update as well, so a flipped update is no outlier there.

    Use it only where honest updates share a direction: `coldfusion log` shows their cosines.
    """

    name: ClassVar[str] = "direction"
    min_cosine: float = Field(-0.1, ge=-1, le=1, description="Reject an update whose cosine to the others is lower.")

    def __call__(self, round_: ScreeningRound) -> ScreeningResult:
        """See `Rule`."""
        rejected: dict[str, str] = {}
        # The worst update is rejected first and alone, because it bends the mean direction of the others.
        while len(round_.candidates) >= _MIN_CANDIDATES:
            cosines = {name: cosine for name, cosine in round_.cosines.items() if cosine is not None}
            worst = min(cosines, key=lambda name: cosines[name], default=None)
            if worst is None or cosines[worst] >= self.min_cosine:
                break
            rejected[worst] = (
                f"its update points away from the others': a cosine of {cosines[worst]:.3f}, below {self.min_cosine:g}"
            )
            round_ = round_.without([worst])
        return ScreeningResult(rejected)
