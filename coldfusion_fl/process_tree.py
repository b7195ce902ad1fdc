"""Processes that do not outlive the one that started them."""

import os
import threading
import time
from collections.abc import Callable


def exit_with_parent(parent: int, end: Callable[[], None]) -> None:
    """Watch, in a thread, for the end of the process that started this one, even by kill -9.

    Args:
        parent: its id.
        end: ends this process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        end()

    threading.Thread(target=watch, daemon=True).start()
