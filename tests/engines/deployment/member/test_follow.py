"""Following a log that other processes write."""

import pytest

from coldfusion_fl.engines.deployment.member.follow import LogFollower


@pytest.fixture
def followed(tmp_path):
    file, lines = tmp_path / "messages.log", []
    return file, LogFollower(file, lines.append), lines


def add(file, *texts):
    with file.open("a") as log:
        log.writelines(f"2026-01-02 03:04:05 {text}\n" for text in texts)


def test_new_lines_are_passed_on_without_their_time(followed):
    file, follower, lines = followed
    follower.update()
    add(file, "round 1: trained", "round 1: sent")
    follower.update()
    follower.update()
    add(file, "round 2: trained")
    follower.update()
    assert lines == ["round 1: trained", "round 1: sent", "round 2: trained"]


def test_lines_of_earlier_starts_are_not_repeated(followed):
    file, _, lines = followed
    add(file, "of the start before")
    follower = LogFollower(file, lines.append)
    add(file, "of this one")
    follower.update()
    assert lines == ["of this one"]


def test_an_unfinished_line_waits_for_its_end(followed):
    file, follower, lines = followed
    file.write_text("2026-01-02 03:04:05 round")
    follower.update()
    assert not lines
    with file.open("a") as log:
        log.write(" 1\n")
    follower.update()
    assert lines == ["round 1"]


def test_no_line_is_lost_when_the_log_is_rotated(followed):
    file, follower, lines = followed
    add(file, "one", "two")
    follower.update()
    add(file, "three")
    file.rename(file.with_name("messages.log.1"))
    add(file, "four")
    follower.update()
    add(file, "five")
    follower.update()
    assert lines == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize("is_removed", [False, True], ids=["emptied", "removed"])
def test_lines_are_passed_on_after_the_log_was_emptied_or_removed(followed, is_removed):
    file, follower, lines = followed
    add(file, "one", "two")
    follower.update()
    if is_removed:
        file.unlink()
    else:
        file.write_text("")
    add(file, "three")
    follower.update()
    assert lines == ["one", "two", "three"]
