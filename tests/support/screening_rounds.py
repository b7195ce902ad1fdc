"""Rounds of screening with small updates."""

import numpy as np

from coldfusion_fl.aggregation.screening import Candidate, ScreeningRound
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.fusion import Contribution, Mean


def round_of(updates, operator=None, score_fn=None, past=None, **metrics):
    """A round of updates by name, each a vector of a two-array base."""
    base = {"w": np.zeros((2, 2), np.float32), "count": np.array(1)}
    candidates = {}
    for name, update in updates.items():
        encoder = {"w": np.float32(update).reshape(2, 2), "count": np.array(5)}
        numbers = {key: values[name] for key, values in metrics.items()}
        contribution = Contribution(name, encoder, metrics=numbers)
        candidates[name] = Candidate(contribution, update_norm(base, encoder), past_norms=(past or {}).get(name, ()))
    return ScreeningRound(base, candidates, operator or Mean(), score_fn)
