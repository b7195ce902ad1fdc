"""The extras of this package, and the error about one that is not installed.

The base installation has numpy and Flower, which the strategy needs. Everything else is in extras: see the table
`optional-dependencies` of pyproject.toml. Each module of an extra that this package imports is listed here.
"""

import importlib.util
from collections.abc import Mapping

from coldfusion_fl.errors import ErrorCode, SettingsError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    # Models, data, the command line, and federations over a network.
    "models": (
        "torch",
        "transformers",
        "datasets",
        "huggingface_hub",
        "safetensors",
        "pandas",
        "sklearn",
        "scipy",
        "threadpoolctl",
        "matplotlib",
        "jinja2",
        "markupsafe",
        "markdown_it",
        "psutil",
        "prometheus_client",
        "cryptography",
        "h11",
        "httpx",
        "starlette",
        "tomli_w",
        "uvicorn",
    ),
    "simulation": ("ray",),
    "privacy": ("dp_accounting",),
    "sentencepiece": ("sentencepiece",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
_EXTRA_OF = {module: extra for extra, modules in EXTRAS.items() for module in modules}


def require(user: str, *modules: str) -> None:
    """Check that modules of extras are installed. They are not imported.

    Args:
        user: what needs them; the message begins with it.
        modules: names of top-level modules in `EXTRAS`.

    Raises:
        SettingsError: one is missing; the message has the command that installs its extra.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise _error(user, *missing)


def missing_extra(failure: BaseException, user: str) -> SettingsError | None:
    """The error about the extra that a failed import needs.

    Args:
        failure: any exception.
        user: what needs the module; the message begins with it.

    Returns:
        None: the exception is not about a missing module of an extra.
    """
    module = failure.name if isinstance(failure, ModuleNotFoundError) else None
    return _error(user, module) if module in _EXTRA_OF else None


def install_command(*modules: str) -> str:
    """The command that installs the extras of modules."""
    extras = sorted({_EXTRA_OF[module] for module in modules})
    return f"pip install 'coldfusion-fl[{','.join(extras)}]'"


def _error(user: str, *modules: str) -> SettingsError:
    verb = "is" if len(modules) == 1 else "are"
    return SettingsError(
        f"{user} needs {_format_modules(modules)}, which {verb} not installed: {install_command(*modules)}",
        ErrorCode.EXTRA_MISSING,
    )


def _format_modules(modules: tuple[str, ...]) -> str:
    """The modules in a sentence: all of them if they are few."""
    shown, others = modules[:3], len(modules) - 3
    if others > 0:
        return f"{', '.join(shown)} and {others} more packages"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
