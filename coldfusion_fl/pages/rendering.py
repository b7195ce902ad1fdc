"""Templates become pages: each is one file that loads nothing else and runs only its own scripts."""

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coldfusion_fl import formatting
from coldfusion_fl.versions import installed_versions

_PACKAGE = "coldfusion_fl.pages"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("number", "significant", "interval", "duration", "size", "text", "finite"):
        environment.filters[name] = getattr(formatting, name)
    return environment


def has_templates() -> bool:
    """Whether the templates are there."""
    return resources.files(_PACKAGE).joinpath("templates").is_dir()


def render(template: str, *scripts: str, connect: bool = False, **values: Any) -> str:
    """A page as HTML.

    Args:
        template: the template's file name.
        scripts: the file names of its scripts, which become part of the page.
        connect: whether the page may send requests to the server that it came from.
        values: what the template shows.
    """
    styles = _asset("page.css")
    texts = [_asset(name) for name in scripts]
    allowed = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _hash(styles),
        "script-src": " ".join(map(_hash, texts)) or "'none'",
        "connect-src": "'self'" if connect else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return (
        _environment()
        .get_template(template)
        .render(
            # These files are part of this package, so they are not escaped.
            styles=Markup(styles),
            scripts=[Markup(text) for text in texts],
            policy="; ".join(f"{name} {value}" for name, value in allowed.items()),
            versions=installed_versions(),
            **values,
        )
    )


@functools.cache
def _asset(name: str) -> str:
    return resources.files(_PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The name of a script or style sheet in a Content-Security-Policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
