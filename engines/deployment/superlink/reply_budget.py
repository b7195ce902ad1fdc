"""How large a reply may be: a small multiple of what the server itself has sent in the same run."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from coldfusion_fl.engines.deployment.superlink.staged_reply import ReplyLimits
from coldfusion_fl.engines.flower_internals import TASK_TOKEN_HEADER

# A contribution is as large as the base. With the diagonal of a Fisher matrix it is twice as large, and the base may
# have been sent in a shorter data type.
_MULTIPLE = 4
# Reports are small, but so may be the message that asks for them.
_MIN_SIZE, _MIN_OBJECTS = 16 * 2**20, 200
# What a run that began before this process did has sent: nothing is known of it, and its members must not be rejected
# for that, also after its next message.
_UNKNOWN = ReplyLimits(objects=5_000, size=512 * 2**20)
_MAX_RUNS = 16


class ReplyBudget:
    """Counts what the server's own app sends in each run."""

    def __init__(self) -> None:
        self._largest: dict[int, ReplyLimits] = {}
        self._under_way: dict[str, tuple[int, int, int]] = {}

    def run_begins(self, run_id: int) -> None:
        """A run sends its first messages. Of other runs it is unknown what they have sent before."""
        self._largest.setdefault(run_id, ReplyLimits(0, 0))

    def message_begins(self, headers: Mapping[str, str], run_id: int, objects: int, stored: int) -> None:
        """The server's app announces messages.

        Args:
            headers: of its request; they tell the apps apart.
            run_id: the run.
            objects: the number of parts of the messages.
            stored: the bytes of those that Flower has already, and will not ask for.
        """
        self._set(headers, run_id, objects, stored)

    def object_sent(self, headers: Mapping[str, str]) -> None:
        """The server's app sends a part of the messages that it has announced."""
        if (current := self._under_way.get(_app(headers))) is not None:
            run_id, objects, size = current
            length = headers.get("content-length", "0")
            self._set(headers, run_id, objects, size + (int(length) if length.isdecimal() else 0))

    def limits(self, run_id: int) -> ReplyLimits:
        """What a reply in a run may have."""
        largest = self._largest.get(run_id, _UNKNOWN)
        return ReplyLimits(_MULTIPLE * largest.objects + _MIN_OBJECTS, _MULTIPLE * largest.size + _MIN_SIZE)

    def _set(self, headers: Mapping[str, str], run_id: int, objects: int, size: int) -> None:
        self._under_way.pop(_app(headers), None)
        self._under_way[_app(headers)] = (run_id, objects, size)
        before = self._largest.pop(run_id, _UNKNOWN)
        self._largest[run_id] = ReplyLimits(max(before.objects, objects), max(before.size, size))
        for table in (self._under_way, self._largest):
            while len(table) > _MAX_RUNS:
                del table[next(iter(table))]  # type: ignore[arg-type]


def object_ids(trees: Iterable[Any]) -> set[str]:
    """The hashes of all parts in Flower's trees."""
    found: set[str] = set()
    rest = list(trees)
    while rest:
        node = rest.pop()
        found.add(node.object_id)
        rest += node.children
    return found


def stored_size(store: Any, ids: Iterable[str]) -> int:
    """The bytes of those parts that Flower's store has."""
    query = "SELECT SUM(LENGTH(content)) AS size FROM objects WHERE object_id IN (SELECT value FROM json_each(:ids))"
    [row] = store.query(query, {"ids": json.dumps(list(ids))})
    return row["size"] or 0


def _app(headers: Mapping[str, str]) -> str:
    return headers.get(TASK_TOKEN_HEADER, "")
