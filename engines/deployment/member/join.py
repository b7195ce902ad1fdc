"""Joins a federation: a member's SuperNode, kept running."""

import multiprocessing
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import tomli_w

from coldfusion_fl.atomic_files import atomic_write, exclusive_lock
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.engines.deployment.supervisor import Supervisor, program
from coldfusion_fl.errors import DeploymentError

_FLOWER = "flower"


def join(member: Member, folder: Path, log: Callable[[str], None]) -> None:
    """Take part in a federation until told to stop.

    Args:
        member: its settings.
        folder: its folder, where Flower's files go.
        log: told what happens, a line each time.

    Raises:
        ColdFusionError: its rows cannot be read, or make no task; or another process has joined for it.
    """
    home = folder.resolve() / _FLOWER
    home.mkdir(exist_ok=True)
    log_file = home / "supernode.log"
    with exclusive_lock(home, "this member has joined already. End that one, or wait for it."):
        _ensure_task(member)
        log(
            f"{member.name} joins at {member.server}. Flower's own log is {log_file}\nIf it does not get in, "
            f"`coldfusion member check {folder}` says why."
        )
        Supervisor(lambda: supernode_command(member, home), {"FLWR_HOME": str(home)}, log_file, log).run()


def _ensure_task(member: Member) -> None:
    """Read the rows once, in a process of its own: here they would stay in memory for weeks."""
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(_read, member).result()
    except BrokenProcessPool:
        raise DeploymentError(
            f"reading the rows of '{member.task}' was ended from outside. Is there enough memory?"
        ) from None


def _read(member: Member) -> None:
    from coldfusion_fl.data.task import load_task  # pandas too: only that process needs it

    load_task(member.task, member.catalogue, member.data_root)


def supernode_command(member: Member, home: Path) -> list[str]:
    """The words that start Flower's SuperNode for a member; writes what they refer to into a folder."""
    node = home / "node.toml"
    with atomic_write(node) as path:
        path.write_text(tomli_w.dumps(_node_config(member, home)), encoding="utf-8")
    trust = ["--root-certificates", member.authority] if member.authority else []
    return [
        *program("coldfusion_fl.engines.deployment.member.supernode"),
        *("--superlink", member.server),
        *trust,
        *("--auth-supernode-private-key", member.key),
        *("--node-config", str(node)),
        # Its own processes meet it here; several members on one machine need several ports.
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
        "kept": str(home / "kept"),
    }


def free_port() -> int:
    """A port of loopback that nothing listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
