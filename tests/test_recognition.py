"""Recognition by another network: intervals against a second writing, ranks by hand, and who may judge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import preimage
from preimage.errors import InputError
from preimage.metrics import Recognition, Resemblance, Share, embeddings, recognition, resemblance
from preimage.networks.network import Network, NetworkCard, weights_hash


def wilson(hits: int, trials: int, z: float) -> tuple[float, float]:
    """The two roots of (p - hits/n)² = z² p (1 - p) / n, which define the interval."""
    a, b, c = 1 + z**2 / trials, -2 * hits / trials - z**2 / trials, (hits / trials) ** 2
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_the_roots_of_wilsons_equation_inside_0_and_1_and_holds_the_share(pair):
    share = Share(*pair)
    assert (share.low, share.high) == pytest.approx(wilson(*pair, 1.959963984540054), abs=1e-7)
    assert 0 <= share.low <= share.value + 1e-12 and share.value - 1e-12 <= share.high <= 1
    assert share.high - share.low > 0
    mirrored = Share(pair[1] - pair[0], pair[1])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((share.low, share.high), abs=1e-12)


def test_more_confidence_and_fewer_trials_widen_the_interval():
    width = lambda s: s.high - s.low  # noqa: E731
    assert width(Share(8, 10, 0.99)) > width(Share(8, 10)) > width(Share(80, 100))


@pytest.mark.parametrize(("hits", "trials", "confidence"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 95)])
def test_a_share_of_nothing_or_of_too_much_is_refused(hits, trials, confidence):
    with pytest.raises(InputError):
        Share(hits, trials, confidence)


class Colours(nn.Module):
    """Three classes, red, green and blue: the score is the mean of the colour, through a map of one output a class."""

    def __init__(self, gain: float = 0.1) -> None:
        super().__init__()
        self.scores = nn.Linear(3, 3, bias=False)
        self.scores.weight.data = gain * torch.eye(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(x.mean(dim=(2, 3)))


def colours(gain: float = 0.1, classes: tuple[str, ...] = ("red", "green", "blue")) -> Network:
    space = preimage.PixelSpace(8, mean=100.0)
    return Network(Colours(gain).eval(), NetworkCard("colours", space, Colours, classes=lambda: list(classes)), "default")


def flat(*colour: float, size: int = 8) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, size, size)


def test_ranks_and_probabilities_are_those_of_the_wanted_classes():
    x = torch.cat([flat(200, 150, 50), flat(200, 150, 50), flat(200, 150, 50), flat(90, 90, 90)])
    found = recognition(x, colours(), ["red", 1, "blue", "green"], made_by=())
    assert found.rank.tolist() == [1, 2, 3, 3]  # the last is a tie of three, which counts against it
    softmax = torch.tensor([10.0, 5.0, -5.0]).softmax(0)
    torch.testing.assert_close(found.probability, torch.tensor([*softmax, 1 / 3]), rtol=1e-5, atol=1e-7)
    assert (found.within(1).hits, found.within(2).hits, found.within(5).hits, found.median_rank) == (1, 2, 4, 2.5)
    record = found.to_dict()
    assert record["top1"]["value"] == 0.25 and record["rank"] == [1, 2, 3, 3] and record["judge"] == "colours"


def test_what_is_judged_is_the_picture_of_8_bits_at_the_judges_size():
    x = torch.cat([flat(900, 254.6, 0), flat(255, 255, 0)])
    found = recognition(x, colours(), [0, 0], made_by=())
    assert torch.equal(found.probability[0], found.probability[1])
    large = recognition(flat(200, 150, 50, size=24), colours(), [0], made_by=())
    assert torch.equal(large.probability, recognition(flat(200, 150, 50), colours(), [0], made_by=()).probability)


def test_samples_are_judged_by_themselves(net):
    x = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 255
    together = recognition(x, net, [5, 6, 7], made_by=())
    alone = [recognition(x[b : b + 1], net, [5 + b], made_by=()) for b in range(3)]
    assert together.rank.tolist() == [int(a.rank) for a in alone]
    assert torch.equal(together.probability, torch.cat([a.probability for a in alone]))


def test_the_network_that_made_the_images_may_not_judge_them():
    judge, other = colours(), colours(gain=0.2)
    x = flat(200, 150, 50)
    for maker in (judge, judge.module, weights_hash(judge.module), [other, colours()]):
        with pytest.raises(InputError, match="another judge"):
            recognition(x, judge, [0], made_by=maker)
        with pytest.raises(InputError, match="another judge"):
            resemblance(x, x, judge, made_by=maker)
    assert recognition(x, judge, [0], made_by=[other, weights_hash(other.module)]).rank.tolist() == [1]


def test_a_results_record_names_the_maker(net):
    result = preimage.maximize(net.layer("pool10"), unit=7, iterations=1, canvas=64, everywhere=True, progress=False)
    with pytest.raises(InputError, match="squeezenet1_1 made these images"):
        recognition(result.images, net, [7], made_by=result.config["weights_sha256"])


@pytest.mark.parametrize("classes", [[3], [-1], ["purple"], [0, 1]])
def test_classes_that_are_not_there_or_not_one_each_are_refused(classes):
    with pytest.raises((InputError, preimage.errors.UnknownName)):
        recognition(flat(1, 2, 3), colours(), classes, made_by=())


def test_images_that_are_no_pictures_and_judges_without_classes_are_refused():
    for bad in (torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(InputError, match="RGB levels"):
            recognition(bad, colours(), [0], made_by=())
    with pytest.raises(InputError, match="no class names"):
        recognition(flat(1, 2, 3), colours(classes=()), [0], made_by=())
    with pytest.raises(InputError, match="no layer with one output"):
        embeddings(flat(1, 2, 3), colours(classes=()))


def test_embeddings_are_what_the_layer_of_classes_sees_and_leave_no_hook(net):
    x = torch.rand(2, 3, 70, 70, generator=torch.Generator().manual_seed(1)) * 255
    found = embeddings(x, net)
    levels = x.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        pooled = net.layer("fire9")(torch.cat([net.space.encode(one) for one in levels])).mean(dim=(2, 3))
    torch.testing.assert_close(found, pooled / pooled.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert all(not m._forward_pre_hooks for m in net.module.modules())


def test_an_image_is_found_among_originals_by_the_embedding_and_set_against_the_others():
    originals = torch.cat([flat(255, 100, 100), flat(100, 255, 100), flat(100, 100, 255)])
    images = torch.cat([flat(180, 120, 100), flat(180, 160, 100)])
    found = resemblance(images, originals, colours(), made_by=(), sources=torch.tensor([0, 1]))
    cosines = [80 / math.hypot(80, 20), 60 / math.hypot(80, 60)]
    torch.testing.assert_close(found.own, torch.tensor(cosines), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.unrelated, torch.tensor([20 / math.hypot(80, 20) / 2, 80 / math.hypot(80, 60) / 2]), rtol=1e-5, atol=0)
    assert found.rank.tolist() == [1, 2]
    assert (found.found.hits, found.found.trials) == (1, 2)
    assert found.to_dict()["originals"] == 3


def test_two_equal_originals_are_never_found_again():
    x = torch.cat([flat(255, 100, 100), flat(255, 100, 100), flat(100, 100, 255)])
    assert resemblance(x, x, colours(), made_by=()).rank.tolist() == [2, 2, 1]


@pytest.mark.parametrize("sources", [[2], [-1], [0, 1]])
def test_sources_that_are_not_there_are_refused(sources):
    x = flat(1, 2, 3)
    with pytest.raises(InputError, match="one source among"):
        resemblance(x, torch.cat([x, x]), colours(), made_by=(), sources=torch.tensor(sources))
    with pytest.raises(InputError, match="fewer than 2"):
        resemblance(x, x, colours(), made_by=())


def test_one_image_has_a_median_rank_and_two_originals_are_enough():
    assert Recognition("a", torch.tensor([1]), torch.tensor([3]), torch.tensor([0.1])).median_rank == 3
    assert Resemblance("a", torch.tensor([[0.2, 0.9]]), torch.tensor([1])).rank.tolist() == [1]
