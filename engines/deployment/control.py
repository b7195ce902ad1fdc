"""The server's Control interface: registers nodes, lists them, and starts and stops runs.

Flower's own command line (`flwr supernode`, `flwr run`) uses it too, but does not show keys and names.
"""

import contextlib
import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from coldfusion_fl.engines.deployment.certificates import certificate_hosts, covers
from coldfusion_fl.engines.deployment.federation import Federation, join_address
from coldfusion_fl.engines.deployment.operations.expiry import clock
from coldfusion_fl.engines.flower_internals import (
    HEARTBEAT_PATIENCE,
    ControlHttpClient,
    Fab,
    FlowerError,
    RuntimeVersionHttpInterceptor,
    control_pb2,
    fab_to_proto,
)
from coldfusion_fl.errors import DeploymentError, ErrorCode, first_line

_ONLINE = "online"
_LOCAL, _LOCAL_6 = "127.0.0.1", "::1"
# A server that is starting or overloaded answers with a status code from here on: the request can be repeated.
_SERVER_ERRORS = 500
_EXPIRED = "certificate has expired"  # in OpenSSL's words


class RequestRejectedError(DeploymentError):
    """The server rejects a request: repeating it would not help."""

    usual_code = ErrorCode.SERVER_REJECTED


@dataclass(frozen=True)
class Node:
    """A SuperNode that the server knows.

    Attributes:
        node_id: Flower's ID of the node; it stays the same as long as the node's key is registered.
        name: the member's name.
        public_key: PEM, as Flower stores it.
        online: whether the node has sent a heartbeat lately.
        last_heard: when its last heartbeat arrived, in seconds since 1970; of a node that is offline, when it signed
            off or began to count as offline. None: it never connected.
    """

    node_id: int
    name: str
    public_key: bytes
    online: bool
    last_heard: float | None


@dataclass(frozen=True)
class ServerRunState:
    """The state of a run: `status`; and where the run has ended, its result `ended` with `details`."""

    status: str
    ended: str
    details: str


class Control:
    """A connection to the Control interface of a federation's server, on the server's own machine.

    Each request raises RequestRejectedError if the server rejects it, and DeploymentError if there is no answer.

    Args:
        client: Flower's client.
        server: the server's name in messages.
        folder: the federation's folder, for messages.
    """

    def __init__(self, client: ControlHttpClient, server: str, folder: str) -> None:
        self._client = client
        self._server = server
        self._folder = folder

    def nodes(self) -> list[Node]:
        """List all registered nodes."""
        with self._request_errors():
            found = self._client.ListNodes(control_pb2.ListNodesRequest()).nodes_info
        return [
            Node(node.node_id, node.name, node.public_key, node.status == _ONLINE, _last_heard(node))
            for node in found
            if node.status != "unregistered"
        ]

    def register(self, name: str, public_key: bytes) -> int:
        """Register a node by its public key (PEM); returns its ID."""
        with self._request_errors():
            return int(
                self._client.RegisterNode(control_pb2.RegisterNodeRequest(public_key=public_key, name=name)).node_id
            )

    def unregister(self, node_id: int) -> None:
        """Unregister a node. Its key cannot be registered again."""
        with self._request_errors():
            self._client.UnregisterNode(control_pb2.UnregisterNodeRequest(node_id=node_id))

    def start(self, app: bytes, series: int | None) -> tuple[int, int]:
        """Start a run.

        Args:
            app: the app, as a Flower app bundle.
            series: the ID of the series that the run continues; nodes keep their state for a whole series.

        Returns:
            The IDs of the run and of its series.
        """
        request = control_pb2.StartRunRequest(
            fab=fab_to_proto(Fab(hashlib.sha256(app).hexdigest(), app, {})),
            series_id=series,
        )
        with self._request_errors():
            answer = self._client.StartRun(request)
        return int(answer.run_id), int(answer.series_id)

    def run(self, run_id: int) -> ServerRunState | None:
        """The state of a run; None: the server does not know the run."""
        with self._request_errors():
            found = self._client.ListRuns(control_pb2.ListRunsRequest(run_id=run_id)).run_dict
        if run_id not in found:
            return None
        status = found[run_id].status
        return ServerRunState(status.status, status.sub_status, status.details)

    def stop(self, run_id: int) -> None:
        """Stop a run."""
        with self._request_errors():
            self._client.StopRun(control_pb2.StopRunRequest(run_id=run_id))

    @contextlib.contextmanager
    def _request_errors(self) -> Iterator[None]:
        """Turn errors of httpx into errors with a reason."""
        try:
            yield
        except httpx.HTTPStatusError as rejected:
            answer = FlowerError.from_json(rejected.response.text)
            reason = answer.message if answer else f"HTTP {rejected.response.status_code}"
            message = f"{self._server} rejects the request: {reason}"
            if rejected.response.status_code < _SERVER_ERRORS:
                raise RequestRejectedError(message) from None
            raise DeploymentError(message, code=ErrorCode.SERVER_UNREACHABLE) from None
        except httpx.HTTPError as failure:
            if _EXPIRED in str(failure):
                raise DeploymentError(
                    f"{self._server} presents a certificate that has expired. {clock()} Renew it: coldfusion "
                    f"federation renew {self._folder}, then restart the server.",
                    code=ErrorCode.CERTIFICATE_EXPIRED,
                ) from None
            raise DeploymentError(
                f"{self._server} does not answer: {first_line(failure)}. Is it running on this machine? Start it: "
                f"coldfusion federation serve {self._folder}",
                code=ErrorCode.SERVER_UNREACHABLE,
            ) from None


def _last_heard(node: Any) -> float | None:
    """See `Node.last_heard`; of Flower's NodeInfo."""
    if node.status == _ONLINE:
        return float(node.online_until - HEARTBEAT_PATIENCE * node.heartbeat_interval)
    since = node.last_deactivated_at
    return datetime.datetime.fromisoformat(since).timestamp() if since else None


def local_host(federation: Federation) -> str:
    """The host by which the server's own machine connects to it: loopback if the certificate is valid for it."""
    local = _LOCAL_6 if ":" in federation.host else _LOCAL  # an IPv6 server does not listen on IPv4
    return local if covers(certificate_hosts(federation.server / "server.crt"), local) else federation.host


@contextlib.contextmanager
def control_of(federation: Federation) -> Iterator[Control]:
    """Connect to the Control interface of a federation's server."""
    address = join_address(local_host(federation), federation.port)
    client = ControlHttpClient.from_server_address(
        address,
        insecure=False,
        root_certificates=federation.authority.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        yield Control(client, f"the server of {federation.name} at {address}", str(federation.folder))
    finally:
        client.close()
