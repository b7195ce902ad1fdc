"""The server's Control interface: who is admitted, who is there, and which runs there are.

Flower's own command line (`flwr supernode`, `flwr run`) speaks with it too, but does not tell keys and names.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

from coldfusion_fl.engines.deployment.certificates import is_for, names_of
from coldfusion_fl.engines.deployment.federation import Federation, join_address
from coldfusion_fl.errors import DeploymentError, first_line

_LOCAL, _LOCAL_6 = "127.0.0.1", "::1"
# What a server answers that is not up yet, or has too much to do.
_UNWELL = 500


class RequestRejectedError(DeploymentError):
    """The server has heard, and rejects."""


@dataclass(frozen=True)
class Node:
    """A SuperNode that the server knows.

    Attributes:
        node_id: Flower's id of it; it stays as long as its key is registered.
        name: the member's.
        public_key: PEM, as Flower keeps it.
        online: whether it was heard of lately.
        since: when it last came or went, as ISO 8601; empty where it was never there.
    """

    node_id: int
    name: str
    public_key: bytes
    online: bool
    since: str


@dataclass(frozen=True)
class RunState:
    """What the server says of a run: `status` and, where it ended, how and why."""

    status: str
    ended: str
    details: str


class Control:
    """A connection to the Control interface of a federation's server, on the server's own machine.

    Each request raises RequestRejectedError where the server rejects it, and DeploymentError where it gives no answer.

    Args:
        client: Flower's client of it.
        server: what it is called in messages.
        folder: the federation's, for messages.
    """

    def __init__(self, client: ControlHttpClient, server: str, folder: str) -> None:
        self._client = client
        self._server = server
        self._folder = folder

    def nodes(self) -> list[Node]:
        """All nodes that are registered."""
        with self._asked():
            found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            Node(
                node.node_id,
                node.name,
                node.public_key,
                node.status == "online",
                node.last_activated_at if node.status == "online" else node.last_deactivated_at,
            )
            for node in found
            if node.status != "unregistered"
        ]

    def register(self, name: str, public_key: bytes) -> int:
        """Admit a node by its public key (PEM); returns its id."""
        with self._asked():
            return int(self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name)).node_id)

    def unregister(self, node_id: int) -> None:
        """Shut a node out."""
        with self._asked():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start(self, app: bytes, series: int | None) -> tuple[int, int]:
        """Start a run.

        Args:
            app: the app, as a Flower bundle.
            series: the series that the run goes on with: nodes keep what they keep for the whole series.

        Returns:
            The run's id and that of its series.
        """
        request = StartRunRequest(
            fab=fab_to_proto(Fab(hashlib.sha256(app).hexdigest(), app, {})),
            series_id=series,
        )
        with self._asked():
            answer = self._client.StartRun(request)
        return int(answer.run_id), int(answer.series_id)

    def run(self, run_id: int) -> RunState | None:
        """How a run is; None where the server does not know it."""
        with self._asked():
            found = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict
        if run_id not in found:
            return None
        status = found[run_id].status
        return RunState(status.status, status.sub_status, status.details)

    def stop(self, run_id: int) -> None:
        """End a run."""
        with self._asked():
            self._client.StopRun(StopRunRequest(run_id=run_id))

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Around each request, so that whoever makes it meets what became of it."""
        try:
            yield
        except httpx.HTTPStatusError as rejected:
            told = FlowerError.from_json(rejected.response.text)
            reason = told.message if told else f"HTTP {rejected.response.status_code}"
            kind = RequestRejectedError if rejected.response.status_code < _UNWELL else DeploymentError
            raise kind(f"{self._server} rejects: {reason}") from None
        except httpx.HTTPError as failure:
            raise DeploymentError(
                f"{self._server} does not answer: {first_line(failure)}. Is it running on this machine? Start it: "
                f"coldfusion federation serve {self._folder}"
            ) from None


def local_host(federation: Federation) -> str:
    """Where the server's own machine reaches it: loopback, where the certificate is for that too."""
    local = _LOCAL_6 if ":" in federation.host else _LOCAL  # a server of the one does not listen at the other
    return local if is_for(names_of(federation.server / "server.crt"), local) else federation.host


@contextlib.contextmanager
def control_of(federation: Federation) -> Iterator[Control]:
    """A connection to a federation's server."""
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
