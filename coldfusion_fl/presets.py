"""Named recipes: settings that a run has where its file says no others.

They say what is done with updates and heads. Learning rates and sizes depend on the base and the data, and stay the
run's own.
"""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # Don-Yehiya et al. 2023, section 3: the uniform mean is the next base; heads are fresh in every round.
    "paper": {"server": {"fusion": "mean", "step": "plain"}, "finetune": {"keep-head": False}},
}
