"""Waiting for a server's admission, with answers from a list and a clock that is moved by sleeping."""

import pytest

from coldfusion_fl.engines.deployment.certificates import new_member_key
from coldfusion_fl.engines.deployment.member import admission
from coldfusion_fl.engines.deployment.member.admission import AdmissionCheck, MemberRemovedError
from coldfusion_fl.engines.deployment.member.server_check import Finding
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.errors import DeploymentError, ErrorCode

KNOWN = [Finding("server", True, "it responds"), Finding("key", True, "known")]
UNKNOWN = [KNOWN[0], Finding("key", False, "it does not know the key", code=ErrorCode.KEY_UNKNOWN)]
AWAY = [Finding("server", False, "it cannot be reached", code=ErrorCode.SERVER_UNREACHABLE)]
EXPIRED = [Finding("certificate", False, "it expired yesterday", code=ErrorCode.CERTIFICATE_EXPIRED)]
OLD = [*KNOWN, Finding("versions", False, "it has other versions.")]


class Bank:
    """A member whose server gives the listed answers, and the last one again and again."""

    def __init__(self, folder, monkeypatch):
        (folder / "member.key").write_bytes(new_member_key()[0])
        self.folder, self.lines, self.answers, self.now, self.asked = folder, [], [KNOWN], 1000.0, 0
        monkeypatch.setattr(admission, "check_server", self.answer)
        monkeypatch.setattr(admission.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(admission.time, "sleep", self.sleep)

    def answer(self, member):
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds):
        self.now += seconds
        if self.now > 1e6:
            raise TimeoutError  # it would wait for ever

    def start(self, server="fl.acme.org:9443"):
        """The admission of a `member start`; what was admitted before is on disk."""
        key = str(self.folder / "member.key")
        member = Member(name="bank", server=server, task="loans", base="none", key=key)
        return AdmissionCheck(member, self.folder, self.lines.append)

    def admitted(self):
        self.start().update()
        self.lines.clear()
        return self


@pytest.fixture
def bank(tmp_path, monkeypatch):
    return Bank(tmp_path, monkeypatch)


def test_a_removed_member_ends_with_its_own_exit_code(bank):
    bank.admitted().answers = [UNKNOWN]
    with pytest.raises(MemberRemovedError, match="has removed 'bank'") as error:
        bank.start().wait()
    assert isinstance(error.value, DeploymentError)
    assert (error.value.exit_code, error.value.code) == (77, ErrorCode.MEMBER_REMOVED)
    assert 60 < bank.now - 1000 < 120


def test_a_member_that_was_never_admitted_waits_and_says_so_once(bank):
    bank.answers = [UNKNOWN] * 1000 + [KNOWN]
    bank.start().wait()
    assert sum("it does not know the key" in line for line in bank.lines) == 1
    assert len(bank.lines) == 2


def test_a_server_with_a_new_database_ends_no_member(bank):
    """It answers before it has registered its members again."""
    bank.admitted().answers = [*[UNKNOWN] * 5, AWAY, *[UNKNOWN] * 5, KNOWN]
    started = bank.start()
    started.wait()  # until it does not answer: the SuperNode is started, and ends
    started.wait()
    assert bank.answers == [KNOWN]


def test_another_key_or_another_server_is_another_admission(bank):
    bank.admitted().answers = [UNKNOWN] * 20 + [KNOWN]
    bank.start("other.org:9443").wait()
    bank.answers = [UNKNOWN] * 20 + [KNOWN]
    (bank.folder / "member.key").write_bytes(new_member_key()[0])
    bank.start().wait()


def test_an_expired_certificate_is_said_once_and_waited_for(bank):
    bank.admitted().answers = [EXPIRED] * 1000 + [KNOWN]
    bank.start().wait()
    assert sum("expired yesterday" in line for line in bank.lines) == 1


@pytest.mark.parametrize("answer", [AWAY, OLD])
def test_an_absent_server_and_one_of_another_version_are_not_waited_for(bank, answer):
    bank.answers = [answer]
    bank.start().wait()
    assert bank.now == 1000


def test_the_server_is_asked_until_it_answers_and_then_once_a_day(bank):
    bank.answers = [AWAY, AWAY, KNOWN]
    started = bank.start()
    for _ in range(86_000):
        started.update()
        bank.now += 1
    assert bank.asked == 3
    bank.now += 1000
    started.update()
    assert bank.asked == 4
    assert len(bank.lines) == 2  # that it is away, and that it is back


def test_a_member_whose_server_came_back_says_so_also_where_it_did_not_wait_for_it(bank):
    bank.answers = [KNOWN, EXPIRED, AWAY, KNOWN]
    started = bank.start()
    started.update()
    started.wait()
    for _ in range(40):
        started.update()
        bank.now += 1
    assert "knows this member's key" in bank.lines[-1]


def test_a_warning_is_logged_each_day(bank):
    bank.answers = [[Finding("server", True, "it expires soon", warning=True), KNOWN[1]]]
    started = bank.start()
    for ask in (started.update, started.wait):  # also while its SuperNode is started again
        ask()
        started.update()
        bank.now += 90_000
    assert bank.lines == ["Warning: it expires soon"] * 2


def test_a_member_with_other_versions_is_told_that_runs_exclude_it(bank):
    bank.answers = [OLD]
    bank.start().update()
    (line,) = bank.lines
    assert "it has other versions" in line and "excludes this member" in line
