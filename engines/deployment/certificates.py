"""A small private certificate authority, the server's certificate, and the keys of members.

The authority is for tests and small federations. An organisation with an authority of its own can use that instead.
"""

import datetime
import ipaddress
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coldfusion_fl.errors import DeploymentError, ErrorCode, first_line

# Flower identifies its nodes by keys on this curve.
_CURVE = ec.SECP384R1
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 825  # some TLS libraries reject longer validity
_CLOCK_SKEW = datetime.timedelta(hours=1)
# The server's own processes connect to these, whatever its public name is.
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class CertificatePair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def new_authority(name: str, days: int = _AUTHORITY_DAYS) -> CertificatePair:
    """Create a certificate authority for one federation.

    Args:
        name: the federation's name.
        days: how long it is valid. A negative number: its validity has ended before now.
    """
    key = ec.generate_private_key(_CURVE())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} (a private federation's authority)")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return CertificatePair(_pem(builder.sign(key, hashes.SHA384())), _private_pem(key))


def new_server(authority: CertificatePair, host: str, days: int = _SERVER_DAYS) -> CertificatePair:
    """Create a server's certificate for a host and for the loopback names.

    Args:
        authority: signs the certificate.
        host: the server's public name or IP address.
        days: how long it is valid. A negative number: its validity has ended before now.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(_CURVE())
    names = [_general_name(name) for name in dict.fromkeys((host, *_LOCAL))]
    builder = (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]),
            issuer.subject,
            key.public_key(),
            days,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return CertificatePair(_pem(builder.sign(issuer_key, hashes.SHA384())), _private_pem(key))


def new_member_key() -> tuple[bytes, bytes]:
    """Create a member's key pair: private and public key in OpenSSH format, as Flower reads them."""
    key = ec.generate_private_key(_CURVE())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public + b"\n"


def read_public_key(file: Path) -> ec.EllipticCurvePublicKey:
    """Read a member's public key.

    Raises:
        DeploymentError: the file cannot be read, or is not a public key on an elliptic curve.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DeploymentError(
            f"{file}: cannot read the public key: {first_line(error)}", code=ErrorCode.KEY_INVALID
        ) from None
    return parse_public_key(content, file)


def parse_public_key(content: bytes, file: Path) -> ec.EllipticCurvePublicKey:
    """Parse a member's public key.

    Args:
        content: of the file, in OpenSSH format.
        file: for messages.

    Raises:
        DeploymentError: the content is not a public key on an elliptic curve.
    """
    try:
        key = serialization.load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DeploymentError(
            f"{file}: this is not a public key: {first_line(error)}", code=ErrorCode.KEY_INVALID
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _not_elliptic(file)
    return key


def read_private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Read a member's private key.

    Raises:
        DeploymentError: the file cannot be read, has a passphrase, or is not a private key on an elliptic curve.
    """
    try:
        key = serialization.load_ssh_private_key(file.read_bytes(), None)
    except (OSError, ValueError, UnsupportedAlgorithm, TypeError) as error:  # TypeError: it has a passphrase
        raise DeploymentError(
            f"{file}: this private key cannot be read: {first_line(error)}", code=ErrorCode.KEY_INVALID
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _not_elliptic(file)
    return key


def check_key_file(file: Path) -> str:
    """Check who can read the file of a private key.

    Returns:
        A warning that the file's group can read it; empty: only its owner can.

    Raises:
        DeploymentError: the file does not exist, or all users of this machine can read it.
    """
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise DeploymentError(
            f"{file}: this private key cannot be read: {first_line(error)}", code=ErrorCode.KEY_INVALID
        ) from None
    if mode & stat.S_IROTH:
        raise DeploymentError(
            f"other users of this machine can read {file}. Run: chmod 600 {file}", code=ErrorCode.KEY_EXPOSED
        )
    return (
        f"the group of {file} can read this private key. If it need not: chmod 600 {file}"
        if mode & stat.S_IRGRP
        else ""
    )


def _not_elliptic(file: Path) -> DeploymentError:
    return DeploymentError(
        f"{file}: this key is not on an elliptic curve, but Flower needs such a key: ssh-keygen -t ecdsa -b 384",
        code=ErrorCode.KEY_INVALID,
    )


def certificate_hosts(certificate: Path) -> tuple[str, ...]:
    """The host names and IP addresses that a server's certificate is valid for.

    Raises:
        DeploymentError: the file cannot be read, or is not a certificate.
    """
    found = read_certificates(certificate)[0]
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except ValueError as error:
        raise _not_a_certificate(certificate, error) from None
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def read_certificates(file: Path) -> list[x509.Certificate]:
    """Read the certificates in a file, at least one.

    Raises:
        DeploymentError: the file cannot be read, or is not a certificate.
    """
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise DeploymentError(
            f"{file}: cannot read the certificate: {first_line(error)}", code=ErrorCode.CERTIFICATE_INVALID
        ) from None
    except ValueError as error:
        raise _not_a_certificate(file, error) from None


def _not_a_certificate(file: Path, error: ValueError) -> DeploymentError:
    return DeploymentError(
        f"{file}: not a valid PEM certificate: {first_line(error)}", code=ErrorCode.CERTIFICATE_INVALID
    )


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate with these names is valid for a host; `*.acme.org` is valid for `fl.acme.org`."""
    parent = host.partition(".")[2]
    return host in names or bool(parent and f"*.{parent}" in names)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    ends = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, ends) - _CLOCK_SKEW)
        .not_valid_after(ends)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
