"""Muon: torch's for the weights of hidden layers, AdamW for all others, in one optimizer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lab.training.muon import Muon

SETTINGS = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def learn(model: nn.Module, optimizer: Muon, steps: int) -> list[Tensor]:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 4, 4)).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def make(model: nn.Sequential, lr: float = 0.01) -> Muon:
    return Muon(model.parameters(), lr, **SETTINGS, head=list(model[3].parameters()))  # type: ignore[arg-type]


def test_hidden_weights_are_muons_and_all_others_adamws() -> None:
    model = net()
    optimizer = make(model)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 5]
    assert optimizer.param_groups[0]["params"] == [model[0].weight]


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [((4, 3), True), ((4, 1, 7, 7), True), ((1, 9, 4), False), ((1, 4), False), ((4, 1, 1, 1), False)],
)
def test_an_embedding_or_a_vector_is_no_matrix(shape: tuple[int, ...], hidden: bool) -> None:
    (group,) = Muon([nn.Parameter(torch.ones(shape))], 0.01, **SETTINGS).param_groups  # type: ignore[arg-type]
    assert group["matrices"] is hidden


def test_a_matrix_moves_as_with_torchs_muon() -> None:
    mine, its = nn.Linear(6, 4, bias=False), nn.Linear(6, 4, bias=False)
    its.load_state_dict(mine.state_dict())
    optimizers = (
        Muon(mine.parameters(), 0.01, **SETTINGS),  # type: ignore[arg-type]
        torch.optim.Muon(its.parameters(), 0.01, **SETTINGS, adjust_lr_fn="match_rms_adamw"),  # type: ignore[arg-type]
    )
    for images in torch.randn(3, 5, 6):
        for model, optimizer in zip((mine, its), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    assert torch.equal(mine.weight, its.weight)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_moves_as_the_matrix_of_its_filters(layout: torch.memory_format) -> None:
    start, gradient = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    kernel = nn.Parameter(start.clone(memory_format=layout))
    matrix = nn.Parameter(start.reshape(4, 27).clone())
    kernel.grad, matrix.grad = gradient.clone(memory_format=layout), gradient.reshape(4, 27).clone()
    for parameter in (kernel, matrix):
        Muon([parameter], 0.1, **SETTINGS).step()  # type: ignore[arg-type]
    assert kernel.is_contiguous(memory_format=layout)
    # the order of the columns changes the last bits of bfloat16 products
    assert torch.allclose(kernel.reshape(4, 27), matrix, atol=1e-3)
    assert not torch.allclose(kernel, start, atol=1e-3)


@pytest.mark.parametrize("change", [lambda rate: rate, lambda rate: 0.0], ids=["as it was", "nought"])
def test_a_schedule_reaches_both(change: Callable[[float], float]) -> None:
    model = net()
    before, optimizer = [p.detach().clone() for p in model.parameters()], make(model)
    for group in optimizer.param_groups:
        group["lr"] = change(group["lr"])
    after = learn(model, optimizer, 1)
    still = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert still == [change(1.0) == 0.0] * len(still)


def test_groups_keep_their_rates() -> None:
    model = net()
    head, rest = list(model[3].parameters()), [*model[0].parameters(), *model[1].parameters()]
    groups = [{"params": head}, {"params": rest, "lr": 0.001}]
    optimizer = Muon(groups, 0.01, **SETTINGS, head=head)  # type: ignore[arg-type]
    assert [(len(g["params"]), g["lr"]) for g in optimizer.param_groups] == [
        (2, 0.01),
        (1, 0.001),
        (3, 0.001),
    ]


def test_it_continues_to_the_last_bit() -> None:
    whole, model = net(), net()
    torch.manual_seed(1)
    expected = learn(whole, make(whole), 4)
    torch.manual_seed(1)
    learn(model, first := make(model), 2)
    second = make(model, lr=0.5)
    second.load_state_dict(first.state_dict())
    found = learn(model, second, 2)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert second.state_dict()["state"].keys() == set(range(6))
