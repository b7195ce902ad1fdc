"""Certificates that expire: warnings in time, and afterwards plain words on both sides."""

import datetime
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509

from coldfusion_fl.engines.deployment.certificates import read_certificates
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.errors import DeploymentError, ErrorCode, count

_WARNING_DAYS = 30
_DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Validity:
    """The time in which a certificate is valid.

    Attributes:
        name: the certificate in messages, such as `the server's certificate`.
        begins: from then on it is valid.
        ends: until then it is valid.
    """

    name: str
    begins: datetime.datetime
    ends: datetime.datetime

    @classmethod
    def of(cls, name: str, certificate: x509.Certificate) -> Self:
        """The validity of a certificate."""
        return cls(name, certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    def problem(self) -> str:
        """Why the certificate is not valid now, with the time of this machine, which may be wrong; empty: it is."""
        now = _now()
        if now >= self.ends:
            return f"{self.name} expired on {format_time(self.ends)}. {clock()}"
        if now < self.begins:
            return f"{self.name} is not valid before {format_time(self.begins)}. {clock()}"
        return ""

    def days_left(self) -> int:
        """The number of whole days until the certificate expires; negative: it has expired."""
        return (self.ends - _now()).days

    def warning(self) -> str:
        """A clause that the certificate expires within 30 days; empty: it does not, or has expired already."""
        if not 0 <= self.days_left() < _WARNING_DAYS:
            return ""
        return f"{self.name} expires on {format_time(self.ends)}, in {count(self.days_left(), 'day')}"


def server_validities(federation: Federation) -> list[Validity]:
    """The validity of the server's certificate, and of the authority's that signed it if that is in `ca.crt`.

    Raises:
        DeploymentError: a file cannot be read, or is not a certificate.
    """
    certificate = read_certificates(federation.server / "server.crt")[0]
    server = Validity.of(f"the server's certificate {federation.server / 'server.crt'}", certificate)
    return [server, *authority_validity(certificate, federation.authority)]


def authority_validity(certificate: x509.Certificate, authority: Path) -> list[Validity]:
    """The validity of the authority that signed a certificate; empty: the file of authorities does not have it.

    Raises:
        DeploymentError: the file cannot be read, or is not a certificate.
    """
    issuers = [found for found in read_certificates(authority) if found.subject == certificate.issuer]
    validities = [Validity.of(f"the authority's certificate {authority}", issuer) for issuer in issuers]
    return sorted(validities, key=lambda validity: validity.ends)[-1:]


def ensure_valid(federation: Federation) -> None:
    """Check that the server's certificate and its authority's are valid now.

    Raises:
        DeploymentError: one of them is not; the message says how to replace it.
    """
    problems = [found for validity in server_validities(federation) if (found := validity.problem())]
    if problems:
        raise DeploymentError(f"{' '.join(problems)} {_renewal(federation)}", code=ErrorCode.CERTIFICATE_EXPIRED)


def expiry_warnings(federation: Federation) -> list[str]:
    """Sentences about the certificates of a server that expire within 30 days, have expired, or cannot be read."""
    try:
        validities = server_validities(federation)
    except DeploymentError as error:
        return [str(error)]
    found = []
    for validity in validities:
        if problem := validity.problem() or validity.warning():
            found.append(f"{problem.removesuffix('.')}. {_renewal(federation)}")
    return found


def _renewal(federation: Federation) -> str:
    return (
        f"Renew the server's certificate: coldfusion federation renew {federation.folder}, then restart the server. "
        f"With certificates of your own, replace server.crt and server.key in {federation.server}. For an authority, "
        "see the page 'Keys and certificates'."
    )


class Daily:
    """Logs the lines of a function when it is first updated, and once a day.

    Args:
        find: returns the lines.
        log: called with each line.
    """

    def __init__(self, find: Callable[[], Iterable[str]], log: Callable[[str], None]) -> None:
        self._find = find
        self._log = log
        self._next = 0.0

    def update(self) -> None:
        """Log the lines if a day has passed. It may be called often."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _DAY
            for line in self._find():
                self._log(line)


def clock() -> str:
    """A sentence with the time of this machine."""
    return f"The clock of this machine says {format_time(_now())}."


def format_time(moment: datetime.datetime) -> str:
    """A time in the time zone of this machine."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
