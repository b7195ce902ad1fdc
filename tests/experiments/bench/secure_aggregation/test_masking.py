"""The simulation of secure aggregation computes what it measures, and the page has its figures."""

import json
import re
import secrets
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coldfusion_fl.experiments.bench.secure_aggregation.masking import (
    join_shares,
    masked,
    mean_of_sum,
    pairwise_seed,
    quantize,
    split_secret,
    unmask,
)

ROOT = Path(__file__).parents[4]
FIGURES = json.loads((ROOT / "experiments/results/secure_aggregation.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/results/secure-aggregation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("dropped", [(), (2, 5)])
def test_the_sum_of_those_who_answered_is_exact(dropped):
    keys = [X25519PrivateKey.generate() for _ in range(8)]
    seeds = {i: {j: pairwise_seed(keys[i], keys[j].public_key()) for j in range(8) if j != i} for i in range(8)}
    own = {i: secrets.token_bytes(32) for i in range(8)}
    updates = np.random.default_rng(0).integers(0, 1 << 24, (8, 1000), np.uint32)
    present = [i for i in range(8) if i not in dropped]
    sent = {i: masked(updates[i], i, own[i], seeds[i]) for i in present}
    assert all((sent[i] != updates[i]).mean() > 0.99 for i in present)
    total = np.sum(list(sent.values()), axis=0, dtype=np.uint32)
    unmask(total, [own[i] for i in present], {i: seeds[i] for i in dropped}, present)
    assert np.array_equal(total, updates[present].sum(axis=0, dtype=np.uint32))


def test_enough_shares_give_the_secret_and_fewer_do_not():
    secret = secrets.token_bytes(32)
    shares = split_secret(secret, threshold=3, shares=5)
    assert join_shares(shares[2:]) == join_shares(shares[:3]) == secret
    with pytest.raises(OverflowError):  # a number of 65 bytes, of which no seed of 32 bytes can be made
        join_shares(shares[:2])


@pytest.mark.parametrize("bits", [16, 24])
def test_whole_numbers_are_near_the_update_and_unbiased(bits):
    update = np.full(100_000, 0.123456, np.float32)
    rounded = quantize(update, 1.0, bits, np.random.default_rng(0))
    found = mean_of_sum(rounded, 1, 1.0, bits)
    step = 2 / (2**bits - 1)
    assert np.abs(found - update).max() <= step
    assert abs(found.mean() - np.float64(update[0])) < step / 50


def cells(head):
    """The rows of the table of the page that begins with a head, as lists of cells."""
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(head))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return table
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def test_the_table_of_costs_has_the_figures():
    expected = [
        [
            f"{one['weights'] / 1e6:.1f}M",
            str(one["members"]),
            str(one["neighbours"]),
            f"{one['member-masks-seconds']:.1f} s",
            f"{one['member-vector-bytes'] / 1e6:.0f} MB",
            f"{one['member-key-bytes'] / 1e3:.0f} kB",
            f"{one['server-unmask-seconds']:.1f} s",
            f"{one['server-seconds-per-dropout']:.1f} s",
        ]
        for one in FIGURES["costs"]
    ]
    assert cells("| weights |") == expected


def test_the_table_of_errors_has_the_figures():
    written = {name: float(re.sub("[^0-9.e-]", "", error.replace("−", "-"))) for name, error in cells("| numbers |")}
    found = FIGURES["errors"]["relative-errors"]
    assert written == {name: pytest.approx(error, rel=0.05) for name, error in found.items()}
