"""Scores on disk between runs: what is kept, for how long, and what happens where the folder cannot be used."""

import errno
import os
import stat
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


def test_the_folder_and_its_files_are_for_their_owner_alone(cache):
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    cache.folder.chmod(0o755)
    assert cache.load(KEYS[0])
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


def test_the_folder_of_another_user_is_not_used(cache, warnings, monkeypatch):
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert cache.load(KEYS[0]) is None
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    assert len(warnings) == 2
    assert all("another user" in warning for warning in warnings)
    assert not file_of(cache, KEYS[1]).exists()


def flip(content, where):
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"damaged",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: flip(content, len(content) - 1),
        lambda content: content.replace(b"33.33", b"43.33"),
        lambda content: content.replace(b"labels", b"lebals"),
        lambda content: content.replace(b"seconds", b"secands"),
        lambda content: content.replace(b'"__metadata__"', b'"__metedata__"'),
    ],
    ids=["empty", "text", "half", "shorter", "prediction", "value", "no-labels", "no-seconds", "no-facts"],
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


def test_a_folder_in_the_place_of_a_file_is_no_score(cache, warnings):
    file_of(cache, KEYS[0]).mkdir(parents=True)
    assert cache.load(KEYS[0]) is None
    assert len(warnings) == 1


def test_a_file_in_the_place_of_the_folder_is_a_warning(cache, warnings):
    cache.folder.parent.mkdir()
    cache.folder.write_text("a file")
    assert cache.load(KEYS[0]) is None
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    assert len(warnings) == 2


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_a_warning(cache, warnings, monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    monkeypatch.setattr(os, "utime", fail)
    monkeypatch.setattr(score_cache, "save_arrays", fail)
    assert cache.load(KEYS[0]).score == SCORE
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    monkeypatch.setattr(Path, "mkdir", fail)
    assert cache.load(KEYS[0]) is None
    assert len(warnings) == 2
    assert all(os.strerror(number) in warning for warning in warnings)


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


def test_the_scores_that_were_not_used_for_the_longest_time_are_removed(cache, monkeypatch):
    monkeypatch.setattr(score_cache, "_MAX_FILES", 3)
    for age, key in enumerate(KEYS[:3]):
        cache.save(key, CachedScore(SCORE, CLASSES, 1.0))
        os.utime(file_of(cache, key), (age, age))
    assert cache.load(KEYS[0])  # and so it is used
    cache.save(KEYS[3], CachedScore(SCORE, CLASSES, 1.0))
    assert {file.stem for file in cache.folder.iterdir()} == {KEYS[0], KEYS[2], KEYS[3]}


def test_the_bytes_of_all_scores_have_a_limit(cache, monkeypatch):
    cache.save(KEYS[0], CachedScore(SCORE, CLASSES, 1.0))
    os.utime(file_of(cache, KEYS[0]), (0, 0))
    monkeypatch.setattr(score_cache, "_MAX_BYTES", file_of(cache, KEYS[0]).stat().st_size)
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    assert [file.stem for file in cache.folder.iterdir()] == [KEYS[1]]


def test_what_a_killed_writer_has_left_is_removed_and_other_files_stay(cache, monkeypatch):
    monkeypatch.setattr(score_cache, "_MAX_FILES", 1)
    cache.folder.mkdir(parents=True)
    left, *others = (
        cache.folder / name for name in (f".{KEYS[0]}.safetensors.12.partial", "notes.txt", "model.safetensors")
    )
    for file in (left, *others):
        file.write_bytes(b"x")
        os.utime(file, (0, 0))
    cache.save(KEYS[1], CachedScore(SCORE, CLASSES, 1.0))
    assert set(cache.folder.iterdir()) == {file_of(cache, KEYS[1]), *others}


def test_where_the_scores_are(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert score_cache_folder() == tmp_path / "coldfusion-fl" / "scores"
    for cache in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert score_cache_folder() == Path.home() / ".cache" / "coldfusion-fl" / "scores"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert score_cache_folder() == Path.home() / ".cache" / "coldfusion-fl" / "scores"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    assert score_cache_folder() == tmp_path / "own" / "scores"
    for none in ("", "relative"):
        monkeypatch.setenv(VARIABLE, none)
        assert score_cache_folder() is None
