"""The time that the strategy takes to be imported, compared with Flower's own."""

import subprocess
import sys

import pytest

FLOWER = "from flwr.serverapp.strategy import FedAvg"


def seconds(statement):
    """The processor time of an import in a process of its own."""
    code = f"import time; began = time.process_time(); {statement}; print(time.process_time() - began)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_it_takes_at_most_a_fifth_longer_than_flowers_strategies():
    runs = [(seconds("import coldfusion_fl.strategies"), seconds(FLOWER)) for _ in range(3)]
    ours, flower = (min(times) for times in zip(*runs, strict=True))
    assert ours <= 1.2 * flower


def test_the_class_is_loaded_at_its_first_use():
    code = "import sys, coldfusion_fl.strategies as ours; assert 'pydantic' not in sys.modules; print(ours.ColDFusion)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ColDFusion" in done.stdout


def test_an_unknown_name_is_not_there():
    with pytest.raises(ImportError, match="FedNothing"):
        from coldfusion_fl.strategies import FedNothing  # noqa: F401
