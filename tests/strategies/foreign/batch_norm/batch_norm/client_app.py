"""batch-norm: the client."""

from common.client_app import client_app

from batch_norm.task import BatchNormNet

app = client_app(BatchNormNet)
