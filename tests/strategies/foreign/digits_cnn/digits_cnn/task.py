"""quickstart-digits-cnn: the model, the data, and how it is trained and tested."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

CENTRAL = 400  # the server's images; the others are the nodes'


class Net(nn.Module):
    """A body that all share, and a head for the classes of one."""

    def __init__(self, classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 6),
        )
        self.head = nn.Linear(6, classes)

    def forward(self, images):
        """Scores of the classes."""
        return self.head(torch.relu(self.features(images)))


def own_classes(partition_id: int) -> list[int]:
    """The classes that a node knows: six to eight, others than its neighbours'."""
    return [(3 * partition_id + i) % 10 for i in range(6 + partition_id % 3)]


def load_images():
    """All images and labels, shuffled alike everywhere."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = torch.tensor(images[order] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images, torch.tensor(labels[order])


def load_data(partition_id: int, num_partitions: int):
    """A node's images of its own classes, with the labels numbered from 0: to train with, and to test with."""
    images, labels = load_images()
    images, labels = images[CENTRAL + partition_id :: num_partitions], labels[CENTRAL + partition_id :: num_partitions]
    classes = own_classes(partition_id)
    mine = torch.isin(labels, torch.tensor(classes))
    images, labels = images[mine], torch.tensor([classes.index(label) for label in labels[mine].tolist()])
    cut = len(images) * 3 // 4
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def train(net, data, epochs, lr):
    """Fit the head to the body that came, then train both: bodies that start from a fitting head stay alike."""
    fit(net, net.head.parameters(), data, epochs=4, lr=0.01)
    return fit(net, net.parameters(), data, epochs, lr)


def fit(net, parameters, data, epochs, lr):
    """Train some of the parameters."""
    images, labels = data
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(16):
            if len(batch) < 2:
                continue
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
    return loss.item()


@torch.no_grad()
def test(net, data):
    """The accuracy of body and head."""
    images, labels = data
    net.eval()
    return (net(images).argmax(1) == labels).float().mean().item()


@torch.no_grad()
def test_body(net):
    """The accuracy of the body alone on all ten classes of the server's images: by the nearest mean of a class."""
    images, labels = load_images()
    net.eval()
    features = net.features(images[:CENTRAL])
    known, asked = features[::2], features[1:CENTRAL:2]
    means = torch.stack([known[labels[:CENTRAL:2] == label].mean(0) for label in range(10)])
    return (torch.cdist(asked, means).argmin(1) == labels[1:CENTRAL:2]).float().mean().item()
