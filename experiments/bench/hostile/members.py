"""Members that are admitted and mean harm: each connects with its key, answers queries, and spoils its replies.

They speak Flower's Fleet interface themselves, in a thread each, so that they can send what no SuperNode sends.
"""

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from coldfusion_fl.config.message_keys import ROUND
from coldfusion_fl.engines.deployment.certificates import read_private_key
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.flower_internals import (
    RunNotRunningException,
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_tree,
    http_request_response,
    inflate_object_from_contents,
    iterate_object_tree,
    pull_objects,
)
from coldfusion_fl.versions import format_versions

_PAUSE = 1.0  # seconds between two looks for messages
_MIB = 2**20
# An object tree of Flower's protobuf; the module of its type is private.
_Tree = Any


class HostileMember(threading.Thread):
    """A member that spoils its replies in one way until it is stopped.

    Args:
        federation: the federation; the member's key is in its folder.
        name: the member's name, which is also its way: a key of `KINDS`.
    """

    def __init__(self, federation: Federation, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._federation = federation
        self._over = threading.Event()
        self.sent = 0
        self.failures: list[str] = []

    def stop(self) -> None:
        """End the member."""
        self._over.set()
        self.join(30)

    def run(self) -> None:
        """Answer messages until the member is stopped."""
        folder = self._federation.folder
        key = read_private_key(folder / "members" / self.name / "member.key")
        certificate = str(folder / "server" / "ca.crt")
        with http_request_response(
            self._federation.address, False, certificate, (key, key.public_key()), max_retries=3
        ) as connection:
            _, receive, send, _, _, pull, push, confirm = connection
            while not self._over.wait(_PAUSE):
                try:
                    self._answer_next(receive, send, pull, push, confirm)
                # The server rejected it, or the run has ended; Flower's own exception for both is no `Exception`.
                except (Exception, RunNotRunningException) as failure:
                    self.failures.append(f"{type(failure).__name__}: {failure}"[:300])

    def _answer_next(
        self,
        receive: Callable[[], Any],
        send: Callable[..., Any],
        pull: Callable[[int, str], bytes],
        push: Callable[[int, str, str, bytes], None],
        confirm: Callable[[int, str], None],
    ) -> None:
        if (received := receive()) is None:
            return
        message, tree = received
        run, message_id = message.metadata.run_id, message.metadata.message_id
        ids = [one.object_id for one in iterate_object_tree(tree)]
        contents = pull_objects(list(dict.fromkeys(ids)), lambda object_id: pull(run, object_id))
        asked: Any = inflate_object_from_contents(message_id, contents)
        asked.metadata.__dict__["_message_id"] = message_id
        confirm(run, message_id)
        self._answer(asked, send, lambda session, one, content: push(run, session, one, content))

    def _answer(self, asked: Message, send: Callable[..., Any], push: Callable[[str, str, bytes], None]) -> None:
        if asked.metadata.message_type == MessageType.QUERY:
            about: dict[str, Any] = {"name": self.name, "task": self.name, "seen": True, "versions": format_versions()}
            send_reply(Message(RecordDict({"config": ConfigRecord(about)}), reply_to=asked), send, push)
            return
        self.sent += 1
        KINDS[self.name](asked, lambda reply, **how: send_reply(reply, send, push, **how))


def send_reply(
    reply: Message,
    send: Callable[..., Any],
    push: Callable[[str, str, bytes], None],
    *,
    childless: frozenset[str] = frozenset(),
    only_announce: bool = False,
) -> None:
    """Send a reply as a SuperNode does.

    Args:
        reply: the reply.
        send: announces it; returns the IDs of the objects that the server lacks.
        push: sends an object.
        childless: IDs of objects that the tree names without their children.
        only_announce: whether no object is sent.
    """
    tree: _Tree = get_object_tree(reply)
    for one in iterate_object_tree(tree):
        if one.object_id in childless:
            del one.children[:]
    objects = get_all_nested_objects(reply)
    reply.metadata.__dict__["_message_id"] = reply.object_id
    missing, session = send(reply, tree, 1.0)
    for object_id in () if only_announce else missing:
        push(session, object_id, objects[object_id].deflate())


_Send = Callable[..., None]


def _reply(asked: Message, arrays: ArrayRecord, **metrics: float) -> Message:
    numbers: dict[str, Any] = {"num-examples": 32, "train-loss": 0.5, ROUND: _round(asked), **metrics}
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(numbers)}), reply_to=asked)


def _round(asked: Message) -> int:
    config: Any = asked.content["config"]
    return int(config[ROUND])


def _base(asked: Message) -> dict[str, Array]:
    arrays: Any = asked.content["arrays"]
    return dict(arrays)


def _changed(asked: Message, change: Callable[[np.ndarray], np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(change(array.numpy())) for name, array in _base(asked).items()})


def mute(asked: Message, send: _Send) -> None:
    """Never answer."""


def announcing(asked: Message, send: _Send) -> None:
    """Announce a reply, and send none of its objects."""
    send(_reply(asked, _changed(asked, lambda array: array + 1)), only_announce=True)


def no_array(asked: Message, send: _Send) -> None:
    """Send an array whose body is no array."""
    arrays = _changed(asked, lambda array: array + 1)
    _set_body(next(iter(arrays.values())), b"no array")
    send(_reply(asked, arrays))


def no_children(asked: Message, send: _Send) -> None:
    """Send the base's own arrays in a tree that names them without their children."""
    arrays = _base(asked)
    send(_reply(asked, ArrayRecord(arrays)), childless=frozenset(array.object_id for array in arrays.values()))


def inflating(asked: Message, send: _Send) -> None:
    """Send one chunk of 1 MiB, which an array names 1,000 times."""
    arrays = _changed(asked, lambda array: array + 1)
    first = next(iter(arrays))
    arrays[first] = Array("float32", (250 * _MIB,), "numpy.ndarray", np.random.default_rng(0).bytes(_MIB))
    big = arrays[first]
    body = {"dtype": big.dtype, "shape": big.shape, "stype": big.stype, "arraychunk_ids": [0] * 1000}
    _set_body(big, json.dumps(body).encode())
    send(_reply(asked, arrays))


def _set_body(array: Array, body: bytes) -> None:
    """Change what is sent in place of the description of an array."""
    array.__dict__["deflate"] = lambda: add_header_to_object_body(body, array)


def too_large(asked: Message, send: _Send) -> None:
    """Send five arrays of 60 MiB."""
    draw = np.random.default_rng(_round(asked))
    names = list(_base(asked))[:5]
    huge = {name: Array(draw.random(15 * _MIB, np.float32)) for name in names}
    send(_reply(asked, ArrayRecord(_base(asked) | huge)))


def not_finite(asked: Message, send: _Send) -> None:
    """Send values that are not finite."""
    send(_reply(asked, _changed(asked, lambda array: np.full_like(array, np.nan))))


def enormous(asked: Message, send: _Send) -> None:
    """Send an update a million times as large as the base."""
    send(_reply(asked, _changed(asked, lambda array: 1e6 * (array + 1))))


def boasting(asked: Message, send: _Send) -> None:
    """Report numbers and keys that no report can hold; the arrays do not fit either."""
    absurd = {f"=HYPERLINK({number})" + "x" * 1000: 1.7e308 for number in range(1000)}
    absurd |= {"num-examples": 10**18, "few-shot": 1.7e308, "frozen": -1.7e308}
    send(_reply(asked, ArrayRecord({"<b>": Array(np.zeros(1, np.float32))}), **absurd))


KINDS: dict[str, Callable[[Message, _Send], None]] = {
    "mute": mute,
    "announcing": announcing,
    "no-array": no_array,
    "no-children": no_children,
    "inflating": inflating,
    "too-large": too_large,
    "not-finite": not_finite,
    "enormous": enormous,
    "boasting": boasting,
}
