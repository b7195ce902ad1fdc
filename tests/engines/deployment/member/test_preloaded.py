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
print(*(name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name))
"""


@pytest.mark.parametrize("is_there", [True, False], ids=["a base", "no base"])
def test_the_architecture_of_the_base_is_loaded_and_no_other(tiny_base, tmp_path, is_there):
    base = tiny_base if is_there else tmp_path / "none"  # the first message reports it
    (tmp_path / "node.toml").write_text(f"base = '{base}'\n")
    environment = os.environ | {"FLWR_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[2] for name in done.stdout.split()}
    assert loaded - {"auto"} == ({"bert"} if is_there else set())
