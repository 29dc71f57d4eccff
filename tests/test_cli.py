"""The command line: what it prints, where, and its exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.project import ROOT
from helpers.tar_files import folder_of
from PIL import Image

from apr_dali import __version__
from apr_dali.cli import COMMANDS, Command, main
from apr_dali.data.folders import open_set
from apr_dali.doctor import Report


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def tree(tmp_path) -> Path:
    """train: 3 cats, 2 dogs; val: 1 cat, 1 dog. All fine."""
    root = tmp_path / "data"
    for name in ("train/cat/1", "train/cat/2", "train/cat/3", "train/dog/1", "train/dog/2", "val/cat/1", "val/dog/1"):
        photo(root / f"{name}.jpg")
    return root


def spoil(tree: Path) -> list[str]:
    """Put a truncated, an empty and a text file among the images; their paths in the order of the check."""
    whole = (tree / "train/cat/1.jpg").read_bytes()
    for name, content in (("train/cat/2", whole[:-300]), ("train/dog/zz", b""), ("val/dog/a", b"hello")):
        (tree / f"{name}.jpg").write_bytes(content)
    return [str(tree / f"{name}.jpg") for name in ("train/cat/2", "train/dog/zz", "val/dog/a")]


class TestCheckData:
    def test_all_fine(self, tree, capsys):
        assert main(["check-data", str(tree), "--processes", "1"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "class   train     bad     val     bad",
            "cat         3       0       1       0",
            "dog         2       0       1       0",
            "total       5       0       2       0",
        ]

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_bad_images_are_named_with_the_reason(self, tree, capsys, processes):
        bad = spoil(tree)
        assert main(["check-data", str(tree), "--processes", processes]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(": ")[0] for line in lines[:3]] == bad
        assert "truncated" in lines[0].partition(": ")[2]
        assert [line.partition(": ")[2] for line in lines[1:3]] == [
            "empty file",
            "not an image: it starts with b'hello'",
        ]
        assert lines[4:] == [
            "cat         2       1       1       0",
            "dog         2       1       1       1",
            "total       4       2       2       1",
        ]

    def test_the_list_leaves_out_the_bad_ones(self, tree, tmp_path, capsys):
        bad = spoil(tree)
        before = {split: set(open_set(tree, split).files) for split in ("train", "val")}
        assert main(["check-data", str(tree), "--processes", "1", "--write-file-list", str(tmp_path / "l.txt")]) == 1
        for split, files in before.items():
            found = open_set(tmp_path / "l.txt", split)
            assert set(found.files) == files - set(bad)
            assert found.classes == ("cat", "dog")
            assert [Path(file).parent.name for file in found.files] == [found.classes[n] for n in found.labels]
        assert f"wrote {tmp_path}/l.txt with 6 images" in capsys.readouterr().out

    def test_a_class_whose_images_are_all_bad_keeps_its_label(self, tree, tmp_path):
        for name in ("train/cat/1", "train/cat/2", "train/cat/3", "val/cat/1"):
            (tree / f"{name}.jpg").write_bytes(b"")
        assert main(["check-data", str(tree), "--processes", "1", "--write-file-list", str(tmp_path / "l.txt")]) == 1
        assert open_set(tmp_path / "l.txt", "train").labels.tolist() == [1, 1]
        assert open_set(tmp_path / "l.txt", "val").labels.tolist() == [1]

    def test_a_folder_without_splits(self, tree, tmp_path, capsys):
        arguments = ["check-data", str(tree / "val"), "--processes", "1", "--write-file-list", str(tmp_path / "l.txt")]
        assert main(arguments) == 0
        assert capsys.readouterr().out.splitlines()[:3] == [
            "class  images     bad",
            "cat         1       0",
            "dog         1       0",
        ]
        assert open_set(tmp_path / "l.txt", "val").files == open_set(tree, "val").files

    def test_the_table_fits_80_columns(self, tmp_path, capsys):
        for split in ("train", "val"):
            photo(tmp_path / split / ("long" * 40) / "1.jpg")
            photo(tmp_path / split / "short" / "1.jpg")
        assert main(["check-data", str(tmp_path), "--processes", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert {len(line) for line in lines} == {80}
        assert lines[1].startswith("longlong")
        assert "…" in lines[1]

    def test_splits_with_other_classes(self, tree, capsys):
        photo(tree / "val/emu/1.jpg")
        assert main(["check-data", str(tree)]) == 2
        assert "1 extra: emu" in capsys.readouterr().err

    def test_an_unset_variable_is_not_the_current_folder(self, tree, capsys, monkeypatch):
        monkeypatch.chdir(tree)
        assert main(["check-data", ""]) == 2
        assert "the argument after check-data is empty" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("given", "expected"),
        [("none", "is not there"), ("file.txt", "is a file: give the folder"), ("tars", "0.tar is cut off, damaged")],
    )
    def test_wrong_input(self, tmp_path, capsys, given, expected):
        (tmp_path / "file.txt").touch()
        (tmp_path / "tars").mkdir()
        (tmp_path / "tars/0.tar").touch()
        (tmp_path / "tars/classes.txt").write_text("cat\n")
        assert main(["check-data", str(tmp_path / given)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert expected in err

    def test_tars(self, tmp_path, capsys):
        image = photo(tmp_path / "a.jpg").read_bytes()
        members = {"0": {"cls": b"1\n", "jpg": image, "json": b"{}"}, "1": {"jpg": image, "cls": b"0"}}
        members |= {"2": {"jpg": image[:-300], "cls": b"0"}, "3": {"jpg": image, "cls": b"2"}, "4": {"jpg": image}}
        packed = [(f"{key}.{ext}", content) for key, found in members.items() for ext, content in found.items()]
        folder_of(tmp_path / "d/train", packed)
        folder_of(tmp_path / "d/val", packed[:5])
        assert main(["check-data", str(tmp_path / "d"), "--processes", "1"]) == 1
        tar = tmp_path / "d/train/0.tar"
        assert capsys.readouterr().out.splitlines() == [
            f"{tar}/4: has no label (cls), only jpg",
            f"{tar}/3: has the label 2: expected 0..1, one of 2 classes",
            f"{tar}/2: truncated: no end marker",
            "class               train     bad     val     bad",
            "cat                     1       1       1       0",
            "dog                     1       0       1       0",
            "no image or label       0       2       0       0",
            "total                   2       3       2       0",
        ]
        assert main(["check-data", str(tmp_path / "d"), "--write-file-list", str(tmp_path / "l.txt")]) == 2
        assert "whose samples a file list cannot name" in capsys.readouterr().err
        assert main(["check-data", str(tmp_path / "d"), "--tar-label", "txt"]) == 2
        assert "none has both image and label" in capsys.readouterr().err

    def test_names_that_are_no_text(self, tree, tmp_path, capfdbinary):
        name = os.fsdecode(b"\xe4.jpg")
        os.rename(tree / "train/cat/2.jpg", tree / "train/cat" / name)
        assert main(["check-data", str(tree), "--processes", "1", "--write-file-list", str(tmp_path / "l.txt")]) == 1
        assert b"cat/\\udce4.jpg: has a name that is not UTF-8" in capfdbinary.readouterr().out
        assert len(open_set(tmp_path / "l.txt", "train").files) == 4

    def test_no_place_for_the_list_is_said_before_decoding(self, tree, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("apr_dali.data.check.full_check", lambda *_: pytest.fail("decoded"))
        assert main(["check-data", str(tree), "--write-file-list", str(tmp_path / "no/l.txt")]) == 2
        assert "its folder is not there" in capsys.readouterr().err

    @pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
    def test_processes_must_be_a_positive_number(self, tree, capsys, count):
        assert main(["check-data", str(tree), f"--processes={count}"]) == 2
        assert f"must be a whole number from 1 on, got '{count}'" in capsys.readouterr().err


class TestSample:
    @pytest.mark.parametrize("arguments", [["--format", "folder"], ["--format", "webdataset"], []])
    def test_writes_what_open_set_reads(self, tmp_path, capsys, monkeypatch, arguments):
        monkeypatch.setattr("apr_dali.data.sample.IMAGES_PER_CLASS", {"train": 3, "val": 2})
        assert main(["sample", str(tmp_path / "s"), *arguments]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/s\n"
        train, val = (open_set(tmp_path / "s", split) for split in ("train", "val"))
        assert (len(train), len(val)) == (48, 32)
        assert bool(list(tmp_path.rglob("*.tar"))) == ("webdataset" in arguments)

    def test_a_folder_in_use(self, tmp_path, capsys):
        (tmp_path / "mine.txt").touch()
        assert main(["sample", str(tmp_path)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {tmp_path} is not empty and not a sample")


class TestDoctor:
    @pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
    def test_prints_the_report(self, capsys, monkeypatch, ok, status):
        monkeypatch.setattr("apr_dali.doctor.report", lambda: Report(ok, (), "all about it"))
        assert main(["doctor"]) == status
        assert capsys.readouterr().out == "all about it\n"


class TestMain:
    def test_version(self, capsys):
        with pytest.raises(SystemExit) as stop:
            main(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"apr_dali {__version__}\n"

    @pytest.mark.parametrize(
        "arguments",
        [[], ["no-such"], ["sample"], ["doctor", "--loud"], ["make-c", "a", "b", "--seed", str(2**32)]],
    )
    def test_wrong_arguments(self, capsys, arguments):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "--help" in err

    @pytest.mark.parametrize("seed", ["-1", "1.5", str(2**64)])
    @pytest.mark.parametrize("command", ["make-c a b", "eval autoattack net --data a", "analyze tsne", "analyze bands"])
    def test_seeds_are_whole_numbers_of_32_bits(self, capsys, command, seed):
        assert main([*command.split(), f"--seed={seed}"]) == 2
        assert f"must be a whole number from 0 to {2**32 - 1}, got '{seed}'" in capsys.readouterr().err

    def test_an_error_of_the_system_is_one_line(self, capsys):
        assert main(["sample", "/proc/sample"]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert "/proc" in err

    def test_interrupted(self, capsys, monkeypatch):
        def stop(_: argparse.Namespace) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr("apr_dali.commands.doctor.run", stop)
        assert main(["doctor"]) == 130
        assert capsys.readouterr() == ("", "interrupted\n")

    def test_as_a_module_without_torch_and_dali(self, tmp_path):
        code = (
            "import sys, runpy; sys.modules.update({'torch': None, 'nvidia.dali': None, 'skimage': None});"
            f"sys.argv = ['apr-dali', 'check-data', {str(tmp_path / 'none')!r}];"
            "runpy.run_module('apr_dali', run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {tmp_path}/none is not there")


def modules_after(*lines: Sequence[str]) -> list[set[str]]:
    """What `apr-dali` has imported beyond Python's own modules after each of these command lines, in one process."""
    code = (
        "import sys; from apr_dali.cli import main\n"
        f"for line in {lines!r}:\n"
        "    try: main(line)\n"
        "    except SystemExit: pass\n"
        "    print('\\nimported', *sys.modules)"
    )
    # Without site: an editable install imports a finder of its own there.
    run = [sys.executable, "-S", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("imported ")]
    known = sys.stdlib_module_names | {"__main__"}
    return [{name for name in names if name.partition(".")[0] not in known} for names in found]


# Each as its arguments and its row of the table.
EACH = [((item.name,), item) for item in COMMANDS if isinstance(item, Command)]
EACH += [
    ((group.name, item.name), item) for group in COMMANDS if not isinstance(group, Command) for item in group.commands
]


class TestTable:
    @pytest.mark.parametrize(
        "arguments", [["--help"], ["--version"], ["eval", "--help"], ["analyze", "--help"], ["no"]]
    )
    def test_no_command_is_imported_before_it_is_chosen(self, arguments):
        """What takes the time is what it imports, on any machine."""
        own = {"apr_dali", "apr_dali.cli", "apr_dali.errors", "apr_dali.runtime"}
        own |= {"apr_dali.runtime.output", "apr_dali.runtime.spin_count"}
        assert modules_after(arguments) == [own]

    @pytest.mark.parametrize(("words", "command"), EACH, ids=lambda value: "-".join(value) if len(value) < 3 else "")
    def test_a_command_is_a_module_with_add_and_run(self, words, command, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        module = importlib.import_module(f"apr_dali.commands.{command.module}")
        assert callable(module.add)
        assert callable(module.run)
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0
        told = capsys.readouterr().out
        assert max(map(len, told.splitlines())) <= 80
        shown = " ".join(told.split())
        assert f"usage: apr-dali {' '.join(words)}" in shown
        assert command.text in shown

    def test_every_module_of_a_command_is_in_the_table(self):
        folder = ROOT / "apr_dali/commands"
        found = {
            ".".join(path.relative_to(folder).with_suffix("").parts)
            for path in folder.rglob("*.py")
            if "\ndef add(parser" in path.read_text()
        }
        assert found == {command.module for _, command in EACH}

    def test_a_chosen_command_needs_torch_only_when_it_runs(self):
        lines = [(*words, "--help") for words, _ in EACH]
        for words, found in zip(lines, modules_after(*lines), strict=True):
            assert "torch" not in found, words


class TestCompletion:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("argcomplete")

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (
                "apr-dali ",
                {"doctor", "sample", "prepare", "check-data", "make-c", "eval", "analyze", "reproduce", "bench"},
            ),
            ("apr-dali eval c", {"clean", "corruption", "calibration", "compare"}),
            ("apr-dali analyze gallery --s", {"--size", "--seed"}),
            ("apr-dali eval shift net imagenet-", {"imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-v2"}),
            ("apr-dali sample DIR --format w", {"webdataset"}),
        ],
    )
    def test_the_shell_is_told_what_may_come_next(self, tmp_path, line, expected):
        answer = tmp_path / "answer"
        environment = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        }
        subprocess.run([sys.executable, "-m", "apr_dali"], env=environment, check=True, cwd=ROOT)
        assert {word.strip() for word in answer.read_text().split("\v")} == expected
