import time

import pytest
from rich.console import Console

from coldfusion_fl.cli.display import Display, format_duration

NOW = time.time()
EVENTS = [
    {"kind": "members", "seen": ["a", "b", "c"], "unseen": ["u"], "time": NOW},
    {"kind": "evaluating", "round": 0, "names": ["a", "u"], "time": NOW},
    {"kind": "score", "round": 0, "name": "a", "frozen": 50.0, "time": NOW + 5},
    {"kind": "evaluated", "round": 0, "time": NOW + 10},
    {"kind": "round", "round": 1, "sampled": ["a", "b", "c"], "time": NOW + 10},
    {"kind": "training", "round": 1, "name": "a", "step": 3, "steps": 20, "loss": 0.5, "time": NOW + 12},
    {"kind": "received", "round": 1, "name": "b", "loss": 0.25, "seconds": 3.0, "time": NOW + 13},
    {"kind": "rejected", "round": 1, "name": "c", "reason": "it lacks a weight", "time": NOW + 14},
    {"kind": "something new", "time": NOW + 15},
]


def shown(display):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(display)
    return console.export_text()


def test_the_live_display_shows_who_trains_losses_and_rejections():
    display = Display(rounds=2)
    for event in EVENTS:
        display.take(event)
    text = shown(display)
    for part in ("round 1 of 2", "3/20", "0.500", "training", "0.250", "rejected"):
        assert part in text


def test_lines_for_where_there_is_no_terminal():
    display = Display(rounds=2)
    lines = [line for event in EVENTS if (line := display.take(event))]
    assert lines[0] == "3 contributors are there, 1 unseen tasks judge"
    assert "  base 0: mean frozen score 50.0 over 1 tasks" in lines
    assert "  c: REJECTED, it lacks a weight" in lines


def test_who_is_left_out_and_a_base_that_is_kept_are_said():
    display = Display(rounds=2)
    for event in EVENTS:
        display.take(event)
    lines = [
        display.take({"kind": "excluded", "name": "c", "reason": "it was rejected 3 times", "time": NOW + 20}),
        display.take({"kind": "kept", "round": 1, "reason": "1 contributions are fit, 2 are needed", "time": NOW + 20}),
    ]
    assert lines == [
        "  c is LEFT OUT from now on: it was rejected 3 times",
        "  the base is KEPT: 1 contributions are fit, 2 are needed",
    ]
    assert all(line.strip() in shown(display) for line in lines)


def test_who_is_waited_for_and_a_server_that_is_away_are_said():
    display = Display(rounds=2)
    lines = [
        display.take({"kind": "waiting", "there": 2, "absent": ["c"], "time": NOW}),
        display.take({"kind": "members", "seen": ["a", "b"], "unseen": [], "absent": ["c"], "time": NOW}),
        display.take({"kind": "away", "reason": "the server does not answer.", "time": NOW}),
        display.take({"kind": "back", "time": NOW}),
    ]
    assert lines == [
        "waiting for c; 2 nodes are there",
        "2 contributors are there; not there: c",
        "the server does not answer. It is asked again, for an hour at most.",
        "The server answers again.",
    ]


def test_the_time_that_is_left():
    display = Display(rounds=3)
    for event in EVENTS:
        display.take(event)
    assert display.seconds_left(NOW + 15) is None
    display.take({"kind": "fused", "round": 1, "contributions": 2, "rejected": 1, "time": NOW + 30})
    display.take({"kind": "evaluating", "round": 1, "names": ["a"], "time": NOW + 30})
    display.take({"kind": "evaluated", "round": 1, "time": NOW + 34})
    display.take({"kind": "round", "round": 2, "sampled": ["a"], "time": NOW + 34})
    # Two rounds of 20 s, one evaluation of 4 s between them, the last of 10 s as the first, less what has passed.
    assert display.seconds_left(NOW + 39) == pytest.approx(2 * 20 + 4 + 10 - 5)


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (61, "1 min 1 s"), (3725, "1 h 2 min")])
def test_spell(seconds, text):
    assert format_duration(seconds) == text


def test_what_a_contributor_says_of_itself_does_not_break_the_display():
    display = Display(rounds=2)
    for event in EVENTS[:-1]:
        display.take(event)
    display.take({"kind": "received", "round": 1, "name": "[/b]", "step": 3.0, "loss": 1.0, "time": NOW + 15})
    assert "[/b]" in shown(display)
