"""Scores on disk between runs: what is kept, for how long, and what happens where the folder cannot be used."""

import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coldfusion_fl.evaluation import score_cache
from coldfusion_fl.evaluation.score_cache import VARIABLE, CachedScore, ScoreCache, score_cache_folder
from coldfusion_fl.evaluation.scores import Predictions, Score

SCORE = Score("tâche", "few-shot", "accuracy", "mean", 100 / 3, 12, 4, "0123456789ab")
CLASSES = Predictions(np.array([0, 2, 1, 1]), np.array([[0, 2, 1, 0], [1, 2, 1, 0]]))
NUMBERS = Predictions(np.array([0.1, 2, 1, 3], np.float32), np.array([[0.1, 0.2, 0.3, 1 / 3]]))
KEYS = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def cache(tmp_path, warnings):
    return ScoreCache(tmp_path / "cache" / "scores", warnings.append)


@pytest.fixture(autouse=True)
def new_process():
    """The first save of a process removes old files."""
    score_cache._remove_oldest.cache_clear()


def file_of(cache, key):
    return cache.folder / f"{key}.safetensors"


@pytest.mark.parametrize("predictions", [CLASSES, NUMBERS])
def test_a_score_is_read_as_it_was_written(cache, warnings, predictions):
    assert cache.load(KEYS[0]) is None
    cache.save(KEYS[0], CachedScore(SCORE, predictions, 2.5))
    read = cache.load(KEYS[0])
    assert read.score == SCORE
    assert read.seconds == 2.5
    for name in ("labels", "predicted"):
        one, other = getattr(read.predictions, name), getattr(predictions, name)
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes() and one.shape == other.shape
    assert cache.load(KEYS[1]) is None
    assert not warnings


def test_a_folder_that_is_created_is_for_its_owner_alone(cache, warnings):
    before = os.umask(0)
    try:
        cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert cache.load(KEYS[0]) and not warnings


def test_reading_creates_nothing_and_says_nothing(cache, warnings, tmp_path):
    assert cache.load(KEYS[0]) is None
    assert not list(tmp_path.iterdir())
    assert not warnings


@pytest.mark.parametrize("mode", [0o775, 0o755, 0o750, 0o777])
def test_a_folder_that_others_can_read_stays_as_it_is_and_is_not_used(cache, warnings, mode):
    """An existing folder of the user, or one of a file system without modes."""
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    cache.folder.chmod(mode)
    assert cache.load(KEYS[0]) is None
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    assert not file_of(cache, KEYS[1]).exists()
    assert stat.S_IMODE(cache.folder.stat().st_mode) == mode
    (warning,) = set(warnings)
    assert "other users" in warning and str(cache.folder) in warning


def test_the_folder_of_another_user_is_not_used(cache, warnings, monkeypatch):
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert cache.load(KEYS[0]) is None
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    (warning,) = set(warnings)
    assert "another user" in warning
    assert not file_of(cache, KEYS[1]).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"damaged",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content.replace(b"labels", b"lebals"),
        lambda content: content.replace(b"seconds", b"secands"),
        lambda content: content.replace(b'"__metadata__"', b'"__metedata__"'),
    ],
    ids=["empty", "text", "half", "shorter", "no-labels", "no-seconds", "no-facts"],
)
def test_a_damaged_file_is_no_score_and_is_replaced(cache, warnings, damage):
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    file = file_of(cache, KEYS[0])
    file.write_bytes(damage(file.read_bytes()))
    assert cache.load(KEYS[0]) is None
    assert len(warnings) == 1
    assert str(file) in warnings[0]
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    assert cache.load(KEYS[0]).score == SCORE


@pytest.mark.parametrize(
    ("changes", "predictions"),
    [
        ({"value": "high"}, CLASSES),
        ({"value": None}, CLASSES),
        ({"task": 3}, CLASSES),
        ({"test_examples": 5}, CLASSES),
        ({}, Predictions(CLASSES.labels, CLASSES.predicted[0])),
        ({}, Predictions(CLASSES.labels, CLASSES.predicted[:, 1:])),
        ({}, Predictions(CLASSES.labels, CLASSES.predicted[:0])),
    ],
)
def test_a_file_with_other_contents_is_no_score(cache, warnings, changes, predictions):
    cache.save(KEYS[0], CachedScore(replace(SCORE, **changes), predictions, 1.0))
    assert cache.load(KEYS[0]) is None
    assert len(warnings) == 1


@pytest.mark.parametrize("score", ["[1]", "3", "{", json.dumps({"task": "a"})])
def test_a_file_with_another_score_is_no_score(cache, warnings, score, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(score_cache.json, "dumps", lambda _: score)
        cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    assert cache.load(KEYS[0]) is None
    assert len(warnings) == 1


def test_a_folder_in_the_place_of_a_file_is_no_score(cache, warnings):
    cache.folder.mkdir(mode=0o700, parents=True)
    file_of(cache, KEYS[0]).mkdir()
    assert cache.load(KEYS[0]) is None
    assert len(warnings) == 1


def test_a_file_in_the_place_of_the_folder_is_one_warning(cache, warnings):
    cache.folder.parent.mkdir()
    cache.folder.write_text("a file")
    for key in KEYS:
        assert cache.load(key) is None
        cache.save(key, CachedScore(SCORE, CLASSES, 1.0))
    assert len(set(warnings)) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_home_that_cannot_be_written_is_one_warning(cache, warnings, monkeypatch, number):
    def fail(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", fail)
    for key in KEYS:
        assert cache.load(key) is None
        cache.save(key, CachedScore(SCORE, CLASSES, 1.0))
    (warning,) = set(warnings)
    assert os.strerror(number) in warning and str(cache.folder) in warning


def test_a_folder_that_cannot_be_written_is_one_warning_and_is_read(cache, warnings, monkeypatch):
    def fail(*given, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(given))

    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    monkeypatch.setattr(os, "utime", fail)
    monkeypatch.setattr(score_cache, "save_arrays", fail)
    assert cache.load(KEYS[0]).score == SCORE
    for key in KEYS[1:]:
        cache.save(key, CachedScore(SCORE, CLASSES, 1.0))
    assert len(set(warnings)) == 1


def test_a_full_disk_is_a_warning_and_leaves_nothing(small_disk, warnings):
    disk = small_disk("1m")
    cache = ScoreCache(disk / "scores", warnings.append)
    (disk / "large").write_bytes(bytes(2**20 - 2**15))
    large = Predictions(np.arange(50_000), np.arange(50_000)[None])
    cache.save(KEYS[0], CachedScore(SCORE, large, 1.0))
    assert len(warnings) == 1
    assert "No space left" in warnings[0]
    assert list(cache.folder.iterdir()) == []
    assert cache.load(KEYS[0]) is None


def test_the_first_save_of_a_process_removes_the_scores_that_were_not_used_for_the_longest_time(cache, monkeypatch):
    for age, key in enumerate(KEYS[:3]):
        cache.save(key, CachedScore(SCORE, CLASSES, 1.0))
        os.utime(file_of(cache, key), (age, age))
    assert cache.load(KEYS[0])  # and so it is used
    monkeypatch.setattr(score_cache, "_MAX_BYTES", 3 * file_of(cache, KEYS[0]).stat().st_size)
    cache.save(KEYS[3], CachedScore(SCORE, CLASSES, 1.0))
    assert len(list(cache.folder.iterdir())) == 4
    score_cache._remove_oldest.cache_clear()
    cache.save(KEYS[3], CachedScore(SCORE, CLASSES, 1.0))
    assert {file.stem for file in cache.folder.iterdir()} == {KEYS[0], KEYS[2], KEYS[3]}


def test_the_number_of_scores_has_no_limit_of_its_own(cache):
    for number in range(1100):
        cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file_of(cache, f"{number:064x}").write_bytes(b"x")
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    assert len(list(cache.folder.iterdir())) == 1101


def test_what_a_killed_writer_has_left_is_removed_and_other_files_stay(cache, monkeypatch):
    monkeypatch.setattr(score_cache, "_MAX_BYTES", 2**11)
    cache.folder.mkdir(mode=0o700, parents=True)
    left, *others = (
        cache.folder / name for name in (f".{KEYS[0]}.safetensors.12.partial", "notes.txt", "model.safetensors")
    )
    for file in (left, *others):
        file.write_bytes(bytes(2**11))
        os.utime(file, (0, 0))
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    assert set(cache.folder.iterdir()) == {file_of(cache, KEYS[1]), *others}


def test_where_the_scores_are(monkeypatch, tmp_path, warnings):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert score_cache_folder(warnings.append) == tmp_path / "coldfusion-fl" / "scores"
    for cache in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert score_cache_folder(warnings.append) == Path.home() / ".cache" / "coldfusion-fl" / "scores"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert score_cache_folder(warnings.append) == Path.home() / ".cache" / "coldfusion-fl" / "scores"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    assert score_cache_folder(warnings.append) == tmp_path / "own" / "coldfusion-fl" / "scores"
    monkeypatch.setenv(VARIABLE, "")
    assert score_cache_folder(warnings.append) is None
    assert not warnings


@pytest.mark.parametrize("named", ["relative", "~/cache", "."])
def test_a_relative_folder_turns_the_cache_off_with_a_warning(monkeypatch, warnings, named):
    monkeypatch.setenv(VARIABLE, named)
    assert score_cache_folder(warnings.append) is None
    (warning,) = warnings
    assert VARIABLE in warning and "absolute" in warning
