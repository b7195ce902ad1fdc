"""ColD Fusion: many parties improve one pretrained encoder together (Don-Yehiya et al., ACL 2023).

This package is the method and knows nothing of Flower. The Flower server is `coldfusion_fl.strategies`, the
Flower client `coldfusion_fl.clients`. Importing this package, or `coldfusion_fl.strategies`, loads neither torch
nor transformers.
"""

__version__ = "0.1.0"
