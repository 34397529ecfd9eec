"""The thousand classes of ImageNet, under the names that torchvision gives them."""

from __future__ import annotations


def class_names() -> list[str]:
    """The names in the order of ILSVRC 2012, which is that of every network trained on it.

    >>> class_names()[31], len(class_names())
    ('tree frog', 1000)
    """
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
