"""The loop over the rounds of a run."""

from collections.abc import Callable
from contextlib import ExitStack
from logging import INFO
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from coldfusion_fl.run.events import EvaluationFinished

from .nodes.array_records import move_to_record
from .nodes.messaging import exchange_messages

if TYPE_CHECKING:
    from .cold_fusion import ColDFusion

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


class RunLoop:
    """Runs a strategy round by round, and resumes a run that its ledger holds.

    Unlike Flower's own loop, this one takes each reply when it arrives, evaluates the first base too, and has each
    round saved before the next begins.

    Args:
        strategy: the strategy.
        grid: Flower's grid.
        num_rounds: the last round.
        timeout: the seconds for each round's training, and for each evaluation.
        train_config: goes to the contributors.
        evaluate_config: goes to the nodes that evaluate.
        evaluate_fn: the server's own evaluation, by round and arrays of the base (not of the `result`); None: there is
            none.
    """

    def __init__(
        self,
        strategy: "ColDFusion",
        grid: Grid,
        num_rounds: int,
        timeout: float,
        train_config: ConfigRecord | None,
        evaluate_config: ConfigRecord | None,
        evaluate_fn: EvaluateFn | None,
    ) -> None:
        self._strategy = strategy
        self._grid = grid
        self._num_rounds = num_rounds
        self._timeout = timeout
        self._train_config = train_config or ConfigRecord()
        self._evaluate_config = evaluate_config or ConfigRecord()
        self._evaluate_fn = evaluate_fn

    def run(self, initial_arrays: ArrayRecord) -> Result:
        """Run all rounds that are not saved yet.

        Raises:
            RunError: too few contributors are connected when the wait is over.
            RunFolderError: the ledger's run began from other arrays, is damaged, or its disk is full.
        """
        ledger, state = self._strategy.ledger, self._strategy.state
        with ExitStack() as stack:
            if ledger:
                stack.enter_context(ledger.lock())
            last_round = state.resume(initial_arrays)
            if ledger:  # only now: a rejected resume leaves the state of the run as it was
                stack.enter_context(ledger.track_state())
            if last_round is None:
                return self._run_from(0, initial_arrays)
            log(INFO, "Resuming after round %d.", last_round)
            return self._run_from(last_round, move_to_record(dict(state.base)))

    def _run_from(self, last_round: int, arrays: ArrayRecord) -> Result:
        """Run the rounds after one whose base is given. That base is evaluated first, unless it was before."""
        strategy = self._strategy
        strategy.save_round(arrays)
        # The nodes are waited for here, before the first evaluation, which may not be due.
        strategy.participants.connected(self._grid, self._num_rounds)
        result = Result(arrays=arrays)
        if not (strategy.ledger and strategy.ledger.has_scores(last_round)):
            self._evaluate(last_round, result)
        for server_round in range(last_round + 1, self._num_rounds + 1):
            log(INFO, "[ROUND %s/%s]", server_round, self._num_rounds)
            self._train(server_round, result)
            self._evaluate(server_round, result)
        return result

    def _train(self, server_round: int, result: Result) -> None:
        messages = self._strategy.configure_train(server_round, result.arrays, self._train_config, self._grid)
        replies = exchange_messages(self._grid, messages, self._timeout, in_order=True)
        arrays, metrics = self._strategy.aggregate_train(server_round, replies)
        if arrays is not None:
            result.arrays = arrays
        if metrics is not None:
            result.train_metrics_clientapp[server_round] = metrics

    def _evaluate(self, server_round: int, result: Result) -> None:
        strategy = self._strategy
        messages = list(strategy.configure_evaluate(server_round, result.arrays, self._evaluate_config, self._grid))
        if messages:
            replies = exchange_messages(self._grid, messages, self._timeout)
            metrics = strategy.aggregate_evaluate(server_round, replies)
            strategy.emit(EvaluationFinished(round=server_round))
            if metrics is not None:
                log(INFO, "\t└──> Scores after round %d: %s", server_round, metrics)
                result.evaluate_metrics_clientapp[server_round] = metrics
        if self._evaluate_fn and (central := self._evaluate_fn(server_round, result.arrays)) is not None:
            result.evaluate_metrics_serverapp[server_round] = central
