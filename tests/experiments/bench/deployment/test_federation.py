"""A deployed federation, with few rounds, to see that its benchmarks run and what they count."""

import pytest

from coldfusion_fl.experiments.bench import gpu
from coldfusion_fl.experiments.bench.deployment import federation, messages

pytestmark = pytest.mark.long


def test_a_federation_survives_killed_members_and_leaves_no_process_behind(tmp_path):
    base = gpu.write_base(tmp_path / "base", **federation.TINY)
    found = federation.soak(tmp_path, base, rounds=6, kills=3)
    assert (found["exit-code"], found["rounds"], found["left-behind"]) == (0, 6, 0)
    assert found["fused"] >= 3  # a round may lose both of its two, or one, and then keeps its base
    assert all(len(sizes) == 6 for sizes in found["bytes"].values())
    assert min(found["peak-bytes"].values()) > 10 * 2**20


def test_a_base_of_robertas_size_goes_through_a_federation(tmp_path):
    base = gpu.write_base(tmp_path / "base")
    found = federation.soak(tmp_path, base, rounds=1, kills=0, timeout=300)
    assert (found["exit-code"], found["fused"], found["rejected"], found["left-behind"]) == (0, 1, 0, 0)
    assert min(found["peak-bytes"].values()) > 100 * 2**20


def test_the_processor_time_of_a_message(monkeypatch):
    monkeypatch.setattr(messages, "_TURNS", 1)
    monkeypatch.setattr(messages, "_ROUNDS", 1)
    rows, found = messages.messages()
    [[ours, flowers]] = found["seconds"]
    assert [row.median for row in rows] == [ours, flowers / ours]
    assert 0 < ours < flowers
