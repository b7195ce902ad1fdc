"""Encoders as Flower's ArrayRecords, and back."""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord


def to_record(encoder: Mapping[str, np.ndarray]) -> ArrayRecord:
    """An encoder's arrays by name as a record for a message."""
    return ArrayRecord({name: Array(array) for name, array in encoder.items()})


def to_numpy(record: ArrayRecord) -> dict[str, np.ndarray]:
    """A record's arrays by name; bytes from outside can make numpy raise anything here."""
    return {name: array.numpy() for name, array in record.items()}
