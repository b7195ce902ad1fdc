"""What a private mean costs contributors in privacy."""

import math
import sys

import pytest

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import PrivateMean
from coldfusion_fl.runs.records import ContributionRecord, PrivacySpent, RoundRecord
from coldfusion_fl.strategies.rounds.privacy import PrivacyAccountant


def records(*rounds):
    """Round 0, and for each list of names a round that fused them."""
    spent, fused = PrivacySpent(epsilon=1, delta=1e-5, rounds=1), ContributionRecord(norm=1, share=1)
    return [
        RoundRecord(round=number, privacy=spent if number else None, contributions=dict.fromkeys(names, fused))
        for number, names in enumerate([[], *rounds])
    ]


def gaussian(noise, rounds, delta):
    """The ε of the Gaussian mechanism by Rényi differential privacy (Mironov 2017, proposition 3)."""
    rho = rounds / (2 * noise**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def spent(accountant, *rounds):
    """The privacy loss after rounds that fused these names."""
    return accountant.spent(records(*rounds[:-1]), rounds[-1])


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rounds", [1, 10])
def test_it_is_what_the_gaussian_mechanism_costs(noise, rounds):
    loss = spent(PrivacyAccountant(PrivateMean(clip=1, noise=noise, delta=1e-5)), *[["a", "b"]] * rounds)
    plain = gaussian(noise, rounds, 1e-5)
    assert 0.6 * plain < loss.epsilon <= plain  # the library's conversion is a little tighter
    assert (loss.delta, loss.rounds) == (1e-5, rounds)


def test_the_contributor_of_the_most_rounds_counts():
    accountant = PrivacyAccountant(PrivateMean())
    alone = spent(accountant, ["a"], ["a"])
    assert spent(accountant, ["a", "b"], ["a", "c"], ["d", "b"]) == alone
    assert spent(accountant, ["a", "b"], ["a", "c"], ["a", "b"]).epsilon > alone.epsilon


def test_rounds_that_made_nothing_cost_nothing():
    kept = RoundRecord(round=1, contributions={"a": ContributionRecord(norm=1, share=1)})
    loss = PrivacyAccountant(PrivateMean()).spent([RoundRecord(round=0), kept], [])
    assert loss == PrivacySpent(epsilon=0.0, delta=1e-5, rounds=0)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(SettingsError, match=r"pip install 'coldfusion-fl\[privacy\]'"):
        PrivacyAccountant(PrivateMean())
