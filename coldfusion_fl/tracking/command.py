"""`coldfusion track`: log a run to trackers after it has ended."""

from pathlib import Path
from typing import Annotated

import typer

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.errors import ColdFusionError, RunError, SettingsError, first_line
from coldfusion_fl.runs.ledger import Ledger


def track(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="A tracker, such as tensorboard; can be repeated. Default: the setting tracking.to."),
    ] = None,
) -> None:
    """Log to trackers what they do not have of a run yet, such as a run that was started without them.

    A run that is in progress is logged by its own process. The other settings of the trackers are those
    of the run.
    """
    from coldfusion_fl.tracking.track import log_run

    ledger = Ledger(folder)
    settings = TrackingSettings.model_validate(ledger.settings.get("tracking", {}))
    if to:
        settings = settings.model_copy(update={"to": tuple(to)})
    if not settings.to:
        raise SettingsError(f"{folder}: the run has no trackers. Name one with --to, such as --to tensorboard.")
    try:
        log_run(ledger, settings)
    except ColdFusionError:
        raise
    except Exception as failure:  # the libraries of trackers raise anything
        reason = f"{type(failure).__name__}: {first_line(failure)}"
        raise RunError(f"the run in {folder} cannot be logged: {reason}") from failure
    typer.echo(f"The run is logged to {', '.join(settings.to)}.")
