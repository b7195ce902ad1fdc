"""The checks of a member that need no running federation; test_deployment has the others."""

import re
import ssl

import pytest
import typer
from loopback import tls_server

from coldfusion_fl.engines.deployment import commands
from coldfusion_fl.engines.deployment.certificates import new_authority, new_server
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.member.check import check_member
from coldfusion_fl.engines.deployment.setup import new_federation
from coldfusion_fl.errors import ErrorCode


@pytest.fixture
def found(tmp_path, toy_data, tiny_base):
    """Creates a federation with a member, and returns the result of each check by its name."""

    def check(port=1, task="a", change=lambda federation, member: None):
        federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", port)
        new_federation(federation, ["bank"])
        member = federation.folder / "members" / "bank"
        text = (member / "member.toml").read_text()
        text = text.replace('task = ""', f'task = "{task}"').replace("tasks.toml", str(toy_data / "toy.toml"))
        (member / "member.toml").write_text(text.replace('base = ""', f'base = "{tiny_base}"'))
        change(federation, member)
        return {finding.check: finding for finding in check_member(member)}

    return check


def test_local_checks_pass_and_the_server_cannot_be_reached(found):
    findings = found()
    assert list(findings) == ["settings", "data", "labels", "base", "training", "server"]
    assert [name for name, finding in findings.items() if not finding.passed] == ["server"]
    assert "60 training, 18 development, 24 test rows" in findings["data"].details
    assert "GiB of memory" in findings["training"].details
    assert "127.0.0.1:1 cannot be reached" in findings["server"].details


def test_the_command_says_that_the_base_of_a_run_is_not_compared(found, tmp_path, capsys):
    found()
    with pytest.raises(typer.Exit):  # there is no server
        commands.check(tmp_path / "acme" / "members" / "bank")
    *_, last = capsys.readouterr().out.strip().split("Not checked: ")
    text = " ".join(last.split())
    assert "frozen embeddings" in text and "flower/messages.log" in text
    assert text.endswith('A run with freeze = "nothing" compares nothing.')


def test_a_failed_check_does_not_hide_the_others(found):
    findings = found(task="zz")
    assert not findings["data"].passed
    assert "zz" in findings["data"].details
    assert findings["base"].passed
    assert not findings["server"].passed


def test_a_class_without_a_training_row_is_named(found, tmp_path, toy_data):
    rows = tmp_path / "rows"
    rows.mkdir()
    for split in ("train", "validation", "test"):
        text = (toy_data / "a" / f"{split}.jsonl").read_text()
        (rows / f"{split}.jsonl").write_text(text.replace('"food"', '"animal"') if split == "train" else text)
    (tmp_path / "own.toml").write_text(f'[tasks.a]\nfolder = "{rows}"\n')

    def change(federation, member):
        file = member / "member.toml"
        file.write_text(file.read_text().replace(str(toy_data / "toy.toml"), str(tmp_path / "own.toml")))

    reported = found(change=change)
    wrong = next(finding for finding in reported.values() if not finding.passed)
    assert wrong.check in ("data", "labels")
    assert "food" in wrong.details


def context_of(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def test_a_certificate_of_another_authority_is_not_accepted(found, tmp_path):
    new_federation(Federation(tmp_path / "other", "other", "127.0.0.1", 1), [])
    with tls_server(context_of(tmp_path / "other" / "server")) as port:
        finding = found(port)["certificate"]
    assert not finding.passed
    assert "was rejected" in finding.details


@pytest.fixture
def found_with(found, tmp_path):
    """The results of the checks against a server with certificates that are valid for some days."""

    def check(server_days=825, authority_days=3650):
        authority = new_authority("acme", authority_days)
        issued = new_server(authority, "127.0.0.1", server_days)
        (tmp_path / "server.crt").write_bytes(issued.certificate)
        (tmp_path / "server.key").write_bytes(issued.key)
        with tls_server(context_of(tmp_path)) as port:
            return found(port, change=lambda _, member: (member / "ca.crt").write_bytes(authority.certificate))

    return check


@pytest.mark.parametrize(("days", "named"), [((20,), "127.0.0.1:"), ((825, 20), "ca.crt")])
def test_a_certificate_that_expires_soon_is_a_warning(found_with, days, named):
    finding = found_with(*days)["server"]
    assert finding.passed and finding.warning
    assert f"{named}" in finding.details and "in 19 days" in finding.details


@pytest.mark.parametrize(("days", "named"), [((-2,), "127.0.0.1:"), ((825, -2), "ca.crt")])
def test_an_expired_certificate_is_named_with_its_date_and_the_time_of_this_machine(found_with, days, named):
    finding = found_with(*days)["certificate"]
    assert not finding.passed
    assert finding.code == ErrorCode.CERTIFICATE_EXPIRED
    assert re.search(f"{named}.* expired on 20.* The clock of this machine says 20", finding.details)


def test_a_server_without_tls(found):
    with tls_server() as port:
        finding = found(port)["server"]
    assert not finding.passed
    assert "the TLS handshake" in finding.details


def test_a_missing_authority_file(found):
    def change(federation, member):
        (member / "ca.crt").unlink()

    finding = found(change=change)["certificate"]
    assert "ca.crt" in finding.details and not finding.passed


def test_an_authority_file_without_a_certificate(found):
    def change(federation, member):
        (member / "ca.crt").write_text("nothing")

    finding = found(change=change)["certificate"]
    assert "ca.crt" in finding.details and not finding.passed


def test_an_unreadable_key(found, tmp_path):
    new_federation(Federation(tmp_path / "other", "other", "127.0.0.1", 1), [])

    def change(federation, member):
        (member / "member.key").write_text("nothing")
        (member / "ca.crt").write_bytes((tmp_path / "other" / "server" / "ca.crt").read_bytes())

    with tls_server(context_of(tmp_path / "other" / "server")) as port:
        findings = found(port, change=change)
    assert findings["server"].passed
    assert not findings["key"].passed
    assert "member.key" in findings["key"].details


@pytest.mark.parametrize(("mode", "passed"), [(0o644, False), (0o640, True)])
def test_a_key_that_others_can_read(found, tmp_path, mode, passed):
    new_federation(Federation(tmp_path / "other", "other", "127.0.0.1", 1), [])

    def change(federation, member):
        (member / "member.key").chmod(mode)
        (member / "ca.crt").write_bytes((tmp_path / "other" / "server" / "ca.crt").read_bytes())

    with tls_server(context_of(tmp_path / "other" / "server")) as port:
        findings = found(port, change=change)
    assert findings["key file"].passed is passed
    assert findings["key file"].warning is passed
    assert "chmod 600" in findings["key file"].details
