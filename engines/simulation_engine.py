"""The engine `simulation`: a run as a Flower simulation on Ray, on this machine or on a Ray cluster.

Only this module is loaded by the command line; `simulation`, with Flower and Ray, is loaded in the run process.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from coldfusion_fl.cli.engine import Engine
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.run.ledger import Ledger

if TYPE_CHECKING:
    from flwr.clientapp.typing import Mod


class SimulationEngine(Engine):
    """Simulates all contributors. Subclasses may add Flower mods to them."""

    title = "Flower's simulation"
    environment: ClassVar[Mapping[str, str]] = {
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    may_linger = True

    def mods(self, settings: Settings) -> Sequence["Mod"]:
        """Flower mods that the simulated contributors get beside the usual ones."""
        return ()

    def set_up_process(self) -> None:
        """See `Engine`."""
        # Ray's workers import first from the working folder of the process that started Ray. In a checkout of this
        # project that would be another copy of the package.
        os.chdir("/")
        import coldfusion_fl.engines.simulation  # noqa: F401

    def check(self, settings: Settings, source: str) -> None:
        """See `Engine`."""
        from coldfusion_fl.data.task import load_task
        from coldfusion_fl.run.preflight import check_contents

        check_contents(settings, source)
        load_task.cache_clear()  # the contributors' processes read the rows again; here they would only take memory

    def prepare(self, settings: dict[str, Any]) -> ColdFusionError | None:
        """See `Engine`."""
        from coldfusion_fl.engines.simulation import start_ray

        return start_ray(settings.get("simulation", {}).get("address", ""))

    def run(self, settings: Settings, ledger: Ledger) -> None:
        """See `Engine`."""
        from coldfusion_fl.clients.client_app import contributor_app
        from coldfusion_fl.engines.simulation import simulate, with_run_config

        simulate(settings, ledger, contributor_app(mods=[with_run_config(settings), *self.mods(settings)]))
