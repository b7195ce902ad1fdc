"""A run's status in Prometheus' text format, for the textfile collector of its node exporter.

Names follow https://prometheus.io/docs/practices/naming. The label `run` is the run folder. Names of members come from
other parties; the library escapes them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coldfusion_fl.config.settings import MODES
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.online_status import add_online_status
from coldfusion_fl.engines.deployment.operations.expiry import server_validities
from coldfusion_fl.engines.deployment.superlink.database import database_size
from coldfusion_fl.errors import DeploymentError
from coldfusion_fl.runs.integrity.reading import read_consistently
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.runs.state import Phase
from coldfusion_fl.runs.status import ACTIVITIES, LOST, RunStatus


@dataclass(frozen=True)
class ServerFacts:
    """What is known of a federation's server.

    Attributes:
        name: the federation's name.
        is_up: whether the server answers.
        certificate_expiry: when its certificate expires, in seconds since 1970.
        database_bytes: the size of its database.
        authority_expiry: when the certificate of the authority that signed it expires; None: unknown.
    """

    name: str
    is_up: bool
    certificate_expiry: float
    database_bytes: int
    authority_expiry: float | None = None


def run_metrics(status: RunStatus, ledger: Ledger, federation: Federation | None = None) -> str:
    """Format the status of a run. That the federation's server does not answer is a value, and no error.

    Args:
        status: the run's status; whether members are online is added.
        ledger: the run folder.
        federation: the run's federation; None: no metrics of the server or of who is online.

    Returns:
        Lines in Prometheus' text format.

    Raises:
        DeploymentError: the server's certificate cannot be read.
    """
    server = None
    if federation:
        is_up = True
        try:
            add_online_status(status, federation)
        except DeploymentError:
            is_up = False
        expires, *authority = [validity.ends.timestamp() for validity in server_validities(federation)]
        server = ServerFacts(federation.name, is_up, expires, database_size(federation.database), *authority)
    records, scores = read_consistently(ledger, lambda: _records_and_scores(ledger))
    return format_metrics(status, records, scores, server)


def _records_and_scores(ledger: Ledger) -> tuple[list[RoundRecord], dict[str, dict[str, Any]]]:
    """The records of all rounds, and the newest scores, by member."""
    records = ledger.records()
    scored = (ledger.load_scores(record.round) for record in reversed(records))
    return records, next(filter(None, scored), {})


def format_metrics(
    status: RunStatus,
    records: Sequence[RoundRecord],
    scores: Mapping[str, Mapping[str, Any]],
    server: ServerFacts | None = None,
) -> str:
    """Format the status of a run.

    Args:
        status: the run's status.
        records: the records of its rounds, in order.
        scores: the newest scores, by member.
        server: the server of its federation; None: not asked for.

    Returns:
        Lines in Prometheus' text format.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([*_run(status, records), *_members(status, records, scores), *_server(server)]))
    return generate_latest(registry).decode()


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _run(status: RunStatus, records: Sequence[RoundRecord]) -> Iterator[Metric]:
    run = [status.folder]
    states = GaugeMetricFamily(
        "coldfusion_run_state", "1 for the state of the run, 0 for all others.", labels=("run", "state")
    )
    for state in (*get_args(Phase), LOST):
        states.add_metric([*run, state], state == status.state)
    yield states
    numbers: list[tuple[str, str, float | None]] = [
        ("round", "The last saved round.", status.round),
        ("rounds_planned", "The number of rounds that the run is to have.", status.rounds),
        ("size_bytes", "The size of the run folder.", status.bytes),
        ("disk_free_bytes", "The free space on the disk of the run folder.", status.free_bytes),
    ]
    if records:
        last = records[-1]
        fused = len(last.contributions) if last.fused else 0
        numbers += [
            ("last_round_timestamp_seconds", "When the last round was saved.", last.ended),
            ("last_round_fused_contributions", "Contributions in the last round; 0: it kept its base.", fused),
        ]
    for name, text, value in numbers:
        if value is not None:
            yield _gauge(f"coldfusion_run_{name}", text, [(run, value)], ("run",))
    restarts = CounterMetricFamily(
        "coldfusion_run_restarts", "How often the run was lost and started again.", labels=("run",)
    )
    restarts.add_metric(run, status.lost)
    yield restarts


def _members(
    status: RunStatus, records: Sequence[RoundRecord], scores: Mapping[str, Mapping[str, Any]]
) -> Iterator[Metric]:
    run, labels, members = status.folder, ("run", "member"), status.members
    for name, text, counts in (
        ("fused", "Rounds in which a contribution of the member was fused.", [member.fused for member in members]),
        ("rejections", "Rejected or missing contributions of the member.", [member.rejected for member in members]),
    ):
        counter = CounterMetricFamily(f"coldfusion_member_{name}", text, labels=labels)
        for member, number in zip(members, counts, strict=True):
            counter.add_metric([run, member.name], number)
        yield counter
    yield _gauge(
        "coldfusion_member_activity",
        "1 for what the member does, 0 for all else.",
        [([run, member.name, name], name == member.activity) for member in members for name in ACTIVITIES],
        (*labels, "activity"),
    )
    heard = [([run, member.name], member.last_heard) for member in members if member.last_heard is not None]
    yield _gauge("coldfusion_member_last_heard_timestamp_seconds", "When something last arrived.", heard, labels)
    online = [([run, member.name], member.online) for member in members if member.online is not None]
    yield _gauge("coldfusion_member_online", "Whether the member is connected.", online, labels)
    losses = {
        name: facts.reported["loss"]
        for record in records
        for name, facts in record.contributions.items()
        if "loss" in facts.reported
    }
    reported = [([run, name], loss) for name, loss in losses.items()]
    yield _gauge("coldfusion_member_training_loss", "The loss that the member last reported.", reported, labels)
    values = [
        ([run, name, kind], value)
        for name, found in scores.items()
        for kind, value in found.items()
        if kind in MODES and isinstance(value, float)  # a member may report any names, and many of them
    ]
    yield _gauge("coldfusion_member_score", "The newest scores, in points.", values, (*labels, "kind"))


def _server(server: ServerFacts | None) -> Iterator[Metric]:
    if server:
        labels = ("federation",)
        yield _gauge("coldfusion_server_up", "Whether the server answers.", [([server.name], server.is_up)], labels)
        yield _gauge(
            "coldfusion_server_certificate_expiry_timestamp_seconds",
            "When the server's certificate expires.",
            [([server.name], server.certificate_expiry)],
            labels,
        )
        yield _gauge(
            "coldfusion_authority_certificate_expiry_timestamp_seconds",
            "When the certificate of the authority expires that signed the server's.",
            [([server.name], server.authority_expiry)] if server.authority_expiry is not None else [],
            labels,
        )
        yield _gauge(
            "coldfusion_server_database_size_bytes",
            "The size of the server's database.",
            [([server.name], server.database_bytes)],
            labels,
        )


def _gauge(
    name: str, text: str, samples: Iterable[tuple[list[str], float]], labels: tuple[str, ...]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        gauge.add_metric(values, number)
    return gauge
