"""The running statistics of normalisation layers, by the names that PyTorch and Keras give them.

They are estimates of the mean and the variance of activations, and no weights: gradients do not reach them. So they are
averaged, and neither an operator nor a server optimizer takes steps with them: a variance could fall below zero.
"""

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict

_MEANS = frozenset({"running_mean", "moving_mean"})
_VARIANCES = frozenset({"running_var", "moving_variance"})


def is_running_statistic(name: str) -> bool:
    """Whether an array with this name, such as `features.1.running_mean`, holds running statistics."""
    return _last_part(name) in _MEANS or is_variance(name)


def is_variance(name: str) -> bool:
    """Whether an array with this name, such as `features.1.running_var`, holds variances."""
    return _last_part(name) in _VARIANCES


def without_statistics(encoder: Encoder) -> EncoderDict:
    """The arrays that are no running statistics."""
    return {name: array for name, array in encoder.items() if not is_running_statistic(name)}


def _last_part(name: str) -> str:
    return name.replace("/", ".").rpartition(".")[2]
