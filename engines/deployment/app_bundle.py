"""The app bundle of a run: small files that import the apps from the package that is installed on each member."""

from pathlib import Path

import tomli_w

from coldfusion_fl.engines.flower_internals import build_fab_from_files
from coldfusion_fl.versions import own_versions

_CODE = {
    "coldfusion_run/__init__.py": b'"""A run of coldfusion-fl; the code is the installed package\'s."""\n',
    "coldfusion_run/server.py": b"from coldfusion_fl.engines.deployment.server_app import app as app\n",
    "coldfusion_run/client.py": b"from coldfusion_fl.clients.client_app import app as app\n",
}


def build_app_bundle(run_folder: Path, members: Path) -> bytes:
    """Build the app bundle of a run.

    Args:
        run_folder: the run folder with the settings, on the server's machine.
        members: the file with the node ID of each member, on the server's machine.

    Returns:
        A Flower app bundle (FAB).
    """
    project = {
        "project": {
            "name": "coldfusion-run",
            "version": own_versions().get("coldfusion-fl", "0"),
            "description": "A run of coldfusion-fl in a federation",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "coldfusion-fl",
                    "components": {"serverapp": "coldfusion_run.server:app", "clientapp": "coldfusion_run.client:app"},
                    "config": {"run-folder": str(run_folder), "members": str(members)},
                }
            }
        },
    }
    files: dict[str, bytes | Path] = {"pyproject.toml": tomli_w.dumps(project).encode(), **_CODE}
    return build_fab_from_files(files)[0]
