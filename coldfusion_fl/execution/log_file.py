"""The file `log.txt` of a run folder: lines of text with their times, added by several processes."""

import contextlib
import datetime
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.sanitize import sanitize

LOG = "log.txt"
_FORMAT = "%(levelname)s : %(message)s"


def now() -> datetime.datetime:
    """The local time with its zone."""
    return datetime.datetime.now().astimezone()


def clean(line: str) -> str:
    """A line without colours and control characters."""
    return sanitize(click.unstyle(line).expandtabs()).rstrip()


def append_line(file: Path, moment: datetime.datetime, line: str) -> None:
    """Add a line with its time; an empty line is left out, and so is one that a full disk does not take."""
    if line:
        with contextlib.suppress(OSError), file.open("a", encoding="utf-8") as log:
            log.write(f"{moment.isoformat(timespec='seconds')} {line}\n")


@contextlib.contextmanager
def log_to(file: Path, loggers: Sequence[str]) -> Iterator[None]:
    """Add what some loggers log to a file, from level INFO on; and the traceback of an unexpected exception.

    Args:
        file: the log.
        loggers: the names of the loggers. One without a level of its own gets the level INFO.
    """
    handler = _Handler(file)
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.addHandler(handler)
        logger.setLevel(logger.level or logging.INFO)
    try:
        yield
    except ColdFusionError:  # the run's state has the reason, and the process of the run logs it
        raise
    except Exception:
        logging.getLogger(loggers[0]).exception("The run crashed.")
        raise
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


class _Handler(logging.Handler):
    """Writes each line of a record as a line of a log."""

    def __init__(self, file: Path) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT))
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it is an empty line between others. What goes wrong here never reaches the caller."""
        try:
            lines = self.format(record).splitlines() if record.getMessage().strip() else []
        except Exception:  # such as arguments that do not fit the message
            self.handleError(record)
            return
        moment = now()
        for line in lines:
            append_line(self._file, moment, clean(line))
