"""Creates the folder of a federation with certificates, keys and service files; adds and removes members."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from coldfusion_fl.atomic_files import atomic_write, write_private
from coldfusion_fl.engines.deployment.certificates import (
    CertificatePair,
    certificate_hosts,
    check_key_file,
    covers,
    new_authority,
    new_member_key,
    new_server,
    read_certificates,
    read_public_key,
)
from coldfusion_fl.engines.deployment.federation import Federation, check_name, write_federation
from coldfusion_fl.engines.deployment.member.settings import MEMBER_FILE, member_toml
from coldfusion_fl.engines.deployment.operations.expiry import Validity
from coldfusion_fl.engines.deployment.operations.services import write_member_services, write_server_services
from coldfusion_fl.errors import DeploymentError, ErrorCode


@dataclass(frozen=True)
class OwnCertificates:
    """Certificates that an organisation has already: PEM files.

    Attributes:
        certificate: the server's certificate.
        key: its private key.
        authority: the certificate of the authority that signed it; members trust this authority.
    """

    certificate: Path
    key: Path
    authority: Path


def new_federation(federation: Federation, members: Sequence[str], own: OwnCertificates | None = None) -> None:
    """Create the folder of a new federation; after an error, there is no folder.

    Args:
        federation: the federation to create.
        members: the names of members; each gets a key pair and a folder.
        own: the server's certificates; None: create a private authority, which signs one.

    Raises:
        DeploymentError: the folder is not empty, a name is invalid, or the certificate is not valid for the host.
    """
    if federation.folder.exists() and (not federation.folder.is_dir() or any(federation.folder.iterdir())):
        raise DeploymentError(f"{federation.folder} exists already. Choose a new or empty folder.")
    if twice := sorted({name for name in members if list(members).count(name) > 1}):
        raise DeploymentError(f"members are named twice: {', '.join(twice)}.")
    for name in members:
        check_name(name)
    if own and not covers(certificate_hosts(own.certificate), federation.host):
        raise DeploymentError(
            f"{own.certificate} is not valid for '{federation.host}', by which members will reach the server.",
            code=ErrorCode.CERTIFICATE_INVALID,
        )
    # Written beside its place and moved there as a whole, so that the command can be repeated after an error.
    federation.folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(federation.folder) as folder:
        folder.mkdir()
        write_federation(federation, folder)
        (folder / "server" / "members").mkdir(parents=True)
        (folder / "server" / "flower").mkdir()
        _write_certificates(folder, federation, own)
        write_server_services(federation, folder)
        for name in members:
            _write_member(folder, federation, name)


def add_member(federation: Federation, name: str, public_key: Path | None) -> Path | None:
    """Add a member; a running server admits it within seconds.

    Args:
        federation: the federation.
        name: the member's name.
        public_key: a public key that the member created; None: create a key pair here.

    Returns:
        The folder to give to the member; None if the member has its own key.

    Raises:
        DeploymentError: the name is taken, the member's folder exists, the file is not a public key, or another member
            has the same key.
    """
    check_name(name)
    if name in federation.public_keys:
        raise DeploymentError(
            f"'{name}' is a member of {federation.name} already. To change its key, remove the member first.",
            code=ErrorCode.MEMBER_INVALID,
        )
    if public_key is None:
        folder = federation.folder / "members" / name
        if folder.exists():
            raise DeploymentError(
                f"{folder} exists already, and may hold a member's data. Move it away first, or add the member with a "
                "public key of its own: --public-key FILE.",
                code=ErrorCode.MEMBER_INVALID,
            )
        _write_member(federation.folder, federation, name)
        return folder
    # The key tells the server who a node is, so two members with one key would be one member.
    key = read_public_key(public_key).public_numbers()
    if holder := next((other for other, file in federation.public_keys.items() if _has_key(file, key)), None):
        raise DeploymentError(
            f"{public_key} is the key of '{holder}'. Each member needs a key of its own.", code=ErrorCode.KEY_INVALID
        )
    with atomic_write(federation.public_key(name)) as file:
        shutil.copyfile(public_key, file)
    return None


def _has_key(file: Path, key: ec.EllipticCurvePublicNumbers) -> bool:
    try:
        return read_public_key(file).public_numbers() == key
    except DeploymentError:  # a file that is not a key cannot be the same key
        return False


def remove_member(federation: Federation, name: str) -> None:
    """Remove a member; a running server disconnects it within seconds.

    Args:
        federation: the federation.
        name: the member's name.

    Raises:
        DeploymentError: the federation has no such member.
    """
    if name not in federation.public_keys:
        raise DeploymentError(
            f"'{name}' is not a member of {federation.name}. Members: {', '.join(federation.public_keys) or 'none'}.",
            code=ErrorCode.MEMBER_UNKNOWN,
        )
    federation.public_key(name).unlink()


def renew_certificate(federation: Federation) -> None:
    """Create a new server certificate, signed by the federation's own authority, so that members trust it as before.

    Raises:
        DeploymentError: the federation has no authority of its own, the authority's files cannot be read, other users
            can read its key, or it has expired.
    """
    folder = federation.folder / "authority"
    try:
        authority = CertificatePair((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())
    except FileNotFoundError:
        raise DeploymentError(
            f"{folder} holds no authority. Copy the new certificate and its key to server.crt and server.key in "
            f"{federation.server}.",
            code=ErrorCode.CERTIFICATE_INVALID,
        ) from None
    except OSError as error:
        raise DeploymentError(f"{folder} cannot be read: {error}", code=ErrorCode.CERTIFICATE_INVALID) from None
    check_key_file(folder / "ca.key")
    if problem := Validity.of("the authority's certificate", read_certificates(folder / "ca.crt")[0]).problem():
        raise DeploymentError(
            f"{folder}: {problem} Members would not trust a new certificate of the server. For a new authority, see "
            "the page 'Keys and certificates'.",
            code=ErrorCode.CERTIFICATE_EXPIRED,
        )
    issued = new_server(authority, federation.host)
    # Both are written before one is replaced, because a certificate is of no use without its key.
    with (
        atomic_write(federation.server / "server.key") as key,
        atomic_write(federation.server / "server.crt") as certificate,
    ):
        write_private(key, issued.key)
        certificate.write_bytes(issued.certificate)


def _write_certificates(folder: Path, federation: Federation, own: OwnCertificates | None) -> None:
    server = folder / "server"
    if own:
        try:
            for source, name in ((own.certificate, "server.crt"), (own.authority, "ca.crt")):
                shutil.copyfile(source, server / name)
            write_private(server / "server.key", own.key.read_bytes())
        except OSError as error:
            raise DeploymentError(
                f"a certificate cannot be read: {error}", code=ErrorCode.CERTIFICATE_INVALID
            ) from None
        return
    authority = new_authority(federation.name)
    issued = new_server(authority, federation.host)
    (folder / "authority").mkdir(mode=0o700)
    _write_pair(folder / "authority", "ca", authority)
    _write_pair(server, "server", issued)
    (server / "ca.crt").write_bytes(authority.certificate)


def _write_member(folder: Path, federation: Federation, name: str) -> None:
    target = folder / "members" / name
    target.parent.mkdir(exist_ok=True)
    private, public = new_member_key()
    with atomic_write(target) as member:
        member.mkdir(mode=0o700)
        write_private(member / "member.key", private)
        shutil.copyfile(folder / "server" / "ca.crt", member / "ca.crt")
        (member / MEMBER_FILE).write_text(member_toml(name, federation.name, federation.address), encoding="utf-8")
        write_member_services(name, federation.folder / "members" / name, member)
    with atomic_write(folder / "server" / "members" / f"{name}.pub") as file:
        file.write_bytes(public)


def _write_pair(folder: Path, stem: str, issued: CertificatePair) -> None:
    (folder / f"{stem}.crt").write_bytes(issued.certificate)
    write_private(folder / f"{stem}.key", issued.key)
