"""The server of the dashboard: it answers this machine alone, and only reads."""

import contextlib
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from coldfusion_fl.cli.dashboard.live import LiveRun
from coldfusion_fl.errors import ColdFusionError, ErrorCode, SettingsError, first_line
from coldfusion_fl.pages.rendering import render

_HOST = "127.0.0.1"
# A page of another site can reach this server through the browser. The name in its request betrays it, even where
# that name leads to 127.0.0.1 (DNS rebinding); and no site may read, frame or embed what the server answers.
_NAMES = [_HOST, "localhost"]
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def new_app(run: LiveRun) -> Starlette:
    """The dashboard as an ASGI app: `/`, `/live.json`, `/status.json` and `/report.html`, all read-only."""
    page = render("dashboard.html", "dashboard.js", connect=True, name=run.ledger.folder.resolve().name)

    # These are no coroutines, so Starlette calls them in threads: reading a run folder takes a while.
    def show_page(request: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    def show_report(request: Request) -> Response:
        return _answered(lambda: HTMLResponse(run.page(), headers=_HEADERS))

    def show_live(request: Request) -> Response:
        return _answered(lambda: JSONResponse(run.snapshot(), headers=_HEADERS))

    def show_status(request: Request) -> Response:
        return _answered(lambda: JSONResponse(run.status(), headers=_HEADERS))

    return Starlette(
        routes=[
            Route("/", show_page, methods=["GET"]),
            Route("/live.json", show_live, methods=["GET"]),
            Route("/status.json", show_status, methods=["GET"]),
            Route("/report.html", show_report, methods=["GET"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_NAMES, www_redirect=False)],
    )


def _answered(answer: Callable[[], Response]) -> Response:
    """An answer; where the folder cannot be read, the reason."""
    try:
        return answer()
    except ColdFusionError as reason:
        return JSONResponse({"error": str(reason), "code": reason.code}, status_code=503, headers=_HEADERS)
    except OSError as reason:  # a file that is being replaced or removed
        return JSONResponse({"error": first_line(reason)}, status_code=503, headers=_HEADERS)


def serve(run: LiveRun, port: int, *, open_browser: bool, log: Callable[[str], Any]) -> None:
    """Serve the dashboard until Ctrl-C.

    Args:
        run: the run.
        port: on 127.0.0.1; 0: any free one.
        open_browser: whether to open the page in a browser.
        log: called with the address.

    Raises:
        SettingsError: the port is taken, or cannot be used.
    """
    app = new_app(run)
    with _listening(port) as listener:
        address = f"http://{_HOST}:{listener.getsockname()[1]}/"
        log(f"The dashboard of {run.ledger.folder} is at {address}\nTo stop it: Ctrl-C. The run goes on without it.")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops it like Ctrl-C
        if open_browser:
            webbrowser.open(address)
        # Uvicorn ends its connections, and then raises the signal again.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
            # Without this, a second dashboard could bind the same port as long as the first does not listen.
            listener.listen()
        except OSError as reason:
            raise SettingsError(
                f"--port {port}: the dashboard cannot listen on port {port} of {_HOST} ({first_line(reason)}). Choose "
                "another one; 0 takes a free one.",
                code=ErrorCode.PORT_IN_USE,
            ) from None
        yield listener
