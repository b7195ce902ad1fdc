"""Classifiers of one task: finetuned from a base, as a folder in Hugging Face format, and their predictions.

A head on the class token is a model of transformers, which loads it without this package. A head on the mean of the
hidden states has no class in transformers. Importing this package registers one:

>>> import coldfusion_fl.classifier
>>> from transformers import AutoConfig
>>> AutoConfig.for_model("mean-pooling-classifier").model_type
'mean-pooling-classifier'
"""

from coldfusion_fl.classifier.finetuned import FinetunedClassifier
from coldfusion_fl.classifier.folder import Classifier, open_classifier
from coldfusion_fl.classifier.mean_pooling import MeanPoolingConfig, MeanPoolingForSequenceClassification
from coldfusion_fl.classifier.prediction import Predicted, predict_texts
from coldfusion_fl.classifier.training import TrainedClassifier, train_classifier

__all__ = [
    "Classifier",
    "FinetunedClassifier",
    "MeanPoolingConfig",
    "MeanPoolingForSequenceClassification",
    "Predicted",
    "TrainedClassifier",
    "open_classifier",
    "predict_texts",
    "train_classifier",
]
