"""The notebook runs, and its committed outputs are those of a run from the first cell to the last."""

import copy
import re

import nbformat
import pytest
from notebook_parts import NOTEBOOK, notebook_text
from notebooks import run_notebook


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def difference(cell):
    """The difference of the fused base from the first one, in the table of the comparison."""
    html = cell.outputs[-1]["data"]["text/html"]
    return float(re.search(r"better by (\d+\.\d)", html)[1])


def test_its_outputs_are_those_of_one_run_without_errors(notebook):
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    kinds = {(output.output_type, output.get("name", "stdout")) for cell in cells for output in cell.outputs}
    assert kinds <= {("stream", "stdout"), ("execute_result", "stdout")}  # no error, and nothing on stderr


def test_the_story_is_short(notebook):
    lines = [line for cell in code_cells(notebook) for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 20


def test_the_page_has_all_of_it(notebook):
    text = notebook_text(NOTEBOOK)
    assert text.count("```python") == len(code_cells(notebook))
    assert "<style" not in text
    for cell in notebook.cells:
        assert cell.source.partition("\n\n")[2 if cell is notebook.cells[0] else 0] in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("ray")
def test_it_runs(notebook, tmp_path):
    found = copy.deepcopy(notebook)
    run_notebook(found, tmp_path)
    before, after = code_cells(notebook), code_cells(found)
    for one, other in zip(before, after, strict=True):
        assert [output.output_type for output in one.outputs] == [output.output_type for output in other.outputs]
    # Another machine has other roundings, but the same story.
    assert difference(before[3]) > 2
    assert difference(after[3]) > 2
    assert (tmp_path / "critic" / "model.safetensors").exists()
