"""The folder of a federation: its settings, the server's certificate, and the public keys of its members.

::

    acme/
      federation.toml          name, address and trusted proxies
      authority/               ca.crt, ca.key: signs the server's certificate; missing with certificates of your own
      server/                  ca.crt, server.crt, server.key, and the service files: see `operations.services`
        members/NAME.pub       the public key of each member
        flower/                Flower's own settings, database and log
      runs/                    for run folders: the services may write there
      members/NAME/            to give to the member: member.toml, member.key, ca.crt, and the service files
"""

import ipaddress
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.errors import DeploymentError

_FILE = "federation.toml"
_KEYS = ("name", "address", "trusted-proxies")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.IGNORECASE)


@dataclass(frozen=True)
class Federation:
    """A federation on the disk of the machine that runs its server.

    Attributes:
        folder: the federation's folder.
        name: the federation's name.
        host: the name or IP address by which members reach the server.
        port: the server's port.
        trusted_proxies: the addresses of reverse proxies in front of the server, which name the members' addresses.
    """

    folder: Path
    name: str
    host: str
    port: int
    trusted_proxies: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """`host:port`, as Flower writes it."""
        return join_address(self.host, self.port)

    @property
    def server(self) -> Path:
        """The folder of the server's files."""
        return self.folder / "server"

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed the server's certificate."""
        return self.server / "ca.crt"

    @property
    def flower_home(self) -> Path:
        """The folder of Flower's own files."""
        return self.server / "flower"

    @property
    def database(self) -> Path:
        """Flower's database: messages that are under way, runs and nodes."""
        return self.flower_home / "state.db"

    @property
    def members_file(self) -> Path:
        """The node ID of each member: JSON, written by the running server."""
        return self.server / "members.json"

    @property
    def public_keys(self) -> dict[str, Path]:
        """The members' public keys, by name."""
        return {file.stem: file for file in sorted((self.server / "members").glob("*.pub"))}

    def public_key(self, member: str) -> Path:
        """The file of a member's public key, which need not exist yet."""
        return self.server / "members" / f"{member}.pub"

    def to_toml(self) -> str:
        """The federation's settings as TOML."""
        proxies = f"trusted-proxies = {json.dumps(self.trusted_proxies)}\n" if self.trusted_proxies else ""
        return f'# A federation of coldfusion-fl.\nname = "{self.name}"\naddress = "{self.address}"\n{proxies}'


def read_member_names(file: Path) -> dict[int, str]:
    """The members' names by node ID, as the server wrote them; empty where it has registered none yet.

    Args:
        file: `Federation.members_file`. It is read each time, because members join and leave during a run.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {int(node_id): name for name, node_id in found.items()}


def open_federation(folder: Path) -> Federation:
    """Open a federation that `coldfusion federation init` created.

    Raises:
        DeploymentError: the folder is not a federation, or its settings are wrong.
    """
    file = folder / _FILE
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DeploymentError(
            f"{folder} is not a federation: it has no {_FILE}. Create one: coldfusion federation init {folder} "
            "--address HOST:PORT --members NAME,NAME"
        ) from None
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{file} cannot be read: {error}") from None
    if unknown := table.keys() - _KEYS:
        raise DeploymentError(f"{file}: unknown setting '{min(unknown)}'.{did_you_mean(min(unknown), _KEYS)}")
    name, address = table.get("name"), table.get("address")
    if not isinstance(name, str) or not isinstance(address, str):
        raise DeploymentError(
            f'{file} must have a name and an address, such as name = "acme" and address = "fl.acme.org:9443".'
        )
    host, port = split_address(address)
    proxies = table.get("trusted-proxies", [])
    try:
        trusted = tuple(str(ipaddress.ip_address(proxy)) for proxy in proxies)
    except (TypeError, ValueError):
        raise DeploymentError(
            f'trusted-proxies in {file} is {proxies!r}. Write a list of IP addresses, such as ["192.0.2.10"].'
        ) from None
    return Federation(folder.resolve(), check_name(name), host, port, trusted)


def write_federation(federation: Federation, folder: Path) -> None:
    """Write a federation's settings into a folder."""
    (folder / _FILE).write_text(federation.to_toml(), encoding="utf-8")


def check_name(name: str) -> str:
    """Check the name of a federation or a member, which is also a file name.

    Returns:
        The name.

    Raises:
        DeploymentError: the name has other characters than allowed, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise DeploymentError(
            f"'{name}' is not a valid name. Use at most 63 letters, digits, '-', '_' and '.', and begin with a letter "
            "or digit."
        )
    return name


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`; an IPv6 address is written in brackets.

    Raises:
        DeploymentError: the text is not an address.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeploymentError(f"'{address}' is not an address. Write HOST:PORT, such as fl.acme.org:9443.")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """`HOST:PORT`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
