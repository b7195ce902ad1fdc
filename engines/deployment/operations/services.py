"""The files by which a service manager or Docker runs a federation's server or a member.

The server's files are in FEDERATION/server, a member's in its own folder. The folder `templates` has their texts.
"""

import itertools
import os
import pwd
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coldfusion_fl.atomic_files import atomic_write
from coldfusion_fl.engines.deployment.federation import Federation, check_name
from coldfusion_fl.engines.deployment.member.settings import MEMBER_FILE
from coldfusion_fl.errors import DeploymentError
from coldfusion_fl.versions import installed_versions

_SCRIPT = "start.sh"
_CONTAINER_USER = 1000
_SYSTEM_USER = "coldfusion"


def write_services(federation: Federation) -> list[Path]:
    """Write the files that run a federation's server, and those of the members' folders that are still here.

    Returns:
        The files.

    Raises:
        DeploymentError: the path of the folder has unprintable characters.
    """
    members = sorted(file.parent for file in (federation.folder / "members").glob(f"*/{MEMBER_FILE}"))
    files = [write_member_services(check_name(folder.name), folder) for folder in members]
    return [*write_server_services(federation), *itertools.chain(*files)]


def write_server_services(federation: Federation, folder: Path | None = None) -> list[Path]:
    """Write the files that run a federation's server, and create the folder for its runs. Existing files are replaced.

    Args:
        federation: the federation, at its final place, which the files name.
        folder: where the federation's files are now; None: at their final place.

    Returns:
        The files.

    Raises:
        DeploymentError: the path of the folder has unprintable characters.
    """
    folder = folder or federation.folder
    (folder / "runs").mkdir(exist_ok=True)
    values = {
        "role": "federation",
        "verb": "serve",
        "service": "server",
        "title": f"The server of the federation {federation.name}",
        "unit": f"coldfusion-server-{federation.name}",
        "folder": _checked(federation.folder),
        "mount": "/federation",
        "owned": "the federation's folder",
        "rewrite": "coldfusion federation services FOLDER",
        "address": federation.address,
        "port": federation.port,
    }
    return _write(values, folder / "server", _owner(federation.folder))


def write_member_services(name: str, home: Path, folder: Path | None = None) -> list[Path]:
    """Write the files that run a member. Existing files are replaced.

    Args:
        name: the member's name.
        home: the member's folder at its final place, which the files name.
        folder: where the member's files are now; None: at their final place.

    Returns:
        The files.

    Raises:
        DeploymentError: the path of the folder has unprintable characters.
    """
    values = {
        "role": "member",
        "verb": "start",
        "service": "member",
        "title": f"The member {name} of a federation",
        "unit": f"coldfusion-member-{name}",
        "folder": _checked(home),
        "mount": "/member",
        "owned": "this folder",
        "rewrite": "coldfusion member services FOLDER",
    }
    return _write(values, folder or home, _owner(home))


def _write(values: Mapping[str, object], target: Path, owner: os.stat_result | None) -> list[Path]:
    uid, gid = (owner.st_uid, owner.st_gid) if owner else (os.getuid(), os.getgid())
    versions = installed_versions()
    unit = str(values["unit"])
    values = {
        **values,
        "executable": _executable(),
        "user": _user_name(uid),
        "uid": uid or _CONTAINER_USER,
        "gid": gid or _CONTAINER_USER,
        "version": versions.get("coldfusion-fl", "?"),
        "torch_version": versions["torch"].partition("+")[0],  # without the local part, such as +cpu
        # Docker Compose allows fewer characters in the name of a project.
        "project": unit.lower().replace(".", "-"),
    }
    templates = {
        f"{unit}.service": "service.j2",
        "compose.yaml": "compose.yaml.j2",
        "Dockerfile": "Dockerfile.j2",
        ".dockerignore": "dockerignore.j2",
        _SCRIPT: f"{values['role']}.{_SCRIPT}.j2",
    }
    files = []
    for name, template in templates.items():
        files.append(target / name)
        with atomic_write(files[-1]) as path:
            path.write_text(_templates().get_template(template).render(values), encoding="utf-8")
            path.chmod(0o755 if name == _SCRIPT else 0o644)
    return files


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # no HTML: names are checked, and paths are quoted by these filters
    )
    environment.filters |= {"specifiers": _escape_specifiers, "word": _quote_word, "argument": _quote_argument}
    return environment


def _escape_specifiers(text: str) -> str:
    """A text in a unit file that is not split into words: `%` begins a specifier there."""
    return text.replace("%", "%%")


def _quote_word(text: str) -> str:
    """A word of a list in a unit file."""
    escaped = _escape_specifiers(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quote_argument(text: str) -> str:
    """An argument of a command in a unit file, where `$` begins a variable."""
    return _quote_word(text).replace("$", "$$")


def _checked(folder: Path) -> str:
    path = str(folder)
    if not path.isprintable():  # a line break would begin a new setting
        raise DeploymentError(
            f"{path!r} has unprintable characters, which service files cannot have. Rename the folder."
        )
    return path


def _executable() -> str:
    """The path of the command `coldfusion` of this Python environment."""
    beside = Path(sys.executable).with_name("coldfusion")
    return str(beside) if beside.exists() else shutil.which("coldfusion") or str(beside)


def _owner(folder: Path) -> os.stat_result | None:
    """The owner of a folder, who is to run the service; None: the folder does not exist yet."""
    return folder.stat() if folder.exists() else None


def _user_name(uid: int) -> str:
    """The name of the user that is to run the service. Root is replaced, because no service of ours needs it."""
    if uid == 0:
        return _SYSTEM_USER
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
