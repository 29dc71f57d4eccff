"""Counts of published sets."""

import numpy as np

from apr_dali.data.kinds import CLASSES
from apr_dali.data.prepare.count import CIFAR, IMAGENET, Published, differences, published_for

SET = Published("Set", 3, {"train": 30, "val": 6}, {"train": (8, 12), "val": (2, 2)})


def told(counts, split="train", classes=("a", "b", "c"), **options):
    return differences(split, np.array(counts), classes, SET, **options)


def test_nothing_differs():
    assert told([8, 10, 12]) == []
    assert told([2, 2, 2], "val") == []
    assert told([9, 9, 12], per_class=(9, 9, 12)) == []


def test_what_differs():
    assert told([7, 11, 12]) == ["train: a has 7, not 8 to 12"]
    assert told([8, 10, 11]) == ["train: Set has 30 images, got 29, 1 fewer"]
    assert told([2, 1, 3], "val") == ["val: b has 1, not 2, c has 3, not 2"]
    assert told([9, 10, 11], per_class=(9, 9, 12)) == ["train: b has 10, not 9, c has 11, not 12"]
    assert told([15, 15], classes=("a", "b")) == [
        "Set has 3 classes, got 2",
        "train: a has 15, not 8 to 12, b has 15, not 8 to 12",
    ]


def test_many_classes_are_not_all_named():
    (line,) = told([0] * 8 + [30], classes="abcdefghi")[1:]
    assert line.endswith("e has 0, not 8 to 12 and 4 classes more")


def test_which_set_it_is():
    wnids = [f"n{number:08d}" for number in range(1000)]
    assert published_for(wnids) is IMAGENET
    assert published_for(wnids[1:]) is None
    assert published_for(wnids[1:], official=True) is IMAGENET
    assert published_for(CLASSES["cifar100"]) is CIFAR["cifar100"]
    assert IMAGENET.images == {"train": 1_281_167, "val": 50_000}
    assert IMAGENET.per_class == {"train": (732, 1300), "val": (50, 50)}
    # As many in all as of each class.
    for found in CIFAR.values():
        assert all(found.images[split] == found.classes * found.per_class[split][0] for split in found.images)
