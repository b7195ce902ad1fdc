"""The one type of an encoder: numpy arrays by name."""

from collections.abc import Mapping

import numpy as np

# A mapping may read each array from disk when it is asked for it. What a function makes is a plain dict.
Encoder = Mapping[str, np.ndarray]
EncoderDict = dict[str, np.ndarray]
