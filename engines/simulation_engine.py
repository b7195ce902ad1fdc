"""The engine `simulation`: a run as a Flower simulation on Ray, on this machine or on a Ray cluster.

Only this module is loaded by the command line. Flower, Ray and the libraries of the workers are loaded in `check`, in
the run process.
"""

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.engines.fork_server import can_fork, start_fork_server
from coldfusion_fl.engines.local_ray import LocalRay
from coldfusion_fl.execution.engine import Engine, Progress
from coldfusion_fl.extras import EXTRAS, require
from coldfusion_fl.preflight.resources import check_disk, describe_memory
from coldfusion_fl.runs.ledger import Ledger

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.clientapp.typing import Mod

    from coldfusion_fl.engines.simulation import Simulation


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

    def __init__(self) -> None:
        require("a simulation", *EXTRAS["simulation"])
        self._ray: LocalRay | None = None
        self._simulation: Simulation | None = None
        self._rows_hashes: dict[str, str] = {}
        self._node_ids: dict[str, int] = {}

    def set_up_process(self) -> None:
        """See `Engine`."""
        # Ray's workers import first from the working folder of the process that started Ray. In a checkout of this
        # project that would be another copy of the package.
        os.chdir("/")

    def prepare(self, settings: Settings) -> None:
        """See `Engine`."""
        if not settings.simulation.address:
            self._ray = LocalRay(early_workers=not can_fork(settings.simulation))

    def check(self, settings: Settings, source: str, progress: Progress) -> list[str]:
        """See `Engine`."""
        # While Ray starts, the libraries are loaded and the base is checked. Then the workers check the tasks, side by
        # side. The order matters: a process that has computed cannot be forked.
        python = self._start_fork_server(settings) if can_fork(settings.simulation) else ""
        from coldfusion_fl.evaluation.score_cache import score_cache_folder
        from coldfusion_fl.preflight.settings_check import check_server_side

        base = check_server_side(settings, source)
        notes = [check_disk(settings, base.encoder_bytes, base.frozen_bytes)]
        score_cache_folder(lambda line: notes.append(f"warning: {line}"))
        from coldfusion_fl.engines.simulated_preflight import check_tasks
        from coldfusion_fl.engines.simulation import Simulation, connect_ray, count_workers

        connect_ray(self._ray.address() if self._ray else settings.simulation.address, python)
        # No more workers than tasks are ever at work.
        workers = min(count_workers(settings.simulation), len(settings.task_names))
        self._simulation = Simulation(self._client_app(settings), len(settings.task_names), settings.simulation)
        findings = self._simulation.call(lambda grid: check_tasks(grid, settings, progress))
        self._rows_hashes, self._node_ids = findings.rows_hashes, findings.node_ids
        notes += self._compare_rows(Path(settings.out))
        if not settings.simulation.address:  # the workers of a cluster have the memory of several machines
            processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
            notes.append(describe_memory(findings.worker_memory, workers, base.encoder_bytes, processes))
        notes += [f"base: {note}" for note in base.notes]
        return notes + [f"{name}: {note}" for name in settings.task_names for note in findings.notes[name]]

    def _start_fork_server(self, settings: Settings) -> str:
        gc.disable()  # the collector takes a quarter of the time of these imports, and finds nothing
        try:
            import coldfusion_fl.engines.preloaded  # noqa: F401
        finally:
            gc.enable()
        return start_fork_server(settings.simulation.cpus)

    def _compare_rows(self, folder: Path) -> list[str]:
        """Warnings of tasks whose rows are not those that a run to resume began with."""
        if not (folder / "run.json").exists():
            return []
        before = Ledger(folder).rows_hashes
        changed = [name for name, found in self._rows_hashes.items() if found != before.get(name, found)]
        return [f"warning: the rows of {name} have changed since the run began" for name in changed]

    def _client_app(self, settings: Settings) -> "ClientApp":
        from coldfusion_fl.clients.client_app import contributor_app
        from coldfusion_fl.engines.simulated_preflight import ACTION, check_task, forget_checker
        from coldfusion_fl.engines.worker_mods import report_replacement, with_run_config

        mods = [report_replacement(settings), with_run_config(settings), forget_checker, *self.mods(settings)]
        app = contributor_app(mods=mods)
        app.query(ACTION)(check_task)
        return app

    def run(self, settings: Settings, ledger: Ledger) -> None:
        """See `Engine`."""
        from coldfusion_fl.strategies.nodes.membership import Member
        from coldfusion_fl.strategies.server_app import serve

        assert self._simulation, "check() starts it"
        ledger.note_rows(self._rows_hashes)
        members = [
            Member(node, name, seen=name in settings.tasks.seen, simulated_nodes=len(self._node_ids))
            for name, node in self._node_ids.items()
        ]
        with self._simulation:
            self._simulation.call(lambda grid: serve(grid, settings, ledger, members=members))
