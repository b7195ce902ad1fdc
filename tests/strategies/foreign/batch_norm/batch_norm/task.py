"""batch-norm: a model with running means, running variances and counters of batches."""

from common.data import CLASSES, FEATURES
from torch import nn


class BatchNormNet(nn.Sequential):
    """Two layers with batch normalization between."""

    def __init__(self):
        super().__init__(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
