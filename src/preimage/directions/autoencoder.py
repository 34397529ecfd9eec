"""Sparse autoencoders of a layer's channels: their latents as units and as directions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..networks.checkpoints import read_state
from ..representations.base import RepresentationLike, Wrapped

# what the tensors are called in common checkpoints: name -> (ours, whether it is stored as (C, latents) for the encoder, and so on)
_ENCODER = {"encoder.weight": False, "W_enc": True, "encoder": False}
_DECODER = {"decoder.weight": True, "W_dec": False, "decoder": True}
_BIAS = ("encoder.bias", "b_enc", "latent_bias")
_CENTRE = ("bias", "b_dec", "pre_bias", "decoder.bias")


@dataclass(frozen=True)
class SparseAutoencoder:
    """Latents z = max(W(h − c) + b, 0) of the C channels h of a layer, whose sum c + Σ z_k·d_k is h again, nearly.

    encoder: W, (K, C). bias: b, (K,). decoder: (K, C), the directions d_k in the layer that the latents stand for. centre: c, (C,).
    threshold: (K,), below which a latent is 0 (JumpReLU: Rajamanoharan et al. 2024), or None.
    """

    encoder: Tensor
    bias: Tensor
    decoder: Tensor
    centre: Tensor
    threshold: Tensor | None = None

    def encode(self, h: Tensor) -> Tensor:
        """(N, C) -> (N, K)."""
        z = (h - self.centre.to(h)) @ self.encoder.to(h).T + self.bias.to(h)
        return z.clamp(min=0) if self.threshold is None else torch.where(z > self.threshold.to(h), z.clamp(min=0), 0.0)

    def direction(self, latent: int) -> Tensor:
        """The direction (C,) in the layer that a latent writes, for `maximize`. Raises InputError for one that is not there."""
        if not 0 <= latent < len(self.decoder):
            raise InputError(f"There is no latent {latent}: the autoencoder has {len(self.decoder)}, from 0.")
        return self.decoder[latent].clone()


class Latents(Wrapped):
    """The latents of a sparse autoencoder as the units of a representation: a map (B, K, H, W) where the layer has one, else (B, K)."""

    def __init__(self, inner: RepresentationLike, autoencoder: SparseAutoencoder) -> None:
        super().__init__(inner, name=f"latents of {inner.name}")
        self.autoencoder = autoencoder

    def __call__(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        channels = self.autoencoder.encoder.shape[1]
        axis = 1 if h.ndim != 3 else 2
        if h.ndim not in (2, 3, 4) or h.shape[axis] != channels:
            raise InputError(f"The autoencoder takes {channels} channels, and {self.inner.name} gives {tuple(h.shape[1:])}.")
        last = h.movedim(axis, -1)
        z = self.autoencoder.encode(last.reshape(-1, channels)).reshape(*last.shape[:-1], -1)
        return z.movedim(-1, axis)


def load_autoencoder(state: str | os.PathLike[str] | Mapping[str, Tensor]) -> SparseAutoencoder:
    """Read a sparse autoencoder from its state.

    Parameters
    ----------
    state : path (.safetensors, .pt) or mapping of tensors
        With an encoder ("encoder.weight" (K, C) or "W_enc" (C, K)), a decoder ("decoder.weight" (C, K) or "W_dec" (K, C)), the latents'
        bias ("encoder.bias", "b_enc", "latent_bias") and, if there is one, the centre ("bias", "b_dec", "pre_bias", "decoder.bias") and
        "threshold". Without a decoder the encoder's rows are its directions (tied weights).

    Returns
    -------
    SparseAutoencoder

    Raises
    ------
    InputError
        For a state without an encoder, and for shapes that do not fit each other.

    Examples
    --------
    >>> sae = load_autoencoder({"encoder.weight": torch.eye(3)[:2], "encoder.bias": torch.tensor([0.0, -1.0])})
    >>> sae.encode(torch.tensor([[2.0, 0.5, 9.0]]))
    tensor([[2., 0.]])
    """
    found = dict(state) if isinstance(state, Mapping) else dict(read_state(state))
    encoder = _oriented(found, _ENCODER)
    if encoder is None or encoder.ndim != 2:
        raise InputError(
            f"A sparse autoencoder's state has {' or '.join(_ENCODER)}, a matrix; this one has {', '.join(sorted(found)[:12])}."
        )
    latents, channels = encoder.shape
    decoder = _oriented(found, _DECODER)
    bias, centre = _first(found, _BIAS), _first(found, _CENTRE)
    parts = {
        "decoder": (encoder if decoder is None else decoder, (latents, channels)),
        "bias": (torch.zeros(latents) if bias is None else bias, (latents,)),
        "centre": (torch.zeros(channels) if centre is None else centre, (channels,)),
        "threshold": (found.get("threshold"), (latents,)),
    }
    for name, (tensor, shape) in parts.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise InputError(
                f"The {name} of the autoencoder has shape {tuple(tensor.shape)}; with an encoder of {latents} x {channels} it is {shape}."
            )
    threshold = parts["threshold"][0]
    values = [t for t in (encoder, parts["bias"][0], parts["decoder"][0], parts["centre"][0], threshold) if t is not None]
    if not all(bool(t.isfinite().all()) for t in values):
        raise InputError("The autoencoder's state holds values that are not finite.")
    return SparseAutoencoder(*(t.detach().float().contiguous() for t in values))


def _oriented(found: Mapping[str, Tensor], names: Mapping[str, bool]) -> Tensor | None:
    """The matrix as (latents, channels)."""
    for name, turned in names.items():
        if name in found:
            return found[name].T if turned else found[name]
    return None


def _first(found: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor | None:
    return next((found[n] for n in names if n in found), None)
