"""The loop over the rounds of a run."""

import inspect
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from logging import INFO, WARNING
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from coldfusion_fl.runs.events import EvaluationFinished

from .nodes.messaging import exchange_messages
from .run_log import log_end, log_metrics, log_round, log_server_metrics
from .saved_metrics import metrics_for_json, restore_metrics

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
        timeout: the seconds for each round's training, and for each evaluation; None: no limit.
        train_config: goes to the contributors.
        evaluate_config: goes to the nodes that evaluate.
        evaluate_fn: the server's own evaluation, by round and arrays of the base (not of the `result`); None: there is
            none.
        should_stop: called after each round, with the round and the result so far, or with as many of the two as it
            takes; the run ends when it returns True. None: it ends after the last round.
    """

    def __init__(
        self,
        strategy: "ColDFusion",
        grid: Grid,
        num_rounds: int,
        timeout: float | None,
        train_config: ConfigRecord | None,
        evaluate_config: ConfigRecord | None,
        evaluate_fn: EvaluateFn | None,
        should_stop: Callable[..., bool] | None,
    ) -> None:
        self._strategy = strategy
        self._grid = grid
        self._num_rounds = num_rounds
        self._timeout = timeout
        self._train_config = train_config or ConfigRecord()
        self._evaluate_config = evaluate_config or ConfigRecord()
        self._evaluate_fn = evaluate_fn
        self._should_stop = should_stop

    def run(self, initial_arrays: ArrayRecord) -> Result:
        """Run all rounds that are not saved yet.

        Returns:
            The last base, and the metrics of all rounds, also of those before a resume.

        Raises:
            RunError: too few contributors are connected when the wait is over.
            RunFolderError: the ledger's run began from other arrays, is damaged, or its disk is full.
        """
        started = time.monotonic()
        ledger, state = self._strategy.ledger, self._strategy.state
        with ExitStack() as stack:
            if ledger:
                stack.enter_context(ledger.lock())
            last_round = state.resume(initial_arrays)
            if ledger:  # only now: a rejected resume leaves the state of the run as it was
                stack.enter_context(ledger.track_state())
            if last_round is None:
                result = self._run_from(0, Result(arrays=initial_arrays))
            else:
                self._log_resume(last_round)
                result = Result(arrays=state.to_record(state.base))
                if ledger:
                    restore_metrics(ledger, result)
                result = self._run_from(last_round, result)
        log_end(result, started)
        return result

    def _log_resume(self, last_round: int) -> None:
        if last_round < self._num_rounds:
            log(INFO, "Resuming after round %d.", last_round)
        else:
            log(
                WARNING,
                "The run has %d rounds already, and num_rounds is %d: no round is trained.",
                last_round,
                self._num_rounds,
            )

    def _run_from(self, last_round: int, result: Result) -> Result:
        """Run the rounds after one whose base is given. That base is evaluated first, unless it was before."""
        strategy = self._strategy
        strategy.save_round(result.arrays)
        # The nodes are waited for here, before the first evaluation, which may not be due.
        strategy.participants.connected(self._grid, self._num_rounds)
        ledger = strategy.ledger
        self._evaluate(last_round, result, is_evaluated=ledger is not None and ledger.is_evaluated(last_round))
        for server_round in range(last_round + 1, self._num_rounds + 1):
            log_round(server_round, self._num_rounds)
            self._train(server_round, result)
            self._evaluate(server_round, result)
            if self._should_stop and _call(self._should_stop, server_round, result):
                log(INFO, "The run ends after round %d, because should_stop returned True.", server_round)
                break
        return result

    def _train(self, server_round: int, result: Result) -> None:
        strategy = self._strategy
        messages = strategy.configure_train(server_round, result.arrays, self._train_config, self._grid)
        replies = self._replies(messages, "aggregate_train", in_order=True)
        if isinstance(replies, list):
            strategy.round.note_arrived(replies, strategy.registry.name_of)
        arrays, metrics = strategy.aggregate_train(server_round, replies)
        if arrays is not None:
            result.arrays = arrays
        if metrics is not None:
            log_metrics(metrics)
            result.train_metrics_clientapp[server_round] = metrics
            strategy.round.record.metrics = metrics_for_json(metrics)

    def _evaluate(self, server_round: int, result: Result, *, is_evaluated: bool = False) -> None:
        """Have the nodes and the server evaluate a base, unless they did before a resume."""
        strategy = self._strategy
        if not is_evaluated:
            hook = strategy.configure_evaluate
            messages = list(hook(server_round, result.arrays, self._evaluate_config, self._grid))
            if messages:
                metrics = strategy.aggregate_evaluate(server_round, self._replies(messages, "aggregate_evaluate"))
                strategy.emit(EvaluationFinished(round=server_round))
                if metrics is not None:
                    log_metrics(metrics)
                    result.evaluate_metrics_clientapp[server_round] = metrics
                self._save_metrics(server_round, result)
        if self._evaluate_fn and server_round not in result.evaluate_metrics_serverapp:
            central = self._evaluate_fn(server_round, result.arrays)
            log_server_metrics(server_round, central)
            if central is not None:
                result.evaluate_metrics_serverapp[server_round] = central
            self._save_metrics(server_round, result)

    def _save_metrics(self, server_round: int, result: Result) -> None:
        if self._strategy.ledger:
            self._strategy.ledger.save_metrics(
                server_round,
                metrics_for_json(result.evaluate_metrics_clientapp.get(server_round)),
                metrics_for_json(result.evaluate_metrics_serverapp.get(server_round)),
            )

    def _replies(self, messages: Iterable[Message], hook: str, *, in_order: bool = False) -> Iterable[Message]:
        """The replies as they arrive; as a list, where a subclass may look at them more than once."""
        replies = exchange_messages(self._grid, messages, self._timeout, in_order=in_order)
        return replies if _is_own(self._strategy, hook) else list(replies)


def _is_own(strategy: "ColDFusion", hook: str) -> bool:
    """Whether a hook of the strategy is the one of this package."""
    defining = next(kind for kind in type(strategy).__mro__ if hook in vars(kind))
    return defining.__module__ == f"{__package__}.cold_fusion" and hook not in vars(strategy)


def _call(should_stop: Callable[..., bool], server_round: int, result: Result) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = [parameter for parameter in inspect.signature(should_stop).parameters.values() if parameter.kind in kinds]
    return bool(should_stop(*(server_round, result)[: len(takes)]))
