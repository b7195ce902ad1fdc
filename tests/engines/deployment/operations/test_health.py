"""Health checks without processes; those of a real federation are in test_deployment.py."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from coldfusion_fl.atomic_files import exclusive_lock
from coldfusion_fl.cli.main import app
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.member.join import flower_home, free_port, node_config_option
from coldfusion_fl.engines.deployment.operations import health
from coldfusion_fl.engines.deployment.operations.health import check_member_health, check_server_health
from coldfusion_fl.engines.deployment.setup import new_federation
from coldfusion_fl.errors import DeploymentError, ErrorCode


@pytest.fixture
def acme(tmp_path):
    federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", free_port())
    new_federation(federation, ["bank"])
    file = federation.folder / "members" / "bank" / "member.toml"
    file.write_text(file.read_text().replace('task = ""', 'task = "loans"').replace('base = ""', 'base = "none"'))
    return federation


@pytest.fixture
def bank(acme):
    """A member whose lock is held, and a process that has its SuperNode's arguments."""
    folder = acme.folder / "members" / "bank"
    home = flower_home(folder)
    home.mkdir()
    words = ["import time; time.sleep(100)", *node_config_option(home)]
    with exclusive_lock(home, "taken"), subprocess.Popen([sys.executable, "-c", *words]) as process:
        yield folder
        process.kill()


def test_a_server_that_does_not_run(acme):
    with pytest.raises(DeploymentError, match="does not run") as error:
        check_server_health(acme)
    assert error.value.code == ErrorCode.NOT_RUNNING


def test_a_server_that_runs_and_does_not_answer(acme):
    with exclusive_lock(acme.flower_home, "taken"), pytest.raises(DeploymentError) as error:
        check_server_health(acme)
    assert error.value.code == ErrorCode.SERVER_UNREACHABLE


def test_a_member_that_has_not_joined(acme):
    with pytest.raises(DeploymentError, match="no SuperNode runs") as error:
        check_member_health(acme.folder / "members" / "bank")
    assert error.value.code == ErrorCode.NOT_RUNNING


def test_a_member_that_waits_for_its_admission(acme):
    home = flower_home(acme.folder / "members" / "bank")
    home.mkdir()
    with exclusive_lock(home, "taken"), pytest.raises(DeploymentError, match="coldfusion member check"):
        check_member_health(acme.folder / "members" / "bank")


def test_a_member_whose_supernode_has_just_started(bank):
    with pytest.raises(DeploymentError, match=r"started \d s ago") as error:
        check_member_health(bank)
    assert error.value.code == ErrorCode.NOT_RUNNING


def test_a_member_that_cannot_reach_the_server(bank, monkeypatch):
    monkeypatch.setattr(health, "_SETTLED", 0.0)
    with pytest.raises(DeploymentError, match="cannot be reached") as error:
        check_member_health(bank)
    assert error.value.code == ErrorCode.SERVER_UNREACHABLE


@pytest.mark.parametrize("words", [("federation", "acme"), ("member", "acme/members/bank"), ("member", "nowhere")])
def test_the_command_prints_one_line_and_exits_with_code_1(acme, tmp_path, words):
    role, folder = words
    done = CliRunner().invoke(app, [role, "health", str(tmp_path / folder)])
    assert done.exit_code == 1  # Docker reserves 2
    assert len(done.stdout.splitlines()) == 1
