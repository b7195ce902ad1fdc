"""The ColD Fusion strategy (Don-Yehiya et al., ACL 2023, https://aclanthology.org/2023.acl-long.46)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from logging import INFO
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from coldfusion_fl.aggregation.screening import Rule, ScoreFunction
from coldfusion_fl.aggregation.server_optimizer import ServerOptimizer
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.fusion import Operator
from coldfusion_fl.run.events import ContributorExcluded, EvaluationStarted, Event
from coldfusion_fl.run.records import RoundRecord

from .arguments import as_filter, as_score_function, read_arguments
from .loop import EvaluateFn, RunLoop
from .nodes import (
    MessageBuilder,
    NodeRegistry,
    Participants,
    longest_training_first,
    move_to_record,
    sample,
    select_shared,
)  # fmt: skip
from .rounds import Aggregator, ContributionCollector, EvaluationSchedule, EvaluationState, RoundState, ServerState

if TYPE_CHECKING:
    from coldfusion_fl.run.ledger import Ledger


class ColDFusion(Strategy):
    """ColD Fusion: contributors finetune the shared base, and the uniform mean of their encoders is the next base.

    θ' = (1/|C|) Σ_c θ_c over the valid contributions of a round. A contribution that does not fit the base (an extra or
    missing name, another shape or dtype, a value that is not finite), an error and a missing answer are rejected, and
    recorded by the contributor's name; they never end the run. Replies are taken one at a time and put on disk, so that
    memory does not grow with them, and fused in sorted order of names, so that the order of arrival leaves no trace.

    Parameters
    ----------
    contributors_per_round : int (default: 8)
        Contributors sampled each round, by (seed, round, sorted names) alone.
    min_contributions : int (default: 2)
        With fewer valid contributions a round keeps its base.
    min_available_nodes : int (default: 2)
        Nodes to wait for before the first round.
    node_timeout : float (default: 3600)
        Seconds to wait for them; then the run begins with those that are connected.
    seed : int (default: 0)
        Seed of the sampling. It also goes to the contributors, as `seed` in their configuration.
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
        Stop sampling a contributor after this many rejected contributions; 0: no limit.
    score_fn : Optional[Callable[[Mapping[str, NDArray]], float]] (default: None)
        The server's own validation score of an encoder, more is better; for the rule "greedy-soup" and for `rollback`.
    rollback : Optional[float] (default: None)
        A round keeps its base if the score of the next base is lower by more than this. None: never.
    shared_keys : Optional[Union[str, Callable[[str], bool]]] (default: None)
        Which arrays are shared: shell patterns of names with commas between ("features.*, embedding"), or a function of
        a name; others that come back are dropped. None: all are, and a contribution with others is rejected.
    arrayrecord_key : str (default: "arrays")
        Key of the ArrayRecord in messages. A Fisher diagonal is expected in a record of the key "fisher".
    configrecord_key : str (default: "config")
        Key of the ConfigRecord in messages.
    ledger : Optional[Ledger] (default: None)
        The opened run folder that every round is saved in; a run that it holds is resumed. None: nothing is saved.
    keep_last : int (default: 0)
        The ledger keeps the arrays of this many rounds, and all records. 0: all arrays.
    node_names : Optional[Callable[[], Mapping[int, str]]] (default: None)
        Returns the names of the nodes by node ID; others are excluded. None: nodes name themselves.
    awaited_names : Collection[str] (default: ())
        Names of nodes to wait for before the first round; a missing one is recorded.

    Raises
    ------
    SettingsError
        A component is unknown, a value is out of range, or two arguments contradict each other.
    """  # noqa: D416  (the docstring has the style of Flower's)

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
        blend: float = 1.0,
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
        self.pipeline, self.settings = read_arguments(locals())  # the first statement: these are the arguments
        self.ledger = ledger
        self.is_shared = as_filter(shared_keys)
        self.score_fn = as_score_function(score_fn)
        self.messages = MessageBuilder(arrayrecord_key, configrecord_key, seed)
        self.state = ServerState(ledger, keep_last, ema, blend, self.settings)
        registry = NodeRegistry(
            configrecord_key, node_names, lambda name, reason: self.emit(ContributorExcluded(name=name, reason=reason))
        )
        self.participants = Participants(
            registry, min_available_nodes, awaited_names, node_timeout, min_contributions, max_rejections, exclude,
            self.emit,
        )  # fmt: skip
        self.collector = ContributionCollector(
            self.state, self.pipeline.fusion, self.is_shared, (arrayrecord_key, configrecord_key), staleness_discount,
            registry.name_of,
        )  # fmt: skip
        self.aggregator = Aggregator(self.state, self.pipeline, min_contributions, self.score_fn, rollback)
        # What Flower's own loop and its wrappers need; `start` changes it. They do not say how many rounds there are,
        # and a wrapper may work on the arrays that come back, so that these must not be compressed.
        self.schedule = EvaluationSchedule(evaluate_every)
        self.compression = "float32"
        self.timeout = 3600.0
        self._round = RoundState(RoundRecord(round=0))
        self._evaluation = EvaluationState(0)
        self._grid: Grid | None = None

    @property
    def result(self) -> Encoder:
        """What the run delivers if it ends now, arrays by name: the last base, or the average where `ema` is set."""
        return self.state.result

    def summary(self) -> None:
        """Log summary configuration of the strategy."""
        for name, value in self.settings.to_json().items():
            log(INFO, "\t├──> %s: %s", name, value)
        log(INFO, "\t├──> ArrayRecord key: '%s'", self.messages.arrayrecord_key)
        log(INFO, "\t└──> ConfigRecord key: '%s'", self.messages.configrecord_key)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run ColD Fusion for `num_rounds` rounds, or resume up to that round where the ledger holds rounds already.

        The parameters are those of `Strategy.start`. See `loop.RunLoop` for the differences from Flower's own loop.

        Raises:
            RunError: fewer contributors than `min_contributions` are connected when the wait is over.
            RunFolderError: the ledger's run began from other arrays, is damaged, or its disk is full.
        """
        log(INFO, "Starting %s strategy:", type(self).__name__)
        self.summary()
        self.timeout, self.compression = timeout, self.settings.compression
        self.schedule = EvaluationSchedule(self.schedule.every, num_rounds)
        loop = RunLoop(self, grid, num_rounds, timeout, train_config, evaluate_config, evaluate_fn)
        return loop.run(select_shared(initial_arrays, self.is_shared))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample contributors and send each the base."""
        arrays = self.save_round(arrays)
        pool = self.participants.pool(grid, self.state.records, self.schedule.num_rounds)
        names = self.sample(pool.names, server_round)
        self._round, self._grid = RoundState.start(server_round, names, pool, self.emit), grid
        nodes = {name: pool.members[name].node_id for name in longest_training_first(names, self.state.records)}
        extras = {"compression": self.compression} if self.compression != "float32" else {}
        self._round.sent = self.messages.build(MessageType.TRAIN, server_round, arrays, {**config, **extras}, nodes)
        return list(self._round.sent.values())

    def sample(self, names: Sequence[str], server_round: int) -> list[str]:
        """The contributors of a round, sorted by name; a subclass may choose others among `names`."""
        return sample(names, self.settings.contributors_per_round, self.settings.seed, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Collect, screen and fuse the contributions, and apply the server optimizer. None: the base is kept."""
        with closing(ArrayFile(self.ledger.folder if self.ledger else None)) as array_file:
            candidates = self.collector.collect(self._round, replies, array_file, self.timeout)
            if self._grid:
                self.collector.collect_late(self._round, self._grid, array_file, candidates)
            base = self.aggregator.next_base(self._round, candidates)
        return None if base is None else move_to_record(base), self._round.metrics()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Save the round, and send the `result` so far to every node if it is to be evaluated."""
        # Not in aggregate_train: a wrapper, such as one for differential privacy, may have changed the arrays since.
        arrays = self.save_round(arrays)
        self._evaluation = EvaluationState(server_round, emit=self.emit)
        if self.schedule.is_due(server_round):
            if (result := self.result) is not self.state.base:
                arrays = move_to_record(dict(result))
            members = self.participants.connected(grid, self.schedule.num_rounds)
            self.emit(EvaluationStarted(round=server_round, names=sorted(members)))
            for name, member in sorted(members.items()):
                extended = {**config, "modes": self.schedule.modes(server_round, member.seen)}
                node = {name: member.node_id}
                self._evaluation.sent |= self.messages.build(MessageType.EVALUATE, server_round, arrays, extended, node)
        return list(self._evaluation.sent.values())

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Collect the scores by contributor; the mean of each kind of score is returned."""
        self._evaluation.collect(replies, self.messages.configrecord_key, self.timeout)
        if self.ledger and self._evaluation.scores:
            self.ledger.save_scores(server_round, dict(sorted(self._evaluation.scores.items())))
        return self._evaluation.means()

    def save_round(self, arrays: ArrayRecord) -> ArrayRecord:
        """Save the current round with the base that it ended with, unless it is saved; returns the shared arrays."""
        shared = select_shared(arrays, self.is_shared)
        self.state.save_round(shared, self._round.record)
        return shared

    def emit(self, event: Event) -> None:
        """Add an event to the ledger, where there is one."""
        if self.ledger:
            self.ledger.emit(event)
