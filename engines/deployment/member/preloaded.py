"""What the processes that handle a member's messages have loaded before they start: see `executor`."""

# ruff: noqa: F401  (most imports are all that this module is for)
import contextlib
import gc
import os
import tomllib
from pathlib import Path

import sklearn.metrics
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import coldfusion_fl.clients.client_app
import coldfusion_fl.clients.handlers
import coldfusion_fl.engines.deployment.member.executor
from coldfusion_fl.engines.flower_internals import run_clientapp
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.model.base import open_base


def load_for_base(node_config: Path) -> None:
    """Have transformers load its modules for the architecture of a member's base; nothing of the base is kept.

    No weights are read: computing with them would start threads, which copies of this process lack.

    Args:
        node_config: the file of the SuperNode's configuration.
    """
    get_checkpoint_conversion_mapping("")  # compiles about a thousand patterns, whatever the model
    # A base that cannot be opened is reported by the first message that needs it.
    with contextlib.suppress(ColdFusionError):
        open_base(tomllib.loads(node_config.read_text(encoding="utf-8"))["base"])


load_for_base(Path(os.environ["FLWR_HOME"], "node.toml"))
# The collector would write to the memory of all objects, which copies then no longer share.
gc.freeze()
