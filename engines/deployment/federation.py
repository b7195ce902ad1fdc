"""The folder of a federation: who it is, its server's certificate, the public keys of its members.

::

    acme/
      federation.toml          name and address
      authority/               ca.crt, ca.key: signs the server's certificate; not there with certificates of one's own
      server/                  ca.crt, server.crt, server.key, start.sh
        members/NAME.pub       whose public key lies here is a member
        flower/                what Flower keeps: its settings, its database, its log
      members/NAME/            to be handed to the member: member.toml, member.key, ca.crt, start.sh
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from coldfusion_fl.errors import DeploymentError

_FILE = "federation.toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.IGNORECASE)


@dataclass(frozen=True)
class Federation:
    """A federation on the disk of the machine that runs its server.

    Attributes:
        folder: where it is.
        name: what it is called.
        host: of its server, as members know it: a name or an IP address.
        port: of its server.
    """

    folder: Path
    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, as Flower writes it."""
        return join_address(self.host, self.port)

    @property
    def server(self) -> Path:
        """What the server needs."""
        return self.folder / "server"

    @property
    def authority(self) -> Path:
        """The server's certificate authority: what members trust."""
        return self.server / "ca.crt"

    @property
    def flower_home(self) -> Path:
        """What Flower keeps for this federation."""
        return self.server / "flower"

    @property
    def members_file(self) -> Path:
        """Which node is which member's, as the server knows by their keys: JSON, written by the running server."""
        return self.server / "members.json"

    @property
    def public_keys(self) -> dict[str, Path]:
        """The members' public keys, by name."""
        return {file.stem: file for file in sorted((self.server / "members").glob("*.pub"))}

    def public_key(self, member: str) -> Path:
        """Where a member's public key is, or is to be."""
        return self.server / "members" / f"{member}.pub"

    def to_toml(self) -> str:
        """The federation's settings."""
        return f'# A federation of coldfusion-fl.\nname = "{self.name}"\naddress = "{self.address}"\n'


def open_federation(folder: Path) -> Federation:
    """A federation that `coldfusion federation init` made.

    Raises:
        DeploymentError: there is none, or its settings are not what they must be.
    """
    file = folder / _FILE
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeploymentError(
            f"{folder} is no federation: it has no {_FILE}. Make one: coldfusion federation init {folder} --address "
            "HOST:PORT --members NAME,NAME"
        ) from None
    except (OSError, ValueError) as wrong:
        raise DeploymentError(f"{file}: it cannot be read: {wrong}") from None
    name, address = table.get("name"), table.get("address")
    if not isinstance(name, str) or not isinstance(address, str):
        raise DeploymentError(
            f'{file}: it must say a name and an address, such as name = "acme" and address = "fl.acme.org:9443".'
        )
    host, port = split_address(address)
    return Federation(folder.resolve(), check_name(name), host, port)


def write_federation(federation: Federation, folder: Path) -> None:
    """Write a federation's settings into a folder."""
    (folder / _FILE).write_text(federation.to_toml(), encoding="utf-8")


def check_name(name: str) -> str:
    """A federation's or member's name, which is a file's name too.

    Raises:
        DeploymentError: it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise DeploymentError(
            f"'{name}' cannot be a name here: take letters, digits, '-', '_' and '.', at most 63, and a letter or "
            "digit first."
        )
    return name


def split_address(address: str) -> tuple[str, int]:
    """The host and port of `HOST:PORT`; an IPv6 address stands in brackets.

    Raises:
        DeploymentError: it is no address.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeploymentError(f"'{address}' is no address: write HOST:PORT, such as fl.acme.org:9443.")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """`HOST:PORT`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
