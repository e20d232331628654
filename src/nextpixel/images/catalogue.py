"""The entries of the named data sets: facts, checksums and readers; no logic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nextpixel.images.binarized_mnist import read_binarized_mnist
from nextpixel.images.cifar import read_cifar10
from nextpixel.images.digits import read_digits
from nextpixel.images.downsampled_imagenet import read_downsampled_imagenet, release
from nextpixel.images.idx import read_idx_folder
from nextpixel.images.medmnist import read_pneumonia_mnist
from nextpixel.images.source import Parts


@dataclass(frozen=True)
class Hub:
    """Where a set lies on the Hugging Face hub: one parquet file a part, with an image and a label column.

    revision: the commit to take. What is decoded must have the checksums of the set in any case.
    train_blocks: pixel checksums of the consecutive equal blocks of train in the official order, for a copy
    that holds the blocks in another order.
    """

    repository: str
    revision: str
    files: dict[str, str]
    image_column: str = "image"
    label_column: str = "label"
    train_blocks: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedSet:
    """One named data set.

    shape: (C,H,W); expects: the files its folder must hold; read: from that folder to parts;
    checksums: part -> sha256 of the pixels [N,H,W] or [N,H,W,C] as bytes, and of the labels as bytes;
    any_order: parts whose published order is not known: their (image, label) pairs are sorted before hashing;
    release: from the folder to which release it holds, where there are several; cut: how to split a set without parts.
    """

    name: str
    about: str
    shape: tuple[int, int, int]
    levels: int
    classes: int | None
    licence: str
    source: str
    expects: str
    read: Callable[[Path], Parts]
    checksums: dict[str, tuple[str, str]] = field(default_factory=dict)
    any_order: tuple[str, ...] = ()
    protocol: str = "8-bit"
    release: Callable[[Path], str] | None = None
    hub: Hub | None = None
    embedded: bool = False
    cut: tuple[int, int, int] | None = None


_IDX = "the four files {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
_BATCHES = "train_data_batch_1..10 and val_data (.npz or Python files), or PNG in train_{0}x{0}/ and valid_{0}x{0}/"
_IMAGENET_LICENCE = "research only, by the terms of ImageNet"


def _imagenet(size: int) -> NamedSet:
    return NamedSet(
        name=f"imagenet{size}",
        about=f"down-sampled ImageNet {size}x{size}; from a folder only; two releases that do not compare",
        shape=(3, size, size),
        levels=256,
        classes=None,  # 1000 in the data batches, none in the PNG release
        licence=_IMAGENET_LICENCE,
        source="PNG folders: van den Oord et al. 2016; data batches: Chrabaszcz et al. 2017 (image-net.org)",
        expects=_BATCHES.format(size),
        read=lambda folder: read_downsampled_imagenet(folder, size),
        release=release,
    )


_ENTRIES = [
    NamedSet(
        name="digits",
        about="handwritten digits 8x8 with 17 levels; comes with the package",
        shape=(1, 8, 8),
        levels=17,
        classes=10,
        licence="CC BY 4.0 (UCI), BSD-3-Clause (scikit-learn)",
        source="Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits, as in scikit-learn",
        expects="digits.npz",
        read=read_digits,
        checksums={
            "all": (
                "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
                "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
            )
        },
        protocol="17 levels",
        embedded=True,
        cut=(1350, 150, 297),
    ),
    NamedSet(
        name="mnist",
        about="handwritten digits 28x28, grey",
        shape=(1, 28, 28),
        levels=256,
        classes=10,
        licence="CC BY-SA 3.0 (as usually stated)",
        source="LeCun, Cortes and Burges 1998",
        expects=_IDX,
        read=read_idx_folder,
        checksums={
            "train": (
                "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            ),
            "test": (
                "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            ),
        },
        hub=Hub(
            "ylecun/mnist",
            "77f3279092a1c1579b2250db8eafed0ad422088c",
            {"train": "mnist/train-00000-of-00001.parquet", "test": "mnist/test-00000-of-00001.parquet"},
        ),
    ),
    NamedSet(
        name="fashion_mnist",
        about="articles of clothing 28x28, grey",
        shape=(1, 28, 28),
        levels=256,
        classes=10,
        licence="MIT",
        source="Xiao, Rasul and Vollgraf 2017 (Zalando)",
        expects=_IDX,
        read=read_idx_folder,
        checksums={
            "train": (
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
                "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            ),
            "test": (
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
                "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
            ),
        },
        hub=Hub(
            "zalando-datasets/fashion_mnist",
            "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
            {
                "train": "fashion_mnist/train-00000-of-00001.parquet",
                "test": "fashion_mnist/test-00000-of-00001.parquet",
            },
        ),
    ),
    NamedSet(
        name="binarized_mnist",
        about="the fixed binarisation of MNIST; its test part is sorted by digit, so take no head of it",
        shape=(1, 28, 28),
        levels=2,
        classes=10,  # none from the text files
        licence="CC BY-SA 3.0 (as usually stated for MNIST)",
        source="Larochelle and Murray 2011; labels derived (most likely original), 0.3 % of them uncertain",
        expects="binarized_mnist_{train,valid,test}.amat "
        "(http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/) or binarized_mnist.npz (packed bits)",
        read=read_binarized_mnist,
        checksums={
            "train": (
                "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
                "8412fa05f88a60e55c9f434182cbcd829e0a2918a576632cfa5002deb43aeea6",
            ),
            "valid": (
                "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
                "ad502ca809c8f0e332f8d621550df6592eb5ca9a0d007e8fe8c1d2dec6d2cfcf",
            ),
            "test": (
                "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
                "f7cd9d3a7438833ddaff2865a3ef3497a9479b8a1fc1e2dc2db0faf6648419c2",
            ),
        },
        protocol="fixed binarisation (Larochelle)",
    ),
    NamedSet(
        name="cifar10",
        about="photographs of ten kinds of things, 32x32 RGB",
        shape=(3, 32, 32),
        levels=256,
        classes=10,
        licence="none stated: cite it, use it for research, do not redistribute it",
        source="Krizhevsky 2009",
        expects="cifar-10-batches-py/, or train_*.webp, test_*.webp and labels.npz",
        read=read_cifar10,
        checksums={
            "train": (
                "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
                "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            ),
            "test": (
                "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
                "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
            ),
        },
        hub=Hub(
            "uoft-cs/cifar10",
            "0b2714987fa478483af9968de7c934580d0bb9a2",
            {
                "train": "plain_text/train-00000-of-00001.parquet",
                "test": "plain_text/test-00000-of-00001.parquet",
            },
            image_column="img",
            train_blocks=(
                "fc115a3de050d667b88cbd5b0b9612ebf996c54230fe7758f3a14bb5af9a1c27",
                "89e609b642f687bc796fa3bfa4211005582a0e8131d463d996d11ddb297d312e",
                "93a365823e61729490a8801d80864ccd0ab1e8c98f19d71af65644d1c5f1486e",
                "809eb95ecd057a36516318f5023ea619009dd70dd38193db9da43125a928e6fa",
                "d05b7d66d216d6df882cc760cdc0ff2f1f0437abf699ed16005c021ef0add9cb",
            ),
        ),
    ),
    NamedSet(
        name="pneumonia_mnist",
        about="chest X-rays of children 28x28, grey; 0 normal, 1 pneumonia",
        shape=(1, 28, 28),
        levels=256,
        classes=2,
        licence="CC BY 4.0",
        source="Yang et al. 2023, MedMNIST v2; Kermany et al. 2018",
        expects="pneumonia_mnist.npz or MedMNIST's pneumoniamnist.npz",
        read=read_pneumonia_mnist,
        checksums={
            "train": (
                "c51bfdb2b94269b5b4a974d447ab8d82a215f5e7144d83175ea42750ffcfdab6",
                "6eddb3d6a0bea94a0cf09b318032205024bb097be9eef71e318d89ff0d444eb0",
            ),
            "valid": (
                "499b99bb7cc3b2a8654da75b2a19fae443343c6251d46a9c80249930d4f33934",
                "150e23159736511733a32b038e64e5f6235c888105e2bd579efc0e7dcb1c38fd",
            ),
            "test": (
                "f936e3b6b29d2ed7a8182dd090c27504a6b7152ce496a960db0169622aabf843",
                "13c6ece2a1da60187a0129e7a1b66c685dcbcffe8229225cb5e48e5ee12cfd3d",
            ),
        },
        any_order=("train",),
    ),
    _imagenet(32),
    _imagenet(64),
]

CATALOGUE: dict[str, NamedSet] = {entry.name: entry for entry in _ENTRIES}
