"""Flower's SuperNode, whose process ends when the SuperNode fails.

`python -m coldfusion_fl.engines.deployment.member.supernode` takes the arguments of `flower-supernode`. When a
connection breaks during a TLS handshake, Flower's SuperNode fails but then waits for a thread that never ends, so the
supervisor would not start it again.
"""

import os
import sys
import traceback

from coldfusion_fl.engines.deployment.supervisor import exit_with_supervisor
from coldfusion_fl.engines.flower_internals import flower_supernode


def main() -> None:
    """Run the SuperNode, and end the process with it in every case."""
    exit_with_supervisor()
    code: object = 0
    try:
        flower_supernode()
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
