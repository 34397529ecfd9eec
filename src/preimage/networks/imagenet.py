"""The thousand classes of ImageNet, under the names that torchvision gives them."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def class_names() -> list[str]:
    """Return the names in the order of ILSVRC 2012, which is that of every network trained on it.

    They are read from torchvision's file as data: importing it brings PyTorch's compiler with it, which takes seconds. A torchvision
    that keeps them elsewhere is imported.

    >>> class_names()[31], len(class_names())
    ('tree frog', 1000)
    """
    return _read() or _imported()


def _read() -> list[str]:
    """The list as it is written in torchvision's source; empty where it is not there."""
    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, "models", "_meta.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["_IMAGENET_CATEGORIES"]:
                return list(ast.literal_eval(node.value))
    return []


def _imported() -> list[str]:
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
