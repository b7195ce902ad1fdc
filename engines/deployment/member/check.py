"""Checks everything that a member needs, before it joins."""

import socket
import ssl
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from coldfusion_fl.arrays.encoder import size_in_bytes
from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.engines.deployment.certificates import read_private_key
from coldfusion_fl.engines.deployment.federation import split_address
from coldfusion_fl.engines.deployment.member.settings import Member, read_member
from coldfusion_fl.engines.flower_internals import (
    ApiErrorCode,
    FleetHttpClient,
    FlowerError,
    NodeAuthHttpInterceptor,
    fleet_pb2,
    public_key_to_bytes,
)
from coldfusion_fl.errors import ColdFusionError, DeploymentError, first_line
from coldfusion_fl.preflight.resources import available_memory
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

_TIMEOUT = 10.0
_GIB = 1 << 30
# The SuperNode holds copies of the base and of the contribution, beside the memory of the training.
_COPIES = 4


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the name of the check.
        passed: whether it passed.
        details: the facts; if it did not pass, also what to do.
    """

    check: str
    passed: bool
    details: str


def check_member(folder: Path) -> Iterator[Finding]:
    """Run all checks.

    Args:
        folder: the member's folder.

    Yields:
        The result of each check. Checks that depend on a failed one are left out.
    """
    try:
        member = read_member(folder)
    except ColdFusionError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, f"{member.name}, task '{member.task}', server {member.server}")
    task: Task | None = None
    try:
        task = load_task(member.task, member.catalogue, member.data_root)
        yield Finding("data", True, "; ".join([_count_rows(task), *task.report.lines(brief=True)]))
        yield _check_labels(task)
    except ColdFusionError as error:
        yield Finding("data", False, str(error))
    # Without rows the base can still be checked, and the server without either.
    yield from _check_model(member, task)
    yield from _check_server(member)


def _count_rows(task: Task) -> str:
    counts = (
        f"{len(rows):,} {name}"
        for name, rows in (("training", task.train), ("development", task.validation), ("test", task.test))
    )
    return f"{', '.join(counts)} rows"


def _check_labels(task: Task) -> Finding:
    if not task.classes:
        return Finding("labels", True, "numbers")
    counts = Counter(int(label) for label in task.train.labels)
    missing = [name for number, name in enumerate(task.classes) if not counts[number]]
    if missing:
        return Finding(
            "labels", False, f"no training row is labelled {', '.join(missing)}: remove the class, or add rows."
        )
    rarest = min(counts, key=counts.__getitem__)
    return Finding(
        "labels",
        True,
        f"{len(task.classes)} classes; the rarest, '{task.classes[rarest]}', has {counts[rarest]:,} training rows",
    )


def _check_model(member: Member, task: Task | None) -> Iterator[Finding]:
    from coldfusion_fl.config.settings import FinetuneSettings
    from coldfusion_fl.model.base import open_base
    from coldfusion_fl.model.encoder import load_encoder
    from coldfusion_fl.preflight.task_check import TaskChecker, peak_memory

    # The settings of a run come from the server. With its defaults, this member needs what most runs need.
    settings = FinetuneSettings()
    try:
        base = open_base(member.base)
        encoder = load_encoder(base)
    except ColdFusionError as error:
        yield Finding("base", False, str(error))
        return
    size = size_in_bytes(encoder)
    yield Finding("base", True, "; ".join([f"{member.base}, an encoder of {size / 1e6:,.0f} MB", *base.notes]))
    if task is None:
        return
    try:
        done = TaskChecker(base, encoder, settings).check(task)
    except ColdFusionError as error:
        yield Finding("training", False, str(error))
        return
    needed = peak_memory() + _COPIES * size
    free = available_memory() + psutil.Process().memory_info().rss
    details = (
        f"a step and a score with {done.rows} texts of at most {done.longest} tokens took {done.seconds:.1f} s. "
        f"Training needs about {needed / _GIB:.1f} GiB of memory, and {free / _GIB:.1f} GiB are free"
    )
    if needed >= free:
        details += ". Free some memory, or join from a larger machine."
    yield Finding("training", needed < free, "; ".join([details, *done.notes]))


def _check_server(member: Member) -> Iterator[Finding]:
    connection = check_connection(member)
    yield connection
    if connection.passed:
        yield from _check_key(member)


def check_connection(member: Member) -> Finding:
    """Check that the server can be reached, and that its certificate is trusted. Only a handshake is made."""
    host, port = split_address(member.server)
    trusted = f"the authority in {member.authority}" if member.authority else "an authority that this machine trusts"
    try:
        context = ssl.create_default_context(cafile=member.authority or None)
    except (OSError, ssl.SSLError) as error:
        authority = member.authority or "of this machine"
        return Finding("certificate", False, f"cannot load the CA certificate {authority}: {first_line(error)}")
    # The failures are distinguished, because each has another remedy.
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        details = (
            f"the certificate of {member.server} was rejected: {error.verify_message}. It must be signed by {trusted}."
        )
        return Finding("certificate", False, details)
    except ssl.SSLError as error:
        details = f"the TLS handshake with {member.server} failed: {first_line(error)}. Check the address and the port."
        return Finding("server", False, details)
    except OSError as error:
        details = (
            f"{member.server} cannot be reached: {first_line(error)}. Is the server running, and does a firewall block "
            "the connection?"
        )
        return Finding("server", False, details)
    return Finding("server", True, f"{member.server} responds, and its certificate is signed by {trusted}")


def _check_key(member: Member) -> Iterator[Finding]:
    """Check that the server knows this member's key and has the same versions.

    The request asks for a heartbeat interval of zero, which is not allowed. The server looks up the key before it
    rejects the interval, so the response tells whether the key is known, and nothing changes at the server: a SuperNode
    of this member that is running is not disturbed.
    """
    try:
        key = read_private_key(Path(member.key))
    except DeploymentError as error:
        yield Finding("key", False, str(error))
        return
    if Path(member.key).stat().st_mode & stat.S_IROTH:
        yield Finding(
            "key file", False, f"other users of this machine can read {member.key}. Run: chmod 600 {member.key}"
        )
    public = key.public_key()
    client = FleetHttpClient.from_server_address(
        member.server,
        insecure=False,
        root_certificates=member.authority or None,
        interceptors=[NodeAuthHttpInterceptor(key, public)],
    )
    answer: httpx.Response | None = None
    try:
        client.ActivateNode(
            fleet_pb2.ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=0.0)
        )
    except httpx.HTTPStatusError as rejected:
        answer = rejected.response
    except httpx.HTTPError as error:
        yield Finding("key", False, f"the server did not answer: {first_line(error)}")
        return
    finally:
        client.close()
    # The expected answer is the rejected interval. All others tell what is wrong with the key.
    flower_error = FlowerError.from_json(answer.text) if answer is not None else None
    code = flower_error.code if flower_error else None
    if answer is None or code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        yield Finding("key", True, f"the server knows {member.key}")
    elif code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        yield Finding(
            "key",
            False,
            f"the server does not recognize the key {member.key}. Send its public key to the server's administrator, "
            "who adds it: coldfusion federation add FOLDER NAME --public-key FILE",
        )
    elif answer.status_code == httpx.codes.UNAUTHORIZED:
        yield Finding("key", False, "the server does not accept the signature. Is this machine's clock right?")
    else:
        message = flower_error.message if flower_error else answer.text[:200]
        yield Finding("key", False, f"the server answers {answer.status_code}: {message}")
    if answer is not None:
        yield _check_versions(answer.headers.get(VERSIONS_HEADER))


def _check_versions(theirs: str | None) -> Finding:
    ours = format_versions()
    if theirs is None:
        return Finding("versions", True, f"here {ours}; the server does not send its versions")
    if theirs != ours:
        return Finding("versions", False, f"here {ours}; the server has {theirs}. Install the server's versions.")
    return Finding("versions", True, ours)
