"""Certificates are tried by real TLS handshakes in memory; keys by the loader that Flower uses."""

import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from coldfusion_fl.engines.deployment.certificates import (
    certificate_hosts,
    covers,
    new_authority,
    new_member_key,
    new_server,
    read_private_key,
    read_public_key,
)
from coldfusion_fl.errors import DeploymentError


@pytest.fixture(scope="module")
def authority():
    return new_authority("acme")


def shake_hands(folder, issued, trusted, host):
    """A whole TLS handshake, with the client looking for a host and trusting an authority."""
    (folder / "server.crt").write_bytes(issued.certificate)
    (folder / "server.key").write_bytes(issued.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server.crt", folder / "server.key")
    asking = ssl.create_default_context(cadata=trusted.certificate.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=host)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


@pytest.mark.parametrize("host", ["fl.acme.org", "10.1.2.3", "localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_accepts_the_server(tmp_path, authority, host):
    issued = new_server(authority, host if host not in ("localhost", "127.0.0.1", "::1") else "fl.acme.org")
    assert shake_hands(tmp_path, issued, authority, host) == "TLSv1.3"


def test_another_host_or_another_authority_is_not_accepted(tmp_path, authority):
    issued = new_server(authority, "fl.acme.org")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(tmp_path, issued, authority, "evil.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, issued, new_authority("acme"), "fl.acme.org")


def test_the_hosts_of_a_certificate(tmp_path, authority):
    (tmp_path / "server.crt").write_bytes(new_server(authority, "fl.acme.org").certificate)
    names = certificate_hosts(tmp_path / "server.crt")
    assert set(names) == {"fl.acme.org", "localhost", "127.0.0.1", "::1"}
    assert covers(names, "127.0.0.1")
    assert not covers(names, "acme.org")
    assert covers(("*.acme.org",), "fl.acme.org")
    assert not covers(("*.acme.org",), "acme.org")
    (tmp_path / "server.crt").write_text("no certificate")
    with pytest.raises(DeploymentError, match="not a valid PEM certificate"):
        certificate_hosts(tmp_path / "server.crt")


def test_a_members_keys_are_a_pair_that_flower_reads(tmp_path):
    private, public = new_member_key()
    key = load_ssh_private_key(private, None)
    assert isinstance(key.curve, ec.SECP384R1)
    assert load_ssh_public_key(public).public_numbers() == key.public_key().public_numbers()
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(public)
    assert read_private_key(tmp_path / "key").public_key() == read_public_key(tmp_path / "key.pub")
    assert new_member_key()[0] != private


def test_invalid_keys(tmp_path):
    (tmp_path / "key").write_text("nothing")
    for read in (read_private_key, read_public_key):
        with pytest.raises(DeploymentError, match="key"):
            read(tmp_path / "key")
        with pytest.raises(DeploymentError, match="No such file"):
            read(tmp_path / "missing")
    (tmp_path / "rsa.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJZ0lDkXh0n5mE5m0dGk7nQ7lS4h8WcPqvZlq1p0wq0Z x"
    )
    with pytest.raises(DeploymentError, match="ssh-keygen -t ecdsa -b 384"):
        read_public_key(tmp_path / "rsa.pub")
