"""Run a notebook from its first cell to its last.

To write new outputs into the committed one: `python tests/docs/support/notebooks.py docs/start/notebook.ipynb FOLDER`,
where FOLDER is an empty folder for what it writes.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run_notebook(notebook: nbformat.NotebookNode, folder: Path, timeout: float = 1200) -> None:
    """Run all cells in a new kernel; their outputs are replaced.

    Args:
        notebook: the notebook.
        folder: its working folder.
        timeout: of each cell, in seconds.

    Raises:
        CellExecutionError: a cell raised an exception.
    """
    # Without ipywidgets, tqdm warns in a notebook. A kernel inherits this.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    try:
        NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=timeout,
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    finally:
        del os.environ["PYTHONWARNINGS"]
    notebook.metadata["language_info"] = {"name": "python"}  # the kernel adds its version


if __name__ == "__main__":
    file = Path(sys.argv[1])
    opened = nbformat.read(file, as_version=4)
    run_notebook(opened, Path(sys.argv[2]))
    nbformat.write(opened, file)
