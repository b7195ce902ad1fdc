"""The engine `attacked-simulation`: a simulation in which some contributors attack the run."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.engines.simulation_engine import SimulationEngine

if TYPE_CHECKING:
    from flwr.clientapp.typing import Mod


class AttackedSimulation(SimulationEngine):
    """A simulation with attackers.

    Args:
        attacks: a JSON object of attacks as text, by contributor: `{"b": "sign-flip(times=2)"}`.
    """

    title = "Flower's simulation with attackers"

    def __init__(self, attacks: str) -> None:
        super().__init__()
        self._attacks: dict[str, str] = json.loads(attacks)

    def mods(self, settings: Settings) -> Sequence["Mod"]:
        """See `SimulationEngine`."""
        from coldfusion_fl.experiments.attacks.attack import parse_attacks
        from coldfusion_fl.experiments.attacks.mod import attack_mod

        return [attack_mod(parse_attacks(self._attacks), settings)]
