"""Whether the server admits a member: asked while its SuperNode runs, and each time the SuperNode has ended.

Flower's SuperNode ends in the same way, and with the same message, when its key was removed, was not added yet, or is
still counted as connected, and when the server's certificate has expired. Each of these needs something else.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from coldfusion_fl.atomic_files import write_json
from coldfusion_fl.engines.deployment.certificates import read_private_key
from coldfusion_fl.engines.deployment.member.server_check import Finding, check_server
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.engines.flower_internals import public_key_to_bytes
from coldfusion_fl.errors import DeploymentError, ErrorCode

_FILE = "admitted.json"
_DAY = 86_400.0  # seconds
_POLL_INTERVAL = 30.0
_RETRY_INTERVAL = 10.0
# A server with a new database answers for some seconds before it has registered its members again.
_CERTAIN_AFTER = 60.0
# The checks whose failure keeps a member out. One with another version is admitted, and excluded by the run.
_DECISIVE = ("server", "certificate", "key")


class MemberRemovedError(DeploymentError):
    """The server admitted this member before, and no longer does. To start again is of no use."""

    exit_code = 77  # EX_NOPERM of sysexits.h; the unit for systemd names it
    usual_code = ErrorCode.MEMBER_REMOVED


class AdmissionCheck:
    """Asks the server about a member, and logs each change of the answer once.

    Args:
        member: the member's settings.
        home: the folder of Flower's files, where it is kept that the server has admitted the member.
        log: called with each line.
    """

    def __init__(self, member: Member, home: Path, log: Callable[[str], None]) -> None:
        self._member = member
        self._file = home / _FILE
        self._log = log
        self._next = 0.0
        self._problem: ErrorCode | None = None

    def update(self) -> None:
        """Ask the server until it knows the member, and then once a day. It may be called often."""
        if time.monotonic() < self._next:
            return
        self._ask()

    def wait(self) -> None:
        """After the SuperNode has ended: wait while the server rejects this member, or cannot be trusted.

        Raises:
            MemberRemovedError: the server admitted the member before, and for a minute has not known its key.
        """
        unknown_since = None
        # A server that does not answer is no reason to wait here: the SuperNode tries to connect until it does.
        while not (finding := self._ask()).passed and finding.code != ErrorCode.SERVER_UNREACHABLE:
            if finding.code != ErrorCode.KEY_UNKNOWN or not self._was_admitted():
                unknown_since = None
            elif unknown_since is None:
                unknown_since = time.monotonic()
            elif time.monotonic() - unknown_since > _CERTAIN_AFTER:
                raise MemberRemovedError(
                    f"the server at {self._member.server} has removed '{self._member.name}': it admitted the key "
                    f"{self._member.key} before, and no longer does. Ask the server's administrator. A removed key is "
                    "never admitted again, so a member that returns needs a new one."
                )
            time.sleep(_RETRY_INTERVAL)

    def _ask(self) -> Finding:
        """Ask the server; returns what is wrong, or the finding about the connection if nothing is."""
        findings = list(check_server(self._member))
        wrong = [finding for finding in findings if not finding.passed and finding.check in _DECISIVE]
        if wrong:
            if wrong[0].code != self._problem:
                self._log(f"{wrong[0].details} This member keeps trying.")
            self._problem = wrong[0].code
            self._next = time.monotonic() + _POLL_INTERVAL
            return wrong[0]
        if self._problem:
            self._log(f"{self._member.server} answers, and knows this member's key.")
        self._problem = None
        self._next = time.monotonic() + _DAY
        if findings[0].warning:
            self._log(f"Warning: {findings[0].details}")
        for finding in findings:
            if finding.check == "versions" and not finding.passed:
                self._log(f"PROBLEM: {finding.details} Until then, each run excludes this member.")
        if not self._was_admitted():
            with contextlib.suppress(OSError):  # such as a full disk; it is tried again
                write_json(self._file, self._identity())
        return findings[0]

    def _was_admitted(self) -> bool:
        try:
            return bool(json.loads(self._file.read_text(encoding="utf-8")) == self._identity())
        except (OSError, ValueError):
            return False

    def _identity(self) -> dict[str, str]:
        """The server and the key: another server, or another key of this member, is another admission."""
        public = public_key_to_bytes(read_private_key(Path(self._member.key)).public_key())
        return {"server": self._member.server, "key": hashlib.sha256(public).hexdigest()}
