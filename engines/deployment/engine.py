"""The engine `deployment`: a run in a federation over a network.

Only this module is loaded by the command line; Flower is loaded in the run process.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.execution.engine import Engine, Progress
from coldfusion_fl.runs.ledger import Ledger


class DeploymentEngine(Engine):
    """Has a federation's server run the ServerApp, and the federation's members train.

    Args:
        folder: the federation's folder, on this machine.
    """

    title = "The federation run"
    environment: ClassVar[Mapping[str, str]] = {"FLWR_TELEMETRY_ENABLED": "0"}

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def set_up_process(self) -> None:
        """See `Engine`."""
        import coldfusion_fl.engines.deployment.federation_run  # noqa: F401

        # SIGTERM must stop the run at the server too, as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def check(self, settings: Settings, source: str, progress: Progress) -> list[str]:
        """See `Engine`."""
        from coldfusion_fl.engines.deployment.federation import open_federation
        from coldfusion_fl.engines.deployment.federation_run import check_federation
        from coldfusion_fl.preflight.resources import check_disk, describe_traffic
        from coldfusion_fl.preflight.settings_check import check_server_side

        check_federation(open_federation(self._folder), settings, source)
        base = check_server_side(settings, source)
        sizes = (base.encoder_bytes, base.frozen_bytes)
        notes = [check_disk(settings, *sizes), describe_traffic(settings, *sizes)]
        return [*notes, *(f"base: {note}" for note in base.notes)]

    def run(self, settings: Settings, ledger: Ledger) -> None:
        """See `Engine`."""
        from coldfusion_fl.engines.deployment.federation import open_federation
        from coldfusion_fl.engines.deployment.federation_run import supervise

        supervise(open_federation(self._folder), ledger)
