"""The classic networks of the paper: AlexNet and CaffeNet, VGG-F, -M, -S (Chatfield et al. 2014) and VGG-VD (Simonyan & Zisserman 2015).

Geometry, layer names and normalisation are those of the MatConvNet conversions that the paper used (`imagenet-*.mat`): padding in
place of Caffe's overhanging windows, fully connected layers as convolutions, the softmax left out. Given such a file, the network
takes its geometry, mean and class names from it.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..pixels.pixelspace import PixelSpace
from .chain import Chain, Conv, Norm, Pool, ReLU, Step, initialise
from .fetch import RemoteFile
from .imagenet import class_names
from .matconvnet import with_file
from .network import NETWORKS, NetworkCard

# RGB. Caffe's is the mean over the pixels of ilsvrc_2012_mean.npy, VGG's the one published with VGG-VD and in its files;
# the mean image of VGG-F, -M, -S comes with their files alone: by name they take VGG-VD's colour.
_CAFFE_MEAN = (122.6789, 116.6688, 104.0070)
_VGG_MEAN = (123.68, 116.779, 103.939)
_URL = "https://www.vlfeat.org/matconvnet/models/"


def alexnet(norm_first: bool) -> list[Step]:
    """AlexNet (Krizhevsky et al. 2012): normalised before pooling, or after it as Caffe's reference network. Two groups in conv2, 4, 5.

    >>> [s.name for s in alexnet(norm_first=False)][:5]
    ['conv1', 'relu1', 'pool1', 'norm1', 'conv2']
    """

    def down(number: int) -> list[Step]:
        norm, pool = Norm(f"norm{number}", 5, 1.0, 1e-4 / 5, 0.75), _pool(number, 3, 2)
        return [norm, pool] if norm_first else [pool, norm]

    return [
        *_block("conv1", 3, 96, 11, stride=4),
        *down(1),
        *_block("conv2", 96, 256, 5, pad=2, groups=2),
        *down(2),
        *_block("conv3", 256, 384, 3, pad=1),
        *_block("conv4", 384, 384, 3, pad=1, groups=2),
        *_block("conv5", 384, 256, 3, pad=1, groups=2),
        _pool(5, 3, 2),
        *_head(256, 6),
    ]


def vgg_f() -> list[Step]:
    return [
        *_block("conv1", 3, 64, 11, stride=4),
        _vgg_norm(1),
        _pool(1, 3, 2, over=1),
        *_block("conv2", 64, 256, 5, pad=2),
        _vgg_norm(2),
        _pool(2, 3, 2),
        *_block("conv3", 256, 256, 3, pad=1),
        *_block("conv4", 256, 256, 3, pad=1),
        *_block("conv5", 256, 256, 3, pad=1),
        _pool(5, 3, 2),
        *_head(256, 6),
    ]


def vgg_m() -> list[Step]:
    return [
        *_block("conv1", 3, 96, 7, stride=2),
        _vgg_norm(1),
        _pool(1, 3, 2),
        *_block("conv2", 96, 256, 5, stride=2, pad=1),
        _vgg_norm(2),
        _pool(2, 3, 2, over=1),
        *_block("conv3", 256, 512, 3, pad=1),
        *_block("conv4", 512, 512, 3, pad=1),
        *_block("conv5", 512, 512, 3, pad=1),
        _pool(5, 3, 2),
        *_head(512, 6),
    ]


def vgg_s() -> list[Step]:
    return [
        *_block("conv1", 3, 96, 7, stride=2),
        _vgg_norm(1),
        _pool(1, 3, 3, over=2),
        *_block("conv2", 96, 256, 5),
        _pool(2, 2, 2, over=1),
        *_block("conv3", 256, 512, 3, pad=1),
        *_block("conv4", 512, 512, 3, pad=1),
        *_block("conv5", 512, 512, 3, pad=1),
        _pool(5, 3, 3, over=1),
        *_head(512, 6),
    ]


def vgg_vd(depths: tuple[int, ...]) -> list[Step]:
    """VGG-VD. depths: convolutions in each of the five stages, (2, 2, 3, 3, 3) for 16 layers with weights.

    >>> len(vgg_vd((2, 2, 3, 3, 3))), len(vgg_vd((2, 2, 4, 4, 4)))
    (36, 42)
    """
    steps: list[Step] = []
    inputs = 3
    for stage, (depth, outputs) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True), start=1):
        for k in range(1, depth + 1):
            steps += _block(f"conv{stage}_{k}", inputs, outputs, 3, pad=1)
            inputs = outputs
        steps.append(_pool(stage, 2, 2))
    return [*steps, *_head(512, 7)]


def _block(name: str, inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 0, groups: int = 1) -> list[Step]:
    conv = Conv(name, inputs, outputs, (kernel, kernel), (stride, stride), (pad, pad, pad, pad), groups)
    return [conv, ReLU("relu" + name.removeprefix("conv").removeprefix("fc"))]


def _pool(number: int, kernel: int, stride: int, over: int = 0) -> Pool:
    """over: by how many rows and columns the last window may hang over the edge."""
    return Pool(f"pool{number}", "max", (kernel, kernel), (stride, stride), (0, over, 0, over))


def _vgg_norm(number: int) -> Norm:
    return Norm(f"norm{number}", 5, 2.0, 1e-4, 0.75)


def _head(inputs: int, side: int) -> list[Step]:
    return [*_block("fc6", inputs, 4096, side), *_block("fc7", 4096, 4096, 1), Conv("fc8", 4096, 1000, (1, 1))]


def _card(name: str, steps: list[Step], size: int, mean: tuple[float, ...], stem: str, md5: str, licence: str, paper: str) -> NetworkCard:
    def build() -> nn.Module:
        return initialise(Chain(steps))

    card = NetworkCard(
        name=name,
        space=PixelSpace(size, "rgb", mean=mean),
        build=build,
        names={s.name: s.name for s in steps},
        classes=class_names,
        file=RemoteFile(f"{stem}.mat", f"{_URL}{stem}.mat", md5=md5),
        source=f"MatConvNet's conversion, {_URL}{stem}.mat",
        licence=licence,
        paper=paper,
    )
    return replace(card, adopt=lambda path: with_file(card, steps, path))


_KRIZHEVSKY = "Krizhevsky et al., AlexNet, NIPS 2012"
_JIA = "Jia et al., Caffe, arXiv:1408.5093, 2014"
_CHATFIELD = "Chatfield et al., Return of the devil in the details, BMVC 2014"
_SIMONYAN = "Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015"
_BVLC, _NON_COMMERCIAL, _CC_BY = "unrestricted (BVLC)", "non-commercial (VGG)", "CC BY 4.0 (VGG)"

# name, layers, size, mean, the stem of the file and its MD5 as MatConvNet's page "Pretrained models" gives it, licence, paper
_TABLE = (
    ("caffe-alex", alexnet(True), 227, _CAFFE_MEAN, "imagenet-caffe-alex", "ed49ef44caf18496291ce0c3257b0596", _BVLC, _KRIZHEVSKY),
    ("caffe-ref", alexnet(False), 227, _CAFFE_MEAN, "imagenet-caffe-ref", "6d69dfa6e549012c94546658737c5885", _BVLC, _JIA),
    ("vgg-f", vgg_f(), 224, _VGG_MEAN, "imagenet-vgg-f", "f666c61dc968c413ef664a7e17b01144", _NON_COMMERCIAL, _CHATFIELD),
    ("vgg-m", vgg_m(), 224, _VGG_MEAN, "imagenet-vgg-m", "1c164950e882b4ea11623e669a86b1c4", _NON_COMMERCIAL, _CHATFIELD),
    ("vgg-s", vgg_s(), 224, _VGG_MEAN, "imagenet-vgg-s", "93b683d5420c2eeaf07a6eef492f182b", _NON_COMMERCIAL, _CHATFIELD),
    (
        "vgg-vd-16",
        vgg_vd((2, 2, 3, 3, 3)),
        224,
        _VGG_MEAN,
        "imagenet-vgg-verydeep-16",
        "7f0f9f01dfd99c7b7088d1c5a26eb483",
        _CC_BY,
        _SIMONYAN,
    ),
    (
        "vgg-vd-19",
        vgg_vd((2, 2, 4, 4, 4)),
        224,
        _VGG_MEAN,
        "imagenet-vgg-verydeep-19",
        "49e623de543b207d57fab0f6eaf79a7e",
        _CC_BY,
        _SIMONYAN,
    ),
)
for _row in _TABLE:
    NETWORKS.register(_row[0])(_card(*_row))
