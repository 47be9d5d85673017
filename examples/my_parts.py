"""A loss, a metric and an augmentation of your own; `lab sweep examples/parts.yaml` compares them with lab's."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassRecall

import lab


@lab.loss("poly")
class Poly(nn.CrossEntropyLoss):
    """Cross entropy plus a linear term, epsilon (1 - p): Poly-1 of Leng et al. 2022, arXiv:2204.12511."""

    def __init__(
        self,
        images: Tensor,
        *,
        epsilon: Annotated[float, Field(ge=-1, description="Weight of the linear term.")] = 1.0,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the images; labels are classes [B], or shares [B, classes] if images are mixed."""
        shares = labels if labels.is_floating_point() else F.one_hot(labels, logits.shape[1])
        p = (shares * logits.softmax(1)).sum(1)  # [B]
        return super().forward(logits, labels) + self.epsilon * (1 - p).mean()


@lab.metric("worst_recall")
class WorstRecall(MulticlassRecall):
    """The recall of the class that is recognised worst."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average=None)

    def compute(self) -> Tensor:
        """Return a single number; a class without images does not count."""
        images = torch.as_tensor(self.tp) + torch.as_tensor(self.fn)  # [classes]
        return super().compute()[images > 0].min()


@lab.augmentation
def speckle(
    images: Tensor,
    generator: torch.Generator,
    *,
    speckle_share: Annotated[
        float, Field(ge=0, le=1, description="Share of the pixels that turn black.")
    ] = 0.1,
) -> Tensor:
    """Blacken single pixels, [B, C, H, W]. All random numbers come from the generator, which is on the CPU."""
    batch, _, height, width = images.shape
    kept = torch.rand(batch, 1, height, width, generator=generator) >= speckle_share
    return images * kept.to(images.device)
