"""The Flower server of ColD Fusion. Importing it needs numpy and flwr alone.

`ColDFusion` is loaded at its first use: it needs the settings and records, which are pydantic models, and takes nearly
half as long to load as Flower itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cold_fusion import ColDFusion

__all__ = ["ColDFusion"]


def __getattr__(name: str) -> Any:
    if name != "ColDFusion":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .cold_fusion import ColDFusion

    return ColDFusion
