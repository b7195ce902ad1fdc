"""A run in a federation: started at the federation's server, watched, and started again when it was lost.

This is done by the run process of `coldfusion run --federation`, on the server's machine, where the run folder is. A
SuperLink that is killed marks its runs as failed and forgets them. The ledger has all finished rounds, so the run goes
on after them.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flwr.common import log

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.engines.deployment.app_bundle import build_app_bundle
from coldfusion_fl.engines.deployment.control import Control, RequestRejectedError, control_of
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.errors import DeploymentError, ErrorCode, RunError, SettingsError
from coldfusion_fl.runs.events import RunLost, ServerReachable, ServerUnreachable
from coldfusion_fl.runs.ledger import Ledger

_POLL_INTERVAL = 2.0  # seconds
# The run fails when it is lost this many times without finishing another round.
_MAX_LOSSES = 5
_MAX_ABSENCE = 3600.0  # seconds
_MAX_SHUTDOWN = 120.0  # seconds

_Answer = TypeVar("_Answer")


def check_federation(federation: Federation, settings: Settings, source: str) -> None:
    """Check that the members are known and that the server answers. Members check their data themselves.

    Args:
        federation: the federation that is to run it.
        settings: the run's settings.
        source: the file they were read from, for messages.

    Raises:
        SettingsError: the settings name a task that is not the name of a member.
        DeploymentError: the server does not answer.
    """
    is_new = not (Path(settings.out) / "run.json").exists()  # members may leave during a run, which then goes on
    for name in settings.task_names if is_new else ():
        if name not in federation.public_keys:
            raise SettingsError(
                f"{source}: [tasks] names '{name}', which is not a member of {federation.name}."
                f"{did_you_mean(name, federation.public_keys)}",
                code=ErrorCode.MEMBER_UNKNOWN,
            )
    with control_of(federation) as control:
        control.nodes()


def supervise(federation: Federation, ledger: Ledger) -> None:
    """Have the server execute a run to its end, and start it again each time it is lost.

    Args:
        federation: its server executes the run.
        ledger: the run folder.

    Raises:
        RunError: the run failed, or was lost too often.
        DeploymentError: the server could not be reached for an hour.
    """
    bundle = build_app_bundle(ledger.folder, federation.members_file)
    series: int | None = None
    losses, last = 0, -1
    while True:
        run_id = None
        try:
            run_id, series = _start(federation, ledger, bundle, series)
            log(logging.INFO, "The server started the run. Its Flower run ID is %d.", run_id)
            details = _wait_for_run(federation, ledger, run_id)
        except KeyboardInterrupt:
            if run_id is not None:
                with contextlib.suppress(DeploymentError), control_of(federation) as control:
                    control.stop(run_id)
            raise
        # How the run ended is in the ledger. If the ledger does not tell, the run was lost with its process.
        if ledger.state.state == "finished":
            return
        if ledger.state.final:
            raise RunError(str(ledger.state.reason))
        done = max(ledger.rounds(), default=-1)
        where = "before the first base was saved" if done < 0 else f"after round {done}"
        losses, last = (losses + 1 if done == last else 1), done
        if losses >= _MAX_LOSSES:
            raise RunError(
                f"the run was interrupted {losses} times {where}. The last reason: {details}. See superlink.log in the "
                "federation's folder."
            )
        log(logging.WARNING, "The run was interrupted %s (%s). Restarting it.", where, details)
        ledger.emit(RunLost(round=done, reason=details))
        _wait_for_lock(ledger)


def _start(federation: Federation, ledger: Ledger, bundle: bytes, series: int | None) -> tuple[int, int]:
    """Start a run at the server; returns the IDs of the run and of its series."""
    return _ask_until_answered(federation, ledger, lambda control: control.start(bundle, series))


def _wait_for_run(federation: Federation, ledger: Ledger, run_id: int) -> str:
    """Wait until a run has ended; returns the server's explanation of its end."""
    while True:
        state = _ask_until_answered(federation, ledger, lambda control: control.run(run_id))
        if state is None:
            return "the server no longer has this run"
        if state.status == "finished":
            return f"{state.ended}: {state.details}"
        time.sleep(_POLL_INTERVAL)


def _ask_until_answered(federation: Federation, ledger: Ledger, ask: Callable[[Control], _Answer]) -> _Answer:
    """Send a request to the server; while the server does not answer, send it again, and emit events about it.

    Raises:
        RequestRejectedError: the server rejects the request.
        DeploymentError: the server did not answer for an hour.
    """
    # A server that restarts is away for some seconds, and its run goes on afterwards. So an absence is no failure.
    deadline, is_away = time.monotonic() + _MAX_ABSENCE, False
    while True:
        try:
            with control_of(federation) as control:
                answer = ask(control)
        except RequestRejectedError:
            raise
        except DeploymentError as error:
            if time.monotonic() > deadline:
                raise
            if not is_away:
                is_away = True
                log(logging.WARNING, "%s", error)
                ledger.emit(ServerUnreachable(reason=str(error)))
            time.sleep(_POLL_INTERVAL)
        else:
            if is_away:
                ledger.emit(ServerReachable())
            return answer


def _wait_for_lock(ledger: Ledger) -> None:
    """Wait until the process of a lost run has released the ledger: two processes must not write to one ledger."""
    deadline = time.monotonic() + _MAX_SHUTDOWN
    while ledger.is_locked:
        if time.monotonic() > deadline:
            raise RunError(
                f"{ledger.folder}: the run was lost, but its process does not end. End it, and resume the run.",
                code=ErrorCode.RUN_LOCKED,
            )
        time.sleep(_POLL_INTERVAL)
