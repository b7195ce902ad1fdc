"""Random contributions for the tests of operators."""

import numpy as np

from coldfusion_fl.fusion import Contribution


def draw(count, seed=0, shapes=((7, 5), (40,), ()), spread=0.1, dtype=np.float32, fisher=False):
    """A base, and so many contributions near it."""
    rng = np.random.default_rng(seed)
    base = {f"w{i}": np.asarray(rng.normal(size=shape)).astype(dtype) for i, shape in enumerate(shapes)}
    parts = []
    for number in range(count):
        encoder = {n: np.asarray(a + spread * rng.normal(size=a.shape)).astype(dtype) for n, a in base.items()}
        diagonal = {n: np.asarray(rng.random(a.shape)).astype(dtype) for n, a in base.items()} if fisher else None
        metrics = {"num-examples": float(rng.integers(1, 100))}
        parts.append(Contribution(f"c{number}", encoder, round=1, metrics=metrics, fisher=diagonal))
    return base, parts


def stacked(parts, name):
    return np.stack([part.encoder[name] for part in parts]).astype(np.float64)
