"""What the strategy does around its configure hooks, also around those that a subclass overrides.

A subclass may build messages of its own without a call of `super()`, or change those of `super()`, as subclasses of
FedAvg do. The strategy needs to know the base and the messages all the same: replies are compared with the base, and
belong to the nodes that were sent messages.
"""

import functools
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from coldfusion_fl.runs.events import EvaluationStarted

from .rounds.evaluation import EvaluationState
from .rounds.round_state import RoundState, SentMessages

if TYPE_CHECKING:
    from .cold_fusion import ColDFusion

_Hook = Callable[["ColDFusion", int, ArrayRecord, ConfigRecord, Grid], Iterable[Message]]
_OBSERVED: "weakref.WeakSet[_Hook]" = weakref.WeakSet()


def observe_hooks(strategy_class: "type[ColDFusion]") -> None:
    """Give a class configure hooks that take the steps around its own too.

    Its own may be defined in the class, or inherited from another one that is no strategy (a mixin).
    """
    for name, observed in (("configure_train", _observed_train), ("configure_evaluate", _observed_evaluate)):
        hook = getattr(strategy_class, name)
        if hook not in _OBSERVED:
            setattr(strategy_class, name, observed(hook))
            _OBSERVED.add(getattr(strategy_class, name))


def _observed_train(hook: _Hook) -> _Hook:
    @functools.wraps(hook)
    def configure_train(
        self: "ColDFusion", server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if "train" in self.running_hooks:  # a call of `super()`
            return hook(self, server_round, arrays, config, grid)
        _begin_round(self, server_round, arrays, grid)
        messages = _run(self, "train", lambda: hook(self, server_round, arrays, config, grid))
        self.round.note_sent(SentMessages.of(messages, self.registry.name_of))
        return messages

    return configure_train


def _observed_evaluate(hook: _Hook) -> _Hook:
    @functools.wraps(hook)
    def configure_evaluate(
        self: "ColDFusion", server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if "evaluate" in self.running_hooks:
            return hook(self, server_round, arrays, config, grid)
        # Not in aggregate_train: a wrapper, such as one for differential privacy, may have changed the arrays since.
        self.save_round(arrays)
        self.evaluation, self.grid = EvaluationState(server_round, emit=self.emit), grid
        messages = _run(self, "evaluate", lambda: hook(self, server_round, arrays, config, grid))
        self.evaluation.sent = SentMessages.of(messages, self.registry.name_of)
        if messages:
            self.emit(EvaluationStarted(round=server_round, names=sorted(self.evaluation.sent.by_name)))
        return messages

    return configure_evaluate


def _begin_round(strategy: "ColDFusion", server_round: int, arrays: ArrayRecord, grid: Grid) -> None:
    """Save the round before, whose base the arrays are, and begin a round."""
    last = strategy.state.last_saved
    # In Flower's own loop, for the first time: attributes may have been set since the constructor. Or for a second one.
    if last is None or (last >= server_round and not strategy.ledger):
        strategy.begin_run()
    strategy.save_round(arrays)
    strategy.round, strategy.grid = RoundState.start(server_round, strategy.emit), grid


def _run(strategy: "ColDFusion", name: str, hook: Callable[[], Iterable[Message]]) -> list[Message]:
    strategy.running_hooks.add(name)
    try:
        return list(hook())
    finally:
        strategy.running_hooks.discard(name)
