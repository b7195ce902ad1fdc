"""The display of a run: what it shows live, and which lines it prints."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.console import Console

from coldfusion_fl.execution.display import Display
from coldfusion_fl.runs import events

NOW = time.time()
EVENTS = [
    events.NodesConnected(seen=["a", "b", "c"], unseen=["u"], time=NOW, rounds=2),
    events.EvaluationStarted(round=0, names=["a", "u"], time=NOW),
    events.ScoreReceived(round=0, name="a", time=NOW + 5, scores={"frozen": 50.0}),
    events.EvaluationFinished(round=0, time=NOW + 10),
    events.RoundStarted(round=1, sampled=["a", "b", "c"], time=NOW + 10),
    events.TrainingStep(round=1, name="a", step=3, steps=20, loss=0.5, time=NOW + 12),
    events.ContributionReceived(round=1, name="b", time=NOW + 13, metrics={"loss": 0.25, "seconds": 3.0}),
    events.ContributionRejected(round=1, name="c", reason="it lacks a weight", time=NOW + 14),
    events.RunStarted(time=NOW + 15),
]


@pytest.fixture
def display():
    return Display(rounds=2)


def lines_of(display, some_events):
    return [line for event in some_events if (line := display.handle(event))]


def shown(display, width=100):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(display)
    return console.export_text()


def test_the_live_display_shows_progress_losses_and_rejections(display):
    lines_of(display, EVENTS)
    text = shown(display)
    for part in ("round 1 of 2", "3/20", "0.500", "training", "0.250", "rejected"):
        assert part in text


def test_lines_without_a_terminal(display):
    lines = lines_of(display, EVENTS)
    assert lines[0] == "3 contributors connected and 1 unseen task for evaluation only"
    assert "  after round 0: mean frozen score 50.0 over 1 task" in lines
    assert "round 1/2: training on a, b, c" in lines
    assert "  c: REJECTED, it lacks a weight" in lines


def test_scores_of_an_earlier_run_are_shown_in_the_line_of_the_evaluation(display):
    reused = {"round": 0, "folder": "/cache/scores", "time": NOW + 5}
    (line,) = lines_of(
        display,
        [
            events.EvaluationStarted(round=0, names=["a", "u"], time=NOW),
            events.ScoresReused(name="a", modes=["frozen"], **reused),
            events.ScoresReused(name="u", modes=["frozen", "few-shot"], **reused),
            events.ScoreReceived(round=0, name="a", time=NOW + 5, scores={"frozen": 50.0}),
            events.EvaluationFinished(round=0, time=NOW + 10),
        ],
    )
    assert line == (
        "  after round 0: mean frozen score 50.0 over 1 task; 3 scores from an earlier run, cached in /cache/scores"
    )
    later = [
        events.EvaluationStarted(round=1, names=["a"], time=NOW + 20),
        events.EvaluationFinished(round=1, time=NOW + 30),
    ]
    assert lines_of(display, later) == ["  after round 1: no scores over 0 tasks"]


def test_the_estimate_includes_the_time_that_earlier_scores_have_spared(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    display = Display(rounds=1)
    lines_of(
        display,
        [
            events.EvaluationStarted(round=0, names=["a", "b", "c"], time=NOW),
            events.ScoresReused(round=0, name="a", modes=["frozen"], folder="/cache", seconds=30.0, time=NOW + 1),
            events.ScoresReused(round=0, name="b", modes=["frozen"], folder="/cache", seconds=50.0, time=NOW + 1),
            events.EvaluationFinished(round=0, time=NOW + 2),
            events.RoundStarted(round=1, sampled=["a"], time=NOW + 2),
            events.RoundFused(round=1, contributions=1, rejected=0, time=NOW + 12),
        ],
    )
    # The last evaluation takes what the first one took, and the 80 s of the scores on two cores; 10 s have passed.
    assert display.seconds_left(NOW + 12) == pytest.approx(2 + 80 / 2 - 10)


def test_excluded_contributors_and_kept_bases_are_shown(display):
    lines_of(display, EVENTS)
    lines = lines_of(
        display,
        [
            events.ContributorExcluded(name="c", reason="it was rejected 3 times", time=NOW + 20),
            events.BaseKept(round=1, reason="too few contributions", contributions=2, rejected=0, time=NOW + 20),
        ],
    )
    for line, facts in zip(lines, [("c", "EXCLUDED", "3 times"), ("KEPT", "too few contributions")], strict=True):
        assert all(fact in line for fact in facts)


def test_missing_members_and_a_server_that_does_not_answer_are_shown(display):
    lines = lines_of(
        display,
        [
            events.WaitingForNodes(connected=2, missing=["c"], time=NOW + 20),
            events.NodesConnected(seen=["a", "b"], unseen=[], missing=["c"], rounds=2, time=NOW + 20),
            events.ServerUnreachable(reason="the server does not answer.", time=NOW + 20),
            events.ServerReachable(time=NOW + 20),
        ],
    )
    assert lines == [
        "waiting for c; 2 nodes connected",
        "2 contributors connected; not connected: c",
        "the server does not answer. The request is repeated for up to an hour.",
        "The server answers again.",
    ]


def test_excluded_members_are_not_called_missing():
    lines = lines_of(
        Display(rounds=2),
        [
            events.WaitingForNodes(connected=2, missing=["d"], excluded=["c"]),
            events.NodesConnected(seen=["a", "b"], missing=["d"], excluded=["c"], rounds=2),
            events.RoundStarted(round=1, sampled=["a", "b"], missing=["d"], excluded=["c"]),
        ],
    )
    assert lines == [
        "waiting for d, c (excluded); 2 nodes connected; excluded ones are queried again every minute",
        "2 contributors connected; excluded: c; not connected: d",
        "round 1/2: training on a, b; excluded: c; not connected: d",
    ]


def test_the_remaining_time_is_estimated_from_the_phases_so_far():
    display = Display(rounds=3)
    lines_of(display, EVENTS)
    assert display.seconds_left(NOW + 15) is None
    lines_of(
        display,
        [
            events.RoundFused(round=1, contributions=2, rejected=1, time=NOW + 30),
            events.EvaluationStarted(round=1, names=["a"], time=NOW + 30),
            events.EvaluationFinished(round=1, time=NOW + 34),
            events.RoundStarted(round=2, sampled=["a"], time=NOW + 34),
        ],
    )
    # Two rounds of 20 s, an evaluation of 4 s between them, the last one of 10 s as the first; minus 5 s that passed.
    assert display.seconds_left(NOW + 39) == pytest.approx(2 * 20 + 4 + 10 - 5)


def test_markup_in_a_contributors_name_is_shown_as_text(display):
    lines_of(display, EVENTS[:-1])
    lines_of(
        display, [events.ContributionReceived(round=1, name="[/b]", metrics={"step": 3.0, "loss": 1.0}, time=NOW + 20)]
    )
    assert "[/b]" in shown(display)


def test_a_narrow_terminal_has_no_broken_lines():
    display = Display(rounds=200)
    long = "a_task_with_a_name_that_is_longer_than_most_terminals_are_wide"
    lines_of(
        display,
        [
            events.RoundStarted(round=1, sampled=[long, "b"], time=NOW),
            events.TrainingStep(round=1, name=long, step=1234, steps=5678, loss=0.5, time=NOW + 12),
            events.ContributionReceived(round=1, name="b", metrics={"loss": 0.25}, time=NOW + 20),
        ],
    )
    for width in (60, 80):
        text = shown(display, width)
        assert all(len(line) <= width for line in text.splitlines())
        assert len(text.splitlines()) == 5  # phase, time, head and two rows: nothing is wrapped
        assert all(part in text for part in ("so far", "1234/5678", "0.250", "a_task"))


@pytest.mark.parametrize(
    ("environment", "is_live", "colours", "width"),
    [
        ({}, True, True, 60),
        ({"NO_COLOR": "1"}, True, False, 60),
        ({"TERM": "dumb"}, False, False, 80),  # Rich takes the width of a dumb terminal for unknown
        ({"CI": "true"}, False, False, 160),
        ({"CI": "true", "FORCE_COLOR": "1"}, True, True, 60),
    ],
)
def test_a_real_terminal_keeps_the_lines_and_draws_what_it_can(environment, is_live, colours, width):
    """In a pseudo-terminal of 60 columns."""
    out = in_terminal(_PROGRAM, {"TERM": "xterm-256color", **environment}, columns=60)
    assert f"live {is_live} width {width}" in out
    # The lines of all ten rounds are in the output, once each: the display is drawn below them.
    for number in range(1, 11):
        assert out.count(f"round {number}/10: training on a") == 1
    assert ("\x1b[" in out) == (is_live or colours)
    assert ("\x1b[32m" in out) == colours


def test_a_file_has_no_control_codes():
    environment = {key: value for key, value in os.environ.items() if key not in _DECIDING}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, env=environment)
    assert b"live False width 160" in done.stdout
    assert b"\x1b" not in done.stdout


# Variables that decide how Rich prints; a test must not have those of the machine that it runs on.
_DECIDING = ("TERM", "CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_PROGRAM = """
from coldfusion_fl.cli import run
from coldfusion_fl.execution.display import Display, is_live
from coldfusion_fl.runs.events import RoundStarted
class Process:
    def events(self):
        for number in range(1, 11):
            yield RoundStarted(round=number, sampled=["a"])
run._show_events(Process(), Display(10))
run.console.print("[green]green")
run.console.print(f"live {is_live(run.console)} width {run.console.width}")
"""


def in_terminal(program, environment, columns):
    """The output of a Python program in a pseudo-terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in _DECIDING} | environment
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):  # Linux: the other end is closed
            while some := os.read(ours, 4096):
                output += some
    os.close(ours)
    assert process.returncode == 0, output
    return output.decode()
