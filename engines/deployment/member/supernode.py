"""Flower's SuperNode, that ends when it has failed.

`python -m coldfusion_fl.engines.deployment.member.supernode` takes the words of `flower-supernode`. Where a connection
breaks in the midst of a TLS handshake, Flower's gives up, but waits for a thread that never ends: it could not be
started again.
"""

import os
import sys
import traceback

from flwr.supernode.cli import flower_supernode


def main() -> None:
    """Run the SuperNode; however it comes to its end, the process ends with it."""
    code: object = 0
    try:
        flower_supernode()
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
