"""Tasks in memory."""

import json

import pytest

import coldfusion_fl as cf


@pytest.fixture(scope="session")
def rows(toy_data):
    """The rows of a toy task by split, as lists of dicts."""

    def read(name):
        folder = toy_data / name
        return {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in folder.iterdir()}

    return read


@pytest.fixture(scope="session")
def tasks(rows):
    """Three tasks in memory."""
    return [cf.Task.from_dataframe(rows(name), f"my-{name}") for name in "abd"]
