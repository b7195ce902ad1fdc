"""What the server's answer says about a member's key, with a fake of Flower's client; test_check has the connection."""

import datetime
import json

import httpx
import pytest

from coldfusion_fl.engines.deployment.certificates import new_member_key
from coldfusion_fl.engines.deployment.member import server_check
from coldfusion_fl.engines.deployment.member.server_check import check_key
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.engines.deployment.operations.expiry import format_time
from coldfusion_fl.errors import ErrorCode


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """The finding about the key, when the server gives this answer."""
    key = tmp_path / "member.key"
    key.write_bytes(new_member_key()[0])
    key.chmod(0o600)

    class FakeClient:
        @classmethod
        def from_server_address(cls, *_, **__):
            return cls()

        def ActivateNode(self, request):
            raise httpx.HTTPStatusError("no", request=httpx.Request("POST", "https://server"), response=self.response)

        def close(self):
            pass

    monkeypatch.setattr(server_check, "FleetHttpClient", FakeClient)

    def check(status, code=0, **headers):
        FakeClient.response = httpx.Response(status, text=json.dumps({"code": code, "detail": "no"}), headers=headers)
        member = Member(name="bank", server="127.0.0.1:1", task="loans", base="none", key=str(key), authority="")
        return next(finding for finding in check_key(member) if finding.check == "key")

    return check


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, 2003, None),
        (412, 2004, ErrorCode.KEY_UNKNOWN),
        (401, 0, ErrorCode.SERVER_REJECTED),
        (403, 0, ErrorCode.SERVER_REJECTED),
        (429, 0, ErrorCode.SERVER_UNREACHABLE),
        (503, 0, ErrorCode.SERVER_UNREACHABLE),  # a server that starts or is overloaded
    ],
)
def test_each_answer_has_its_reason(answer, status, code, reason):
    finding = answer(status, code)
    assert finding.passed is (reason is None)
    assert finding.code == reason


def test_a_rejected_signature_names_both_clocks(answer):
    theirs = format_time(datetime.datetime(2024, 1, 1, 8, 30, tzinfo=datetime.UTC))
    details = answer(401, date="Mon, 01 Jan 2024 08:30:00 GMT").details
    assert f"The server's clock says {theirs}." in details
    assert "The clock of this machine says 20" in details
    assert "server's clock" not in answer(401, date="soon").details
