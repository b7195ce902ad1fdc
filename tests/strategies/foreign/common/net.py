"""A small PyTorch model, and how it is trained and tested."""

import torch
from flwr.app import ArrayRecord, MetricRecord
from torch import nn

from common.data import CLASSES, FEATURES, load_central

torch.set_num_threads(1)


class Net(nn.Module):
    """A body and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, points):
        """Scores of the classes."""
        return self.head(self.body(points))


def new_net(kind: type[nn.Module] = Net) -> nn.Module:
    """A model with the same weights everywhere."""
    torch.manual_seed(0)
    return kind()


def train(net, data, lr, epochs=4):
    """Train the parameters that have gradients, and return the last loss. The batches are the same in each call."""
    points, classes = map(torch.tensor, data)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(points), generator=order).split(20):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(points[batch]), classes[batch])
            loss.backward()
            optimizer.step()
    return loss.item()


@torch.no_grad()
def test(net, data):
    """The accuracy."""
    points, classes = map(torch.tensor, data)
    net.eval()
    return (net(points).argmax(1) == classes).float().mean().item()


def central_evaluate(kind: type[nn.Module] = Net):
    """The server's evaluation of a model of this kind."""

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        net = new_net(kind)
        net.load_state_dict(arrays.to_torch_state_dict(), strict=False)
        return MetricRecord({"accuracy": test(net, load_central())})

    return evaluate
