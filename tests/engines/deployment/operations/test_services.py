"""The files for systemd and Docker Compose, checked by their own linters where these are installed."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.member.admission import MemberRemovedError
from coldfusion_fl.engines.deployment.operations import services
from coldfusion_fl.engines.deployment.operations.services import write_member_services, write_services
from coldfusion_fl.engines.deployment.setup import new_federation
from coldfusion_fl.errors import DeploymentError


@pytest.fixture(scope="module")
def acme(tmp_path_factory):
    """A federation whose folder has characters that mean something in unit files."""
    folder = tmp_path_factory.mktemp("a b") / 'c%n"$HOME'
    federation = Federation(folder, "acme", "fl.acme.org", 9443)
    new_federation(federation, ["bank", "Clinic.One"])
    return federation


@pytest.fixture(scope="module", params=["server", "members/bank", "members/Clinic.One"])
def folder(acme, request):
    return acme.folder / request.param


def tool(name):
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.skip(f"{name} is not installed")


def check(folder, *words):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def settings_of(unit):
    """The settings of a unit file; of one that is given more than once, the last."""
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_a_new_federation_has_service_files_for_the_server_and_each_member(acme):
    names = {"compose.yaml", "Dockerfile", ".dockerignore", "start.sh"}
    for folder, unit in (
        (acme.server, "coldfusion-server-acme.service"),
        (acme.folder / "members" / "bank", "coldfusion-member-bank.service"),
    ):
        assert names | {unit} <= {path.name for path in folder.iterdir()}
        assert (folder / "start.sh").stat().st_mode & stat.S_IXUSR
    assert (acme.folder / "runs").is_dir()


def test_systemd_accepts_the_unit(folder):
    [unit] = folder.glob("*.service")
    assert check(folder, tool("systemd-analyze"), "verify", str(unit)) == (0, "")


def test_hadolint_accepts_the_dockerfile(folder):
    assert check(folder, tool("hadolint"), "Dockerfile") == (0, "")


def test_shellcheck_accepts_the_start_script(folder):
    assert check(folder, tool("shellcheck"), "start.sh") == (0, "")


def test_yamllint_accepts_the_compose_file(folder):
    rules = "{extends: default, rules: {line-length: {max: 120}}}"
    assert check(folder, tool("yamllint"), "--strict", "-d", rules, "compose.yaml") == (0, "")


def test_docker_compose_accepts_the_compose_file(acme, tmp_path):
    docker = tool("docker")
    if check(tmp_path, docker, "compose", "version")[0]:
        pytest.skip("docker compose is not installed")
    for folder in (acme.server, acme.folder / "members" / "Clinic.One"):
        shutil.copy(folder / "compose.yaml", tmp_path)
        code, output = check(tmp_path, docker, "compose", "config", "--format", "json")
        assert code == 0, output
        [service] = json.loads(output)["services"].values()
        assert service["user"] != "0:0"


def test_the_unit_names_the_folder_whatever_its_characters(acme):
    values = settings_of(acme.server / "coldfusion-server-acme.service")
    assert values["WorkingDirectory"] == str(acme.folder).replace("%", "%%")
    escaped = str(acme.folder).replace("%", "%%").replace('"', '\\"')
    assert values["ReadWritePaths"] == f'"{escaped}"'
    assert values["ExecStart"].endswith(' federation serve "{}"'.format(escaped.replace("$", "$$")))


def test_a_folder_with_a_line_break_cannot_add_settings_to_a_unit(tmp_path):
    with pytest.raises(DeploymentError, match="unprintable"):
        write_member_services("bank", tmp_path / "x\nUser=root", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_unit_gives_the_supervisor_the_time_to_end_its_processes(folder):
    from coldfusion_fl.engines.deployment import supervisor

    [unit] = folder.glob("*.service")
    values = settings_of(unit)
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    [service] = compose["services"].values()
    longest = 2 * supervisor._GRACE  # SIGTERM, and then SIGKILL
    assert int(values["TimeoutStopSec"]) > longest
    assert int(service["stop_grace_period"].removesuffix("s")) > longest
    assert values["KillMode"] == "mixed"


def test_systemd_does_not_restart_a_member_that_was_removed(acme):
    values = settings_of(acme.folder / "members" / "bank" / "coldfusion-member-bank.service")
    assert int(values["RestartPreventExitStatus"]) == MemberRemovedError.exit_code
    assert "RestartPreventExitStatus" not in settings_of(acme.server / "coldfusion-server-acme.service")


@pytest.mark.parametrize(("port", "capabilities"), [(443, "CAP_NET_BIND_SERVICE"), (9443, "")])
def test_a_server_may_listen_on_its_port_and_nothing_else(tmp_path, port, capabilities):
    federation = Federation(tmp_path / "acme", "acme", "fl.acme.org", port)
    new_federation(federation, [])
    values = settings_of(federation.server / "coldfusion-server-acme.service")
    assert values["CapabilityBoundingSet"] == capabilities
    assert values.get("AmbientCapabilities", "") == capabilities
    assert check(federation.server, tool("systemd-analyze"), "verify", "coldfusion-server-acme.service") == (0, "")


@pytest.mark.parametrize("uid", [0, 1234567])
def test_no_service_runs_as_root(tmp_path, monkeypatch, uid):
    monkeypatch.setattr(services, "_owner", lambda folder: os.stat_result((0o755, 0, 0, 0, uid, uid, 0, 0, 0, 0)))
    write_member_services("bank", tmp_path)
    user = settings_of(tmp_path / "coldfusion-member-bank.service")["User"]
    [service] = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"].values()
    assert user == ("coldfusion" if uid == 0 else str(uid))
    assert service["user"] == f"${{COLDFUSION_USER:-{uid or 1000}:{uid or 1000}}}"
    assert "USER 1000:1000" in (tmp_path / "Dockerfile").read_text()


def test_nothing_but_the_wheel_enters_an_image(folder):
    rules = [line for line in (folder / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules == ["*", "!*.whl"]
    copies = [line for line in (folder / "Dockerfile").read_text().splitlines() if line.startswith(("COPY", "ADD"))]
    assert copies == ["COPY *.whl /tmp/wheel/"]


def test_the_servers_container_has_no_private_key_but_its_own(acme):
    service = yaml.safe_load((acme.server / "compose.yaml").read_text())["services"]["server"]
    mounted = [(acme.server / volume.split(":")[0]).resolve() for volume in service["volumes"][:-1]]
    keys = {key for key in acme.folder.rglob("*.key") for place in mounted if key.is_relative_to(place)}
    assert keys == {acme.server / "server.key"}


def test_the_servers_unit_has_no_private_key_but_its_own(acme):
    hidden = settings_of(acme.server / "coldfusion-server-acme.service")["InaccessiblePaths"]
    escaped = str(acme.folder).replace("%", "%%").replace('"', '\\"')
    assert hidden == f'-"{escaped}/authority" -"{escaped}/members"'
    keys = {key.relative_to(acme.folder).parts[0] for key in acme.folder.rglob("*.key")}
    assert keys == {"authority", "members", "server"}


def test_service_files_are_written_again_for_the_folder_they_are_in(acme, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(acme.folder, moved)
    federation = Federation(moved, "acme", "fl.acme.org", 9443)
    written = write_services(federation)
    assert moved / "server" / "compose.yaml" in written
    assert moved / "members" / "bank" / "Dockerfile" in written
    unit = moved / "members" / "bank" / "coldfusion-member-bank.service"
    assert settings_of(unit)["WorkingDirectory"] == str(moved / "members" / "bank")
    before = {path: path.read_bytes() for path in acme.folder.rglob("*.key")}
    assert before == {path: (moved / path.relative_to(acme.folder)).read_bytes() for path in before} | before
