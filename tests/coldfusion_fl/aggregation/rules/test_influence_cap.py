"""The rule `influence-cap`."""

from hypothesis import given
from hypothesis import strategies as st
from screening_rounds import round_of

from coldfusion_fl.aggregation.rules import InfluenceCap
from coldfusion_fl.aggregation.screening import screen
from coldfusion_fl.fusion import Median, WeightedMean


@given(st.lists(st.just(0.0) | st.floats(0.1, 1000), min_size=2, max_size=8).filter(any), st.floats(0.05, 1))
def test_nobody_has_more_than_its_share(norms, share):
    updates = {f"c{i}": [norm, 0, 0, 0] for i, norm in enumerate(norms)}
    round_, rejected = screen(round_of(updates), [InfluenceCap(share=share)])
    assert not rejected
    influence = [c.contribution.weight * c.norm for c in round_.candidates.values()]
    movers = sum(norm > 0 for norm in norms)
    assert max(influence) <= max(share, 1 / movers) * sum(influence) * (1 + 1e-6)
    within = [c for c in round_.candidates.values() if c.contribution.weight == 1 and c.norm]
    assert within or share <= 1 / movers
    assert all(c.contribution.weight == 1 for c in round_.candidates.values() if not c.norm)


def test_a_claim_of_many_examples_is_capped():
    updates = {name: [1, 0, 0, 0] for name in "abcd"}
    claims = {"a": 10, "b": 12, "c": 8, "d": 10**9}
    round_, _ = screen(round_of(updates, WeightedMean(), **{"num-examples": claims}), [InfluenceCap(share=0.3)])
    weights = {n: WeightedMean().weight_of(c.contribution) for n, c in round_.candidates.items()}
    assert weights["d"] / sum(weights.values()) <= 0.4 + 1e-6  # 1/4 each cannot be 0.3: b takes some
    assert max(weights.values()) / sum(weights.values()) <= 0.3 + 1e-6
    assert not screen(round_of(updates, Median()), [InfluenceCap()])[0].candidates["a"].contribution.weight < 1
