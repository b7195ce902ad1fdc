"""How much of their privacy contributors have spent."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.serverapp import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, SamplingMethod

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import PrivateMean


class PrivacyAccountant:
    """Accounts for the rounds of a private mean, by Flower's accountant (Rényi differential privacy).

    Who is sampled follows from a seed that contributors know, so sampling hides nobody: each has spent what its own
    rounds have cost. Counted are rounds whose fused encoder was made, whether or not it became a base: their records
    have `privacy`.

    Args:
        fusion: how contributions are fused.

    Raises:
        SettingsError: the accountant's library is not installed.
    """

    def __init__(self, fusion: PrivateMean) -> None:
        self._fusion = fusion
        try:
            import dp_accounting  # noqa: F401
        except ImportError:
            raise SettingsError(
                f"{fusion.name} says how much privacy is spent by a library that is not here. Install it: pip install "
                "'coldfusion-fl[privacy]'"
            ) from None

    def spent(self, records: Iterable[Mapping[str, Any]]) -> dict[str, float | int]:
        """What the contributor of the most rounds has spent.

        Args:
            records: of all rounds.

        Returns:
            `epsilon` and `delta`: what a contributor's updates can do to all bases together, against updates of zero
            (other rows in place of its own are twice as far); and its `rounds`.
        """
        from flwr.serverapp import RdpAccountant

        counts = Counter(name for record in records if "privacy" in record for name in record["contributions"])
        rounds = max(counts.values(), default=0)
        delta = self._fusion.delta
        if not rounds:
            return {"epsilon": 0.0, "delta": delta, "rounds": 0}
        size = len(counts)
        relation, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
        accountant = RdpAccountant(PrivacyConfig(delta, size, relation, sampling))
        accountant.compose(GaussianPrivacyEvent(self._fusion.noise, size, size), rounds)
        return {"epsilon": round(accountant.get_epsilon(delta), 4), "delta": delta, "rounds": rounds}
