"""What the processes that handle a member's messages have loaded before they start: see `executor`."""

# ruff: noqa: F401  (most imports are all that this module is for)
import gc
import os
import tomllib
from logging import WARNING
from pathlib import Path

import sklearn.metrics
from flwr.common import log

import coldfusion_fl.clients.client_app
import coldfusion_fl.clients.handlers
import coldfusion_fl.engines.deployment.member.executor
from coldfusion_fl.data.paths import PACKAGE, expand_user
from coldfusion_fl.engines.flower_internals import run_clientapp
from coldfusion_fl.model.base import open_base


def load_for_base(node_config: Path) -> None:
    """Have transformers load its modules for the architecture of a member's base; nothing of the base is kept.

    No weights are read, and nothing is downloaded: that would start threads, which forked processes lack. A failure
    only makes messages slower. If the base is the cause, the first message that needs it reports the error.

    Args:
        node_config: the file of the SuperNode's configuration.
    """
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("")  # compiles about a thousand patterns, whatever the model
        base = tomllib.loads(node_config.read_text(encoding="utf-8"))["base"]
        if base.startswith(PACKAGE) or expand_user(base).is_dir():
            open_base(base)
    except Exception as failure:  # the fork server must not end
        log(WARNING, "The base's architecture cannot be loaded in advance: %s", failure)


load_for_base(Path(os.environ.get("FLWR_HOME", ""), "node.toml"))
# The collector would write to the memory of all objects, which copies then no longer share.
gc.freeze()
