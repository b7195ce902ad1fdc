"""The events of a run, one class a kind. A run folder has them in `progress.jsonl`, one line an event.

A line is a JSON object in UTF-8 and ends with a line break. Its `kind` names the class, and the class has the other
keys. `RunStarted` → `NodesConnected` → for each round `RoundStarted`, `TrainingStep`, `ContributionReceived` or
`ContributionRejected`, `RoundFused` or `BaseKept` → for each evaluation `EvaluationStarted`, `ScoresReused`,
`ScoreReceived` or `ScoreFailed`, `EvaluationFinished` → `RunFinished` or `RunFailed`. A run that resumes adds its
events to the file, and repeats those of the round that was interrupted.

The format is stable. `RunStarted.format` is its version. Within one version:

- No kind and no key is removed or renamed, and the type and the meaning of a key stay the same.
- New kinds and new keys may be added. A reader ignores the kinds and the keys that it does not know.
- A key with a default may be missing: a file may be older than the key.

The reader of this package, `progress.ProgressLog`, follows these rules. It reads files of older and newer releases, and
rejects a file whose format has a higher version.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from coldfusion_fl.runs.events.evaluation import (
    EvaluationFinished,
    EvaluationStarted,
    ScoreFailed,
    ScoreReceived,
    ScoresReused,
)
from coldfusion_fl.runs.events.nodes import ContributorExcluded, NodesConnected, WaitingForNodes, WorkerReplaced
from coldfusion_fl.runs.events.rounds import (
    BaseKept,
    ContributionReceived,
    ContributionRejected,
    RoundFused,
    RoundStarted,
    RoundUndone,
    TrainingStep,
)
from coldfusion_fl.runs.events.run import (
    FORMAT,
    RunFailed,
    RunFinished,
    RunLost,
    RunStarted,
    ServerReachable,
    ServerUnreachable,
    TrackerFailed,
)

__all__ = [
    "FORMAT",
    "BaseKept",
    "ContributionReceived",
    "ContributionRejected",
    "ContributorExcluded",
    "Emit",
    "EvaluationFinished",
    "EvaluationStarted",
    "Event",
    "NodesConnected",
    "RoundFused",
    "RoundStarted",
    "RoundUndone",
    "RunFailed",
    "RunFinished",
    "RunLost",
    "RunStarted",
    "ScoreFailed",
    "ScoreReceived",
    "ScoresReused",
    "ServerReachable",
    "ServerUnreachable",
    "TrackerFailed",
    "TrainingStep",
    "WaitingForNodes",
    "WorkerReplaced",
]

Event = Annotated[
    RunStarted | WaitingForNodes | NodesConnected | RoundStarted | TrainingStep | ContributionReceived
    | ContributionRejected | ContributorExcluded | WorkerReplaced | RoundFused | BaseKept | RoundUndone
    | EvaluationStarted | ScoresReused | ScoreReceived | ScoreFailed | EvaluationFinished | ServerUnreachable
    | ServerReachable | TrackerFailed | RunLost | RunFinished | RunFailed,
    Field(discriminator="kind"),
]  # fmt: skip

Emit = Callable[[Event], None]
