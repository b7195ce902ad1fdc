"""A head on the mean of an encoder's last hidden states, as a model that transformers loads.

Importing this module registers the class with transformers' auto classes. No code is in the model folder.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from coldfusion_fl.model.architecture import MEAN_POOLING_TYPE, build_classifier, get_encoder
from coldfusion_fl.model.encoder import MeanHeadModel, classify_mean


class MeanPoolingConfig(PretrainedConfig):
    """The configuration of `MeanPoolingForSequenceClassification`.

    Args:
        encoder: the configuration of the encoder, as its `to_dict` returns it; with `model_type`.
        **kwargs: as of every configuration, such as `id2label`.
    """

    model_type = MEAN_POOLING_TYPE

    def __init__(self, encoder: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.encoder = dict(encoder or {})
        super().__init__(**kwargs)


class MeanPoolingForSequenceClassification(PreTrainedModel):
    """An encoder with a linear head on the mean of its last hidden states: `MeanHeadModel` for transformers.

    Args:
        config: with the encoder's configuration.
    """

    config_class = MeanPoolingConfig

    def __init__(self, config: MeanPoolingConfig) -> None:
        super().__init__(config)
        values = dict(config.encoder)
        encoder_config = AutoConfig.for_model(values.pop("model_type"), **values)
        model = build_classifier(encoder_config, MEAN_POOLING_TYPE, 2)
        parts = MeanHeadModel(get_encoder(model), config.num_labels or 1)
        self.dropout, self.head = parts.dropout, parts.head
        # The weights have the names that the encoder's own classes give them, so that the folder is also a base.
        self.base_model_prefix = str(model.base_model_prefix)
        setattr(self, self.base_model_prefix, parts.encoder)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput:
        """See `MeanHeadModel.forward`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
        tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        encoder = getattr(self, self.base_model_prefix)
        return classify_mean(encoder, self.dropout, self.head, labels, tensors)


AutoConfig.register(MEAN_POOLING_TYPE, MeanPoolingConfig, exist_ok=True)
AutoModelForSequenceClassification.register(MeanPoolingConfig, MeanPoolingForSequenceClassification, exist_ok=True)
