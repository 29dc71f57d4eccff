"""`eval shift` and ImageNet-O: which classes are asked about, and which folders are theirs."""

import json

import pytest
from helpers.eval_sets import Brightness, network, write_levels

from apr_dali.eval.class_lists import IMAGENET_A, IMAGENET_O, IMAGENET_R
from apr_dali.eval.evaluations import distribution_shift, ood


def result(tmp_path, name: str):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())["result"]


def test_class_lists():
    for names in (IMAGENET_A, IMAGENET_O, IMAGENET_R):
        assert len(set(names)) == 200
        assert list(names) == sorted(names)
        assert all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in names)
    # Of the authors' own list of class numbers for ImageNet-A: 6, 11, 13 first and 986, 987, 988 last.
    from apr_dali.eval.load_model import imagenet_classes

    numbers = [imagenet_classes().index(name) for name in IMAGENET_A]
    assert (numbers[:3], numbers[-3:]) == ([6, 11, 13], [986, 987, 988])


def test_a_shift_asks_only_about_its_own_classes(run_eval, tmp_path, monkeypatch):
    monkeypatch.setitem(distribution_shift.SHIFTS, "imagenet-a", ("dark", "light"))
    # 100 is nearest to gray; of the two classes that are asked about it is nearer to dark.
    write_levels(tmp_path / "a", {"dark": [100, 50, 190], "light": [140, 250]})
    assert run_eval("shift", "imagenet-a", "--data", tmp_path / "a") == 0
    found = result(tmp_path, "imagenet-a")
    assert (found["top1"], found["images"], found["classes"]) == (pytest.approx(4 / 5), 5, 2)
    assert found["name"] == "own set a, in the form of imagenet-a"
    # Among all three, both dark ones of 100 and 140 are gray; 190 is wrong in any case.
    assert (found["top1_of_all"], found["all_classes"]) == (pytest.approx(2 / 5), 3)
    # Of the whole set's size, and ImageNet's classes: the published set.
    for classes, name in ((True, "imagenet-a"), (False, "own set a, in the form of imagenet-a")):
        monkeypatch.setitem(distribution_shift.IMAGES, "imagenet-a", 5)
        monkeypatch.setattr(distribution_shift, "is_imagenet", lambda _, known=classes: known)
        assert run_eval("shift", "imagenet-a", "--data", tmp_path / "a") == 0
        assert result(tmp_path, "imagenet-a")["name"] == name


def test_imagenet_v2s_folders_are_numbers(run_eval, tmp_path):
    classes = ("light", "dark", "gray")
    model = network(model=Brightness(), classes=classes)
    # Eleven classes would sort as 0, 1, 10, 2: here the order of the outputs itself tells.
    write_levels(tmp_path / "v2", {"0": [45, 50], "1": [120], "2": [210, 30]})
    assert run_eval("shift", "imagenet-v2", "--data", tmp_path / "v2", model=model) == 0
    found = result(tmp_path, "imagenet-v2")
    assert found["top1"] == pytest.approx(4 / 5)
    assert found["labels"] == (
        "its folders have no names: the folder n is taken for the network's class n (0 light, 1 dark, 2 gray)"
    )


def test_numbered_folders_are_sorted_by_number():
    class Stub:
        network = network(classes=tuple("abcdefghijkl"))

    names = tuple(sorted(map(str, range(12))))
    assert names[2] == "10"
    assert distribution_shift._meant(Stub, "imagenet-v2", names)[:4] == ("a", "b", "k", "l")


@pytest.mark.parametrize(
    ("kind", "folders", "message"),
    [
        ("imagenet-sketch", ("dark", "gray"), "must have 3 class folders, got 2; missing: light"),
        ("imagenet-sketch", ("dark", "gray", "light", "x"), "got 4; not among them: x"),
        ("imagenet-v2", ("0", "3"), "the class folder 3 is beyond the network's 3 classes"),
        ("imagenet-r", ("dark",), "must have 200 class folders, got 1"),
    ],
)
def test_wrong_class_folders_are_named(run_eval, tmp_path, kind, folders, message, capsys):
    write_levels(tmp_path / "set", {name: [50] for name in folders})
    assert run_eval("shift", kind, "--data", tmp_path / "set") == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_imagenet_o_takes_its_classes_alone(run_eval, tmp_path, monkeypatch):
    monkeypatch.setattr(ood, "IMAGENET_O", ("dark", "light"))
    write_levels(tmp_path / "val", {"dark": [40, 60, 70], "gray": [128, 128], "light": [215, 190]})
    write_levels(tmp_path / "o", {"dark": [120, 130]})
    assert run_eval("ood", "--data", tmp_path / "val", "--ood", f"o={tmp_path}/o", "--imagenet-o") == 0
    found = result(tmp_path, "imagenet-o")
    assert found["images"] == 5, "the gray images are not of the 200 classes"
    # With the class gray the others would be sure of being gray; without it they are the least sure.
    assert found["scores"]["max-softmax"]["o"]["auroc"] == 1
    # All are classified right, if the labels are in the order of the 200 classes.
    assert found["scores"]["max-softmax"]["o"]["oscr"] == 1
    assert run_eval("ood", "--data", tmp_path / "o", "--ood", f"o={tmp_path}/o", "--imagenet-o", output="x") == 2
