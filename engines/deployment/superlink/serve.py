"""The server of a federation: keeps its SuperLink running and admits its members, and nobody else."""

import socket
import time
from collections.abc import Callable, Mapping

from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from coldfusion_fl.atomic_files import exclusive_lock, write_json
from coldfusion_fl.engines.deployment.certificates import parse_public_key
from coldfusion_fl.engines.deployment.control import Control, RequestRejectedError, control_of, local_host
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.supervisor import Supervisor, program
from coldfusion_fl.errors import DeploymentError, RunFolderError, first_line

_LOOK_EVERY = 2.0
_ASK_EVERY = 60.0
_PATIENCE = 60.0


def serve(federation: Federation, log: Callable[[str], None]) -> None:
    """Run the server until it is told to stop; whoever's public key is in the folder is let in.

    Args:
        federation: which.
        log: told what happens, a line each time.

    Raises:
        RunFolderError: another process serves it.
        DeploymentError: another program has its port.
    """
    admission = Admission(federation, log)
    home = federation.flower_home
    log_file = home / "superlink.log"
    with exclusive_lock(home, "this federation is being served already. End that server, or leave it."):
        _ensure_port(federation)
        log(f"The server of {federation.name} starts. Flower's own log is {log_file}")
        Supervisor(lambda: superlink_command(federation), {"FLWR_HOME": str(home)}, log_file, log).run(admission.look)


def superlink_command(federation: Federation) -> list[str]:
    """The words that start Flower's SuperLink for a federation, behind our gate."""
    server = federation.server
    return [
        *program("coldfusion_fl.engines.deployment.superlink"),
        *("--ssl-ca-certfile", str(server / "ca.crt")),
        *("--ssl-certfile", str(server / "server.crt")),
        *("--ssl-keyfile", str(server / "server.key")),
        "--enable-supernode-auth",
        *("--database", str(federation.flower_home / "state.db")),
        *("--host", _listens_at(federation)),
        *("--port", str(federation.port)),
    ]


def _listens_at(federation: Federation) -> str:
    """Its own processes reach the server where it listens: the certificate must be for that."""
    everywhere = "::" if ":" in federation.host else "0.0.0.0"
    return federation.host if local_host(federation) == federation.host else everywhere


def _ensure_port(federation: Federation) -> None:
    host = _listens_at(federation)
    try:
        family, *_, place = socket.getaddrinfo(host, federation.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(place, family=family).close()
    except OSError as wrong:
        raise DeploymentError(
            f"nothing can listen at port {federation.port} of {host}: {first_line(wrong)}. End the program that has "
            "the port, or make the federation with another one."
        ) from None


class Admission:
    """Brings what the server knows in line with the public keys in the folder.

    Args:
        federation: which.
        log: told who is let in and who no more.
    """

    def __init__(self, federation: Federation, log: Callable[[str], None]) -> None:
        self._federation = federation
        self._log = log
        self._next = self._ask = 0.0
        self._keys: dict[str, bytes] = {}
        self._began = time.monotonic()
        self._is_up = False
        self._ids: dict[str, int] | None = None
        self._logged: set[str] = set()

    def look(self) -> None:
        """Let in who is new, shut out who was removed; called often, it looks every few seconds."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_EVERY
        try:
            keys = {name: file.read_bytes() for name, file in self._federation.public_keys.items()}
        except OSError as wrong:  # one is being removed just now, or cannot be read: nobody is shut out for that
            self._log_once(f"The members' keys cannot be read: {wrong}")
            return
        if self._is_up and keys == self._keys and now < self._ask:
            return
        self._keys, self._ask = keys, now + _ASK_EVERY
        try:
            with control_of(self._federation) as control:
                self._admit(control, keys)
        except (DeploymentError, RunFolderError) as wrong:  # the latter is a full disk
            if self._is_up or time.monotonic() - self._began > _PATIENCE:  # it takes seconds to start
                self._log(str(wrong))
            self._is_up = False
            return
        if not self._is_up:
            self._is_up = True
            members = ", ".join(self._federation.public_keys) or "none yet"
            self._log(f"The server of {self._federation.name} is up at {self._federation.address}. Members: {members}.")

    def _admit(self, control: Control, keys: Mapping[str, bytes]) -> None:
        wanted: dict[str, bytes] = {}
        unclear: set[str] = set()
        for name, content in keys.items():
            try:
                wanted[name] = public_key_to_bytes(parse_public_key(content, self._federation.public_key(name)))
            except DeploymentError as wrong:
                self._log_once(f"'{name}' cannot be let in: {wrong}")
                unclear.add(name)
        known = control.nodes()
        ids: dict[str, int] = {}
        for node in known:
            if wanted.get(node.name) == node.public_key:
                ids[node.name] = node.node_id
            elif node.name not in unclear:  # shutting out is for good: not for a file that cannot be read just now
                control.unregister(node.node_id)
                self._log(f"'{node.name}' is no member any more: node {node.node_id} is shut out.")
        for name in sorted(wanted.keys() - ids.keys()):
            try:
                ids[name] = control.register(name, wanted[name])
            except RequestRejectedError as rejected:  # the others' admission need not wait for it
                self._log_once(f"'{name}' cannot be let in: {rejected}. A key that was shut out is not taken again.")
                continue
            self._log(f"'{name}' is let in, as node {ids[name]}.")
        if ids != self._ids:
            write_json(self._federation.members_file, {name: str(node_id) for name, node_id in sorted(ids.items())})
            self._ids = ids

    def _log_once(self, line: str) -> None:
        if line not in self._logged:
            self._logged.add(line)
            self._log(line)
