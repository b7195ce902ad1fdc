"""Writes the folder of a new federation, and what each member needs."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from coldfusion_fl.atomic_files import atomic_write
from coldfusion_fl.engines.deployment.certificates import (
    Issued,
    is_for,
    names_of,
    new_authority,
    new_member_key,
    new_server,
    read_public_key,
)
from coldfusion_fl.engines.deployment.federation import Federation, check_name, write_federation
from coldfusion_fl.engines.deployment.member.settings import MEMBER_FILE, member_toml
from coldfusion_fl.errors import DeploymentError

_SECRET = 0o600
_SERVER_SCRIPT = """#!/bin/sh
# The federation's server; members join at {address}. Ends with Ctrl-C or a polite kill.
exec coldfusion federation serve "$(cd "$(dirname "$0")/.." && pwd)" "$@"
"""
_MEMBER_SCRIPT = """#!/bin/sh
# Tries everything, and joins the federation. Ends with Ctrl-C or a polite kill.
cd "$(dirname "$0")" && coldfusion member check . && exec coldfusion member start . "$@"
"""


@dataclass(frozen=True)
class OwnCertificates:
    """Certificates that an organisation brings: PEM files.

    Attributes:
        certificate: the server's.
        key: its private key.
        authority: the certificate of the authority that signed it, which members are to trust.
    """

    certificate: Path
    key: Path
    authority: Path


def new_federation(federation: Federation, members: Sequence[str], own: OwnCertificates | None = None) -> None:
    """Write the folder of a new federation, whole or not at all.

    Args:
        federation: what it will be.
        members: names of those that get a key pair and a folder to be handed to them.
        own: the server's certificates; without, a private authority is made that signs one.

    Raises:
        DeploymentError: there is something in the folder, a name cannot be one, or a certificate is not for this host.
    """
    if federation.folder.exists() and (not federation.folder.is_dir() or any(federation.folder.iterdir())):
        raise DeploymentError(f"{federation.folder} is there already. Name a folder that is not, or is empty.")
    if twice := sorted({name for name in members if list(members).count(name) > 1}):
        raise DeploymentError(f"{', '.join(twice)}: each member is to be named once.")
    for name in members:
        check_name(name)
    if own and not is_for(names_of(own.certificate), federation.host):
        raise DeploymentError(
            f"{own.certificate} is not for '{federation.host}', where members will look for the server."
        )
    federation.folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(federation.folder) as folder:
        folder.mkdir()
        write_federation(federation, folder)
        (folder / "server" / "members").mkdir(parents=True)
        (folder / "server" / "flower").mkdir()
        _write_certificates(folder, federation, own)
        _script(folder / "server" / "start.sh", _SERVER_SCRIPT.format(address=federation.address))
        for name in members:
            _write_member(folder, federation, name)


def add_member(federation: Federation, name: str, public_key: Path | None) -> Path | None:
    """Admit one more member; a running server lets it in within seconds.

    Args:
        federation: which.
        name: the member's.
        public_key: one that the member made; without, a key pair is made here.

    Returns:
        The folder to hand to the member; None where it has its own key.

    Raises:
        DeploymentError: there is such a member, there is something in its folder, the key is none, or another member
            has it.
    """
    check_name(name)
    if name in federation.public_keys:
        raise DeploymentError(f"'{name}' is a member of {federation.name} already. Remove it first, to change its key.")
    if public_key is None:
        folder = federation.folder / "members" / name
        if folder.exists():
            raise DeploymentError(
                f"{folder} is there already; it may hold a member's data. Move it away first, or admit the member by a "
                f"public key of its own: --public-key FILE."
            )
        _write_member(federation.folder, federation, name)
        return folder
    key = read_public_key(public_key).public_numbers()
    if holder := next((other for other, file in federation.public_keys.items() if _holds(file, key)), None):
        raise DeploymentError(f"{public_key} is the key of '{holder}'. Each member needs a key of its own.")
    with atomic_write(federation.public_key(name)) as file:
        shutil.copyfile(public_key, file)
    return None


def _holds(file: Path, key: ec.EllipticCurvePublicNumbers) -> bool:
    try:
        return read_public_key(file).public_numbers() == key
    except DeploymentError:  # what is no key is nobody's
        return False


def remove_member(federation: Federation, name: str) -> None:
    """Let a member in no more; a running server shuts it out within seconds.

    Raises:
        DeploymentError: there is no such member.
    """
    if name not in federation.public_keys:
        raise DeploymentError(
            f"'{name}' is no member of {federation.name}. Members: {', '.join(federation.public_keys) or 'none'}."
        )
    federation.public_key(name).unlink()


def renew_certificate(federation: Federation) -> None:
    """Make the server a new certificate by the federation's own authority; members go on trusting it.

    Raises:
        DeploymentError: the federation has no authority of its own, or its files cannot be read.
    """
    folder = federation.folder / "authority"
    try:
        authority = Issued((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())
    except FileNotFoundError:
        raise DeploymentError(
            f"{folder} holds no authority. Lay the new certificate and its key as server.crt and server.key into "
            f"{federation.server}."
        ) from None
    except OSError as wrong:
        raise DeploymentError(f"{folder}: it cannot be read: {wrong}") from None
    issued = new_server(authority, federation.host)
    with (
        atomic_write(federation.server / "server.key") as key,
        atomic_write(federation.server / "server.crt") as certificate,
    ):
        _secret(key, issued.key)
        certificate.write_bytes(issued.certificate)


def _write_certificates(folder: Path, federation: Federation, own: OwnCertificates | None) -> None:
    server = folder / "server"
    if own:
        try:
            for source, name in ((own.certificate, "server.crt"), (own.authority, "ca.crt")):
                shutil.copyfile(source, server / name)
            _secret(server / "server.key", own.key.read_bytes())
        except OSError as wrong:
            raise DeploymentError(f"a certificate cannot be read: {wrong}") from None
        return
    authority = new_authority(federation.name)
    issued = new_server(authority, federation.host)
    (folder / "authority").mkdir(mode=0o700)
    _keep(folder / "authority", "ca", authority)
    _keep(server, "server", issued)
    (server / "ca.crt").write_bytes(authority.certificate)


def _write_member(folder: Path, federation: Federation, name: str) -> None:
    target = folder / "members" / name
    target.parent.mkdir(exist_ok=True)
    private, public = new_member_key()
    with atomic_write(target) as member:
        member.mkdir(mode=0o700)
        _secret(member / "member.key", private)
        shutil.copyfile(folder / "server" / "ca.crt", member / "ca.crt")
        (member / MEMBER_FILE).write_text(member_toml(name, federation.name, federation.address), encoding="utf-8")
        _script(member / "start.sh", _MEMBER_SCRIPT)
    with atomic_write(folder / "server" / "members" / f"{name}.pub") as file:
        file.write_bytes(public)


def _keep(folder: Path, stem: str, issued: Issued) -> None:
    (folder / f"{stem}.crt").write_bytes(issued.certificate)
    _secret(folder / f"{stem}.key", issued.key)


def _secret(file: Path, content: bytes) -> None:
    """Write what its owner alone may read; there is no moment in which others could."""
    file.touch(mode=_SECRET, exist_ok=False)
    file.write_bytes(content)


def _script(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
