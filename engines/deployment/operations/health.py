"""Whether a server or a member works now: for the health checks of Docker and of service managers."""

import time
from pathlib import Path

from coldfusion_fl.atomic_files import is_locked
from coldfusion_fl.engines.deployment.control import control_of
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.member.join import flower_home, node_config_option
from coldfusion_fl.engines.deployment.member.server_check import check_connection
from coldfusion_fl.engines.deployment.member.settings import read_member
from coldfusion_fl.engines.deployment.operations.expiry import expiry_warnings, server_validities
from coldfusion_fl.errors import DeploymentError, ErrorCode, count
from coldfusion_fl.process_tree import find_processes

# A SuperNode that fails at its start does so within seconds, and is started again. An older one is settled.
_SETTLED = 20.0


def check_server_health(federation: Federation) -> str:
    """Check that `coldfusion federation serve` runs, and that its SuperLink answers.

    Args:
        federation: the federation; its server is on this machine.

    Returns:
        The facts.

    Raises:
        DeploymentError: the server does not run, or does not answer.
    """
    # Who runs the server, or a member, holds the lock of the folder with its Flower files.
    if not is_locked(federation.flower_home):
        raise DeploymentError(
            f"the server of {federation.name} does not run. Start it: coldfusion federation serve {federation.folder}",
            code=ErrorCode.NOT_RUNNING,
        )
    with control_of(federation) as control:
        nodes = control.nodes()
    online = sum(node.online for node in nodes)
    facts = (
        f"the server of {federation.name} is up; {online} of {count(len(nodes), 'member')} online; its certificate is "
        f"valid for {count(server_validities(federation)[0].days_left(), 'more day')}"
    )
    return "; ".join([facts, *expiry_warnings(federation)])


def check_member_health(folder: Path) -> str:
    """Check that `coldfusion member start` runs, that its SuperNode keeps running, and that it can reach the server.

    Args:
        folder: the member's folder.

    Returns:
        The facts.

    Raises:
        DeploymentError: one of these is not the case, or the settings are wrong.
    """
    member, home = read_member(folder), flower_home(folder)
    command_runs = home.is_dir() and is_locked(home)
    started = _start_of_supernode(home) if command_runs else None
    if started is None:
        # The command waits, without a SuperNode, while the server does not admit the member.
        advice = "Find out why: coldfusion member check" if command_runs else "Start it: coldfusion member start"
        raise DeploymentError(
            f"'{member.name}' has not joined: no SuperNode runs. {advice} {folder}",
            code=ErrorCode.NOT_RUNNING,
        )
    age = time.time() - started
    if age < _SETTLED:
        raise DeploymentError(
            f"the SuperNode of '{member.name}' started {age:.0f} s ago. If this goes on, it fails each time. Run: "
            f"coldfusion member check {folder}",
            code=ErrorCode.NOT_RUNNING,
        )
    connection = check_connection(member)
    if not connection.passed:
        raise DeploymentError(connection.details, code=connection.code)
    return (
        f"'{member.name}' has joined, and its SuperNode has been running for {age / 60:.0f} min; {connection.details}"
    )


def _start_of_supernode(home: Path) -> float | None:
    """When the SuperNode of a member was started, in seconds since 1970; None: it does not run."""
    starts = (process.info["create_time"] for process in find_processes(*node_config_option(home)))
    return min(starts, default=None)
