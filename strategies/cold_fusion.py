"""The ColD Fusion strategy (Don-Yehiya et al., ACL 2023, https://aclanthology.org/2023.acl-long.46)."""

import math
import time
from collections.abc import Callable, Iterable
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from coldfusion_fl.errors import RunError
from coldfusion_fl.fusion import Contribution, Mean, fuse
from coldfusion_fl.screening import misfit

from .arrays import to_numpy, to_record
from .roll_call import Member, RollCall, exchange, simulated_nodes
from .sampling import sample

if TYPE_CHECKING:
    from coldfusion_fl.ledger import Ledger

_REASON = 300


class ColDFusion(Strategy):
    """ColD Fusion: contributors finetune the shared base, and their uniform mean is the next base.

    θ' = (1/|C|) Σ_c θ_c over the fit contributions of a round. A contribution that does not fit the base (a name too
    many or too few, another shape or type, a value that is not finite), an error and a missing answer are refused,
    recorded by the contributor's name, and never stop the run.

    Parameters
    ----------
    contributors_per_round : int (default: 8)
        Contributors sampled each round, by (seed, round, sorted names) alone.
    min_contributions : int (default: 2)
        With fewer fit contributions a round keeps its base.
    min_available_nodes : int (default: 2)
        Nodes to wait for before the first round.
    node_timeout : float (default: 3600)
        Seconds to wait for them at most; then the run begins with those that are there.
    seed : int (default: 0)
        Seed of the sampling. It also goes to the contributors, as `seed` in their configuration.
    evaluate_every : int (default: 1)
        The nodes judge the base after every so many rounds; always the first and the last base. 0: those two only.
    arrayrecord_key : str (default: "arrays")
        Key of the ArrayRecord in messages.
    configrecord_key : str (default: "config")
        Key of the ConfigRecord in messages.
    ledger : Optional[Ledger] (default: None)
        The run folder that keeps every round. None: nothing is kept.
    """

    def __init__(
        self,
        contributors_per_round: int = 8,
        min_contributions: int = 2,
        min_available_nodes: int = 2,
        node_timeout: float = 3600,
        seed: int = 0,
        evaluate_every: int = 1,
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        ledger: "Ledger | None" = None,
    ) -> None:
        self.contributors_per_round = contributors_per_round
        self.min_contributions = min_contributions
        self.min_available_nodes = min_available_nodes
        self.node_timeout = node_timeout
        self.seed = seed
        self.evaluate_every = evaluate_every
        self.arrayrecord_key = arrayrecord_key
        self.configrecord_key = configrecord_key
        self.ledger = ledger
        self._roll_call = RollCall(configrecord_key)
        self._timeout = 3600.0
        self._last_round = 0
        self._base: dict[str, np.ndarray] = {}
        self._sampled: dict[str, Member] = {}
        self._record: dict[str, Any] = {}

    def summary(self) -> None:
        """Log summary configuration of the strategy."""
        log(INFO, "\t├──> Sampling:")
        log(INFO, "\t│\t├──Contributors per round: %d", self.contributors_per_round)
        log(INFO, "\t│\t├──Nodes to wait for: %d", self.min_available_nodes)
        log(INFO, "\t│\t└──Seed: %d", self.seed)
        log(INFO, "\t├──> Fusing: uniform mean of at least %d contributions", self.min_contributions)
        log(INFO, "\t└──> Keys in records:")
        log(INFO, "\t\t├── ArrayRecord key: '%s'", self.arrayrecord_key)
        log(INFO, "\t\t└── ConfigRecord key: '%s'", self.configrecord_key)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run ColD Fusion for so many rounds.

        Other than Flower's own loop, this one takes each reply when it arrives, lets the nodes judge the first base
        too, and makes every round durable before the next begins. The parameters are those of `Strategy.start`;
        `timeout` bounds each round's training, and each evaluation.

        Raises:
            RunError: fewer contributors than `min_contributions` are there when the wait is over.
        """
        log(INFO, "Starting %s strategy:", type(self).__name__)
        self.summary()
        self._timeout, self._last_round = timeout, num_rounds
        train_config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        result, arrays = Result(arrays=initial_arrays), initial_arrays
        self._meet(grid)
        self._base = to_numpy(initial_arrays)
        self._keep_round(0, {})
        self._judge(0, arrays, evaluate_config, grid, evaluate_fn, result)
        for server_round in range(1, num_rounds + 1):
            log(INFO, "[ROUND %s/%s]", server_round, num_rounds)
            began = time.monotonic()
            messages = self.configure_train(server_round, arrays, train_config, grid)
            fused, metrics = self.aggregate_train(server_round, exchange(grid, messages, timeout))
            if fused is not None:
                result.arrays = arrays = fused
                self._base = to_numpy(fused)
            if metrics is not None:
                result.train_metrics_clientapp[server_round] = metrics
            self._keep_round(server_round, self._record | {"train-seconds": time.monotonic() - began})
            self._judge(server_round, arrays, evaluate_config, grid, evaluate_fn, result)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample contributors and send each the base."""
        members = self._roll_call.present(grid)
        pool = [name for name, member in members.items() if member.seen]
        names = sample(pool, self.contributors_per_round, self.seed, server_round)
        if not self._base:
            self._base = to_numpy(arrays)
        self._sampled = {name: members[name] for name in names}
        self._record = {"round": server_round, "sampled": names, "contributions": {}, "refused": {}}
        self._tell("round", round=server_round, sampled=names)
        return [
            self._message(arrays, config, server_round, node.node_id, MessageType.TRAIN)
            for node in self._sampled.values()
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen the replies one at a time and fuse those that fit; None for the arrays where the base is kept."""
        fit: dict[str, dict[str, np.ndarray]] = {}
        answered = set()
        for reply in replies:
            name = self._roll_call.name_of(reply.metadata.src_node_id)
            answered.add(name)
            encoder, reason = self._screen(reply)
            if encoder is None:
                self._refuse(server_round, name, reason)
                continue
            fit[name] = encoder
            reported = _metrics(reply)
            self._record["contributions"][name] = reported
            self._tell("received", **{**reported, "round": server_round, "name": name})
        for name in sorted(self._sampled.keys() - answered):
            self._refuse(server_round, name, f"it did not answer within {self._timeout:g} s")
        counts: dict[str, Any] = {"contributions": len(fit), "refused": len(self._record["refused"])}
        enough = len(fit) >= self.min_contributions
        self._record["fused"] = enough
        self._tell("fused" if enough else "kept", round=server_round, **counts, needed=self.min_contributions)
        if not enough:
            log(
                WARNING,
                "Round %d keeps its base: %d contributions are fit, %d are needed.",
                server_round,
                len(fit),
                self.min_contributions,
            )
            return None, MetricRecord(counts)
        # In sorted order, so that the order of arrival leaves no trace in the sum.
        fused = fuse(Mean(), self._base, [Contribution(name, fit[name]) for name in sorted(fit)])
        return to_record(fused), MetricRecord(counts)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the base to every node, where this round's base is to be judged."""
        ends = server_round in (0, self._last_round)
        if not ends and (not self.evaluate_every or server_round % self.evaluate_every):
            return []
        members = self._roll_call.present(grid)
        self._tell("evaluating", round=server_round, names=sorted(members))
        messages = []
        for name in sorted(members):
            # The few-shot score is for tasks that the base has not seen, and it takes a training: at the ends only.
            few_shot = ends and not members[name].seen
            extended = ConfigRecord({**config, "modes": "frozen,few-shot" if few_shot else "frozen"})
            node = members[name].node_id
            messages.append(self._message(arrays, extended, server_round, node, MessageType.EVALUATE))
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Collect the scores by contributor; the mean of each kind of score is returned."""
        scores: dict[str, Any] = {}
        for reply in replies:
            name = self._roll_call.name_of(reply.metadata.src_node_id)
            if reply.has_error():
                log(
                    WARNING,
                    "'%s' could not evaluate the base of round %d: %s",
                    name,
                    server_round,
                    _reason(reply),
                )
                self._tell("unscored", round=server_round, name=name, reason=_reason(reply))
                continue
            about: Any = reply.content.config_records.get(self.configrecord_key, {})
            told = {key: about[key] for key in ("metric", "head", "seen") if isinstance(about.get(key), str | bool)}
            scores[name] = {**told, **_metrics(reply)}
            self._tell("score", **{**scores[name], "round": server_round, "name": name})
        if not scores:
            return None
        if self.ledger:
            self.ledger.save_scores(server_round, dict(sorted(scores.items())))
        numbers: dict[str, list[float]] = {}
        for reported in scores.values():
            for key, value in reported.items():
                if isinstance(value, float):
                    numbers.setdefault(key, []).append(value)
        return MetricRecord({key: float(np.mean(values)) for key, values in sorted(numbers.items())})

    def _meet(self, grid: Grid) -> None:
        members = self._roll_call.wait(grid, self.min_available_nodes, self.node_timeout)
        seen = sorted(name for name, member in members.items() if member.seen)
        unseen = sorted(members.keys() - seen)
        simulated = simulated_nodes(members)
        if simulated and len(members) < self.min_available_nodes:
            raise RunError(
                f"this simulation has {simulated} nodes, and {len(members)} of them can take part, but the run needs "
                f"{self.min_available_nodes}. Simulate so many: flwr run . --federation-config "
                f"'num-supernodes={self.min_available_nodes}'"
            )
        if len(seen) < self.min_contributions:
            raise RunError(
                f"only {len(seen)} contributors are connected, {self.min_contributions} are needed for a round. Start "
                "more nodes, or lower min-contributions."
            )
        log(INFO, "%d contributors: %s", len(seen), ", ".join(seen))
        if unseen:
            log(INFO, "%d nodes that only judge: %s", len(unseen), ", ".join(unseen))
        self._tell("members", seen=seen, unseen=unseen, rounds=self._last_round)

    def _judge(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
        result: Result,
    ) -> None:
        messages = list(self.configure_evaluate(server_round, arrays, config, grid))
        if messages:
            metrics = self.aggregate_evaluate(server_round, exchange(grid, messages, self._timeout))
            self._tell("evaluated", round=server_round)
            if metrics is not None:
                log(INFO, "\t└──> Scores of base %d: %s", server_round, metrics)
                result.evaluate_metrics_clientapp[server_round] = metrics
        if evaluate_fn and (central := evaluate_fn(server_round, arrays)) is not None:
            result.evaluate_metrics_serverapp[server_round] = central

    def _message(
        self, arrays: ArrayRecord, config: ConfigRecord, server_round: int, node_id: int, message_type: str
    ) -> Message:
        told = ConfigRecord({**config, "server-round": server_round, "seed": self.seed})
        content = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: told})
        return Message(content, dst_node_id=node_id, message_type=message_type)

    def _screen(self, reply: Message) -> tuple[dict[str, np.ndarray] | None, str]:
        """The encoder of a reply, or None and why it cannot be fused."""
        if reply.has_error():
            return None, f"its training failed: {_reason(reply)}"
        arrays = reply.content.array_records.get(self.arrayrecord_key)
        if arrays is None:
            return None, f"its reply holds no arrays ('{self.arrayrecord_key}')"
        try:
            encoder = to_numpy(arrays)
            reason = misfit(self._base, encoder)
        # Bytes from outside can make numpy raise anything, and nothing that a contributor sends may end the run.
        except (Exception, MemoryError) as broken:
            return None, f"its arrays cannot be read: {type(broken).__name__}: {broken}"[:_REASON]
        return (None, reason) if reason else (encoder, "")

    def _refuse(self, server_round: int, name: str, reason: str) -> None:
        log(WARNING, "Round %d: the contribution of '%s' is refused: %s.", server_round, name, reason)
        self._record["refused"][name] = reason
        self._tell("refused", round=server_round, name=name, reason=reason)

    def _keep_round(self, server_round: int, record: dict[str, Any]) -> None:
        if self.ledger:
            self.ledger.save_round(server_round, self._base, record)

    def _tell(self, kind: str, /, **facts: Any) -> None:
        if self.ledger:
            self.ledger.event(kind, **facts)


def _metrics(reply: Message) -> dict[str, Any]:
    """All finite numbers that a reply reports."""
    reported = [item for record in reply.content.metric_records.values() for item in record.items()]
    return {key: value for key, value in reported if isinstance(value, int | float) and math.isfinite(value)}


def _reason(reply: Message) -> str:
    """What a person needs of an error reply: Flower puts a whole traceback in front of it, and brackets around."""
    lines = [line.strip() for line in (reply.error.reason or "").removesuffix("'>").splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason was given"
    return last.removeprefix("Exception ClientAppException occurred. Message: ")[:_REASON]
