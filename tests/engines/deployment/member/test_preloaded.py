"""What the processes that handle a member's messages have loaded before they start."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
import coldfusion_fl.engines.deployment.member.preloaded
from transformers import conversion_mapping

assert conversion_mapping._checkpoint_conversion_mapping_cache
print("modules:", *(name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name))
"""


def models_loaded(folder):
    environment = os.environ | {"FLWR_HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[2] for name in done.stdout.split("modules:")[1].split()} - {"auto"}


def test_the_architecture_of_the_base_is_loaded_and_no_other(tiny_base, tmp_path):
    (tmp_path / "node.toml").write_text(f"base = '{tiny_base}'\n")
    assert models_loaded(tmp_path) == {"bert"}


@pytest.mark.parametrize("config", ["base = 'no/such-model'", "task = 'a'", "no toml", None])
def test_a_base_that_cannot_be_opened_is_left_to_the_first_message(tmp_path, config):
    if config is not None:
        (tmp_path / "node.toml").write_text(config)
    assert models_loaded(tmp_path) == set()
