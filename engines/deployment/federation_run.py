"""A run in a federation: started at its server, watched, and started again when it was lost.

`coldfusion run --federation` starts this as a process (`launch`), on the server's machine, where the run folder is. A
SuperLink that is killed marks its runs as failed and forgets them; the ledger has all finished rounds, and the run goes
on after them.
"""

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flwr.common import log

from coldfusion_fl.cli.worker import run_worker
from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.engines.deployment.app_bundle import build_app_bundle
from coldfusion_fl.engines.deployment.control import Control, RequestRejectedError, control_of
from coldfusion_fl.engines.deployment.federation import Federation, open_federation
from coldfusion_fl.errors import DeploymentError, RunError, SettingsError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.run.ledger import Ledger

_POLL = 2.0
# So often in a row a run may be lost before it finished another round.
_MOST_LOSSES = 5
_LONGEST_ABSENCE = 3600.0
_LONGEST_END = 120.0

_Answer = TypeVar("_Answer")


def main() -> None:
    """Check the settings of a run, and have the federation's server run the folder that is then named."""
    folder = Path(sys.argv[3])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_worker(
            "The run",
            lambda settings, source: check_server_side(open_federation(folder), settings, source),
            lambda _: None,
            lambda _, ledger: supervise(open_federation(folder), ledger),
        )
    except KeyboardInterrupt:  # whoever started this says what was stopped
        log(logging.INFO, "Stopped.")
        sys.exit(130)


def check_server_side(federation: Federation, settings: Settings, source: str) -> None:
    """Find what is wrong with what the server's side needs: members, the server, the base, and its probe.

    Members check their data themselves.

    Raises:
        SettingsError: a task that is named is no member's name.
        ColdFusionError: the server does not answer, the base cannot be loaded, or the probe's rows cannot be read.
    """
    is_new = not (Path(settings.out) / "run.json").exists()  # members may leave while a run goes on
    for name in settings.contributors if is_new else ():
        if name not in federation.public_keys:
            raise SettingsError(
                f"{source}: [tasks] names '{name}', which is no member of {federation.name}."
                f"{did_you_mean(name, federation.public_keys)}"
            )
    with control_of(federation) as control:
        control.nodes()
    if settings.server.server_validation:
        load_task(settings.server.server_validation, settings.tasks.catalogue, settings.tasks.data_root)
    load_encoder(open_base(settings.base))


def supervise(federation: Federation, ledger: Ledger) -> None:
    """Have a run run to its end, however often it is lost on the way.

    Args:
        federation: whose server runs it.
        ledger: the run folder.

    Raises:
        RunError: it ended before its end.
        DeploymentError: the server cannot be reached, for very long.
    """
    bundle = build_app_bundle(ledger.folder, federation.members_file)
    series: int | None = None
    losses, last = 0, -1
    while True:
        run_id = None
        try:
            run_id, series = _start(federation, ledger, bundle, series)
            log(logging.INFO, "The server runs it as run %d.", run_id)
            details = _wait(federation, ledger, run_id)
        except KeyboardInterrupt:
            if run_id is not None:
                with contextlib.suppress(DeploymentError), control_of(federation) as control:
                    control.stop(run_id)
            raise
        if ledger.status.get("state") == "finished":
            return
        if ledger.status.get("final"):
            raise RunError(str(ledger.status.get("reason")))
        done = max(ledger.rounds(), default=-1)
        losses, last = (losses + 1 if done == last else 1), done
        if losses >= _MOST_LOSSES:
            raise RunError(f"it was lost {losses} times after round {done}, the last time with: {details}")
        log(logging.WARNING, "The run was lost (%s). It goes on after round %d.", details, done)
        ledger.event("lost", round=done, reason=details)
        _wait_for_its_end(ledger)


def _start(federation: Federation, ledger: Ledger, bundle: bytes, series: int | None) -> tuple[int, int]:
    """Start a run at the server, which may be away for a while; its id and that of its series."""
    return _patiently(federation, ledger, lambda control: control.start(bundle, series))


def _wait(federation: Federation, ledger: Ledger, run_id: int) -> str:
    """Wait until a run has ended; how, in the server's words."""
    while True:
        state = _patiently(federation, ledger, lambda control: control.run(run_id))
        if state is None:
            return "the server does not know it any more"
        if state.status == "finished":
            return f"{state.ended}: {state.details}"
        time.sleep(_POLL)


def _patiently(federation: Federation, ledger: Ledger, ask: Callable[[Control], _Answer]) -> _Answer:
    """Ask the server; while it does not answer, ask again, and let whoever watches the run know.

    Raises:
        RequestRejectedError: it rejects.
        DeploymentError: it does not answer for an hour.
    """
    deadline, told = time.monotonic() + _LONGEST_ABSENCE, False
    while True:
        try:
            with control_of(federation) as control:
                answer = ask(control)
        except RequestRejectedError:
            raise
        except DeploymentError as away:
            if time.monotonic() > deadline:
                raise
            if not told:
                told = True
                log(logging.WARNING, "%s", away)
                ledger.event("away", reason=str(away))
            time.sleep(_POLL)
        else:
            if told:
                ledger.event("back")
            return answer


def _wait_for_its_end(ledger: Ledger) -> None:
    """Wait until the process of a lost run has ended too: two at one ledger would be one too many."""
    deadline = time.monotonic() + _LONGEST_END
    while ledger.is_locked:
        if time.monotonic() > deadline:
            raise RunError(f"{ledger.folder}: the process of the run that was lost does not end. End it, and resume.")
        time.sleep(_POLL)


if __name__ == "__main__":
    main()
