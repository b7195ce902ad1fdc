"""The ColD Fusion strategy (Don-Yehiya et al., ACL 2023, https://aclanthology.org/2023.acl-long.46)."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import Candidate, Rule, ScoreFunction, ScreeningRound, screen
from coldfusion_fl.aggregation.server_optimizer import ServerOptimizer
from coldfusion_fl.arrays.blocks import finite, update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.errors import FusionError, RunError, SettingsError
from coldfusion_fl.fusion import Operator, PrivateMean, fuse, shares
from coldfusion_fl.run.history import past_norms, rejection_counts, seconds
from coldfusion_fl.sanitize import sanitize

from .arguments import as_filter, as_score_function, check_arguments
from .array_records import to_record
from .membership import Member, NodeRegistry, exchange_messages, in_simulation, poll_interval, simulated_nodes
from .privacy import PrivacyAccountant
from .sampling import sample
from .server_state import ServerState
from .stragglers import UNREACHABLE, LateReply, Stragglers, rebase_update
from .validation import Rejection, ReplyValidator, error_of, records, reported

if TYPE_CHECKING:
    from coldfusion_fl.run.ledger import Ledger


# What a node says of its scores, beside the numbers.
_TOLD = {"metric": str, "head": str, "seen": bool}
_LONGEST = 60


class ColDFusion(Strategy):
    """ColD Fusion: contributors finetune the shared base, and their uniform mean is the next base.

    θ' = (1/|C|) Σ_c θ_c over the fit contributions of a round. A contribution that does not fit the base (a name too
    many or too few, another shape or type, a value that is not finite), an error and a missing answer are rejected,
    recorded by the contributor's name, and never stop the run. Replies are taken one at a time and put aside on disk,
    so that memory does not grow with them, and fused in sorted order of names, so that the order of arrival leaves no
    trace.

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
        The nodes judge the base after every so many rounds; always the first and the last base. 0: those two only;
        -1: they judge none.
    fusion : Union[str, Operator] (default: "mean")
        How contributions are fused: an operator of `coldfusion_fl.fusion`, or its text, such as "ties(density=0.2)".
    server_optimizer : Union[str, ServerOptimizer] (default: "plain")
        How the next base follows from the base and what was fused: a step of `aggregation.server_optimizer`, or its
        text, such as "nesterov(learning-rate=0.7, momentum=0.9)".
    ema : float (default: 0.0)
        Decay of an exponential moving average of the bases, kept beside them as `average`; 0: none.
    screening : Union[str, Sequence[Union[str, Rule]]] (default: "")
        Rules of `aggregation.screening`, one after another, or their text, such as "size(factor=5), direction".
    exclude : Collection[str] (default: ())
        Names of contributors that are never sampled.
    compression : str (default: "float32")
        How contributions travel: "float32", exactly; "bfloat16", "float16" or "int8", as differences to the base in a
        half or a quarter of the bytes. Clients are asked for it in their configuration, as `compression`; those that do
        not know it send plain arrays. Inside Flower's wrappers, such as those for differential privacy, always
        float32; with Flower's mods at the clients that change arrays, leave it so.
    staleness_discount : float (default: 0.0)
        What a contribution counts that comes when its round is over: its update is made so much smaller for each round
        that it is late, and goes to the base of now. Above 0, it needs a ledger. 0: it is rejected.
    max_rejections : int (default: 3)
        A contributor that sent so often what was not fit to be fused is sampled no more; 0: however often.
    score_fn : Optional[Callable[[Mapping[str, NDArray]], float]] (default: None)
        The server's own held-out score of an encoder, more is better; for the rule "greedy-soup" and for `rollback`.
    rollback : Optional[float] (default: None)
        Where the probe's score of the next base is lower by more than this, the base is kept. None: never.
    shared_keys : Optional[Union[str, Callable[[str], bool]]] (default: None)
        Which arrays are shared: patterns of names as in a shell, with commas between ("features.*, embedding"), or a
        function of a name. Only these are sent; others that come back are dropped. None: the initial arrays are, and a
        contribution with others is rejected.
    arrayrecord_key : str (default: "arrays")
        Key of the ArrayRecord in messages. A Fisher diagonal comes in a record of the key "fisher" beside it.
    configrecord_key : str (default: "config")
        Key of the ConfigRecord in messages.
    ledger : Optional[Ledger] (default: None)
        The run folder that keeps every round, opened. Where it holds rounds, the run goes on after the last of them.
        None: nothing is kept.
    keep_last : int (default: 0)
        The ledger keeps the arrays of so many rounds; the records stay. 0: of all.
    node_names : Optional[Callable[[], Mapping[int, str]]] (default: None)
        The names that the server knows its nodes by, by node id, such as by their registered keys. Who is not among
        them, or says another name, is left out. None: nodes say who they are.
    awaited_names : Collection[str] (default: ())
        Names of nodes to wait for before the first round too; whichever is not there is recorded as missing.

    A SettingsError says which operator, step or rule is unknown (and lists the known ones), which value is out of
    range, and which two contradict each other.
    """

    def __init__(
        self,
        contributors_per_round: int = 8,
        min_contributions: int = 2,
        min_available_nodes: int = 2,
        node_timeout: float = 3600,
        seed: int = 0,
        evaluate_every: int = 1,
        fusion: str | Operator = "mean",
        server_optimizer: str | ServerOptimizer = "plain",
        ema: float = 0.0,
        screening: str | Sequence[str | Rule] = "",
        exclude: Collection[str] = (),
        compression: str = "float32",
        staleness_discount: float = 0.0,
        max_rejections: int = 3,
        score_fn: ScoreFunction | None = None,
        rollback: float | None = None,
        shared_keys: str | Callable[[str], bool] | None = None,
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        ledger: "Ledger | None" = None,
        keep_last: int = 0,
        node_names: Callable[[], Mapping[int, str]] | None = None,
        awaited_names: Collection[str] = (),
    ) -> None:
        check_arguments({name: value for name, value in locals().items() if name != "self"})
        self.contributors_per_round = contributors_per_round
        self.min_contributions = min_contributions
        self.min_available_nodes = min_available_nodes
        self.node_timeout = node_timeout
        self.seed = seed
        self.evaluate_every = evaluate_every
        pipeline = Pipeline.parse(screening, fusion, server_optimizer)
        self.screening, self.fusion = pipeline.screening, pipeline.fusion
        self.server_optimizer = pipeline.server_optimizer
        self.exclude = frozenset(exclude)
        self.ema = ema
        self.compression = compression
        self.staleness_discount = staleness_discount
        self.max_rejections = max_rejections
        self.score_fn = as_score_function(score_fn)
        self.rollback = rollback
        self.is_shared = as_filter(shared_keys)
        self.arrayrecord_key = arrayrecord_key
        self.configrecord_key = configrecord_key
        self.ledger = ledger
        self.keep_last = keep_last
        self.awaited_names = frozenset(awaited_names)
        pipeline.check(
            contributors_per_round,
            min_contributions,
            has_score_function=score_fn is not None,
            has_rollback=rollback is not None,
        )
        self._registry = NodeRegistry(
            configrecord_key, node_names, lambda name, reason: self._tell("excluded", name=name, reason=reason)
        )
        self._nodes_are_known = False
        self._timeout = 3600.0
        self._last_round = 0
        self._score: float | None = None
        self._sent: dict[str, Message] = {}
        self._record: dict[str, Any] = {}
        self._accountant = PrivacyAccountant(self.fusion) if isinstance(self.fusion, PrivateMean) else None
        self._state = ServerState(ledger, keep_last, ema, self._settings())
        self._warned = False
        self._stragglers = Stragglers()
        self._staleness: dict[str, int] = {}
        self._grid: Grid | None = None
        self._excluded_names: set[str] = set()
        self._came: set[str] = set()

    @property
    def average(self) -> Encoder:
        """The moving average of the bases, arrays by name; empty where `ema` is 0."""
        return self._state.average

    def summary(self) -> None:
        """Log summary configuration of the strategy."""
        log(INFO, "\t├──> Sampling:")
        log(INFO, "\t│\t├──Contributors per round: %d", self.contributors_per_round)
        log(INFO, "\t│\t├──Nodes to wait for: %d", self.min_available_nodes)
        log(INFO, "\t│\t└──Seed: %d", self.seed)
        log(INFO, "\t├──> Fusing: %s of at least %d contributions", self.fusion, self.min_contributions)
        log(
            INFO,
            "\t├──> Server optimizer: %s%s",
            self.server_optimizer,
            f", moving average {self.ema:g}" if self.ema else "",
        )
        log(INFO, "\t├──> Screening: misfit%s", "".join(f", {rule}" for rule in self.screening))
        log(INFO, "\t├──> Contributions travel as: %s", self.compression)
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
        """Run ColD Fusion for so many rounds, or go on to so many where the ledger holds rounds already.

        Other than Flower's own loop, this one takes each reply when it arrives, lets the nodes judge the first base
        too, and makes every round durable before the next begins. The parameters are those of `Strategy.start`;
        `timeout` bounds each round's training, and each evaluation.

        Raises:
            RunError: fewer contributors than `min_contributions` are there when the wait is over.
            RunFolderError: the ledger's run began from other arrays, is damaged, or its disk is full.
        """
        log(INFO, "Starting %s strategy:", type(self).__name__)
        self.summary()
        self._timeout, self._last_round = timeout, num_rounds
        train_config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        arrays = self._shared(initial_arrays)
        with ExitStack() as stack:
            if self.ledger:
                stack.enter_context(self.ledger.lock())
            done = self._state.resume(arrays)
            if self.ledger:  # from here on the run is under way; a rejected resume leaves its status as it was
                stack.enter_context(self.ledger.track_status())
            return self._rounds(grid, arrays, done, train_config, evaluate_config, evaluate_fn)

    def _rounds(
        self,
        grid: Grid,
        arrays: ArrayRecord,
        done: int | None,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
    ) -> Result:
        if done is None:
            self._keep_round(0, arrays)
        else:
            log(INFO, "Going on after round %d.", done)
            arrays = to_record(dict(self._state.base))
        self._meet(grid)
        result = Result(arrays=arrays)
        if done is None or self._unjudged(done):
            self._judge(done or 0, arrays, evaluate_config, grid, evaluate_fn, result)
        for server_round in range((done or 0) + 1, self._last_round + 1):
            log(INFO, "[ROUND %s/%s]", server_round, self._last_round)
            messages = self.configure_train(server_round, arrays, train_config, grid)
            replies = exchange_messages(grid, messages, self._timeout, in_order=True)
            fused, metrics = self.aggregate_train(server_round, replies)
            if fused is not None:
                result.arrays = arrays = fused
            if metrics is not None:
                result.train_metrics_clientapp[server_round] = metrics
            self._judge(server_round, arrays, evaluate_config, grid, evaluate_fn, result)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample contributors and send each the base."""
        shared = self._shared(arrays)
        self._keep_round(server_round - 1, shared)
        members, excluded, pool = self._pool(grid)
        names = sample(pool, self.contributors_per_round, self.seed, server_round)
        missing = self._missing(members)
        self._record = {
            "round": server_round,
            "began": time.time(),
            "sampled": names,
            "excluded": {name: reason for name, reason in excluded.items() if name in members},
            "missing": missing,
            "contributions": {},
            "rejected": [],
            "fused": False,
        }
        self._tell("round", round=server_round, sampled=names, missing=missing)
        self._grid = grid
        # The longest training first: at the end of a simulated round no worker waits for long for another.
        known = seconds(self._state.records)
        self._sent = {
            name: self._message(shared, config, server_round, members[name].node_id, MessageType.TRAIN)
            for name in sorted(names, key=lambda name: -known.get(name, math.inf))
        }
        return list(self._sent.values())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take the replies one at a time, screen and fuse them, and make a step; None where the base is kept."""
        with closing(ArrayFile(self.ledger.folder if self.ledger else None)) as array_file:
            candidates = self._receive(server_round, replies, array_file)
            self._receive_late(server_round, candidates, array_file)
            self._record["trained"] = time.time()
            fused, why_not = self._fuse(server_round, candidates)
        following, why_not = (None, why_not) if fused is None else self._next_base(fused)
        counts: dict[str, Any] = {
            "contributions": len(self._record["contributions"]),
            "rejected": len(self._record["rejected"]),
        }
        if following is None:
            self._record["kept-because"] = why_not
            log(WARNING, "Round %d keeps its base: %s.", server_round, why_not)
            self._tell("kept", round=server_round, **counts, reason=why_not)
            return None, MetricRecord(counts)
        self._record["fused"] = True
        self._tell("fused", round=server_round, **counts, privacy=self._record.get("privacy"))
        return to_record(following), MetricRecord({**self._means(), **counts})

    def _means(self) -> dict[str, float]:
        """The means of the numbers that all fused contributors reported."""
        told = [facts["reported"] for facts in self._record["contributions"].values()]
        common = set.intersection(*(set(numbers) for numbers in told)) - {"server-round"}
        return {key: float(np.mean([numbers[key] for numbers in told])) for key in sorted(common)}

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Make the round durable, and send its base to every node, where it is to be judged."""
        shared = self._shared(arrays)
        # Not right after fusing: a wrapper, such as one for differential privacy, may still have changed the arrays.
        self._keep_round(server_round, shared)
        if not self._is_judged(server_round):
            return []
        members = self._meet(grid)
        self._tell("evaluating", round=server_round, names=sorted(members))
        self._sent = {}
        for name in sorted(members):
            # The few-shot score is for tasks that the base has not seen, and it takes a training: at the ends only.
            few_shot = self._is_end(server_round) and not members[name].seen
            extended = ConfigRecord({**config, "modes": "frozen,few-shot" if few_shot else "frozen"})
            node = members[name].node_id
            self._sent[name] = self._message(shared, extended, server_round, node, MessageType.EVALUATE)
        return list(self._sent.values())

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Collect the scores by contributor; the mean of each kind of score is returned."""
        scores: dict[str, Any] = {}
        silent = dict.fromkeys(self._sent, f"it did not answer within {self._timeout:g} s")
        for reply in replies:
            name = self._sender(reply)
            if name not in silent:
                stranger = name or self._registry.name_of(reply.metadata.src_node_id)
                log(WARNING, "'%s' sent scores that nobody asked for, or a second time. They do not count.", stranger)
                continue
            del silent[name]
            if reply.has_error():
                self._unscored(server_round, name, error_of(reply))
                continue
            about: Any = records(reply, ConfigRecord).get(self.configrecord_key, {})
            told = {
                key: sanitize(about[key])[:_LONGEST] if kind is str else about[key]
                for key, kind in _TOLD.items()
                if isinstance(about.get(key), kind)
            }
            scores[name] = {key: value for key, value in reported(reply).items() if key not in _TOLD} | told
            self._tell("score", **{**scores[name], "round": server_round, "name": name})
        for name, reason in silent.items():
            self._unscored(server_round, name, reason)
        if not scores:
            return None
        if self.ledger:
            self.ledger.save_scores(server_round, dict(sorted(scores.items())))
        numbers: dict[str, list[float]] = {}
        for found in scores.values():
            for key, value in found.items():
                if isinstance(value, float):
                    numbers.setdefault(key, []).append(value)
        return MetricRecord({key: float(np.mean(values)) for key, values in sorted(numbers.items())})

    # -- who takes part ---------------------------------------------------------------------------------------------

    def _meet(self, grid: Grid) -> dict[str, Member]:
        """The members that are connected now; before the first round they are waited for."""
        if self._nodes_are_known:
            return self._registry.present(grid)
        members = self._registry.wait(
            grid,
            self.min_available_nodes,
            self.awaited_names,
            self.node_timeout,
            lambda there, absent: self._tell("waiting", there=there, absent=absent),
        )
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
        self._nodes_are_known = True
        log(INFO, "%d contributors: %s", len(seen), ", ".join(seen))
        if unseen:
            log(INFO, "%d nodes that only judge: %s", len(unseen), ", ".join(unseen))
        absent = sorted(self.awaited_names - members.keys())
        self._tell("members", seen=seen, unseen=unseen, absent=absent, rounds=self._last_round)
        return members

    def _pool(self, grid: Grid) -> tuple[dict[str, Member], dict[str, str], list[str]]:
        """The members, who of them is barred, and who can be sampled; where that is too few, waits for more.

        Raises:
            RunError: too few are left when the wait is over.
        """
        deadline = time.monotonic() + self.node_timeout
        while True:
            members, excluded = self._meet(grid), self._excluded()
            pool = [name for name, member in members.items() if member.seen and name not in excluded]
            if len(pool) >= self.min_contributions:
                return members, excluded, pool
            if in_simulation(grid) or time.monotonic() > deadline:
                out = f", and {len(excluded)} are left out or blocked" if excluded else ""
                raise RunError(
                    f"only {len(pool)} contributors are there{out}; {self.min_contributions} are needed for a round. "
                    "What was done is kept. To go on: start more nodes, lower min-contributions, or raise "
                    "max-rejections."
                )
            time.sleep(poll_interval(grid))

    def _missing(self, members: Mapping[str, Member]) -> list[str]:
        """Who took part before, or was waited for, and is not there now."""
        self._came |= {name for name, member in members.items() if member.seen} | self.awaited_names
        self._came |= {name for record in self._state.records for name in record.get("sampled", ())}
        if missing := sorted(self._came - members.keys()):
            log(WARNING, "Not there in this round: %s.", ", ".join(missing))
        return missing

    def _excluded(self) -> dict[str, str]:
        """Contributors that are not sampled, and why not."""
        excluded = dict.fromkeys(self.exclude, "it is named in the setting exclude")
        said = self._excluded_names | {name for record in self._state.records for name in record.get("excluded", {})}
        for name, count in rejection_counts(self._state.records).items():
            if self.max_rejections and count >= self.max_rejections and name not in excluded:
                excluded[name] = f"it was rejected {count} times"
                if name not in said:
                    self._excluded_names.add(name)
                    log(WARNING, "'%s' is left out from now on: %s.", name, excluded[name])
                    self._tell("excluded", name=name, reason=excluded[name])
        return excluded

    def _sender(self, reply: Message) -> str | None:
        """Whom a reply is of; None where it answers no message of this round."""
        answered = reply.metadata.reply_to_message_id
        return next((name for name, sent in self._sent.items() if sent.metadata.message_id == answered), None)

    # -- a round ----------------------------------------------------------------------------------------------------

    def _receive(self, server_round: int, replies: Iterable[Message], array_file: ArrayFile) -> dict[str, Candidate]:
        """Take the replies at the door; those that fit become candidates on disk."""
        keys = self.arrayrecord_key, self.configrecord_key
        door = ReplyValidator(self._state.base, self.fusion, server_round, array_file, self.is_shared, *keys)
        candidates: dict[str, Candidate] = {}
        answered: set[str] = set()
        away: dict[str, str] = {}
        for reply in replies:
            name = self._sender(reply)
            if name is None:
                stranger = self._registry.name_of(reply.metadata.src_node_id)
                self._reject(server_round, Rejection(stranger, "its reply answers no message of this round"))
            elif name in answered:
                self._reject(server_round, Rejection(name, "it answered twice; the first answer counts", counts=True))
            else:
                if reply.has_error() and reply.error.code in UNREACHABLE:
                    away[name] = f"it cannot be reached: {error_of(reply)}"
                    continue  # nothing of its own: it may yet answer
                answered.add(name)
                taken = door.take(name, reply)
                if isinstance(taken, Rejection):
                    self._reject(server_round, taken)
                else:
                    candidates[name] = taken
                    metrics = dict(taken.contribution.metrics)
                    self._tell("received", **{**metrics, "round": server_round, "name": name})
            del reply  # while the next one comes, memory need not hold this one
        silent = self._sent.keys() - answered
        for name in sorted(silent):
            reason = away.get(name, f"it did not answer within {self._timeout:g} s")
            self._reject(server_round, Rejection(name, reason, came=False))
        self._stragglers.expect(server_round, {name: self._sent[name] for name in silent})
        if door.dropped and not self._warned:
            self._warned = True
            name, count = next(iter(door.dropped.items()))
            log(
                WARNING,
                "'%s' sent %d arrays that are not shared. They are dropped, here and from now on; what is private "
                "should not leave its node.",
                name,
                count,
            )
        return candidates

    def _receive_late(self, server_round: int, candidates: dict[str, Candidate], array_file: ArrayFile) -> None:
        """Take what has come of earlier rounds: rejected, or brought forward to this round's base."""
        self._staleness = {}
        for late in self._stragglers.arrived(self._grid) if self._grid else ():
            taken = self._take_late(server_round, late, candidates, array_file)
            if isinstance(taken, Rejection):
                self._reject(server_round, taken)
            else:
                candidates[late.name] = taken
                self._staleness[late.name] = server_round - late.round

    def _take_late(
        self,
        server_round: int,
        late: LateReply,
        candidates: Mapping[str, Candidate],
        array_file: ArrayFile,
    ) -> Candidate | Rejection:
        came = f"it came too late: it is of round {late.round}"
        if not self.staleness_discount:
            return Rejection(late.name, came)
        if late.name in candidates:
            return Rejection(late.name, f"{came}, and a newer one of it is here")
        then = self._state.base_after(late.round - 1)
        if then is None:
            return Rejection(late.name, f"{came}, whose base is not kept any more")
        keys = self.arrayrecord_key, self.configrecord_key
        taken = ReplyValidator(then, self.fusion, late.round, array_file, self.is_shared, *keys).take(
            late.name, late.reply
        )
        if isinstance(taken, Rejection):
            return taken
        factor = self.staleness_discount ** (server_round - late.round)
        return rebase_update(taken, then, self._state.base, factor, array_file)

    def _fuse(self, server_round: int, candidates: Mapping[str, Candidate]) -> tuple[EncoderDict | None, str]:
        """The fused encoder, or None and why there is none."""
        past = past_norms(self._state.records)
        known = {name: replace(c, past_norms=past.get(name, ())) for name, c in candidates.items()}
        before = ScreeningRound(self._state.base, known, self.fusion, self.score_fn)
        cosines = before.cosines if known else {}
        fit, rejected = screen(before, self.screening)
        facts = {
            name: {
                "norm": c.norm,
                "cosine": cosines[name],
                "sha256": c.sha256,
                "reported": dict(c.contribution.metrics),
                **({"staleness": self._staleness[name]} if name in self._staleness else {}),
            }
            for name, c in known.items()
        }
        for name, (rule, reason) in rejected.items():
            self._reject(server_round, Rejection(name, reason, counts=rule.counts, facts=facts[name]))
        parts = [candidate.contribution for _, candidate in sorted(fit.candidates.items())]
        weights = shares(self.fusion, parts)
        self._record["contributions"] = {
            part.name: facts[part.name] | {"share": weight} for part, weight in zip(parts, weights, strict=True)
        }
        if len(parts) < self.min_contributions:
            return None, f"{len(parts)} contributions are fit, {self.min_contributions} are needed"
        try:
            # In sorted order, so that the order of arrival leaves no trace in the sum.
            fused = fuse(self.fusion, self._state.base, parts)
        except FusionError as failure:
            return None, str(failure).rstrip(".")
        if self._accountant:
            self._record["privacy"] = {}
            self._record["privacy"] = spent = self._accountant.spent([*self._state.records, self._record])
            log(INFO, "Privacy spent by the contributor of the most rounds: ε = %(epsilon)g at δ = %(delta)g.", spent)
        return fused, ""

    def _next_base(self, fused: EncoderDict) -> tuple[EncoderDict | None, str]:
        """Make the step: the next base, or None and why the base is kept."""
        with np.errstate(over="ignore", invalid="ignore"):
            following, state = self.server_optimizer(self._state.base, fused, self._state.optimizer_state)
        for name, array in [*following.items(), *state.items()]:
            if not finite(array):  # what the step remembers would spoil every base to come
                return None, f"the step '{self.server_optimizer}' makes '{name}' not finite"
        if self.rollback is not None and self.score_fn:
            before = self.score_fn(self._state.base) if self._score is None else self._score
            if before == -math.inf:
                raise RunError("the server's probe gives no number for the base, so nothing can be rolled back by it.")
            after = self.score_fn(following)
            self._record["server-validation"] = {"before": _number(before), "after": _number(after)}
            if after < before - self.rollback:
                self._record["rolled-back"] = True
                self._score = before
                return None, f"the server's probe fell from {before:.4g} to {after:.4g}"
            self._score = after
        self._state.optimizer_state = state
        self._record["update-norm"] = update_norm(self._state.base, following)
        return following, ""

    def _reject(self, server_round: int, rejection: Rejection) -> None:
        log(
            WARNING,
            "Round %d: the contribution of '%s' is rejected: %s.",
            server_round,
            rejection.name,
            rejection.reason,
        )
        entry = {"name": rejection.name, "reason": rejection.reason, "counts": rejection.counts, **rejection.facts}
        self._record["rejected"].append(entry)
        self._tell("rejected", round=server_round, name=rejection.name, reason=rejection.reason, came=rejection.came)

    # -- what is kept -----------------------------------------------------------------------------------------------

    def _shared(self, arrays: ArrayRecord) -> ArrayRecord:
        if self.is_shared is None:
            return arrays
        shared = ArrayRecord({name: array for name, array in arrays.items() if self.is_shared(name)})
        if not shared:
            raise SettingsError(f"shared_keys matches none of the arrays: {', '.join(list(arrays)[:5])}, ...")
        return shared

    def _keep_round(self, server_round: int, arrays: ArrayRecord) -> None:
        """Make a round durable, once; round 0 is the base that the run begins with."""
        if self._state.keep(server_round, arrays, self._record):
            self._record = {}

    def _settings(self) -> dict[str, Any]:
        """What a round's base depends on, for its record."""
        return {
            "fusion": str(self.fusion),
            "server-optimizer": str(self.server_optimizer),
            "ema": self.ema,
            "screening": [str(rule) for rule in self.screening],
            "exclude": sorted(self.exclude),
            "max-rejections": self.max_rejections,
            "rollback": self.rollback,
            "seed": self.seed,
            "contributors-per-round": self.contributors_per_round,
            "min-contributions": self.min_contributions,
            "compression": self.compression,
            "staleness-discount": self.staleness_discount,
        }

    def _tell(self, kind: str, /, **facts: Any) -> None:
        if self.ledger:
            self.ledger.event(kind, **facts)

    # -- how the bases are judged -----------------------------------------------------------------------------------

    def _is_end(self, server_round: int) -> bool:
        return server_round in (0, self._last_round)

    def _is_judged(self, server_round: int) -> bool:
        if self.evaluate_every < 1:
            return self.evaluate_every == 0 and self._is_end(server_round)
        return self._is_end(server_round) or server_round % self.evaluate_every == 0

    def _unjudged(self, server_round: int) -> bool:
        """Whether a run that goes on was stopped before its last base was judged."""
        if not self.ledger or not self._is_judged(server_round):
            return False
        return not self.ledger.has_scores(server_round)

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
            metrics = self.aggregate_evaluate(server_round, exchange_messages(grid, messages, self._timeout))
            self._tell("evaluated", round=server_round)
            if metrics is not None:
                log(INFO, "\t└──> Scores of base %d: %s", server_round, metrics)
                result.evaluate_metrics_clientapp[server_round] = metrics
        if evaluate_fn and (central := evaluate_fn(server_round, arrays)) is not None:
            result.evaluate_metrics_serverapp[server_round] = central

    def _unscored(self, server_round: int, name: str, reason: str) -> None:
        log(WARNING, "'%s' could not evaluate the base of round %d: %s", name, server_round, reason)
        self._tell("unscored", round=server_round, name=name, reason=reason)

    def _message(
        self, arrays: ArrayRecord, config: ConfigRecord, server_round: int, node_id: int, message_type: str
    ) -> Message:
        told = ConfigRecord({**config, "server-round": server_round, "seed": self.seed})
        # Where a wrapper runs the rounds it works on the arrays that come back: packed ones would mean nothing to it.
        if message_type == MessageType.TRAIN and self.compression != "float32" and self._last_round:
            told["compression"] = self.compression
        content = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: told})
        return Message(content, dst_node_id=node_id, message_type=message_type)


def _number(score: float) -> float | None:
    """For a record in JSON, which knows no infinity."""
    return score if math.isfinite(score) else None
