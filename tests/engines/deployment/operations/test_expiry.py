"""Certificates that expire soon or have expired, on the server's machine; test_check.py has the member's side."""

import io

import pytest
from rich.console import Console

from coldfusion_fl.engines.deployment.certificates import CertificatePair, new_authority, new_server
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.operations import expiry
from coldfusion_fl.engines.deployment.operations.expiry import (
    Daily,
    ensure_valid,
    expiry_warnings,
    format_time,
    server_validities,
)
from coldfusion_fl.engines.deployment.setup import new_federation, renew_certificate
from coldfusion_fl.engines.deployment.status_table import print_status
from coldfusion_fl.engines.deployment.superlink.serve import serve
from coldfusion_fl.errors import DeploymentError, ErrorCode
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.status import run_status


@pytest.fixture
def acme(tmp_path):
    federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", 1)
    new_federation(federation, ["bank"])
    return federation


def issue(federation, server_days=825, authority_days=3650):
    """Give a federation certificates that are valid for some days; a negative number: they have expired."""
    authority = new_authority("acme", authority_days)
    issued = new_server(authority, federation.host, server_days)
    for folder in (federation.folder / "authority", federation.server):
        (folder / "ca.crt").write_bytes(authority.certificate)
    (federation.folder / "authority" / "ca.key").write_bytes(authority.key)
    (federation.server / "server.crt").write_bytes(issued.certificate)
    (federation.server / "server.key").write_bytes(issued.key)


@pytest.mark.parametrize(
    ("days", "named"),
    [({}, None), ({"server_days": 31}, None), ({"server_days": 29}, "server.crt"), ({"authority_days": 3}, "ca.crt")],
)
def test_a_certificate_is_mentioned_from_thirty_days_before_its_end(acme, days, named):
    issue(acme, **days)
    ensure_valid(acme)
    warnings = expiry_warnings(acme)
    assert len(warnings) == bool(named)
    if named:
        left = next(iter(days.values())) - 1
        assert f"{named} expires on" in warnings[0] and f"in {left} days" in warnings[0]
        assert f"coldfusion federation renew {acme.folder}" in warnings[0]


@pytest.mark.parametrize(
    ("days", "named"), [({"server_days": -2}, "server.crt"), ({"authority_days": -2, "server_days": 9}, "ca.crt")]
)
def test_a_server_does_not_start_with_an_expired_certificate(acme, days, named):
    issue(acme, **days)
    with pytest.raises(DeploymentError, match=f"{named} expired on") as error:
        serve(acme, print)
    assert error.value.code == ErrorCode.CERTIFICATE_EXPIRED
    assert format_time(expiry._now())[:10] in str(error.value)  # the clock may be what is wrong
    assert "coldfusion federation renew" in str(error.value)


def test_a_wrong_clock_is_named_before_a_certificate_is_valid(acme, monkeypatch):
    before = server_validities(acme)[0].begins.replace(year=2020)
    monkeypatch.setattr(expiry, "_now", lambda: before)
    with pytest.raises(DeploymentError, match="is not valid before .* clock of this machine says 2020-"):
        ensure_valid(acme)


def test_the_documented_renewal_replaces_an_expired_certificate(acme):
    issue(acme, server_days=-2)
    renew_certificate(acme)
    ensure_valid(acme)
    assert server_validities(acme)[0].days_left() == 824


def test_an_expired_authority_renews_nothing(acme):
    issue(acme, authority_days=-2)
    before = (acme.server / "server.crt").read_bytes()
    with pytest.raises(DeploymentError, match="expired on") as error:
        renew_certificate(acme)
    assert error.value.code == ErrorCode.CERTIFICATE_EXPIRED
    assert (acme.server / "server.crt").read_bytes() == before


def test_of_several_authorities_only_the_one_that_signed_counts(acme):
    issue(acme)
    old: CertificatePair = new_authority("another", -2)
    acme.authority.write_bytes(old.certificate + acme.authority.read_bytes())
    ensure_valid(acme)
    acme.authority.write_bytes(old.certificate)
    assert len(server_validities(acme)) == 1


def test_a_certificate_that_cannot_be_read_is_a_warning_in_a_running_server(acme):
    (acme.server / "server.crt").write_text("nothing")
    assert "not a valid PEM certificate" in expiry_warnings(acme)[0]


def test_warnings_are_logged_at_the_start_and_once_a_day(monkeypatch):
    now, lines = [1000.0], []
    monkeypatch.setattr(expiry.time, "monotonic", lambda: now[0])
    daily = Daily(lambda: ["soon"], lines.append)
    for passed in (0, 3600, 90_000, 90_000):
        now[0] += passed
        daily.update()
        daily.update()
    assert lines == ["soon"] * 3


def test_the_status_of_a_run_shows_the_warnings(acme, tmp_path):
    status = run_status(Ledger.create(tmp_path / "run", {"rounds": 3}))
    issue(acme, server_days=3)
    status.warnings += expiry_warnings(acme)
    console = Console(record=True, width=200, file=io.StringIO())
    print_status(status, console)
    assert "Warning: the server's certificate" in console.export_text()
    assert status.as_json()["warnings"] == status.warnings
