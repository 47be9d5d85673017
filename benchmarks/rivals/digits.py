"""The digits, the net and the loop that the rivals train: what `lab` trains in `benchmarks sweep`, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

__all__ = ["BATCH_SIZE", "EPOCHS", "GRID", "WIDTH", "Data", "accuracy", "build", "cells", "load", "train"]

GRID = {
    "activation": ("relu", "gelu"),
    "optimizer": ("adam", "sgd"),
    "lr": (0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.012, 0.015, 0.02, 0.03),
}
EPOCHS, BATCH_SIZE, WIDTH = 2, 32, 16
_MOMENTUM = 0.9
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class Data(NamedTuple):
    """Images [N, 1, 8, 8] and labels [N] of each split."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def cells() -> list[dict[str, str | float]]:
    return [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]


def load() -> Data:
    """Return the digits, divided as lab divides them: a fifth to test with, a tenth of the rest to select with."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    rest, test, rest_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    train, val, train_labels, val_labels = train_test_split(
        rest, rest_labels, test_size=0.1, stratify=rest_labels, random_state=0
    )
    mean, std = train.mean(), train.std()
    pairs = ((train, train_labels), (val, val_labels), (test, test_labels))
    return Data(*((torch.from_numpy((x - mean) / std), torch.from_numpy(y)) for x, y in pairs))


def build(activation: str) -> nn.Module:
    """Return lab's default net: two convolutions with pooling, and one linear layer."""
    act = _ACTIVATIONS[activation]
    return nn.Sequential(
        *(nn.Conv2d(1, WIDTH, 3, padding=1), act(), nn.MaxPool2d(2)),
        *(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), act(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4 * WIDTH, 10)),
    )


def train(net: nn.Module, data: Data, optimizer: str, lr: float) -> Iterator[dict[str, float]]:
    """Train one epoch per `next`; yield its metrics."""
    images, labels = data.train
    steps = (
        torch.optim.Adam(net.parameters(), lr)
        if optimizer == "adam"
        else torch.optim.SGD(net.parameters(), lr, momentum=_MOMENTUM)
    )
    criterion = nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        net.train()
        total = torch.zeros(())
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            loss = criterion(net(images[batch]), labels[batch])
            steps.zero_grad()
            loss.backward()
            steps.step()
            total += loss.detach() * len(batch)
        val_loss, val_accuracy = accuracy(net, *data.val)
        yield {
            "train_loss": total.item() / len(images),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }


@torch.inference_mode()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the loss and the share of right answers."""
    net.eval()
    output = net(images)
    return nn.functional.cross_entropy(output, labels).item(), (
        output.argmax(1) == labels
    ).float().mean().item()
