"""Queries the nodes for their names."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, Metadata, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from coldfusion_fl.config.message_keys import QUERIED
from coldfusion_fl.errors import ErrorCode, RunError
from coldfusion_fl.sanitize import MAX_NAME, bounded
from coldfusion_fl.versions import format_versions

from .membership import Member, NodeRegistry, is_unnamed, simulated_nodes, unnamed
from .messaging import (
    SHORT_MESSAGES_AT_ONCE,
    UNREACHABLE,
    FlowerErrorCode,
    error_reason,
    in_simulation,
    poll_interval,
)
from .replies import is_unreadable, pull_replies

# All in seconds. A query without an answer is repeated after this time, or after a round's timeout if that is shorter;
# before the first answer, this is the wait.
QUERY_TIMEOUT = 60.0
# New nodes may delay a round by no more than this; a later answer counts from the next round on.
_NEW_NODE_WAIT = 6.0
# An answer whose arrival is announced is waited for at least this long.
_MIN_ANSWER_WAIT = 2.0
# A node with a problem may have been repaired: it is queried again after this time.
_RETRY_INTERVAL = 60.0
# A simulated worker may have been killed for lack of memory; one that fails this often in a row does not start.
_MAX_FAILURES = 3
_NAME_TAKEN = (
    "its name belongs to another node of this run. Give each node its own name. If it is the same contributor, which "
    "has lost its state, resume the run, and let the node keep its state with state-dir in its --node-config."
)


@dataclass(frozen=True)
class _Owner:
    """The owner of a name: a node, and any node with its token, such as the same one after a restart."""

    node: int
    token_hash: str


@dataclass(frozen=True)
class _Problem:
    """Why a node is excluded: under which name, the reason, and when the node was asked last."""

    name: str
    reason: str
    since: float


class QueriedNodes(NodeRegistry):
    """Queries nodes for their names, and knows which of them are connected.

    A name belongs to the first node that reports it, until the process ends. Where the server does not know nodes by
    their keys, another node gets the name only with the same token, which the client keeps in its state. In a
    simulation all nodes are the server's own.

    A node whose client does not answer queries is a contributor called `node-ID`. A node that reports a problem, or has
    other versions of this software than the server, is excluded. Where the server does not know nodes by their keys,
    it is shown as `node-ID`, unless it was a member under its name before.

    Args:
        configrecord_key: the key of the ConfigRecord in the answers.
        node_names: returns the names that the server knows nodes by, by node ID: a node that is not among them, or
            claims another name, is excluded. None: nodes name themselves.
        on_excluded: called with the name of each excluded node, the reason, and whether the node answered.

    Attributes:
        answer_timeout: the seconds that a node has to answer; then the query is repeated.
    """

    def __init__(
        self,
        configrecord_key: str,
        node_names: Callable[[], Mapping[int, str]] | None = None,
        on_excluded: Callable[[str, str, bool], None] = lambda name, reason, received: None,
    ) -> None:
        super().__init__()
        self.answer_timeout = QUERY_TIMEOUT
        self._content = RecordDict()
        self._key = configrecord_key
        self._node_names = node_names
        self._on_excluded = on_excluded
        self._known: dict[int, Member | None] = {}  # None: excluded
        self._disconnected: dict[int, Member] = {}
        self._queries: dict[int, tuple[Metadata, float]] = {}
        self._failures: Counter[int] = Counter()
        self._problems: dict[int, _Problem] = {}
        self._owners: dict[str, _Owner] = {}

    def begin(self, timeout: float | None, config: Mapping[str, Any]) -> None:
        """See `NodeRegistry.begin`. A query tells what the run freezes, so that a node without it is excluded."""
        if timeout is not None:
            self.answer_timeout = min(self.answer_timeout, timeout)
        if queried := {key: config[key] for key in QUERIED if key in config}:
            self._content = RecordDict({self._key: ConfigRecord(queried)})

    def admit(self, members: Iterable[Member]) -> None:
        """See `NodeRegistry.admit`."""
        self._known |= {member.node_id: member for member in members}

    def connected_nodes(self, grid: Grid) -> dict[str, Member]:
        """The members that are connected now, by name; new nodes are queried first.

        A node that was disconnected counts as what it was, and is queried again: its answer takes the start of a
        process, which must not cost it another round. Two nodes of one name would be one contributor with two votes:
        the first one counts.

        Raises:
            RunError: the workers of a simulation do not start.
        """
        connected = set(grid.get_node_ids())
        new = self._update_connections(connected)
        back = sorted(connected & self._disconnected.keys())
        self._known |= {node: self._disconnected.pop(node) for node in back}
        unsent = [*back, *new, *self._due_for_retry(grid)]
        wait = 0.0 if not new else min(_NEW_NODE_WAIT, self.answer_timeout) if self._known else self.answer_timeout
        self._exchange_queries(grid, unsent, time.monotonic() + wait)
        members: dict[str, Member] = {}
        for member in filter(None, self._known.values()):
            if members.setdefault(member.name, member) is not member:
                log(WARNING, "Two nodes are called '%s'; the second is excluded. Give each its own name.", member.name)
        return members

    @property
    def excluded(self) -> dict[str, str]:
        """See `NodeRegistry.excluded`."""
        return {problem.name: problem.reason.rstrip(".") for problem in self._problems.values()}

    def name_of(self, node_id: int) -> str:
        """The name of a node; `node-ID` where it is not known."""
        member = self._known.get(node_id)
        return member.name if member else unnamed(node_id)

    def _announce_wait(self) -> None:
        if self._known:
            return
        log(
            INFO,
            "Querying the nodes for their names. A client without a query function logs a harmless error and takes "
            "part as node-ID.",
        )

    def _is_complete(self, members: Mapping[str, Member]) -> bool:
        simulated = simulated_nodes(members)
        return simulated is not None and len(self._known) >= simulated

    def _update_connections(self, connected: set[int]) -> list[int]:
        """Forget nodes that are no longer connected, and return those that were never queried."""
        self._disconnected |= {n: member for n, member in self._known.items() if member and n not in connected}
        self._known = {node: member for node, member in self._known.items() if node in connected}
        self._queries = {node: query for node, query in self._queries.items() if node in connected}
        self._problems = {node: problem for node, problem in self._problems.items() if node in connected}
        return sorted(connected - self._known.keys() - self._queries.keys() - self._disconnected.keys())

    def _due_for_retry(self, grid: Grid) -> list[int]:
        """Nodes that reported a problem some time ago; those of a simulation cannot be repaired meanwhile."""
        if in_simulation(grid):
            return []
        now = time.monotonic()
        return sorted(
            node
            for node, problem in self._problems.items()
            if now - problem.since > _RETRY_INTERVAL and node in self._known and node not in self._queries
        )

    def _query(self, grid: Grid, nodes: Iterable[int]) -> None:
        for node in nodes:
            query = Message(self._content, dst_node_id=node, message_type=MessageType.QUERY)
            for message_id in grid.push_messages([query]):
                if message_id:
                    self._queries[node] = (query.metadata, time.monotonic())

    def _exchange_queries(self, grid: Grid, unsent: list[int], deadline: float) -> None:
        """Query nodes, and take the answers that have arrived, or arrive before the deadline.

        Nodes of a simulation that there was no time to query are new ones at the next call.
        """
        max_waiting = SHORT_MESSAGES_AT_ONCE if in_simulation(grid) else len(unsent) + len(self._queries)
        complete_by = max(deadline, time.monotonic() + _MIN_ANSWER_WAIT)
        while unsent or self._queries:
            now = unsent[: max_waiting - len(self._queries)]
            self._query(grid, now)
            del unsent[: len(now)]
            for node, (query, since) in sorted(self._queries.items()):
                for reply in pull_replies(grid, query, complete_by):
                    del self._queries[node]
                    if not (reply.has_error() and reply.error.code in UNREACHABLE):
                        self._known[node] = self._admit_or_exclude(node, reply, in_simulation(grid))
                    elif reply.error.code == FlowerErrorCode.UNKNOWN and in_simulation(grid):
                        self._count_failure(node, reply.error.reason or "")
                    break
                else:
                    if time.monotonic() - since > self.answer_timeout:
                        del self._queries[node]
                        self._note_silence(node)
            if time.monotonic() >= deadline:
                return
            if self._queries:
                time.sleep(poll_interval(grid))

    def _count_failure(self, node: int, reason: str) -> None:
        self._failures[node] += 1
        if self._failures[node] == _MAX_FAILURES:
            *_, last = ["", *reason.splitlines()]
            raise RunError(
                f"the workers of this simulation cannot start: {last}\nThe run's log has more. Check that this Python "
                "has everything installed that they need, and that there is enough memory.",
                ErrorCode.WORKERS_FAILED,
            )

    def _admit_or_exclude(self, node: int, reply: Message, is_simulated: bool) -> Member | None:
        """The member that an answer describes; None, after a message, where it cannot take part."""
        answer = (None if reply.has_error() else reply.content.config_records.get(self._key)) or ConfigRecord()
        name = bounded(answer.get("name", ""), MAX_NAME)
        problem = error_reason(reply) if is_unreadable(reply) else self._find_problem(node, name, answer)
        if problem:
            # Under the name of another contributor, a stranger would have that one count as excluded.
            is_own = is_simulated or (name in self._owners and self._owns(node, name, answer))
            shown = self._known_names().get(node) or (name if is_own else "") or unnamed(node)
            self._exclude(node, name, shown, problem)
            return None
        self._problems.pop(node, None)
        if name and not is_simulated and self._node_names is None:
            self._owners[name] = _Owner(node, _hash_token(answer))
        simulated = answer.get("simulated-nodes")
        return Member(
            node,
            name=self._known_names().get(node) or name or unnamed(node),
            seen=bool(answer.get("seen", True)),
            simulated_nodes=simulated if is_simulated and isinstance(simulated, int) else None,
        )

    def _exclude(self, node: int, name: str, shown: str, problem: str, *, received: bool = True) -> None:
        """Note why a node takes no part. It is queried again and again, but reported only when the problem changes.

        Args:
            node: the node.
            name: what it calls itself.
            shown: the name that is shown to others.
            problem: the reason.
            received: whether the node answered.
        """
        before = self._problems.get(node)
        self._problems[node] = _Problem(shown, problem, time.monotonic())
        if before is None or problem != before.reason:
            log(WARNING, "Node %d%s is excluded: %s", node, f" ('{name}')" if name else "", problem)
            self._on_excluded(shown, problem.rstrip("."), received)

    def _note_silence(self, node: int) -> None:
        """Note that a node did not answer in time. The run cannot report a node whose name the server does not know."""
        name = self._known_names().get(node)
        if name and node not in self._known:
            reason = f"it is connected, but did not answer the server's query within {self.answer_timeout:g} s."
            self._exclude(node, name, name, reason, received=False)

    def _known_names(self) -> Mapping[int, str]:
        """The names that the server knows nodes by."""
        return {} if self._node_names is None else self._node_names()

    def _owns(self, node: int, name: str, answer: ConfigRecord) -> bool:
        """Whether a name is this node's, or nobody's yet. The name of a node without one is its own alone."""
        if is_unnamed(name) and name != unnamed(node):
            return False
        owner = self._owners.get(name)
        if self._node_names is not None or owner is None:
            return self._node_names is None or self._known_names().get(node) == name
        return node == owner.node or _hash_token(answer) == owner.token_hash != ""

    def _find_problem(self, node: int, name: str, answer: ConfigRecord) -> str:
        """Why a node cannot take part; empty where it can."""
        if "problem" in answer:
            return bounded(answer["problem"])
        theirs, ours = bounded(answer.get("versions", "")), format_versions()
        if theirs and theirs != ours:
            return f"it has {theirs}; this server has {ours}. Both must have the same."
        if self._node_names is None:
            return "" if self._owns(node, name, answer) else _NAME_TAKEN
        known = self._known_names().get(node)
        if known is None:
            return "its key does not belong to a member."
        return "" if name in ("", known) else f"its key belongs to '{known}', and it may only join under that name."


def _hash_token(answer: ConfigRecord) -> str:
    """The hash of the token in an answer; empty where there is none."""
    token = answer.get("token")
    return hashlib.sha256(token.encode()).hexdigest() if isinstance(token, str) and token else ""


def new_registry(
    contributor_names: str,
    configrecord_key: str,
    node_names: Callable[[], Mapping[int, str]] | None,
    on_excluded: Callable[[str, str, bool], None],
) -> NodeRegistry:
    """The registry for the strategy's argument `contributor_names`; nodes that the server knows are queried too."""
    if contributor_names == "query" or node_names is not None:
        return QueriedNodes(configrecord_key, node_names, on_excluded)
    return NodeRegistry()
