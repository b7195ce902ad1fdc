"""The table of `coldfusion status`."""

import io

import pytest
from rich.console import Console

from coldfusion_fl.engines.deployment.status_table import print_status
from coldfusion_fl.runs.status import MemberStatus, RunStatus


def printed(styles=False, **values):
    """The table of a status with one round of two, and these values."""
    status = RunStatus(
        **{
            "folder": "runs/a",
            "state": "running",
            "reason": None,
            "round": 1,
            "rounds": 2,
            "phase": "training",
            "lost": 0,
            "members": [],
            "bytes": 0,
            "free_bytes": 0,
            **values,
        }
    )
    console = Console(record=True, width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    print_status(status, console)
    return console.export_text(styles=styles)


@pytest.mark.parametrize("activity", ["training", "evaluating", "answered", "rejected", "missing"])
def test_each_activity_has_a_colour(activity):
    row = printed(styles=True, members=[MemberStatus("a", activity=activity)]).splitlines()[2]
    assert f"m{'not connected' if activity == 'missing' else activity}\x1b[0m" in row


def test_the_size_of_the_servers_database():
    assert "The server's database: 0.50 GiB." in printed(database_bytes=2**29)
    assert "database" not in printed()


def test_numbers_and_nouns_agree():
    text = printed(lost=1, bases=[0])
    assert "restarted 1 time\n" in text
    assert "1 base," in text


@pytest.mark.parametrize(
    ("round_", "rounds", "text"), [(1, 2, "1 of 2 rounds are done;"), (3, 2, "3 rounds;"), (1, None, "1 round;")]
)
def test_a_run_may_have_more_rounds_than_were_planned(round_, rounds, text):
    assert f"runs/a: running, {text} training" in printed(round=round_, rounds=rounds)


def test_what_is_wrong_with_the_folder_is_below_the_table():
    text = printed(warnings=["runs/a/rounds/[x]: this is not the folder of a round"])
    assert text.rstrip().endswith("runs/a/rounds/[x]: this is not the folder of a round")
