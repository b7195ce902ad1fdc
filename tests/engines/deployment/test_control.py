"""Errors of the Control interface, with a fake of Flower's client."""

import httpx
import pytest
from flwr.proto.control_pb2 import ListNodesResponse
from flwr.proto.node_pb2 import NodeInfo

from coldfusion_fl.engines.deployment.control import Control, RequestRejectedError
from coldfusion_fl.errors import DeploymentError


class Client:
    """Answers each request with a failure."""

    def __init__(self, failure):
        self.failure = failure

    def __getattr__(self, request):
        def answer(*_):
            raise self.failure

        return answer


def status(code):
    request = httpx.Request("POST", "https://server/v1/control/register-node")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(code, text="{}", request=request))


def test_a_rejected_request_raises_an_error_with_the_reason():
    control = Control(Client(status(409)), "the server of acme at 127.0.0.1:1", "/acme")
    with pytest.raises(RequestRejectedError, match="the server of acme at 127.0.0.1:1 rejects the request: HTTP 409"):
        control.register("bob", b"key")


@pytest.mark.parametrize(
    ("failure", "words"),
    [(status(503), "HTTP 503"), (httpx.ConnectError("rejected"), "coldfusion federation serve /acme")],
)
def test_a_failing_or_absent_server_is_not_a_rejection(failure, words):
    control = Control(Client(failure), "the server of acme at 127.0.0.1:1", "/acme")
    with pytest.raises(DeploymentError) as reported:
        control.nodes()
    assert not isinstance(reported.value, RequestRejectedError)
    assert words in str(reported.value)


def test_when_a_node_was_last_heard_of():
    nodes = [
        NodeInfo(name="online", status="online", online_until=1060.0, heartbeat_interval=30.0),
        NodeInfo(name="gone", status="offline", last_deactivated_at="1970-01-01T00:15:00+00:00", online_until=900.0),
        NodeInfo(name="new", status="registered"),
        NodeInfo(name="removed", status="unregistered"),
    ]

    class Server:
        def ListNodes(self, request):
            return ListNodesResponse(nodes_info=nodes)

    found = {node.name: node.last_heard for node in Control(Server(), "the server", "/acme").nodes()}
    assert found == {"online": 1000.0, "gone": 900.0, "new": None}
