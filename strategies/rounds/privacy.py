"""The privacy loss of the contributors."""

from collections import Counter
from collections.abc import Iterable, Sequence
from logging import INFO

from flwr.common import log
from flwr.serverapp import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, SamplingMethod

from coldfusion_fl.extras import require
from coldfusion_fl.fusion import Operator, PrivateMean
from coldfusion_fl.repository.aggregator import Accounting
from coldfusion_fl.runs.records import PrivacySpent, RoundRecord


class PrivacyAccountant:
    """Accounts for the rounds of a private mean with Flower's accountant (Rényi differential privacy).

    The sampling follows from a seed that contributors know, so it amplifies nobody's privacy: each contributor has
    spent what its own rounds cost. A round counts once its fused encoder was made, whether or not that became a base:
    then its record has `privacy`.

    Args:
        fusion: how contributions are fused.

    Raises:
        SettingsError: the accountant's library is not installed.
    """

    def __init__(self, fusion: PrivateMean) -> None:
        self._fusion = fusion
        require(fusion.name, "dp_accounting")

    def spent(self, earlier: Iterable[RoundRecord], fused: Iterable[str]) -> PrivacySpent:
        """The privacy loss of the contributor with the most rounds.

        ε and δ bound what a contributor's updates can change in all bases together, compared with updates of zero;
        other rows in place of its own are twice as far.

        Args:
            earlier: the records of the earlier rounds.
            fused: the names of this round's contributors.
        """
        from flwr.serverapp import RdpAccountant

        names = [name for record in earlier if record.privacy for name in record.contributions]
        counts = Counter([*names, *fused])
        rounds = max(counts.values(), default=0)
        delta = self._fusion.delta
        if not rounds:
            return PrivacySpent(epsilon=0.0, delta=delta, rounds=0)
        size = len(counts)
        relation, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
        accountant = RdpAccountant(PrivacyConfig(delta, size, relation, sampling))
        accountant.compose(GaussianPrivacyEvent(self._fusion.noise, size, size), rounds)
        return PrivacySpent(epsilon=round(accountant.get_epsilon(delta), 4), delta=delta, rounds=rounds)


def privacy_accounting(fusion: Operator) -> Accounting | None:
    """Returns and logs the privacy loss after a round; None: the fusion is not private.

    Raises:
        SettingsError: the accountant's library is not installed.
    """
    if not isinstance(fusion, PrivateMean):
        return None
    accountant = PrivacyAccountant(fusion)

    def account(earlier: Sequence[RoundRecord], fused: Iterable[str]) -> PrivacySpent:
        spent = accountant.spent(earlier, fused)
        log(
            INFO,
            "Privacy loss of the contributor with the most rounds: ε = %g at δ = %g.",
            spent.epsilon,
            spent.delta,
        )
        return spent

    return account
