"""Parts of token layers: class token, prefix, patch grid; and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import preimage
from preimage import Layer, PixelSpace, layers
from preimage.errors import InputError
from preimage.representations.tokens import Part

SPACE = PixelSpace((8, 12), "rgb", 1.0)


class Tokens(nn.Module):
    """Patches of 4 pixels behind `count` other tokens, mixed by a linear map over tokens; then a map with channels last."""

    def __init__(self, count=1, named="cls_token", pixels=(8, 12)):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 5, 4, 4)
        self.register_parameter(named, nn.Parameter(torch.randn(1, count, 5)))
        self.named = named
        self.same = nn.Identity()
        self.mixed = Mixed(count + pixels[0] * pixels[1] // 16)
        self.last = nn.LayerNorm(5)

    def forward(self, x):
        maps = self.patches(x)
        x = maps.flatten(2).transpose(1, 2)
        x = self.mixed(self.same(torch.cat([getattr(self, self.named).expand(len(x), -1, -1), x], dim=1)))
        return x.mean() + self.last(maps.permute(0, 2, 3, 1)).mean()


class Mixed(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.linear = nn.Linear(count, count)

    def forward(self, x):
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 50


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_grid_of_tokens_is_the_map_that_they_were_made_of(count):
    module = Tokens(count)
    maps = Layer(module, "patches", space=SPACE)(X)
    grid = Layer(module, "same:grid", space=SPACE)
    torch.testing.assert_close(grid(X), maps)
    assert (grid.shape, grid.stride) == ((5, 2, 3), 4)
    assert Layer(module, "mixed:grid", space=SPACE).receptive_field is None
    if count:
        torch.testing.assert_close(Layer(module, "same:prefix", space=SPACE)(X), module.cls_token.expand(2, -1, -1))
        assert Layer(module, "same:cls", space=SPACE).shape == (5,)
    else:
        with pytest.raises(InputError, match="6 tokens, all of them patches"):
            Layer(module, "same:cls", space=SPACE)


def test_a_pixel_of_one_patch_moves_that_cell_of_the_grid_alone():
    phi = Layer(Tokens(3), "same:grid", space=SPACE)
    y = X.clone()
    y[:, :, 5, 9] += 100  # row 1, column 2
    moved = (phi(y) - phi(X)).abs().amax(dim=(0, 1)) > 1e-6
    assert moved.tolist() == [[False, False, False], [False, False, True]]


def test_another_canvas_has_another_grid_and_a_wrong_number_of_tokens_is_refused():
    part = Part("grid", "tokens", 1, 4, 4)
    assert part(torch.zeros(2, 1 + 3 * 5, 7), 13, 21).shape == (2, 7, 3, 5)
    with pytest.raises(InputError, match="gives 16 tokens, which are not 1 and a grid of 2x5"):
        part(torch.zeros(2, 16, 7), 8, 21)


def test_a_map_with_channels_last_has_a_grid_and_no_tokens():
    module = Tokens()
    grid = Layer(module, "last:grid", space=SPACE)
    torch.testing.assert_close(grid(X), Layer(module, "last", space=SPACE)(X).permute(0, 3, 1, 2))
    with pytest.raises(InputError, match="has no tokens beside it: choose :grid"):
        Layer(module, "last:cls", space=SPACE)
    torch.testing.assert_close(Layer(module, "patches:grid", space=SPACE)(X), Layer(module, "patches", space=SPACE)(X))


def test_a_token_that_is_no_class_token_is_only_a_prefix():
    module = Tokens(4, named="reg_token")
    with pytest.raises(InputError, match=r"has 4 tokens before its patches, but none is a class token .* choose :prefix"):
        Layer(module, "same:cls", space=SPACE)
    assert Layer(module, "same:prefix", space=SPACE).shape == (4, 5)


def test_a_declared_number_must_come_out_with_the_canvas():
    module = Tokens(2)
    module.num_prefix_tokens = 1
    with pytest.raises(
        InputError, match=r"has 8 tokens, which are not 2x3 patches of 4x4 pixels and 1 before them, as the module declares"
    ):
        Layer(module, "same:grid", space=SPACE)
    module.num_prefix_tokens = 2
    assert Layer(module, "same:grid", space=SPACE).shape == (5, 2, 3)
    many = Tokens(40)
    with pytest.raises(InputError, match="of any number before them"):
        Layer(many, "same:grid", space=SPACE)
    many.num_prefix_tokens = 40
    assert Layer(many, "same:prefix", space=SPACE).shape == (40, 5)


def test_parts_are_listed_and_wrong_ones_are_refused():
    module = Tokens()
    found = {i.name: i.parts for i in layers(module, SPACE)}
    assert found["same"] == found["mixed"] == ("cls", "prefix", "grid")
    assert found["last"] == ("grid",)
    assert found["patches"] == ()
    with pytest.raises(InputError, match="parts of a layer are cls, prefix, grid"):
        Layer(module, "same:patches", space=SPACE)
    with pytest.raises(InputError, match=r"no tokens .count, channels. and no map"):
        Layer(nn.Sequential(nn.Flatten(), nn.Linear(288, 3)), "1:cls", space=SPACE)


def test_a_unit_of_the_grid_is_a_channel_a_row_and_a_column():
    phi = Layer(Tokens(), "same:grid", space=SPACE)
    result = preimage.maximize(phi, (2, 1, 2), canvas="input", iterations=10, progress=False, Z=1.0)
    features = phi(result.images - SPACE.mean_colour)[0]
    start = phi(torch.zeros(1, 3, 8, 12))[0]
    assert features[2, 1, 2] > start[2, 1, 2] + 0.5
    assert features[2, 0, 0] == pytest.approx(start[2, 0, 0].item(), abs=0.3)
