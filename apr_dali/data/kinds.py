"""What names say: which published set of small images classes are of, the WordNet number in a file's."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WNID = re.compile(r"(?:^|[_/])(n\d{8})(?=[_./]|$)")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
CLASSES = {"cifar10": tuple(_CIFAR10.split()), "cifar100": tuple(_CIFAR100.split())}
"""By the name of the set, in the order of its labels, which is sorted."""


def kind_of(classes: Sequence[str]) -> str:
    """The one of CLASSES that has these classes in this order, "" for others."""
    return next((kind for kind, names in CLASSES.items() if names == tuple(classes)), "")


def unnamed(classes: Sequence[str]) -> bool:
    """Whether the classes have their numbers for names."""
    return tuple(classes) == tuple(map(str, range(len(classes))))


def wnid_of(name: str) -> str | None:
    """The WordNet number that the name of an ImageNet file holds; the last one, as in `…_00000293_n03000134.JPEG`."""
    found = _WNID.findall(name)
    return found[-1] if found else None
