"""A reply that is being received: its parts are kept in a temporary file until it is complete and checked.

Flower stores a reply as soon as it is announced, and its parts as they come. A part is identified by the SHA-256 hash
of its content, which names the parts that it is made of. The announcement names both before the content is there, and
Flower believes it. So a member could announce the base's parts as made of nothing, and Flower would reject the server's
own message with that base from then on. Here the content decides, and what a hash stands for cannot be claimed falsely.
A part that equals one of the base's, such as a frozen array, therefore needs no rule of its own.
"""

import hashlib
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.engines.flower_internals import (
    get_object_head_values_from_object_content,
    validate_object_content,
)
from coldfusion_fl.errors import count

_ARRAY, _CHUNK = "Array", "ArrayChunk"
_MIB = 2**20
# Of all that is no content of arrays. What numbers and texts take in memory is several times as large as they are sent.
_MAX_RECORDS = 16 * _MIB


class ReplyRejectedError(Exception):
    """A reply is not accepted; the message is a clause that says why."""


@dataclass(frozen=True)
class ReplyLimits:
    """What a reply may have.

    Attributes:
        objects: the number of its parts.
        size: bytes, both as they are sent and as arrays are in memory, where a part counts as often as it is used.
    """

    objects: int
    size: int


class StagedReply:
    """A reply that a node has announced, with the parts that have arrived. `add` may be called in several threads.

    Args:
        request: Flower's announcement: a message, and the tree of its parts.
        limits: what the reply may have.
        folder: where the temporary file is made; the system removes it with the process.

    Raises:
        ReplyRejectedError: the tree contradicts itself, or has too many parts.
    """

    def __init__(self, request: Any, limits: ReplyLimits, folder: Path) -> None:
        self.request = request
        self.metadata = request.messages_list[0].metadata
        self._limits = limits
        self._children = _read_tree(request.message_object_trees[0])
        if len(self._children) > limits.objects:
            raise ReplyRejectedError(
                f"it has {count(len(self._children), 'part')}, and at most {limits.objects} are accepted"
            )
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by `close`)
        self._places: dict[str, tuple[int, int]] = {}
        self._arrays: list[Counter[str]] = []
        self._size = self._records_size = 0
        self._lock = threading.Lock()

    @property
    def missing(self) -> list[str]:
        """The parts that have not arrived."""
        return [object_id for object_id in self._children if object_id not in self._places]

    @property
    def is_complete(self) -> bool:
        """Whether all parts have arrived."""
        return len(self._places) == len(self._children)

    def add(self, object_id: str, content: bytes) -> None:
        """Keep a part.

        Args:
            object_id: its hash.
            content: its bytes.

        Raises:
            ReplyRejectedError: the part was not announced, is not what was announced, or is too much.
        """
        if object_id not in self._children:
            raise ReplyRejectedError("it sends a part that it has not announced")
        kind, chunks = self._check(object_id, content)
        with self._lock:
            if self._file.closed:
                raise ReplyRejectedError("it has been rejected")
            if object_id in self._places:  # sent again, because the response was lost
                return
            if self._size + len(content) > self._limits.size:
                raise ReplyRejectedError(f"it has more than the {self._limits.size / _MIB:,.0f} MiB that are accepted")
            if kind != _CHUNK:
                self._records_size += len(content)
                if self._records_size > _MAX_RECORDS:
                    limit = f"{_MAX_RECORDS // _MIB} MiB"
                    raise ReplyRejectedError(f"it has more than the {limit} that are accepted beside arrays")
            self._file.seek(self._size)
            self._file.write(content)
            self._places[object_id] = (self._size, len(content))
            self._size += len(content)
            if chunks:
                self._arrays.append(chunks)

    def _check(self, object_id: str, content: bytes) -> tuple[str, Counter[str]]:
        """Check a part against its announcement; returns its kind and, of an array, how often it uses its chunks."""
        if hashlib.sha256(content).hexdigest() != object_id:
            raise ReplyRejectedError("a part is not what its hash says")
        # Bytes from outside can make a parser raise anything.
        try:
            validate_object_content(content)
            kind, children, length = get_object_head_values_from_object_content(content)
            used = json.loads(content[len(content) - length :])["arraychunk_ids"] if kind == _ARRAY else ()
            chunks = Counter(children[index] for index in used)
        except Exception:
            raise ReplyRejectedError("a part cannot be read") from None
        if len(children) != len(set(children)) or set(children) != self._children[object_id]:
            raise ReplyRejectedError("a part is made of other parts than it has announced")
        return kind, chunks

    def check(self) -> None:
        """Check the complete reply: its arrays as they will be in memory.

        Raises:
            ReplyRejectedError: they are too large, because chunks are used many times.
        """
        size = sum(self._places[chunk][1] * times for array in self._arrays for chunk, times in array.items())
        if size > self._limits.size:
            limit = f"{self._limits.size / _MIB:,.0f} MiB"
            raise ReplyRejectedError(f"its arrays have {size / _MIB:,.0f} MiB in memory, and {limit} are accepted")

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """The hash and the content of each part that has arrived."""
        for object_id, (start, length) in self._places.items():
            with self._lock:
                self._file.seek(start)
                content = self._file.read(length)
            yield object_id, content

    def close(self) -> None:
        """Free the space of the parts."""
        with self._lock:
            self._file.close()


def _read_tree(tree: Any) -> dict[str, set[str]]:
    """The parts of each part in a tree.

    A part that occurs twice must be written out twice: otherwise a small tree could stand for one of any size.
    """
    found: dict[str, set[str]] = {}
    rest = [tree]
    while rest:
        node = rest.pop()
        children = {child.object_id for child in node.children}
        if len(children) != len(node.children) or found.setdefault(node.object_id, children) != children:
            raise ReplyRejectedError("its announcement contradicts itself")
        rest += node.children
    return found
