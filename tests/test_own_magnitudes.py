"""Caricatures in phases alone: the magnitudes are those of the start, of each sample its own, whatever the run does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.energy.colours import Planes
from preimage.energy.fourier import FixedMagnitude
from preimage.energy.octaves import Octaves
from preimage.energy.parameterizations import PARAMETERIZATIONS
from preimage.errors import InputError
from preimage.pixels.pixelspace import PixelSpace
from preimage.plain import from_plain, parse, spell, to_plain

SHAPES = [(1, 9, 7), (3, 12, 10), (5, 8, 8), (3, 16, 11)]


def space(channels):
    return PixelSpace(None, {1: "grey", 3: "rgb"}.get(channels, channels), mean=tuple(100.0 + k for k in range(channels)))


def images(shape, count=2):
    return (torch.randn(count, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 25).clamp(-90, 90)


def magnitudes(x, of, colours="decorrelated"):
    """Of the planes before the range of pixels is made."""
    return torch.fft.rfft2(Planes(x.shape[1], of, colours, "sigmoid").back(x), norm="ortho").abs()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colours", ["decorrelated", "plain"])
def test_the_start_is_written_exactly_and_any_phases_have_its_magnitudes(shape, colours):
    x, of = images(shape), space(shape[0])
    written = FixedMagnitude(colours, of="start").begin(x).at(shape, of)
    z = written.encode(x)
    torch.testing.assert_close(written.decode(z), x, rtol=0, atol=1e-9)  # also what has a sign and no phase
    moved = z + 40 * torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=z.dtype)
    assert float((written.decode(moved) - x).abs().mean()) > 5
    found = torch.fft.rfft2(written.planes(moved), norm="ortho").abs()
    torch.testing.assert_close(found, magnitudes(x, of, colours), rtol=1e-9, atol=1e-9)
    mean = written.planes(moved).mean(dim=(2, 3))
    torch.testing.assert_close(mean, Planes(shape[0], of, colours, "sigmoid").back(x).mean(dim=(2, 3)), rtol=0, atol=1e-9)


def test_each_sample_keeps_its_own_and_a_step_of_one_moves_pixels_by_about_a_level():
    x = images((1, 32, 32)) * torch.tensor([0.2, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    part = FixedMagnitude(of="start")
    written = part.begin(x).at((1, 32, 32), space(1))
    step = torch.randn(2, 1, 32, 17, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = written.decode(written.encode(x) + step)
    by = (moved - x).square().mean(dim=(1, 2, 3)).sqrt()
    assert bool(((by > 0.5) & (by < 2)).all())
    alone = part.begin(x[1:]).at((1, 32, 32), space(1))
    torch.testing.assert_close(alone.decode(alone.encode(x[1:]) + step[1:])[0], moved[1], rtol=1e-12, atol=1e-10)  # as the FFT's batch


def test_its_gradient_is_that_of_finite_differences():
    x = images((3, 6, 5), 1)
    written = FixedMagnitude(of="start").begin(x).at((3, 6, 5), space(3))
    assert torch.autograd.gradcheck(written.decode, (written.encode(x).requires_grad_(),))


def test_what_it_is_of_is_plain_and_old_records_are_as_they_were():
    part = FixedMagnitude(of="start")
    assert from_plain(json.loads(json.dumps(to_plain(part, PARAMETERIZATIONS))), PARAMETERIZATIONS) == part
    assert parse(spell(part, PARAMETERIZATIONS), PARAMETERIZATIONS) == part == parse("fixed-magnitude:of=start", PARAMETERIZATIONS)
    assert to_plain(FixedMagnitude(), PARAMETERIZATIONS) == {"name": "fixed-magnitude", "colours": "decorrelated"}
    told = part.begin(images((1, 4, 4)))
    assert told == part and to_plain(told, PARAMETERIZATIONS) == to_plain(part, PARAMETERIZATIONS)  # the image is no setting
    with pytest.raises(InputError, match='"photographs" or "start"'):
        FixedMagnitude(of="image")
    with pytest.raises(InputError, match="use it in a task"):
        part.at((1, 4, 4), space(1))


def test_a_caricature_in_phases_has_the_photographs_magnitudes_alone_and_in_a_batch(net):
    cat = preimage.images.read_image(next(p for p in preimage.images.reference_images() if "chelsea" in p)).astype(np.uint8)
    photographs = [cat, cat[::-1, :, ::-1].copy()]  # without black and white, which a level of 0 or 255 has no planes for
    given = {"recipe": "preimage2026", "iterations": 4, "progress": False, "parameterization": FixedMagnitude(of="start")}
    phi = net.layer("fire6")
    both = preimage.caricature(phi, photographs, transform=Octaves(count=1, shift=13), **given)
    assert both.status == ["ok", "ok"] and both.config["parts"]["parameterization"]["of"] == "start"
    x0 = both.originals - phi.space.mean_colour
    x = both.images - phi.space.mean_colour
    assert float((x - x0).abs().mean()) > 1
    wanted, found = (magnitudes(v.double(), phi.space) for v in (x0, x))
    assert float((found - wanted).norm() / wanted.norm()) < 0.005  # what passes 0.5 or 254.5 is measured as that
    one = preimage.caricature(phi, photographs[1], transform=Octaves(count=1, shift=13), **given)
    assert torch.equal(one.images[0], both.images[1])


def test_a_run_from_noise_is_refused_in_words(net):
    with pytest.raises(InputError, match="begins with noise: give start="):
        preimage.maximize(net.layer("fire9"), 3, parameterization=FixedMagnitude(of="start"), iterations=2, progress=False)


def test_the_command_line_takes_it(tmp_path):
    picture = preimage.images.reference_images()[0]
    words = ["caricature", picture, "--layer", "fire6", "--recipe", "preimage2026", "--iterations", "2", "-q"]
    words += ["--parameterization", "fixed-magnitude:of=start", "--transform", "octaves:count=1,shift=13", "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert json.loads((tmp_path / "out" / "result.json").read_text())["config"]["parts"]["parameterization"]["of"] == "start"
    assert np.isfinite(preimage.load_result(tmp_path / "out").images.numpy()).all()
