"""The steps of secure aggregation in one process, to measure them (Bonawitz et al., CCS 2017).

A member sends y = x + PRG(b) + Σ_{j>i} PRG(s_ij) − Σ_{j<i} PRG(s_ij) mod 2³², where x is its quantised update, b a seed
of its own and s_ij the seed that it shares with member j. In the sum the pairs cancel. Of a member that answered, the
others reveal b; of one that did not, its pairwise seeds. As Bell et al. do (CCS 2020), a member may share seeds with
some neighbours only.

This measures costs. It has no authentication of keys and no checks against a malicious server, and must not be used to
protect anything.
"""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED_BYTES = 32
# A prime above all seeds of 32 bytes.
_PRIME = 2**521 - 1
_CHUNK = 1 << 22  # bytes of a mask that are made at a time


def pairwise_seed(own: X25519PrivateKey, other: X25519PublicKey) -> bytes:
    """The seed that two members share, 32 bytes; either makes it of its own key and the other's public one."""
    return HKDF(hashes.SHA256(), SEED_BYTES, salt=None, info=b"mask").derive(own.exchange(other))


def add_mask(total: np.ndarray, seed: bytes, sign: int) -> None:
    """Add or subtract the mask of a seed, in place and modulo 2³²: the key stream of AES-256 in counter mode.

    Args:
        total: shape (n,), uint32.
        seed: 32 bytes.
        sign: 1 or -1.
    """
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(_CHUNK)
    operation = np.add if sign > 0 else np.subtract
    for start in range(0, total.size, _CHUNK // 4):
        part = total[start : start + _CHUNK // 4]
        operation(part, np.frombuffer(stream.update(zeros[: 4 * part.size]), np.uint32), out=part)


def masked(update: np.ndarray, member: int, own_seed: bytes, seeds: Mapping[int, bytes]) -> np.ndarray:
    """What a member sends.

    Args:
        update: its quantised update, shape (n,), uint32.
        member: its number.
        own_seed: its own seed.
        seeds: the seeds that it shares, by the number of the other member.

    Returns:
        Shape (n,), uint32.
    """
    sent = update.copy()
    add_mask(sent, own_seed, 1)
    for other, seed in seeds.items():
        add_mask(sent, seed, 1 if other > member else -1)
    return sent


def unmask(
    total: np.ndarray, own_seeds: Sequence[bytes], dropped: Mapping[int, Mapping[int, bytes]], present: Sequence[int]
) -> None:
    """Remove the masks from the sum of what the members sent, in place.

    Args:
        total: the sum modulo 2³², shape (n,), uint32.
        own_seeds: the own seeds of the members that answered.
        dropped: the seeds that each member that did not answer shares, by their numbers.
        present: the numbers of the members that answered.
    """
    for seed in own_seeds:
        add_mask(total, seed, -1)
    for member, seeds in dropped.items():
        for other in set(seeds) & set(present):
            add_mask(total, seeds[other], -1 if member > other else 1)


def split_secret(secret: bytes, threshold: int, shares: int) -> list[tuple[int, int]]:
    """Shamir's shares of 32 bytes, as points of a random polynomial; any `threshold` of them give the secret."""
    coefficients = [int.from_bytes(secret), *(secrets.randbelow(_PRIME) for _ in range(threshold - 1))]
    return [(x, _evaluate(coefficients, x)) for x in range(1, shares + 1)]


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % _PRIME
    return value


def join_shares(shares: Sequence[tuple[int, int]]) -> bytes:
    """The secret of Shamir's shares, 32 bytes, by Lagrange's interpolation at 0."""
    secret = 0
    for x, y in shares:
        factor = y
        for other, _ in shares:
            if other != x:
                factor = factor * other * pow(other - x, -1, _PRIME) % _PRIME
        secret += factor
    return (secret % _PRIME).to_bytes(SEED_BYTES)


def quantize(update: np.ndarray, clip: float, bits: int, draw: np.random.Generator) -> np.ndarray:
    """An update as whole numbers of some bits, rounded up or down at random, so that the mean error is 0.

    Args:
        update: shape (n,), float32.
        clip: larger values are clipped.
        bits: the bits of a number.
        draw: the random generator.

    Returns:
        Shape (n,), uint32.
    """
    steps = (1 << bits) - 1
    scaled = (np.clip(update, -clip, clip).astype(np.float64) + clip) * (steps / (2 * clip))
    return np.floor(scaled + draw.random(update.shape)).clip(0, steps).astype(np.uint32)


def mean_of_sum(total: np.ndarray, members: int, clip: float, bits: int) -> np.ndarray:
    """The mean of updates of the sum of their whole numbers, shape (n,), float64."""
    steps = (1 << bits) - 1
    return total.astype(np.float64) / members * (2 * clip / steps) - clip
