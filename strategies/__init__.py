"""The Flower server of ColD Fusion. Importing it needs numpy and flwr alone."""

from .cold_fusion import ColDFusion

__all__ = ["ColDFusion"]
