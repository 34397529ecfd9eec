"""The same image has the same value, and the same coordinates the same image, in other people's code, where it is installed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import preimage
from preimage.energy.energy import Energy
from preimage.energy.fourier import FixedMagnitude, Fourier
from preimage.energy.losses import InnerProduct, SquaredNorm
from preimage.energy.terms import FeatureTerm
from preimage.representations.units import unit_targets

WHY = "compared with other tools: pip install -r benchmarks/requirements-peers.txt"
SPACE = preimage.PixelSpace((24, 32), "rgb", mean=(100.0, 110.0, 120.0))
WEIGHTS = torch.randn((5, 3, 5, 5), generator=torch.Generator().manual_seed(1)) * 0.02


def features(x):
    """Of canonical images."""
    return F.relu(F.conv2d(x, WEIGHTS, stride=2))


def value(loss, target, x):
    return Energy(FeatureTerm(loss, features, target, C=1.0), regularizers={})(x)["loss"].item()


def test_lucid_s_coordinates_and_objective_are_lucent_s():
    pytest.importorskip("lucent", reason=WHY)
    from lucent.optvis import objectives, param

    torch.manual_seed(0)
    (coordinates,), picture = param.image(32, 24, sd=3.0, fft=True, decorrelate=True)
    seen = picture().detach()
    written = Fourier().at((3, 24, 32), SPACE)
    # lucent's M has a longest column of 1, and a factor 4 under σ; ours rows of mean length 1 and 4/255; both have 1/f up to a factor
    z = torch.cat([coordinates[..., 0], coordinates[..., 1]], dim=1).detach()
    longest = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
    ours_over_theirs = float(preimage.energy.colours.mixture(3)[0, 0]) / float(0.26 / longest.norm(dim=0).max())
    frequency = torch.hypot(torch.fft.fftfreq(24)[:, None], torch.fft.rfftfreq(32)[None]).clamp(min=1 / 32)
    scale = float((1 / frequency).square().mean().sqrt()) * 2**0.5  # of 1/f to a root mean square of 1/√2
    x = written.decode(z * (255 / 4 / 4 * scale / ours_over_theirs))
    torch.testing.assert_close(SPACE.decode(x) / 255, seen, rtol=1e-4, atol=1e-4)

    def layer(name):
        return features(seen * 255 - SPACE.mean_colour)

    phi = preimage.from_callable(features, SPACE)
    everywhere = unit_targets(phi, [2], (24, 32), True, x)[0]
    assert value(InnerProduct(1.0), everywhere, x) == pytest.approx(objectives.channel("conv", 2)(layer).item(), rel=1e-4)


def test_maco_s_images_are_horama_s_but_for_their_contrast():
    """Horama brings the planes to one standard deviation, whatever the magnitudes; here they keep that of photographs."""
    pytest.importorskip("horama", reason=WHY)
    from horama.maco_fv import maco_preconditioner

    written = FixedMagnitude().at((3, 24, 32), SPACE)
    phases = torch.fft.rfft2(torch.randn((3, 24, 32), generator=torch.Generator().manual_seed(3))).angle()
    spread = (phases - phases.mean()) / (phases.std() + 1e-4)  # what horama takes them for
    for column in (0, -1):  # waves of these columns come with their conjugates
        spread[..., column] = (spread[..., column] - spread[..., column].flip(-1).roll(1, dims=-1)) / 2
    spread = spread / spread.std()
    spread = spread - spread.mean()
    theirs = torch.logit(maco_preconditioner(written._magnitudes[0].float(), spread * (1 + 1e-4), (0.0, 1.0), "cpu"))
    ours = torch.logit(SPACE.decode(written.decode(spread[None] * written._unit))[0].double() / 255)
    ours = ours * (theirs.std() / ours.std())
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-3, atol=1e-3)


def test_deepdream_s_objective_is_the_square_of_dreamlens_s():
    """Dreamlens climbs the norm of a layer, whose gradient has the direction of that of its square, as in the original."""
    objectives = pytest.importorskip("dreamlens.objectives", reason=WHY)
    x = torch.rand((1, 3, 24, 32), generator=torch.Generator().manual_seed(4)) * 160 - 80
    theirs = objectives.TargetObjective([objectives.FeatureTarget.for_layer(0)])([features(x)]).item()
    assert theirs < 0
    assert value(SquaredNorm(normalise=False), torch.zeros(1, 5), x) == pytest.approx(-(theirs**2), rel=1e-4)
