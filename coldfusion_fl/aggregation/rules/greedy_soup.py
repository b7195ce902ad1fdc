"""The rule `greedy-soup`: reject contributions that lower the server-validation score of the mean."""

import math
from typing import ClassVar

from pydantic import Field

from coldfusion_fl.aggregation.screening import Rule, ScreeningResult, ScreeningRound
from coldfusion_fl.fusion import Contribution, Mean, fuse


class GreedySoup(Rule):
    """The greedy soup of Wortsman et al. 2022 (arXiv 2203.05482, recipe 1), with the server's own score function.

    Contributions are added to a uniform mean in descending order of their own scores. A contribution that would lower
    the score of the mean is rejected. The best contribution is always accepted, even if it is worse than the base; the
    setting `rollback` protects against that. The score function is called twice per contribution.

    With a tolerance of 0 and a score on 500 rows, the rule rejected 37 of 48 honest contributions of eight tasks
    (experiments/results/attacks).

    Use it where the server has many labelled rows of its own, and with a tolerance above the noise of their score.
    """

    name: ClassVar[str] = "greedy-soup"
    needs_score_function: ClassVar[bool] = True
    tolerance: float = Field(
        0.0, ge=0, description="Accept a contribution that lowers the score by at most this, in the score's unit."
    )

    def __call__(self, round_: ScreeningRound) -> ScreeningResult:
        """See `Rule`."""
        score_fn = round_.score_fn
        if score_fn is None:  # `Pipeline.check` rejects such settings
            raise TypeError("greedy-soup needs a score function")
        own = {name: score_fn(candidate.contribution.encoder) for name, candidate in round_.candidates.items()}
        kept: list[Contribution] = []
        best, rejected = -float("inf"), {}
        for name in sorted(own, key=lambda name: (-own[name], name)):
            if not math.isfinite(own[name]):
                rejected[name] = "its server-validation score is not a number"
                continue
            soup = [*kept, round_.candidates[name].contribution]
            score = score_fn(fuse(Mean(), round_.base, soup)) if kept else own[name]
            if score >= best - self.tolerance:
                kept, best = soup, max(best, score)
            else:
                rejected[name] = f"with it the server-validation score would fall from {best:.4g} to {score:.4g}"
        return ScreeningResult(rejected)
