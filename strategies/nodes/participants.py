"""Who takes part: the nodes that are connected, and the contributors among them that can be sampled."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.common import log
from flwr.serverapp import Grid

from coldfusion_fl.errors import ErrorCode, RunError, count
from coldfusion_fl.runs.events import ContributorExcluded, Emit, NodesConnected, WaitingForNodes
from coldfusion_fl.runs.history import paused_until, rejection_counts
from coldfusion_fl.runs.records import RoundRecord

from .membership import Member, NodeRegistry, is_unnamed, simulated_nodes
from .messaging import in_simulation, poll_interval

_SHOWN_NAMES = 50
# The most nodes with a problem in the record of a round that are not expected: without keys, anybody can connect such.
_MOST_UNEXPECTED = 100


@dataclass(frozen=True)
class Pool:
    """The nodes at the start of a round.

    Attributes:
        members: those that are connected, by name.
        excluded: connected contributors and nodes that are not sampled, with the reason.
        names: the contributors that can be sampled.
        missing: contributors that took part before, or are expected, and are not connected.
        paused: contributors that are not sampled for a while, because they did not answer in time; with the last round
            of the pause.
        is_simulated: whether all nodes are simulated.
    """

    members: Mapping[str, Member]
    excluded: dict[str, str]
    names: list[str]
    missing: list[str]
    paused: dict[str, int]
    is_simulated: bool


class Participants:
    """Waits for the nodes at first, and says who can be sampled in a round.

    Args:
        registry: knows the nodes.
        min_available_nodes: the number of nodes to wait for.
        awaited_names: names of nodes to wait for.
        node_timeout: seconds to wait at most.
        min_contributions: contributors that a round needs.
        max_rejections: a contributor with this number of rejections is excluded; 0: no limit.
        exclude: names of contributors that are never sampled.
        emit: emits an event of the run.
    """

    def __init__(
        self,
        registry: NodeRegistry,
        min_available_nodes: int,
        awaited_names: Collection[str],
        node_timeout: float,
        min_contributions: int,
        max_rejections: int,
        exclude: Collection[str],
        emit: Emit,
    ) -> None:
        self._registry = registry
        self.min_available_nodes = min_available_nodes
        self.awaited_names = frozenset(awaited_names)
        self._node_timeout = node_timeout
        self._min_contributions = min_contributions
        self._max_rejections = max_rejections
        self._exclude = exclude
        self._emit = emit
        self._has_waited = False
        self._reported_exclusions: set[str] = set()
        self._expected: set[str] = set()

    def connected(self, grid: Grid, num_rounds: int | None) -> Mapping[str, Member]:
        """The members that are connected now; the first call waits for them.

        Args:
            grid: Flower's grid.
            num_rounds: the number of rounds of the run, for the event; None: unknown.

        Raises:
            RunError: too few are connected when the wait is over.
        """
        if self._has_waited:
            return self._registry.connected_nodes(grid)
        members = self._registry.wait_for_nodes(
            grid,
            self.min_available_nodes,
            self.awaited_names,
            self._node_timeout,
            lambda connected, missing, excluded: self._emit(
                WaitingForNodes(connected=connected, missing=missing, excluded=excluded)
            ),
        )
        # Checked before the first round, because a run that can never fuse should not train.
        seen = sorted(name for name, member in members.items() if member.seen)
        unseen = sorted(members.keys() - seen)
        self._check_number(members, seen)
        self._has_waited = True
        log(INFO, "%s: %s", count(len(seen), "contributor"), _some(seen))
        if unseen:
            log(INFO, "%s for evaluation only: %s", count(len(unseen), "node"), _some(unseen))
        excluded = self._excluded_nodes(members)
        missing = sorted(self.awaited_names - members.keys() - self._registry.excluded.keys())
        self._emit(
            NodesConnected(seen=seen, unseen=unseen, missing=missing, excluded=sorted(excluded), rounds=num_rounds or 0)
        )
        return members

    def pool(
        self, server_round: int, grid: Grid, records: Sequence[RoundRecord], num_rounds: int | None, fewest: int
    ) -> Pool:
        """The contributors that can be sampled; where they are too few, waits for more.

        Args:
            server_round: the round.
            grid: Flower's grid.
            records: of the earlier rounds.
            num_rounds: as in `connected`.
            fewest: contributors that a round samples at least: where fewer are left, paused ones are sampled again.

        Raises:
            RunError: too few are left when the wait is over.
        """
        # In a deployment an outage takes all nodes away for a while: waiting is cheaper than lost rounds.
        deadline = time.monotonic() + self._node_timeout
        while True:
            members, excluded = self.connected(grid, num_rounds), self.excluded(records)
            names = [name for name, member in members.items() if member.seen and name not in excluded]
            if len(names) >= self._min_contributions:
                here = {name: reason for name, reason in excluded.items() if name in members}
                missing = self._find_missing(members, records)
                here |= self._excluded_nodes(members)
                if here:
                    log(INFO, "Excluded in this round: %s.", ", ".join(sorted(here)))
                paused = _find_paused(names, server_round, records, max(fewest, self._min_contributions))
                names = [name for name in names if name not in paused]
                return Pool(members, here, names, missing, paused, in_simulation(grid))
            if in_simulation(grid) or time.monotonic() > deadline:
                nodes = self._registry.excluded
                first = f" (the first: {_first(nodes)})" if nodes else ""
                raise RunError(
                    f"a round needs {count(self._min_contributions, 'contributor')}; available: {len(names)}, "
                    f"excluded: {len(excluded.keys() | nodes.keys())}{first}. The finished rounds are saved. To "
                    "resume, start more nodes, lower min-contributions or raise max-rejections.",
                    ErrorCode.TOO_FEW_CONTRIBUTORS,
                )
            time.sleep(poll_interval(grid))

    def _check_number(self, members: Mapping[str, Member], seen: Collection[str]) -> None:
        simulated = simulated_nodes(members)
        if simulated and len(members) < self.min_available_nodes:
            raise RunError(
                f"this simulation has {count(simulated, 'node')}, of which {len(members)} can take part, but the run "
                f"needs {self.min_available_nodes}. Simulate more: flwr run . --federation-config "
                f"'num-supernodes={self.min_available_nodes}'",
                ErrorCode.TOO_FEW_CONTRIBUTORS,
            )
        if len(seen) < self._min_contributions:
            nodes = self._registry.excluded
            excluded = f", excluded: {len(nodes)} (the first: {_first(nodes)})" if nodes else ""
            raise RunError(
                f"a round needs {count(self._min_contributions, 'contributor')}; connected: {len(seen)}{excluded}. "
                "Start more nodes, or lower min-contributions.",
                ErrorCode.TOO_FEW_CONTRIBUTORS,
            )

    def _excluded_nodes(self, members: Mapping[str, Member]) -> dict[str, str]:
        """The connected nodes that cannot take part, with the reason: all that are expected, and some of the others."""
        excluded = {name: reason for name, reason in sorted(self._registry.excluded.items()) if name not in members}
        others = [name for name in excluded if name not in self._expected | self.awaited_names]
        left_out = set(others[_MOST_UNEXPECTED:])
        return {name: reason for name, reason in excluded.items() if name not in left_out}

    def _find_missing(self, members: Mapping[str, Member], records: Sequence[RoundRecord]) -> list[str]:
        """Contributors that took part before, or are expected, and are not connected."""
        self._expected |= {name for name, member in members.items() if member.seen} | self.awaited_names
        self._expected |= {name for record in records for name in record.sampled}
        # A node without a name has another one in each run of a simulation, and nobody can be sent to look for it.
        others = self._expected - members.keys() - self._registry.excluded.keys()
        if missing := sorted(name for name in others if not is_unnamed(name)):
            log(WARNING, "Not connected in this round: %s.", ", ".join(missing))
        return missing

    def excluded(self, records: Sequence[RoundRecord]) -> dict[str, str]:
        """Contributors that neither train nor evaluate, with the reason; each is reported once in a run."""
        excluded = dict.fromkeys(self._exclude, "it is listed in the setting 'exclude'")
        for name, number in rejection_counts(records).items():
            if self._max_rejections and number >= self._max_rejections and name not in excluded:
                limit = f"max-rejections = {self._max_rejections}"
                excluded[name] = f"it has {count(number, 'rejected contribution')} (the limit is {limit})"
                # An earlier record may have excluded it for another reason, such as its base.
                is_recorded = any(record.excluded.get(name) == excluded[name] for record in records)
                if name not in self._reported_exclusions and not is_recorded:
                    self._reported_exclusions.add(name)
                    log(WARNING, "'%s' is excluded from now on: %s.", name, excluded[name])
                    self._emit(ContributorExcluded(name=name, reason=excluded[name]))
        return excluded


def _find_paused(
    names: Sequence[str], server_round: int, records: Sequence[RoundRecord], fewest: int
) -> dict[str, int]:
    """The contributors among some that are not sampled in a round, with the last round of their pauses.

    It follows from the records alone, so that a resumed run samples as an unbroken one. As many as needed are left out,
    those whose pause ends first, so that a run never waits for the end of a pause.
    """
    until = {name: last for name, last in paused_until(records).items() if name in names and last >= server_round}
    needed = max(0, fewest - (len(names) - len(until)))
    paused = {name: until[name] for name in sorted(until, key=lambda name: (until[name], name))[needed:]}
    if paused:
        listed = ", ".join(f"{name} (until round {last})" for name, last in sorted(paused.items()))
        log(INFO, "Not sampled in round %d, because they did not answer in time: %s.", server_round, listed)
    return paused


def _first(excluded: Mapping[str, str]) -> str:
    """The first of some excluded nodes, with the reason."""
    name, reason = min(excluded.items())
    return f"{name}: {reason}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
