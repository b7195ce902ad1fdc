"""Tries everything that a member needs, before it joins."""

import resource
import socket
import ssl
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.engines.deployment.certificates import read_private_key
from coldfusion_fl.engines.deployment.federation import split_address
from coldfusion_fl.engines.deployment.member.settings import Member, read_member
from coldfusion_fl.errors import ColdFusionError, DeploymentError, first_line
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

_TIMEOUT = 10.0
_GIB = 1 << 30
# Beside what this process takes with a training step: the SuperNode's copies of the base and of the contribution.
_COPIES = 4


@dataclass(frozen=True)
class Finding:
    """What one of the checks found.

    Attributes:
        what: what was tried.
        is_well: whether it is as it must be.
        told: what was found; where it is not well, what to do.
    """

    what: str
    is_well: bool
    told: str


def check_member(folder: Path) -> Iterator[Finding]:
    """Try all that a member needs, one after the other.

    Yields:
        What was found. What makes the rest senseless ends it.
    """
    try:
        member = read_member(folder)
    except ColdFusionError as wrong:
        yield Finding("settings", False, str(wrong))
        return
    yield Finding("settings", True, f"{member.name}, task '{member.task}', server {member.server}")
    task: Task | None = None
    try:
        task = load_task(member.task, member.catalogue, member.data_root)
        yield Finding("data", True, _rows(task))
        yield Finding("labels", *_labels(task))
    except ColdFusionError as wrong:
        yield Finding("data", False, str(wrong))
    yield from _model(member, task)
    yield from _server(member)


def _rows(task: Task) -> str:
    counts = (
        f"{len(rows):,} {name}"
        for name, rows in (("training", task.train), ("development", task.validation), ("test", task.test))
    )
    return f"{', '.join(counts)} rows"


def _labels(task: Task) -> tuple[bool, str]:
    if not task.classes:
        return True, "numbers"
    counts = Counter(int(label) for label in task.train.labels)
    missing = [name for number, name in enumerate(task.classes) if not counts[number]]
    if missing:
        return False, f"no training row is labelled {', '.join(missing)}: leave the class out, or add rows."
    rarest = min(counts, key=counts.__getitem__)
    return (
        True,
        f"{len(task.classes)} classes; the rarest, '{task.classes[rarest]}', has {counts[rarest]:,} training rows",
    )


def _model(member: Member, task: Task | None) -> Iterator[Finding]:
    from coldfusion_fl.config.settings import FinetuneSettings
    from coldfusion_fl.model.base import open_base
    from coldfusion_fl.model.encoder import build_model, load_encoder
    from coldfusion_fl.training.finetune import finetune

    try:
        base = open_base(member.base)
        encoder = load_encoder(base)
    except ColdFusionError as wrong:
        yield Finding("base", False, str(wrong))
        return
    size = sum(array.nbytes for array in encoder.values())
    yield Finding("base", True, f"{member.base}, {size / 1e6:,.0f} MB of encoder")
    if task is None:
        return
    settings = FinetuneSettings(epochs=1, dev_examples=0)
    rows = task.train.draw(settings.batch_size, [0])
    began = time.monotonic()
    try:
        finetune(
            build_model(base, task.num_labels, base.choose_head("auto"), 0), base.tokenizer, task, rows, settings, 0
        )
    except (MemoryError, RuntimeError) as failure:
        yield Finding("training", False, f"one step of {settings.batch_size} texts fails: {first_line(failure)}")
        return
    needed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + _COPIES * size
    free = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    told = (
        f"one step of {settings.batch_size} texts of at most {settings.max_length} tokens took "
        f"{time.monotonic() - began:.1f} s; about {needed / _GIB:.1f} GiB are needed, {free / _GIB:.1f} are free"
    )
    yield Finding(
        "training", needed < free, told if needed < free else f"{told}. Free some, or join from a larger machine."
    )


def _server(member: Member) -> Iterator[Finding]:
    host, port = split_address(member.server)
    trusted = member.authority or "this machine"
    try:
        context = ssl.create_default_context(cafile=member.authority or None)
    except (OSError, ssl.SSLError) as wrong:
        yield Finding("certificate", False, f"{trusted} is no authority's certificate: {first_line(wrong)}")
        return
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as wrong:
        told = (
            f"{member.server}'s certificate is not accepted: {wrong.verify_message}. Is {trusted} what vouches for it?"
        )
        yield Finding("certificate", False, told)
        return
    except ssl.SSLError as wrong:
        yield Finding("server", False, f"{member.server} does not speak TLS: {first_line(wrong)}")
        return
    except OSError as failure:
        told = (
            f"{member.server} cannot be reached: {first_line(failure)}. Is the server running, and does a firewall "
            "stand between?"
        )
        yield Finding("server", False, told)
        return
    yield Finding("server", True, f"{member.server} answers, with a certificate that {trusted} vouches for")
    yield from _key(member)


def _key(member: Member) -> Iterator[Finding]:
    """Whether the server knows this member's key, and speaks our versions.

    The question has an interval that no node may have: the server looks the key up before it rejects that, and nothing
    changes there; an own node that runs meanwhile is not disturbed.
    """
    try:
        key = read_private_key(Path(member.key))
    except DeploymentError as wrong:
        yield Finding("key", False, str(wrong))
        return
    if Path(member.key).stat().st_mode & stat.S_IROTH:
        yield Finding("key file", False, f"everyone on this machine can read {member.key}: chmod 600 {member.key}")
    public = key.public_key()
    client = FleetHttpClient.from_server_address(
        member.server,
        insecure=False,
        root_certificates=member.authority or None,
        interceptors=[NodeAuthHttpInterceptor(key, public)],
    )
    answer: httpx.Response | None = None
    try:
        client.ActivateNode(ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=0.0))
    except httpx.HTTPStatusError as rejected:
        answer = rejected.response
    except httpx.HTTPError as failure:
        yield Finding("key", False, f"the server gave no answer: {first_line(failure)}")
        return
    finally:
        client.close()
    told = FlowerError.from_json(answer.text) if answer is not None else None
    code = told.code if told else None
    if answer is None or code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        yield Finding("key", True, f"the server knows {member.key}")
    elif code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        yield Finding(
            "key",
            False,
            f"the server does not know {member.key}. Give its public key to whoever runs the server: "
            "coldfusion federation add FOLDER NAME --public-key FILE",
        )
    elif answer.status_code == httpx.codes.UNAUTHORIZED:
        yield Finding("key", False, "the server does not accept the signature. Is this machine's clock right?")
    else:
        yield Finding(
            "key", False, f"the server answers {answer.status_code}: {told.message if told else answer.text[:200]}"
        )
    if answer is not None:
        yield _versions(answer.headers.get(VERSIONS_HEADER))


def _versions(theirs: str | None) -> Finding:
    ours = format_versions()
    if theirs is None:
        return Finding("versions", True, f"here {ours}; the server does not say its own")
    if theirs != ours:
        return Finding("versions", False, f"here {ours}; the server has {theirs}. Install what the server has.")
    return Finding("versions", True, ours)
