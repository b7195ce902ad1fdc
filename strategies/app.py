"""The ServerApp of this repository as a Flower app: `flwr run` loads it by its name in pyproject.toml."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.extras import EXTRAS, require

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute the run that Flower's run-config describes.

    Raises:
        SettingsError: the extra `models` is not installed; or as `server_app.main`.
    """
    require("the ServerApp", *EXTRAS["models"])
    from . import server_app

    server_app.main(grid, context)
