"""The privacy loss of the contributors."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from logging import INFO, WARNING

from flwr.common import log
from flwr.serverapp import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, SamplingMethod

from coldfusion_fl.extras import require
from coldfusion_fl.fusion import Operator, PrivateMean
from coldfusion_fl.repository.aggregator import Accounting
from coldfusion_fl.runs.records import PrivacySpent, RoundRecord

from ..nodes.membership import is_unnamed


class PrivacyAccountant:
    """Accounts for the rounds of a private mean with Flower's accountant (Rényi differential privacy).

    The sampling follows from a seed that contributors know, so it amplifies nobody's privacy: each contributor has
    spent what its own rounds cost. A round counts once its fused encoder was made, whether or not that became a base:
    then its record has `privacy`.

    After a resume the nodes without a name may have other IDs. Then the worst case counts: each of them may be the one
    of before that had the most rounds. One that restarts alone, during a run, cannot be told from another one.

    Args:
        fusion: how contributions are fused.

    Raises:
        SettingsError: the accountant's library is not installed.
    """

    def __init__(self, fusion: PrivateMean) -> None:
        self._fusion = fusion
        self._rounds_before: int | None = None  # private rounds of earlier processes; known at the first call
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

        names = set(fused)
        rounds = self._most_rounds([record for record in earlier if record.privacy], names)
        delta = self._fusion.delta
        if not rounds:
            return PrivacySpent(epsilon=0.0, delta=delta, rounds=0)
        size = max(1, len(names))
        relation, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
        accountant = RdpAccountant(PrivacyConfig(delta, size, relation, sampling))
        accountant.compose(GaussianPrivacyEvent(self._fusion.noise, size, size), rounds)
        return PrivacySpent(epsilon=round(accountant.get_epsilon(delta), 4), delta=delta, rounds=rounds)

    def _most_rounds(self, private: Sequence[RoundRecord], fused: Collection[str]) -> int:
        """The most rounds that a contributor may have had.

        Args:
            private: the records of the earlier rounds that count.
            fused: the names of this round's contributors.
        """
        if self._rounds_before is None:
            self._rounds_before = len(private)
        before, since = private[: self._rounds_before], private[self._rounds_before :]
        most_before = max((record.privacy.rounds for record in before if record.privacy), default=0)
        now = Counter([name for record in since for name in record.contributions] + list(fused))
        # A contributor with a name may have had none before, in each round of nodes without one.
        nameless = [any(map(is_unnamed, record.contributions)) for record in before]
        known = {name for record in before for name in record.contributions if not is_unnamed(name)} | now.keys()
        bounds = [
            now[name] + (most_before if is_unnamed(name) else _rounds_of(name, before, nameless)) for name in known
        ]
        return max([most_before, *bounds])


def _rounds_of(name: str, records: Sequence[RoundRecord], nameless: Sequence[bool]) -> int:
    """The number of rounds that a contributor took part in, or may have taken part in without its name."""
    return sum(name in record.contributions or other for record, other in zip(records, nameless, strict=True))


def privacy_accounting(fusion: Operator) -> Accounting | None:
    """Returns and logs the privacy loss after a round; None: the fusion is not private.

    Raises:
        SettingsError: the accountant's library is not installed.
    """
    if not isinstance(fusion, PrivateMean):
        return None
    accountant = PrivacyAccountant(fusion)
    has_warned = False

    def account(earlier: Sequence[RoundRecord], fused: Iterable[str]) -> PrivacySpent:
        nonlocal has_warned
        names = list(fused)
        if not has_warned and any(map(is_unnamed, names)):
            has_warned = True
            log(
                WARNING,
                "Some contributors have no name. One that restarts during the run counts as another one, and its "
                "privacy loss is then higher than reported. Give contributors names.",
            )
        spent = accountant.spent(earlier, names)
        log(
            INFO,
            "Privacy loss of the contributor with the most rounds: ε = %g at δ = %g.",
            spent.epsilon,
            spent.delta,
        )
        return spent

    return account
