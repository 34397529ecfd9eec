"""The weights that write a unit: likeness by weight, and the units before it that speak for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import preimage
from preimage.statistics.wiring import find_wiring

SPACE = preimage.PixelSpace(8, "rgb", scale=1.0, mean=0.5, std=0.25)


class Fire(nn.Module):
    """Two convolutions of one input beside each other, a sum with what came in, a head on the mean of the map."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.narrow, self.wide = nn.Conv2d(6, 2, 1), nn.Conv2d(6, 4, 3, padding=1)
        self.after = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout())
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.first(x).relu()
        return self.head(self.after(torch.cat([self.narrow(x), self.wide(x)], dim=1) + x).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    module = Fire()
    return module, find_wiring(module, SPACE)


def test_weights_are_followed_through_sums_and_pooling_and_kept_apart_where_channels_were_joined(found):
    module, wired = found
    joined = wired["after"]
    assert joined.groups.tolist() == [0, 0, 1, 1, 1, 1]
    torch.testing.assert_close(joined.weights[:2, :6], module.narrow.weight.detach().flatten(1))
    torch.testing.assert_close(joined.weights[2:], module.wide.weight.detach().flatten(1))
    assert not joined.weights[:2, 6:].any()
    torch.testing.assert_close(joined.by_channel[2:], module.wide.weight.detach().sum(dim=(2, 3)))


def test_the_head_reads_the_layer_before_the_mean_of_the_map(found):
    module, wired = found
    assert wired["head"].source in ("after", "after.1")  # the same tensor, and the dropout that hands it on is no other layer
    torch.testing.assert_close(wired["head"].by_channel, module.head.weight.detach())


def test_likeness_by_weight_is_the_cosine_within_one_operation(found):
    _, wired = found
    cosine = wired["after"].alike()
    rows = wired["after"].weights
    assert cosine[2, 5] == pytest.approx(torch.cosine_similarity(rows[2], rows[5], dim=0).item(), abs=1e-6)
    assert cosine[0, 0] == cosine[0, 3] == -2.0


def test_a_flattened_map_gives_each_channel_its_places_and_a_group_reads_its_own_channels():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(16, 3))
    wired = find_wiring(module, SPACE, ["0", "1", "3"])
    torch.testing.assert_close(wired["3"].by_channel, module[3].weight.detach().reshape(3, 4, 4).sum(dim=2))
    assert wired["3"].source == "1" and wired["1"].source == "0"
    assert not wired["1"].by_channel[:2, 2:].any() and bool(wired["1"].by_channel[:2, :2].all())


def test_the_features_of_tokens_have_the_weights_of_their_last_map():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.mlp, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            return self.head((x + self.mlp(self.norm(x)))[:, 0])

    torch.manual_seed(0)
    module = Tokens()
    wired = find_wiring(module, SPACE)
    torch.testing.assert_close(wired["mlp"].by_channel, module.mlp.weight.detach())
    assert wired["mlp"].source == "norm"
    torch.testing.assert_close(wired["head"].weights, module.head.weight.detach())


def test_units_whose_weights_are_not_known_are_left_out():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.soft = nn.Conv2d(3, 4, 1), nn.Softmax(dim=1)

        def forward(self, x):
            return self.soft(self.conv(x))

    assert list(find_wiring(Mixed(), SPACE)) == ["conv"]
