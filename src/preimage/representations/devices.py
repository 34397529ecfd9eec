"""Where something can be computed."""

from __future__ import annotations

import torch

from ..errors import InputError


def usable_device(name: str | torch.device) -> torch.device:
    """The device, if something can be computed there. Raises InputError.

    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "cpu" and device.index:  # torch takes any number for the one that there is
            raise RuntimeError
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError):  # whose words are advice for who builds PyTorch
        raise InputError(f"The device {str(name)!r:.80} cannot be used here. There is: {', '.join(_devices())}.") from None
    return device


def _devices() -> list[str]:
    """Where something can be computed on this machine."""
    gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
