"""Joins a federation: runs a member's SuperNode."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import tomli_w

from coldfusion_fl.atomic_files import atomic_write, exclusive_lock
from coldfusion_fl.engines.deployment.certificates import check_key_file, read_certificates, read_private_key
from coldfusion_fl.engines.deployment.member.admission import AdmissionCheck
from coldfusion_fl.engines.deployment.member.follow import LogFollower
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.engines.deployment.supervisor import Supervisor, program, wait_for_leftover
from coldfusion_fl.errors import DeploymentError, ErrorCode
from coldfusion_fl.process_tree import exit_with_parent

_FLOWER = "flower"
_MESSAGE_LOG = "messages.log"


def join(member: Member, folder: Path, log: Callable[[str], None]) -> None:
    """Take part in a federation until this process is stopped.

    Args:
        member: the member's settings.
        folder: the member's folder; Flower's files go there too.
        log: called with each line about the progress.

    Raises:
        ColdFusionError: the key or the authority's certificate cannot be read; other users can read the key; the rows
            cannot be read or do not make a task; another process has joined for this member; a SuperNode of an earlier
            start does not end; or the server has removed this member.
    """
    read_private_key(Path(member.key))
    if warning := check_key_file(Path(member.key)):
        log(f"Warning: {warning}")
    if member.authority:
        read_certificates(Path(member.authority))
    home = flower_home(folder)
    home.mkdir(exist_ok=True)
    log_file = home / "supernode.log"
    with exclusive_lock(home, "another process has joined for this member already. End it, or wait for it."):
        wait_for_leftover("SuperNode", node_config_option(home), log)
        _check_task(member)
        log(f"{member.name} joins at {member.server}. Flower's own log is {log_file}")
        messages, admission = LogFollower(home / _MESSAGE_LOG, log), AdmissionCheck(member, home, log)

        def meanwhile() -> None:
            messages.update()
            admission.update()

        supernode = program("coldfusion_fl.engines.deployment.member.supernode")
        supervisor = Supervisor(
            lambda: [*supernode, *supernode_options(member, home)], {"FLWR_HOME": str(home)}, log_file, log
        )
        supervisor.run(meanwhile, admission.wait)
        messages.update()


def flower_home(folder: Path) -> Path:
    """The folder of Flower's own files in a member's folder."""
    return folder.resolve() / _FLOWER


def node_config_option(home: Path) -> tuple[str, str]:
    """The arguments that only this member's SuperNode has: the file of its configuration, in Flower's folder."""
    return ("--node-config", str(home / "node.toml"))


def _check_task(member: Member) -> None:
    """Read the rows once, in a process of its own, so that this process does not keep them in memory for weeks."""
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, initializer=exit_with_parent, initargs=(os.getpid(),)) as pool:
            pool.submit(_read_task, member).result()
    except BrokenProcessPool:
        raise DeploymentError(
            f"the process that read the rows of '{member.task}' was killed, perhaps for lack of memory.",
            code=ErrorCode.WORKERS_FAILED,
        ) from None


def _read_task(member: Member) -> None:
    from coldfusion_fl.data.task import load_task  # pandas too: only that process needs it

    load_task(member.task, member.catalogue, member.data_root)


def supernode_options(member: Member, home: Path) -> list[str]:
    """The arguments of Flower's SuperNode for a member.

    Args:
        member: the member's settings.
        home: the folder for Flower's files; the node's configuration is written there.
    """
    config = node_config_option(home)
    with atomic_write(Path(config[1])) as path:
        path.write_text(tomli_w.dumps(_node_config(member, home)), encoding="utf-8")
    trust = ["--root-certificates", member.authority] if member.authority else []
    return [
        *("--superlink", member.server),
        *trust,
        *("--auth-supernode-private-key", member.key),
        *config,
        # The SuperNode's own processes connect to this port. Members on the same machine need different ones.
        *("--port", str(free_port())),
    ]


def _node_config(member: Member, home: Path) -> dict[str, str | bool]:
    return {
        "name": member.name,
        "task": member.task,
        "base": member.base,
        "catalogue": ", ".join(name.replace(",", "\\,") for name in member.catalogue),
        "data-root": member.data_root,
        "seen": member.seen,
        "state-dir": str(home / "state"),
        "message-log": str(home / _MESSAGE_LOG),
    }


def free_port() -> int:
    """A port on loopback that is free at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
