"""Presets: default settings that a run's file can override.

They say what is done with updates and heads. Learning rates and sizes depend on the base and the data, and stay the
run's own.
"""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # Don-Yehiya et al. 2023, section 3: the uniform mean is the next base; heads are fresh in every round, and all
    # weights are trained.
    "paper": {
        "server": {"fusion": "mean", "server-optimizer": "plain"},
        "finetune": {"keep-head": False, "freeze": "nothing"},
    },
    # Kept heads and a Nesterov step go further (DiLoCo, Douillard et al. 2023), and forget more of what the first base
    # knew. An average of the bases, drawn back towards the first one (WiSE-FT, Wortsman et al. 2022), keeps that: it is
    # the result. Chosen on development splits: experiments/recipes.toml. Frozen embeddings hide which word pieces the
    # rows hold, and cost nothing that could be measured: experiments/main.toml.
    "recommended": {
        "server": {
            "fusion": "mean",
            "server-optimizer": "nesterov(learning-rate=0.7, momentum=0.9)",
            "ema": 0.7,
            "blend": 0.6,
        },
        "finetune": {"keep-head": True, "freeze": "embeddings"},
    },
}
