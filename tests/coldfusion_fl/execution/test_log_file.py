"""The log of a run folder."""

import logging

import pytest

from coldfusion_fl.execution.log_file import log_to


@pytest.mark.usefixtures("capsys")  # `logging` prints the error
def test_a_message_with_wrong_arguments_does_not_fail_its_caller(tmp_path):
    logger = logging.getLogger("a library")
    logger.propagate = False  # pytest's own handler raises such errors
    with log_to(tmp_path / "log.txt", ["a library"]):
        logger.info("%d rows", "x")
        logger.info("%d rows", 3)
    (line,) = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert line.endswith("INFO : 3 rows")
