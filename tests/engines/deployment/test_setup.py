"""The folder of a federation, and the settings of its members."""

import shutil
import stat

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.engines.deployment.certificates import (
    certificate_hosts,
    covers,
    new_authority,
    new_member_key,
    new_server,
    read_private_key,
    read_public_key,
)
from coldfusion_fl.engines.deployment.federation import Federation, join_address, open_federation, split_address
from coldfusion_fl.engines.deployment.member.settings import read_member
from coldfusion_fl.engines.deployment.setup import (
    OwnCertificates,
    add_member,
    new_federation,
    remove_member,
    renew_certificate,
)
from coldfusion_fl.errors import DeploymentError, ErrorCode


@pytest.fixture
def acme(tmp_path):
    federation = Federation(tmp_path / "acme", "acme", "fl.acme.org", 9443)
    new_federation(federation, ["hospital", "bank"])
    return federation


@given(st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.integers(1, 65535))
def test_split_address_inverts_join_address(host, port):
    assert split_address(join_address(host, port)) == (host, port)


@pytest.mark.parametrize("address", ["acme", "acme:", ":1", "acme:0", "acme:65536", "https://acme:1", "acme:1x", "a:١"])
def test_invalid_addresses(address):
    with pytest.raises(DeploymentError, match="Write HOST:PORT"):
        split_address(address)


def test_the_files_of_a_new_federation(acme):
    assert open_federation(acme.folder) == acme
    assert list(acme.public_keys) == ["bank", "hospital"]
    for name, file in acme.public_keys.items():
        folder = acme.folder / "members" / name
        assert read_private_key(folder / "member.key").public_key() == read_public_key(file)
        assert (folder / "ca.crt").read_bytes() == acme.authority.read_bytes()
        assert f'name = "{name}"' in (folder / "member.toml").read_text()
        assert (folder / "start.sh").stat().st_mode & stat.S_IXUSR
    secrets = [*acme.folder.rglob("*.key")]
    assert len(secrets) == 4  # the authority's, the server's, the members'
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in secrets)


def test_a_federation_does_not_replace_an_existing_folder(acme):
    before = {file: file.read_bytes() for file in acme.folder.rglob("*") if file.is_file()}
    with pytest.raises(DeploymentError, match="exists already"):
        new_federation(acme, ["press"])
    assert {file: file.read_bytes() for file in acme.folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("names", [["a", "a"], ["../a"], ["a b"], [""], ["-a"]])
def test_after_an_error_there_is_no_folder(tmp_path, names):
    with pytest.raises(DeploymentError):
        new_federation(Federation(tmp_path / "acme", "acme", "localhost", 1), ["good", *names])
    assert not list(tmp_path.iterdir())


def test_members_are_added_and_removed(acme, tmp_path):
    assert add_member(acme, "press", None) == acme.folder / "members" / "press"
    own = tmp_path / "own.pub"
    own.write_bytes(new_member_key()[1])
    assert add_member(acme, "museum", own) is None
    assert not (acme.folder / "members" / "museum").exists()  # its private key was never here
    with pytest.raises(DeploymentError) as error:
        add_member(acme, "press", None)
    assert error.value.code == ErrorCode.MEMBER_INVALID
    own.write_text("no key")
    with pytest.raises(DeploymentError) as error:
        add_member(acme, "theatre", own)
    assert error.value.code == ErrorCode.KEY_INVALID
    remove_member(acme, "bank")
    assert list(acme.public_keys) == ["hospital", "museum", "press"]
    with pytest.raises(DeploymentError, match="hospital, museum, press") as error:
        remove_member(acme, "bank")
    assert error.value.code == ErrorCode.MEMBER_UNKNOWN


def test_a_members_folder_with_data_is_not_overwritten(acme):
    data = acme.folder / "members" / "bank" / "rows.csv"
    data.write_text("text,label")
    remove_member(acme, "bank")
    with pytest.raises(DeploymentError, match="members/bank exists already"):
        add_member(acme, "bank", None)
    assert data.read_text() == "text,label"
    assert "bank" not in acme.public_keys
    data.parent.rename(acme.folder / "members" / "old-bank")
    add_member(acme, "bank", None)
    assert "bank" in acme.public_keys


def test_own_certificates_must_be_valid_for_the_server(tmp_path):
    authority = new_authority("somebody")
    issued = new_server(authority, "fl.acme.org")
    for name, content in (("s.crt", issued.certificate), ("s.key", issued.key), ("ca.crt", authority.certificate)):
        (tmp_path / name).write_bytes(content)
    own = OwnCertificates(tmp_path / "s.crt", tmp_path / "s.key", tmp_path / "ca.crt")
    with pytest.raises(DeploymentError, match="other.org") as error:
        new_federation(Federation(tmp_path / "other", "other", "other.org", 1), [], own)
    assert error.value.code == ErrorCode.CERTIFICATE_INVALID
    federation = Federation(tmp_path / "acme", "acme", "fl.acme.org", 1)
    new_federation(federation, ["a"], own)
    assert (federation.server / "server.crt").read_bytes() == issued.certificate
    assert not (federation.folder / "authority").exists()
    assert (federation.folder / "members" / "a" / "ca.crt").read_bytes() == authority.certificate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a federation: it has no federation.toml"),
        ('name = "a"\naddress = "b:1"\ntrusted-proxy = []', "Did you mean 'trusted-proxies'"),
        ("name = 'acme'", "must have a name and an address"),
        ("name = 'a/b'\naddress = 'x:1'", "is not a valid name"),
        ("name = 'acme'\naddress = 'x'", "Write HOST:PORT"),
        ("name =", "cannot be read"),
    ],
)
def test_wrong_settings_of_a_federation(tmp_path, text, message):
    if text is not None:
        (tmp_path / "federation.toml").write_text(text)
    with pytest.raises(DeploymentError, match=message):
        open_federation(tmp_path)


def fill_in(folder, **values):
    file = folder / "member.toml"
    lines = file.read_text().splitlines()
    for key, value in values.items():
        lines = [line for line in lines if not line.startswith(f"{key} =")] + [f"{key} = {value}"]
    file.write_text("\n".join(lines))


def test_relative_paths_of_a_member_start_from_its_folder(acme):
    folder = acme.folder / "members" / "bank"
    (folder / "model").mkdir()
    fill_in(folder, task='"loans"', base='"model"', catalogue='"tasks.toml, packaged"')
    member = read_member(folder)
    assert (member.name, member.server, member.task) == ("bank", "fl.acme.org:9443", "loans")
    assert member.base == str(folder / "model")
    assert member.catalogue == (str(folder / "tasks.toml"), "packaged")
    assert (member.key, member.authority) == (str(folder / "member.key"), str(folder / "ca.crt"))
    fill_in(folder, base='"FacebookAI/roberta-base"')
    assert read_member(folder).base == "FacebookAI/roberta-base"


def test_wrong_settings_of_a_member(acme, tmp_path):
    folder = acme.folder / "members" / "bank"
    with pytest.raises(DeploymentError, match="'task' is empty"):
        read_member(folder)
    fill_in(folder, task='"loans"')
    with pytest.raises(DeploymentError, match="'base' is empty"):
        read_member(folder)
    fill_in(folder, tsk='"loans"')
    with pytest.raises(DeploymentError, match="unknown setting 'tsk'. Did you mean 'task'"):
        read_member(folder)
    with pytest.raises(DeploymentError, match=r"has no member\.toml"):
        read_member(tmp_path)


def test_a_renewed_certificate_has_the_same_authority(tmp_path):
    federation = Federation(tmp_path / "acme", "acme", "fl.acme.org", 9443)
    new_federation(federation, ["a"])
    before = [(federation.server / name).read_bytes() for name in ("server.crt", "server.key")]
    renew_certificate(federation)
    after = [(federation.server / name).read_bytes() for name in ("server.crt", "server.key")]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert (federation.server / "server.key").stat().st_mode & 0o077 == 0
    new = x509.load_pem_x509_certificate(after[0])
    new.verify_directly_issued_by(x509.load_pem_x509_certificate(federation.authority.read_bytes()))
    assert covers(certificate_hosts(federation.server / "server.crt"), "fl.acme.org")
    shutil.rmtree(federation.folder / "authority")
    with pytest.raises(DeploymentError) as error:
        renew_certificate(federation)
    assert error.value.code == ErrorCode.CERTIFICATE_INVALID
