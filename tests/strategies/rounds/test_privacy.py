"""What a private mean costs contributors in privacy."""

import math
import sys

import pytest

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import PrivateMean
from coldfusion_fl.runs.records import ContributionRecord, PrivacySpent, RoundRecord
from coldfusion_fl.strategies.rounds.privacy import PrivacyAccountant, privacy_accounting


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


def resumed(*processes):
    """The privacy losses after the rounds of some processes, each a list of rounds of names."""
    made, found = [RoundRecord(round=0)], []
    for process in processes:
        accountant = PrivacyAccountant(PrivateMean())
        for names in process:
            loss = accountant.spent(made, names)
            contributions = dict.fromkeys(names, ContributionRecord(norm=1, share=1))
            made.append(RoundRecord(round=len(made), privacy=loss, contributions=contributions))
            found.append(loss)
    return found


def test_after_a_resume_a_node_without_a_name_may_be_any_node_without_a_name():
    unnamed = [[["node-1", "node-2"]] * 2, [["node-3", "node-4"]] * 2]
    losses = resumed(*unnamed)
    assert [loss.rounds for loss in losses] == [1, 2, 3, 4]
    assert [round(losses[number].epsilon, 2) for number in (1, 3)] == [7.08, 10.73]
    assert resumed(*unnamed, [["node-5"]])[-1].rounds == 5
    # Those of one process are known apart.
    assert resumed([["node-1"], ["node-2"]])[-1].rounds == 1
    assert resumed([["node-1"], ["node-2"]], [["node-3"], ["node-4"]])[-1].rounds == 2


def test_contributors_without_a_name_are_warned_of_once(caplog):
    account = privacy_accounting(PrivateMean())
    account([RoundRecord(round=0)], ["a"])
    assert "no name" not in caplog.text
    for _ in range(2):
        account([RoundRecord(round=0)], ["a", "node-1"])
    assert caplog.text.count("Some contributors have no name") == 1


def test_after_a_resume_names_are_who_they_were():
    assert resumed([["a", "b"], ["a"]], [["b"], ["b"]])[-1].rounds == 3
    assert [loss.rounds for loss in resumed([["a"]], [["b"]], [["c"]])] == [1, 1, 1]
    # A node without a name may have got one, and one with a name may have lost it.
    assert [loss.rounds for loss in resumed([["a", "node-1"], ["node-1"]], [["a"], ["b"]])] == [1, 2, 3, 3]
    assert resumed([["a"], ["a"]], [["node-1"]])[-1].rounds == 3


def test_rounds_that_made_nothing_cost_nothing():
    kept = RoundRecord(round=1, contributions={"a": ContributionRecord(norm=1, share=1)})
    loss = PrivacyAccountant(PrivateMean()).spent([RoundRecord(round=0), kept], [])
    assert loss == PrivacySpent(epsilon=0.0, delta=1e-5, rounds=0)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(SettingsError, match=r"pip install 'coldfusion-fl\[privacy\]'"):
        PrivacyAccountant(PrivateMean())
