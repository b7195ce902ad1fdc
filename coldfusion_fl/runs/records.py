"""What is recorded of a round: typed, written as `record.json`.

Keys in the file have dashes. A key whose value is None is left out.
"""

import math
import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from coldfusion_fl.config.tables import dashed
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.sanitize import short_report, short_text

# A metric is a number, or a list of numbers; None: not a finite number.
MetricValue = int | float | list[int | float | None] | None
# What nodes said: bounded where it is recorded, and where it is read, because an older release may have written it.
ReportedText = Annotated[str, AfterValidator(short_text)]
# JSON has no NaN: a loss that is none is written as null.
MeasuredNumber = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
ReportedNumbers = Annotated[dict[str, float], BeforeValidator(short_report)]


class Recorded(BaseModel):
    """Base of everything that is written as JSON with dashed keys."""

    model_config = ConfigDict(alias_generator=dashed, populate_by_name=True, extra="forbid", validate_assignment=True)

    def to_json(self) -> dict[str, Any]:
        """Nested tables for JSON, with dashed keys and without None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class UpdateFacts(Recorded):
    """What is known of a contribution that could be read.

    Attributes:
        norm: ‖θ_c − θ‖₂ over all floating-point arrays.
        cosine: of its update to the mean direction of the other updates; None: there are no others, or no direction.
        sha256: of its arrays.
        reported: the numbers that the contributor reported.
        staleness: rounds between the base that it was trained on and this one; None: it arrived in its own round.
        bytes: the size of its arrays as they were received, compressed if `compression` is set; None: unknown.
    """

    norm: float
    cosine: float | None = None
    sha256: str = ""
    reported: ReportedNumbers = Field(default_factory=dict)
    staleness: int | None = None
    bytes: int | None = None


class ContributionRecord(UpdateFacts):
    """A contribution that passed the screening.

    Attributes:
        share: the factor of its update in the round's fused update, before the server optimizer. Shares add up to 1 for
            a mean; less where updates were clipped, or scaled down because they were late. None: the fusion has no such
            factor, such as `ties` and `median`, or nothing was fused.
    """

    share: float | None = None


class RejectionRecord(Recorded):
    """A contribution that was not fused.

    Attributes:
        name: the contributor.
        reason: a clause that says why.
        counts_toward_exclusion: whether the rejection counts toward `max-rejections`: what arrived could not be fused,
            whatever the others sent. A rejection by a screening rule does not count.
        received: whether anything arrived.
        timed_out: whether the contributor did not answer in time, so that it is sampled less for a while.
        facts: what is known of the contribution; None: it could not be read, or nothing arrived.
    """

    name: str
    reason: ReportedText
    counts_toward_exclusion: bool = False
    received: bool = True
    timed_out: bool = False
    facts: UpdateFacts | None = None


class CheckpointRecord(Recorded):
    """Where a contribution of `coldfusion fuse` comes from.

    Attributes:
        reference: the checkpoint as the user wrote it.
        revision: the commit of a checkpoint of the Hub; empty: it is a folder.
        licence: of the checkpoint; empty: it is not known.
        weight: the relative weight that it was given.
        warnings: about the checkpoint, as sentences.
    """

    reference: str
    revision: str = ""
    licence: str = ""
    weight: float = 1.0
    warnings: list[str] = Field(default_factory=list)


class PrivacySpent(Recorded):
    """The privacy loss of the contributor that took part in the most rounds, or may have: some have no names.

    Attributes:
        epsilon: ε of (ε, δ)-differential privacy.
        delta: δ.
        rounds: the number of its rounds.
    """

    epsilon: float
    delta: float
    rounds: int


class ValidationScores(Recorded):
    """The server's validation scores of a base and of its successor; None: not a finite number."""

    before: float | None = None
    after: float | None = None


class RoundSettings(Recorded):
    """The settings that the base of a round depends on."""

    fusion: str
    server_optimizer: str
    ema: float
    screening: list[str]
    exclude: list[str]
    max_rejections: int
    rollback: float | None = None
    seed: int
    contributors_per_round: int
    fraction_train: float | None = None
    min_contributions: int
    compression: str
    staleness_discount: float


class RoundRecord(Recorded):
    """What happened in a round. Round 0 is the base that the run began with: nobody is sampled in it.

    Attributes:
        round: its number.
        began: when its contributors were sampled, in seconds since 1970; None: round 0.
        sampled: the names of the contributors that were sent the base, sorted.
        excluded: contributors that are connected and take no part, with the reason: their rejections, the setting
            `exclude`, or a problem that keeps a node out, such as another base than that of the run.
        missing: contributors that took part before, or are expected, and are not connected.
        paused: contributors that are connected and were not sampled, because they had not answered in time; with the
            last round of the pause.
        contributions: those that passed the screening, by contributor.
        rejected: the others.
        checkpoints: where the contributions come from, by contributor, if `coldfusion fuse` added the round; None: the
            contributors trained in it.
        fused: whether the round made a new base.
        metrics: what the strategy returned for the round's training; None: not a finite number.
        trained: when the last contribution was received.
        kept_because: why the round kept its base.
        privacy: the privacy loss so far, where the fusion is private.
        server_validation: the scores that the server compared, where it did.
        rolled_back: whether the base was kept because of these scores.
        update_norm: ‖θ' − θ‖₂ between this base and the one before.
        ended: when the round was saved.
        settings: what the base depends on.
        base_sha256: the hash of the base's arrays.
        previous_record_sha256: the hash of the record of the round before, so that the rounds are a chain.
        versions: of this software and its dependencies.
        files: the hashes of the round's arrays on disk, by file name.
    """

    round: int
    began: float | None = None
    sampled: list[str] = Field(default_factory=list)
    excluded: dict[str, ReportedText] = Field(default_factory=dict)
    missing: list[str] = Field(default_factory=list)
    paused: dict[str, int] = Field(default_factory=dict)
    contributions: dict[str, ContributionRecord] = Field(default_factory=dict)
    rejected: list[RejectionRecord] = Field(default_factory=list)
    checkpoints: dict[str, CheckpointRecord] | None = None
    fused: bool = False
    trained: float | None = None
    metrics: dict[str, MetricValue] = Field(default_factory=dict)
    kept_because: str | None = None
    privacy: PrivacySpent | None = None
    server_validation: ValidationScores | None = None
    rolled_back: bool = False
    update_norm: float | None = None
    ended: float = Field(default_factory=time.time)
    settings: RoundSettings | None = None
    base_sha256: str = ""
    previous_record_sha256: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)


def parse_record(table: Mapping[str, Any], source: str) -> RoundRecord:
    """Make a record of what `record.json` holds.

    Args:
        table: nested tables with dashed keys.
        source: the file, for the error message.

    Raises:
        RunFolderError: a key is missing or unknown, or a value has another type.
    """
    try:
        return RoundRecord.model_validate(table)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunFolderError(
            f"{source}: not a valid round record, at '{where}': {first['msg']}.", ErrorCode.RUN_FOLDER_DAMAGED
        ) from None
