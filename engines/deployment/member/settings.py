"""The settings of a member of a federation, in its `member.toml`."""

import tomllib
from pathlib import Path

from pydantic import Field

from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.schema import Names, SettingsTable
from coldfusion_fl.data.catalogue import resolve_catalogues
from coldfusion_fl.data.paths import expand_user, resolve_from
from coldfusion_fl.engines.deployment.federation import check_name, split_address
from coldfusion_fl.errors import DeploymentError, ErrorCode, SettingsError

MEMBER_FILE = "member.toml"
_TOML = """\
# A member of the federation '{federation}'. Relative paths start from this file's folder.
# Fill in `task` and `base`, then:
#   coldfusion member check .       checks everything
#   coldfusion member start .       joins the federation
name = "{name}"
server = "{server}"
task = ""                # the name of this member's task in the catalogue
catalogue = "tasks.toml" # TOML files of your own, or shipped catalogues
base = ""                # the federation's base: a Hub id, or a folder in Hugging Face format
seen = true              # false: this member only evaluates the bases, and contributes nothing
"""


class Member(SettingsTable):
    """A member's settings. The server cannot change any of them."""

    name: str = Field(
        description="Name of the member in the federation. The server identifies the member by its key.",
        examples=["hospital"],
    )
    server: str = Field(description="Address of the server, `HOST:PORT`.", examples=["fl.acme.org:9443"])
    task: str = Field(description="Name of the task in the catalogue.", examples=["reviews"])
    base: str = Field(
        description="Model that gives the architecture and the tokenizer: a folder in Hugging Face format, a Hub id, "
        "or `package:PATH`.",
        examples=["FacebookAI/roberta-base"],
    )
    catalogue: Names = Field(
        ("packaged",),
        description="Catalogues that define the task: shipped ones or TOML files.",
        examples=["tasks.toml"],
    )
    data_root: str = Field(
        "",
        description="Folder that relative paths in the catalogue start from; empty: the catalogue's own folder.",
        examples=["/data"],
    )
    seen: bool = Field(
        True, description="Whether the member contributes; if not, it only evaluates the bases.", examples=[False]
    )
    key: str = Field("member.key", description="File of the private key.")
    authority: str = Field(
        "ca.crt",
        description="Certificate of the authority that signed the server's certificate; empty: the authorities that "
        "this machine trusts.",
    )


def member_toml(name: str, federation: str, server: str) -> str:
    """The settings file of a new member, which the member must complete."""
    return _TOML.format(name=name, federation=federation, server=server)


def read_member(folder: Path) -> Member:
    """Read a member's settings, with absolute paths.

    Args:
        folder: the member's folder, with `member.toml` in it.

    Raises:
        DeploymentError: the file cannot be read, or a setting is unknown, missing or empty.
    """
    file = folder / MEMBER_FILE
    try:
        member = parse_table(Member, tomllib.loads(file.read_text(encoding="utf-8-sig")), str(file))
    except FileNotFoundError:
        raise DeploymentError(
            f"{folder} has no {MEMBER_FILE}. The server's administrator creates it with coldfusion federation init or "
            "coldfusion federation add. Ask them for your member folder.",
            code=ErrorCode.MEMBER_INVALID,
        ) from None
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{file} cannot be read: {error}", code=ErrorCode.MEMBER_INVALID) from None
    except SettingsError as error:
        raise DeploymentError(str(error), code=error.code) from None
    check_name(member.name)
    split_address(member.server)
    for key in ("task", "base"):
        if not getattr(member, key):
            raise DeploymentError(f"{file}: the setting '{key}' is empty. Fill it in.", code=ErrorCode.SETTING_MISSING)
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
