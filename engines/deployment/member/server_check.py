"""What a member asks the server without disturbing it: whether it answers, is trusted, and knows the member's key."""

import contextlib
import email.utils
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509

from coldfusion_fl.engines.deployment.certificates import check_key_file, read_private_key
from coldfusion_fl.engines.deployment.federation import split_address
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.engines.deployment.operations.expiry import Validity, authority_validity, clock, format_time
from coldfusion_fl.engines.flower_internals import (
    ApiErrorCode,
    FleetHttpClient,
    FlowerError,
    NodeAuthHttpInterceptor,
    fleet_pb2,
    public_key_to_bytes,
)
from coldfusion_fl.errors import DeploymentError, ErrorCode, first_line
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

_TIMEOUT = 10.0
# OpenSSL's codes of a certificate that is not yet valid, and of one that has expired.
_WRONG_TIME = (9, 10)


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the name of the check.
        passed: whether it passed.
        details: the facts; if it did not pass, also what to do.
        warning: it passed, but the details need attention.
        code: the reason why it did not pass, where a program needs to know it.
    """

    check: str
    passed: bool
    details: str
    warning: bool = False
    code: ErrorCode | None = None


def check_server(member: Member) -> Iterator[Finding]:
    """Check the connection to the server, and if there is one, the member's key and the versions."""
    connection = check_connection(member)
    yield connection
    if connection.passed:
        yield from check_key(member)


def check_connection(member: Member) -> Finding:
    """Check that the server can be reached, and that its certificate is trusted. Only a handshake is made."""
    host, port = split_address(member.server)
    trusted = f"the authority in {member.authority}" if member.authority else "an authority that this machine trusts"
    try:
        context = ssl.create_default_context(cafile=member.authority or None)
    except (OSError, ssl.SSLError) as error:
        authority = member.authority or "of this machine"
        details = f"cannot load the CA certificate {authority}: {first_line(error)}"
        return Finding("certificate", False, details, code=ErrorCode.CERTIFICATE_INVALID)
    # The failures are distinguished, because each has another remedy.
    try:
        certificate = _fetch_certificate(host, port, context)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _WRONG_TIME and (problem := _find_expired(member, host, port)):
            details = (
                f"{problem} If the clock is right, ask the server's administrator to renew the certificate: "
                "coldfusion federation renew FOLDER"
            )
            return Finding("certificate", False, details, code=ErrorCode.CERTIFICATE_EXPIRED)
        details = (
            f"the certificate of {member.server} was rejected: {error.verify_message}. It must be signed by {trusted}."
        )
        return Finding("certificate", False, details, code=ErrorCode.CERTIFICATE_INVALID)
    except ssl.SSLError as error:
        details = f"the TLS handshake with {member.server} failed: {first_line(error)}. Check the address and the port."
        return Finding("server", False, details, code=ErrorCode.SERVER_UNREACHABLE)
    except OSError as error:
        details = (
            f"{member.server} cannot be reached: {first_line(error)}. Is the server running, and does a firewall block "
            "the connection?"
        )
        return Finding("server", False, details, code=ErrorCode.SERVER_UNREACHABLE)
    warnings = [found for validity in _validities(member, certificate) if (found := validity.warning())]
    details = "; ".join([f"{member.server} responds, and its certificate is signed by {trusted}", *warnings])
    if warnings:
        details += ". Tell the server's administrator."
    return Finding("server", True, details, warning=bool(warnings))


def _fetch_certificate(host: str, port: int, context: ssl.SSLContext) -> x509.Certificate:
    """The certificate that the server presents in a handshake.

    Raises:
        OSError: there is no connection, or the context does not accept the certificate.
    """
    with (
        socket.create_connection((host, port), _TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        content = tls.getpeercert(binary_form=True)
    assert content  # a server without a certificate fails in the handshake
    return x509.load_der_x509_certificate(content)


def _validities(member: Member, certificate: x509.Certificate) -> list[Validity]:
    server = Validity.of(f"the certificate of {member.server}", certificate)
    return [server, *(authority_validity(certificate, Path(member.authority)) if member.authority else ())]


def _find_expired(member: Member, host: str, port: int) -> str:
    """Which certificate is not valid at this time, in sentences; empty: it cannot be found out."""
    # Nothing is sent over this connection, so the certificate need not be trusted to read its date.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        certificate = _fetch_certificate(host, port, context)
        return next((found for one in _validities(member, certificate) if (found := one.problem())), "")
    except (OSError, ValueError, DeploymentError):
        return ""


def check_key(member: Member) -> Iterator[Finding]:
    """Check that the server knows this member's key and has the same versions.

    The request asks for a heartbeat interval of zero, which is not allowed. The server looks up the key before it
    rejects the interval, so the response tells whether the key is known, and nothing changes at the server: a SuperNode
    of this member that is running is not disturbed.
    """
    try:
        key = read_private_key(Path(member.key))
    except DeploymentError as error:
        yield Finding("key", False, str(error), code=error.code)
        return
    try:
        if warning := check_key_file(Path(member.key)):
            yield Finding("key file", True, warning, warning=True)
    except DeploymentError as error:
        yield Finding("key file", False, str(error), code=error.code)
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
        details = f"the server did not answer: {first_line(error)}"
        yield Finding("key", False, details, code=ErrorCode.SERVER_UNREACHABLE)
        return
    finally:
        client.close()
    yield _judge_answer(member, answer)
    if answer is not None:
        yield _check_versions(answer.headers.get(VERSIONS_HEADER))


def _judge_answer(member: Member, answer: httpx.Response | None) -> Finding:
    """What the server's answer says about the member's key; None: the request was accepted."""
    # The expected answer is the rejected interval. All others tell what is wrong with the key.
    flower_error = FlowerError.from_json(answer.text) if answer is not None else None
    code = flower_error.code if flower_error else None
    if answer is None or code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        return Finding("key", True, f"the server knows {member.key}")
    if code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        details = (
            f"the server does not recognize the key {member.key}. Send its public key to the server's administrator, "
            "who adds it: coldfusion federation add FOLDER NAME --public-key FILE"
        )
        return Finding("key", False, details, code=ErrorCode.KEY_UNKNOWN)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        details = f"the server does not accept the signature. Is this machine's clock right? {clock()}"
        with contextlib.suppress(ValueError):  # there is no date, or another program has answered
            their_time = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
            details += f" The server's clock says {format_time(their_time)}."
        return Finding("key", False, details, code=ErrorCode.SERVER_REJECTED)
    message = flower_error.message if flower_error else answer.text[:200]
    status = answer.status_code
    busy = status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS
    return Finding(
        "key",
        False,
        f"the server answers {status}: {message}",
        code=ErrorCode.SERVER_UNREACHABLE if busy else ErrorCode.SERVER_REJECTED,
    )


def _check_versions(theirs: str | None) -> Finding:
    ours = format_versions()
    if theirs is None:
        return Finding("versions", True, f"here {ours}; the server does not send its versions")
    if theirs != ours:
        return Finding("versions", False, f"here {ours}; the server has {theirs}. Install the server's versions.")
    return Finding("versions", True, ours)
