"""The server of a federation: keeps its SuperLink running, and registers exactly the federation's members."""

import socket
import time
from collections.abc import Callable, Mapping

from coldfusion_fl.atomic_files import exclusive_lock, write_json
from coldfusion_fl.engines.deployment.certificates import check_key_file, parse_public_key
from coldfusion_fl.engines.deployment.control import Control, RequestRejectedError, control_of, local_host
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.operations.expiry import Daily, ensure_valid, expiry_warnings
from coldfusion_fl.engines.deployment.supervisor import Supervisor, program, wait_for_leftover
from coldfusion_fl.engines.flower_internals import public_key_to_bytes
from coldfusion_fl.errors import DeploymentError, ErrorCode, RunFolderError, first_line

_KEYS_INTERVAL = 2.0  # seconds between two looks at the key files
_NODES_INTERVAL = 60.0  # seconds between two requests to the server while the keys stay the same
_MAX_STARTUP = 60.0


def serve(federation: Federation, log: Callable[[str], None]) -> None:
    """Run the server until this process is stopped. The members are those whose public keys are in the folder.

    Args:
        federation: the federation.
        log: called with each line about the progress.

    Raises:
        RunFolderError: another process runs the server already.
        DeploymentError: a certificate has expired, other users can read the server's key, another program uses the
            port, or a SuperLink of an earlier start does not end.
    """
    ensure_valid(federation)
    if warning := check_key_file(federation.server / "server.key"):
        log(f"Warning: {warning}")
    admission = Admission(federation, log)
    warnings = Daily(lambda: expiry_warnings(federation), lambda line: log(f"Warning: {line}"))

    def meanwhile() -> None:
        admission.update()
        warnings.update()

    home = federation.flower_home
    log_file = home / "superlink.log"
    with exclusive_lock(home, "the server of this federation is already running. Stop it first."):
        wait_for_leftover("SuperLink", _database_option(federation), log)
        _ensure_port(federation)
        log(f"The server of {federation.name} starts. Flower's own log is {log_file}")
        Supervisor(lambda: superlink_command(federation), {"FLWR_HOME": str(home)}, log_file, log).run(meanwhile)


def superlink_command(federation: Federation) -> list[str]:
    """The command that starts Flower's SuperLink for a federation, with our access control and limits."""
    server = federation.server
    return [
        *program("coldfusion_fl.engines.deployment.superlink"),
        str(federation.folder),
        *("--ssl-ca-certfile", str(server / "ca.crt")),
        *("--ssl-certfile", str(server / "server.crt")),
        *("--ssl-keyfile", str(server / "server.key")),
        "--enable-supernode-auth",
        *_database_option(federation),
        *("--host", _listen_host(federation)),
        *("--port", str(federation.port)),
    ]


def _database_option(federation: Federation) -> tuple[str, str]:
    """The arguments that only the SuperLink of this federation has."""
    return ("--database", str(federation.database))


def _listen_host(federation: Federation) -> str:
    """The host to listen on. The server's own processes connect to it, so the certificate must be valid for it."""
    everywhere = "::" if ":" in federation.host else "0.0.0.0"
    return federation.host if local_host(federation) == federation.host else everywhere


def _ensure_port(federation: Federation) -> None:
    host = _listen_host(federation)
    try:
        family, *_, address = socket.getaddrinfo(host, federation.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        raise DeploymentError(
            f"the server cannot listen on port {federation.port} of {host}: {first_line(error)}. End the program that "
            "uses the port, or create the federation with another port.",
            code=ErrorCode.PORT_IN_USE,
        ) from None


class Admission:
    """Registers and unregisters nodes at the server, so that they match the public keys in the folder.

    Args:
        federation: the federation.
        log: called with a line for each change and each problem.
    """

    def __init__(self, federation: Federation, log: Callable[[str], None]) -> None:
        self._federation = federation
        self._log = log
        self._next_look = self._next_request = 0.0
        self._keys: dict[str, bytes] = {}
        self._began = time.monotonic()
        self._is_up = False
        self._ids: dict[str, int] | None = None
        self._logged: set[str] = set()

    def update(self) -> None:
        """Register new members and unregister removed ones. It may be called often, and acts every few seconds."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _KEYS_INTERVAL
        try:
            keys = {name: file.read_bytes() for name, file in self._federation.public_keys.items()}
        except OSError as error:  # such as a file that is removed at this moment; no member is unregistered for that
            self._log_once(f"The members' keys cannot be read: {error}")
            return
        if self._is_up and keys == self._keys and now < self._next_request:
            return
        self._keys, self._next_request = keys, now + _NODES_INTERVAL
        try:
            with control_of(self._federation) as control:
                self._synchronize(control, keys)
        except (DeploymentError, RunFolderError) as error:  # the latter is a full disk
            # The server takes seconds to start, in which it does not answer.
            if self._is_up or time.monotonic() - self._began > _MAX_STARTUP:
                self._log(str(error))
            self._is_up = False
            return
        if not self._is_up:
            self._is_up = True
            members = ", ".join(self._federation.public_keys) or "none yet"
            self._log(f"The server of {self._federation.name} is up at {self._federation.address}. Members: {members}.")

    def _synchronize(self, control: Control, keys: Mapping[str, bytes]) -> None:
        wanted: dict[str, bytes] = {}
        unreadable: set[str] = set()
        for name, content in keys.items():
            try:
                wanted[name] = public_key_to_bytes(parse_public_key(content, self._federation.public_key(name)))
            except DeploymentError as error:
                self._log_once(f"'{name}' cannot be admitted: {error}")
                unreadable.add(name)
        known = control.nodes()
        ids: dict[str, int] = {}
        for node in known:
            if wanted.get(node.name) == node.public_key:
                ids[node.name] = node.node_id
            # An unregistered key is never accepted again, so a file that is only unreadable must not cause that.
            elif node.name not in unreadable:
                control.unregister(node.node_id)
                self._log(f"Removed member '{node.name}' (node {node.node_id}).")
        for name in sorted(wanted.keys() - ids.keys()):
            try:
                ids[name] = control.register(name, wanted[name])
            except RequestRejectedError as rejected:  # the other members are admitted all the same
                self._log_once(f"'{name}' cannot be admitted: {rejected}. A key that was removed cannot be used again.")
                continue
            self._log(f"Admitted member '{name}' as node {ids[name]}.")
        if ids != self._ids:
            write_json(self._federation.members_file, {name: str(node_id) for name, node_id in sorted(ids.items())})
            self._ids = ids

    def _log_once(self, line: str) -> None:
        if line not in self._logged:
            self._logged.add(line)
            self._log(line)
