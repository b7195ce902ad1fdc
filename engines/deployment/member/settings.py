"""A member of a federation: its own settings, and the SuperNode that joins for it."""

import tomllib
from pathlib import Path

from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.schema import Names, SettingsTable
from coldfusion_fl.data.catalogue import resolve_catalogues
from coldfusion_fl.data.paths import expand_user, resolve_from
from coldfusion_fl.engines.deployment.federation import check_name, split_address
from coldfusion_fl.errors import DeploymentError, SettingsError

MEMBER_FILE = "member.toml"
_TOML = """\
# A member of the federation '{federation}'. Paths begin at this file's folder. When all is filled in:
#   coldfusion member check .       tries everything
#   coldfusion member start .       joins
name = "{name}"
server = "{server}"
task = ""                # the task that this member contributes, as a catalogue calls it
catalogue = "tasks.toml" # where the task stands: TOML files of your own, or shipped catalogues
base = ""                # the federation's base: a Hub id, or a folder in Hugging Face format
seen = true              # false: judges the bases, and contributes nothing
"""


class Member(SettingsTable):
    """What a member's settings say; nothing of it is taken from the server.

    Attributes:
        name: what it is called in the federation; the server knows it by its key.
        server: the server's address, `HOST:PORT`.
        task: its task.
        base: the model folder or Hub id that gives the architecture and tokenizer.
        catalogue: where the task stands.
        data_root: where the relative paths of the catalogue begin; empty: beside the catalogue.
        seen: whether it contributes; if not, it only judges the bases.
        key: its private key.
        authority: the certificate of the authority that it trusts to vouch for the server; empty: this machine's own.
    """

    name: str
    server: str
    task: str
    base: str
    catalogue: Names = ("packaged",)
    data_root: str = ""
    seen: bool = True
    key: str = "member.key"
    authority: str = "ca.crt"


def member_toml(name: str, federation: str, server: str) -> str:
    """The settings of a new member, to be filled in by it."""
    return _TOML.format(name=name, federation=federation, server=server)


def read_member(folder: Path) -> Member:
    """A member's settings, with absolute paths.

    Args:
        folder: the member's, with `member.toml` in it.

    Raises:
        DeploymentError: the file cannot be read, or a setting is unknown, missing or not filled in.
    """
    file = folder / MEMBER_FILE
    try:
        member = parse_table(Member, tomllib.loads(file.read_text(encoding="utf-8")), str(file))
    except FileNotFoundError:
        raise DeploymentError(
            f"{folder} has no {MEMBER_FILE}. The federation's server makes one: coldfusion federation init, or add."
        ) from None
    except (OSError, ValueError) as wrong:
        raise DeploymentError(f"{file}: it cannot be read: {wrong}") from None
    except SettingsError as wrong:
        raise DeploymentError(str(wrong)) from None
    check_name(member.name)
    split_address(member.server)
    for key in ("task", "base"):
        if not getattr(member, key):
            raise DeploymentError(f"{file}: '{key}' is not filled in.")
    home = folder.resolve()
    return member.model_copy(
        update={
            "base": resolve_from(home, member.base) if (home / expand_user(member.base)).is_dir() else member.base,
            "catalogue": resolve_catalogues(home, member.catalogue),
            "data_root": resolve_from(home, member.data_root),
            "key": resolve_from(home, member.key),
            "authority": resolve_from(home, member.authority),
        }
    )
