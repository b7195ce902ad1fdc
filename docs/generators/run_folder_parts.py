"""What the JSON files of a run folder contain."""

from functools import partial

from field_tables import field_table

from coldfusion_fl.runs.records import CheckpointRecord, ContributionRecord, RejectionRecord, RoundRecord
from coldfusion_fl.runs.state import RunState

PARTS = {
    "keys of status.json": partial(field_table, RunState),
    "keys of record.json": partial(field_table, RoundRecord),
    "keys of a contribution": partial(field_table, ContributionRecord),
    "keys of a checkpoint": partial(field_table, CheckpointRecord),
    "keys of a rejection": partial(field_table, RejectionRecord),
}
