"""One run that the tests of both engines look at."""

import pytest
from commands import complete_run


@pytest.fixture(scope="session")
def finished(write_toy_run, tmp_path_factory):
    """A whole run, and what it printed; it is started where another package of our name lies, such as a checkout."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "coldfusion_fl").mkdir()
    (folder / "coldfusion_fl" / "__init__.py").write_text("raise ImportError('this is another one')")
    return complete_run(write_toy_run(folder / "toy.toml"), folder / "run")
