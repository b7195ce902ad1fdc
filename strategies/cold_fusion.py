"""The ColD Fusion strategy (Don-Yehiya et al., ACL 2023, https://aclanthology.org/2023.acl-long.46)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from logging import INFO
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from coldfusion_fl.aggregation.screening import Rule, ScoreFunction, as_score_function
from coldfusion_fl.aggregation.server_optimizer import ServerOptimizer
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.message_keys import COMPRESSION, MODES
from coldfusion_fl.fusion import Operator
from coldfusion_fl.repository.aggregator import Aggregator
from coldfusion_fl.runs.events import ContributorExcluded, Event
from coldfusion_fl.runs.records import RoundRecord

from .arguments import as_filter, read_arguments
from .hooks import observe_hooks
from .loop import EvaluateFn, RunLoop
from .nodes import Member, MessageBuilder, Participants, longest_training_first, new_registry, sample, select_shared
from .rounds import (
    ContributionCollector,
    EvaluationSchedule,
    EvaluationState,
    MetricsFn,
    RoundState,
    StrategyState,
    aggregate,
    privacy_accounting,
    weighted_metrics,
)  # fmt: skip
from .run_log import log_settings, log_start

if TYPE_CHECKING:
    from coldfusion_fl.runs.ledger import Ledger


class ColDFusion(FedAvg):
    """ColD Fusion: contributors finetune the shared base, and the uniform mean of their encoders is the next base.

    θ' = (1/|C|) Σ_c θ_c over the valid contributions of a round. A contribution that does not fit the base (an extra or
    missing name, another shape or dtype, a value that is not finite), an error and a missing answer are rejected, and
    recorded by the contributor's name; they never end the run. Replies are taken one at a time and put on disk, so that
    memory does not grow with them, and fused in sorted order of names, so that the order of arrival leaves no trace.

    The arguments of FedAvg have FedAvg's meaning, apart from their defaults; a subclass overrides the same hooks. What
    this strategy adds to the messages of a project has the prefix "coldfusion.".

    Parameters
    ----------
    fraction_train : Optional[float] (default: None)
        Fraction of the nodes that train in a round. None: `contributors_per_round` nodes do.
    fraction_evaluate : float (default: 1.0)
        Fraction of the nodes that evaluate a base. Below 1, the first base is not evaluated; 0: none is.
    min_train_nodes : Optional[int] (default: None)
        Minimum number of nodes that train in a round. None: 2 with `fraction_train`, else no minimum.
    min_evaluate_nodes : int (default: 2)
        Minimum number of nodes that evaluate a base, if `fraction_evaluate` is below 1.
    min_available_nodes : int (default: 2)
        Nodes to wait for before the first round.
    weighted_by_key : str (default: "num-examples")
        Key of the weight in the metrics of a reply, for the means of metrics and the fusion "weighted-mean".
    arrayrecord_key : str (default: "arrays")
        Key of the ArrayRecord in messages. A reply with one ArrayRecord may have another key. A Fisher diagonal is
        expected in a record of the key "fisher".
    configrecord_key : str (default: "config")
        Key of the ConfigRecord in messages.
    train_metrics_aggr_fn : Optional[Callable[[list[RecordDict], str], MetricRecord]] (default: None)
        Aggregates the metrics of the fused replies, whose records it gets without the arrays. None: the weighted mean.
    evaluate_metrics_aggr_fn : Optional[Callable[[list[RecordDict], str], MetricRecord]] (default: None)
        The same for the replies of an evaluation.
    contributors_per_round : int (default: 8)
        Contributors sampled each round, by (seed, round, sorted names of those that can be sampled) alone. Contributors
        that did not answer in time pause for 1, 2, 4, up to 16 rounds.
    min_contributions : Optional[int] (default: None)
        With fewer valid contributions a round keeps its base. None: 2, or 1 if `min_train_nodes` is 1.
    node_timeout : float (default: 3600)
        Seconds to wait for nodes; then the run begins with those that are connected.
    seed : int (default: 0)
        Seed of the sampling. It also goes to the nodes, as `coldfusion.seed` in their configuration.
    evaluate_every : int (default: 1)
        Rounds between evaluations; the first and the last base are always evaluated. 0: only these two; -1: none.
    fusion : Union[str, Operator] (default: "mean")
        How contributions are fused: an operator of `coldfusion_fl.fusion`, or its text, such as "ties(density=0.2)".
    server_optimizer : Union[str, ServerOptimizer] (default: "plain")
        How the next base follows: an optimizer of `coldfusion_fl.aggregation.server_optimizer`, or its text.
    ema : float (default: 0.0)
        Decay of an exponential moving average of the bases, which is then the `result`; 0: the last base is.
    blend : float (default: 1.0)
        Weight of the moving average in the `result`; the rest is the first base.
    screening : Union[str, Sequence[Union[str, Rule]]] (default: "")
        Rules that contributions must pass, or their text, such as "size(factor=5), direction".
    exclude : Collection[str] (default: ())
        Names of contributors that are never sampled.
    compression : str (default: "float32")
        How contributions are sent: "float32", exactly; "bfloat16", "float16" or "int8", as differences from the base.
        Inside Flower's wrappers it is always float32; Flower's client mods that change arrays need that too.
    staleness_discount : float (default: 0.0)
        Factor on the update of a late contribution for each round that it is late; needs a ledger. 0: it is rejected.
    max_rejections : int (default: 3)
        Stop sampling a contributor after this many contributions that could not be fused, whatever the others sent;
        rejections by a screening rule do not count. 0: no limit.
    score_fn : Optional[Callable[[Mapping[str, NDArray]], float]] (default: None)
        The server's own validation score of an encoder, more is better; for the rule "greedy-soup" and for `rollback`.
    rollback : Optional[float] (default: None)
        A round keeps its base if the score of the next base is lower by more than this. None: never.
    shared_keys : Optional[Union[str, Callable[[str], bool]]] (default: None)
        Which arrays are shared: shell patterns of names with commas between ("features.*, embedding"), or a function of
        a name. Others are not sent, stay as they are, and are dropped if they come back. None: all are shared.
    ledger : Optional[Ledger] (default: None)
        The opened run folder that every round is saved in; a run that it holds is resumed. None: nothing is saved.
    keep_last : int (default: 0)
        The ledger keeps the arrays of this many rounds, and all records. 0: all arrays.
    contributor_names : str (default: "none")
        Where the names of contributors come from. "none": they are called node-ID. "query": from a query to each node,
        which the clients answer (@app.query). "metrics": from `name` in a ConfigRecord, or `partition-id` in the
        MetricRecord, of their train replies.
    node_names : Optional[Callable[[], Mapping[int, str]]] (default: None)
        Returns the names that the server knows nodes by, by node ID. Nodes are then queried, and others are excluded.
    awaited_names : Collection[str] (default: ())
        Names of nodes to wait for before the first round; a missing one is recorded.

    Raises
    ------
    SettingsError
        A component is unknown, a value is out of range, or two arguments contradict each other.
    """  # noqa: D416  (the docstring has the style of Flower's)

    def __init__(
        self,
        fraction_train: float | None = None,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int | None = None,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = "num-examples",
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        train_metrics_aggr_fn: MetricsFn | None = None,
        evaluate_metrics_aggr_fn: MetricsFn | None = None,
        contributors_per_round: int = 8,
        min_contributions: int | None = None,
        node_timeout: float = 3600,
        seed: int = 0,
        evaluate_every: int = 1,
        fusion: str | Operator = "mean",
        server_optimizer: str | ServerOptimizer = "plain",
        ema: float = 0.0,
        blend: float = 1.0,
        screening: str | Sequence[str | Rule] = "",
        exclude: Collection[str] = (),
        compression: str = "float32",
        staleness_discount: float = 0.0,
        max_rejections: int = 3,
        score_fn: ScoreFunction | None = None,
        rollback: float | None = None,
        shared_keys: str | Callable[[str], bool] | None = None,
        ledger: "Ledger | None" = None,
        keep_last: int = 0,
        contributor_names: str = "none",
        node_names: Callable[[], Mapping[int, str]] | None = None,
        awaited_names: Collection[str] = (),
    ) -> None:
        arguments = dict(locals())  # the first statement: these are the arguments
        self.pipeline, self.settings = read_arguments(arguments)
        super().__init__(
            1.0 if fraction_train is None else fraction_train, fraction_evaluate,
            (2 if fraction_train else 0) if min_train_nodes is None else min_train_nodes, min_evaluate_nodes,
            min_available_nodes, weighted_by_key, arrayrecord_key, configrecord_key,
            train_metrics_aggr_fn or weighted_metrics, evaluate_metrics_aggr_fn or weighted_metrics,
        )  # fmt: skip
        self.ledger = ledger
        self.is_shared = as_filter(shared_keys)
        self.running_hooks: set[str] = set()
        self.known_members: Collection[Member] = ()  # nodes whose names are known, and which are not queried
        self._arguments = SimpleNamespace(**arguments)
        self.begin_run()

    def begin_run(self) -> None:
        """Make all that changes during a run, so that a strategy that is used twice starts afresh."""
        given, keys = self._arguments, (self.arrayrecord_key, self.configrecord_key)
        self.messages = MessageBuilder(*keys, given.seed)
        self.state = StrategyState(
            self.ledger, given.keep_last, given.ema, given.blend, self.settings, self.is_shared
        )  # fmt: skip
        self.score_fn = as_score_function(given.score_fn, self.state.complete)
        self.registry = new_registry(
            given.contributor_names, self.configrecord_key, given.node_names,
            lambda name, reason, received: self.emit(ContributorExcluded(name=name, reason=reason, received=received)),
        )  # fmt: skip
        self.registry.admit(self.known_members)
        self.participants = Participants(
            self.registry, max(self.min_available_nodes, self.min_train_nodes), given.awaited_names,
            given.node_timeout, self.settings.min_contributions, given.max_rejections, given.exclude, self.emit,
        )  # fmt: skip
        self.collector = ContributionCollector(
            self.state, self.pipeline.fusion, self.is_shared, keys,
            given.staleness_discount, self.registry, learns_names=given.contributor_names == "metrics",
        )  # fmt: skip
        self.aggregator = Aggregator(
            self.state, self.pipeline, self.settings.min_contributions, self.score_fn, given.rollback,
            privacy_accounting(self.pipeline.fusion),
        )  # fmt: skip
        # What Flower's own loop and its wrappers need; `start` changes it. They do not say how many rounds there are,
        # and a wrapper may work on the arrays that come back, so that these must not be compressed.
        self.schedule = EvaluationSchedule(given.evaluate_every, has_first=self.fraction_evaluate == 1)
        self.compression = "float32"
        self.timeout: float | None = 3600.0
        self.round = RoundState(RoundRecord(round=0))
        self.evaluation = EvaluationState(0)
        self._can_evaluate = self.fraction_evaluate > 0
        self.grid: Grid | None = None

    def __init_subclass__(cls) -> None:
        """Observe the configure hooks of a subclass, which may build messages of its own: see `hooks`."""
        super().__init_subclass__()
        observe_hooks(cls)

    @property
    def result(self) -> Encoder:
        """What the run delivers if it ends now, arrays by name: the last base, or the average where `ema` is set.

        The arrays are copies, because PyTorch warns of arrays that are read-only.
        """
        return {name: np.array(array) for name, array in self.state.result.items()}

    def summary(self) -> None:
        """Log summary configuration of the strategy."""
        log_settings(self)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float | None = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
        should_stop: Callable[..., bool] | None = None,
    ) -> Result:
        """Run ColD Fusion for `num_rounds` rounds, or resume up to that round where the ledger holds rounds already.

        The parameters are those of `Strategy.start`. See `loop.RunLoop` for the differences from Flower's own loop.

        Raises:
            RunError: fewer contributors than `min_contributions` are connected when the wait is over.
            RunFolderError: the ledger's run began from other arrays, is damaged, or its disk is full.
        """
        self.begin_run()
        log_start(self, num_rounds, select_shared(initial_arrays, self.is_shared), train_config, evaluate_config)
        self.timeout, self.compression = timeout, self.settings.compression
        self.registry.begin(timeout, train_config or {})
        self.schedule = replace(self.schedule, num_rounds=num_rounds)
        loop = RunLoop(self, grid, num_rounds, timeout, train_config, evaluate_config, evaluate_fn, should_stop)
        return loop.run(initial_arrays)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample contributors and send each the base."""
        if self.fraction_train == 0:
            return []
        rounds = self.schedule.num_rounds
        pool = self.participants.pool(server_round, grid, self.state.records, rounds, self.min_train_nodes)
        self.round.note_pool(pool)
        names = self.sample(pool.names, server_round)
        log(INFO, "configure_train: Sampled %s nodes (out of %s)", len(names), len(pool.members))
        nodes = [pool.members[name].node_id for name in longest_training_first(names, self.state.records)]
        extras = {COMPRESSION: self.compression} if self.compression != "float32" else {}
        shared = select_shared(arrays, self.is_shared)
        return self.messages.build(MessageType.TRAIN, server_round, shared, {**config, **extras}, nodes)

    def sample(self, names: Sequence[str], server_round: int) -> list[str]:
        """The contributors of a round, sorted by name; a subclass may choose others among `names`."""
        # The attribute is FedAvg's, and a subclass may set it; without a fraction it is 1.
        is_number = self._arguments.fraction_train is None and self.fraction_train == 1
        number = self.settings.contributors_per_round if is_number else int(len(names) * self.fraction_train)
        return sample(names, max(number, self.min_train_nodes), self.settings.seed, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Collect, screen and fuse the contributions, and apply the server optimizer. None: the base is kept."""
        with closing(ArrayFile(self.ledger.folder if self.ledger else None)) as array_file:
            candidates = self.collector.collect(self.round, replies, array_file, self.timeout)
            if self.grid:
                self.collector.collect_late(self.round, self.grid, array_file, candidates, self.timeout)
            base = self.aggregator.next_base(self.round, candidates)
        metrics = self.round.metrics(self.train_metrics_aggr_fn, self.weighted_by_key)
        return None if base is None else self.state.to_record(base), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the `result` so far to the nodes, if it is to be evaluated."""
        if not self._can_evaluate or not self.schedule.is_due(server_round):
            return []
        if self.state.average:  # then the result is another encoder than the base
            arrays = self.state.to_record(self.state.result)
        shared = select_shared(arrays, self.is_shared)
        members = self.participants.connected(grid, self.schedule.num_rounds)
        names = sorted(members.keys() - self.participants.excluded(self.state.records).keys())
        if self.fraction_evaluate < 1:
            number = max(int(len(names) * self.fraction_evaluate), self.min_evaluate_nodes)
            names = sample(names, number, self.settings.seed, server_round)
        log(INFO, "configure_evaluate: Sampled %s nodes (out of %s)", len(names), len(members))
        messages: list[Message] = []
        for name in names:
            extended = {**config, MODES: self.schedule.modes(server_round, members[name].seen)}
            node = members[name].node_id
            messages += self.messages.build(MessageType.EVALUATE, server_round, shared, extended, [node])
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Collect the scores by contributor, and aggregate them."""
        found = self.evaluation
        self._can_evaluate &= found.collect(replies, self.registry.name_of, self.configrecord_key, self.timeout)
        if self.ledger and found.scores:
            self.ledger.save_scores(server_round, dict(sorted(found.scores.items())))
        contents = [content for _, content in sorted(found.contents.items())]
        return aggregate(self.evaluate_metrics_aggr_fn, contents, self.weighted_by_key)

    def save_round(self, arrays: ArrayRecord) -> None:
        """Save the current round with the base that it ended with, unless it is saved."""
        self.state.save_round(arrays, self.round.record)

    def emit(self, event: Event) -> None:
        """Add an event to the ledger, where there is one."""
        if self.ledger:
            self.ledger.emit(event)


observe_hooks(ColDFusion)
