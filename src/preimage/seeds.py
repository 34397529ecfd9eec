"""Generators of random numbers, each of its own seed and purpose, so that nothing depends on torch's."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a generator on the CPU, whatever the device, so that a seed means the same start everywhere."""
    return torch.Generator().manual_seed(hash_to_int(f"{seed} {purpose}"))


def hash_to_int(text: str) -> int:
    """Return a whole number of 48 bits for a text.

    >>> hash_to_int("a") == hash_to_int("a") != hash_to_int("b")
    True
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
