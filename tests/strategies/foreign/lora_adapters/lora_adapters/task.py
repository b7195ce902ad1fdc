"""lora-adapters: a frozen model with low-rank adapters (Hu et al. 2022)."""

import torch
from common.net import Net
from torch import nn


class Lora(nn.Module):
    """W x + B A x, where W is frozen."""

    def __init__(self, linear: nn.Linear, rank: int = 4):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, inputs):
        """The layer's outputs."""
        return self.linear(inputs) + inputs @ self.lora_a.T @ self.lora_b.T


class LoraNet(Net):
    """The model with an adapter at each layer."""

    def __init__(self):
        super().__init__()
        self.body[0], self.head = Lora(self.body[0]), Lora(self.head)


def adapters(net: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that travel."""
    return {name: tensor for name, tensor in net.state_dict().items() if "lora_" in name}
