"""The doctor's judgment of made-up environments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apr_dali import doctor, errors
from apr_dali.doctor import problems, report, stack_for
from apr_dali.doctor.facts import Age, Driver, Facts
from apr_dali.errors import install_command
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.dispatch import Availability

YES, NO = Availability(True, ""), Availability(False, "some reason")
VERSIONS = {
    "torch": "2.10.0",
    "torchvision": "0.25.0",
    "DALI": "2.4.0",
    "CuPy": "14.2.0",
    "NumPy": "2.4",
    "timm": "1.0",
}
H200 = Driver("580.65.06", (13, 0), ("NVIDIA H200",), "")
OLD = Driver("550.54.15", (12, 4), ("NVIDIA A100", "NVIDIA A100"), "")

CPU12 = Facts(
    python="3.11.7",
    cpus=8,
    versions=VERSIONS,
    builds=("cupy-cuda12x", "nvidia-dali-cuda120"),
    torch_cuda="12.8",
    torch_gpu=Availability(False, "no driver"),
    backends={"reference": YES, "torch": YES},
    pipeline=YES,
)
GPU12 = replace(CPU12, driver=H200, torch_gpu=YES)
CUDA13 = {"torch_cuda": "13.0", "builds": ("cupy-cuda13x", "nvidia-dali-cuda130")}


def without(facts: Facts, *titles: str) -> Facts:
    return replace(facts, versions={t: v for t, v in facts.versions.items() if t not in titles})


def only_problem(facts: Facts) -> doctor.Problem:
    found = problems(facts)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    "facts",
    [
        CPU12,
        GPU12,
        replace(CPU12, driver=OLD, torch_gpu=YES),
        replace(CPU12, **CUDA13),
        replace(GPU12, **CUDA13),
        replace(CPU12, torch_cuda=None),
        without(CPU12, "CuPy", "timm"),
        replace(CPU12, driver=Driver("580.65.06", (13, 0), (), "the driver finds no GPU")),
    ],
)
def test_coherent_environments_have_no_problem(facts):
    assert problems(facts) == ()
    assert report(facts).ok


@pytest.mark.parametrize(
    ("changes", "message", "commands"),
    [
        (
            {"torch_cuda": "13.0"},
            "torch for CUDA 13, CuPy for CUDA 12, DALI for CUDA 12",
            ("pip uninstall -y cupy-cuda12x nvidia-dali-cuda120", install_command("cuda13")),
        ),
        (
            {"torch_cuda": "13.0", "builds": ("cupy-cuda13x", "nvidia-dali-cuda120")},
            "torch for CUDA 13, CuPy for CUDA 13, DALI for CUDA 12",
            ("pip uninstall -y nvidia-dali-cuda120", install_command("cuda13")),
        ),
        (
            {"builds": ("cupy-cuda13x", "nvidia-dali-cuda120")},
            "torch for CUDA 12, CuPy for CUDA 13, DALI for CUDA 12",
            ("pip uninstall -y cupy-cuda13x", install_command("cuda12")),
        ),
    ],
)
@pytest.mark.parametrize("driver", [Driver(), H200])
def test_a_mixed_stack_says_what_to_install_instead(changes, message, commands, driver):
    facts = replace(GPU12, driver=driver, **changes)
    mixed = [problem for problem in problems(facts) if "mixed CUDA stack" in problem.what]
    assert len(mixed) == 1
    assert message in mixed[0].what
    assert mixed[0].commands == commands
    assert report(facts).ok  # the CPU does not mind


def test_operators_of_other_sources_are_compiled_again():
    facts = replace(CPU12, stale=True)
    problem = only_problem(facts)
    assert "compiled from other sources" in problem.what
    assert problem.commands == (native_backend.REBUILD,)
    assert not report(facts).ok


def test_a_mixed_stack_on_an_old_driver_goes_to_cuda_12():
    facts = replace(CPU12, driver=OLD, torch_cuda="13.0", torch_gpu=NO)
    assert [problem.commands for problem in problems(facts)] == [(install_command("cuda12"),)] * 2


def test_a_driver_too_old_for_torch():
    problem = only_problem(replace(CPU12, driver=OLD, torch_gpu=NO, **CUDA13))
    assert "driver 550.54.15 supports CUDA up to 12.4, torch is built for 13.0" in problem.what
    assert "580 or newer" in problem.what
    assert problem.commands == (
        "pip uninstall -y cupy-cuda13x nvidia-dali-cuda130",
        install_command("cuda12"),
    )


def test_a_driver_too_old_for_everything():
    problem = only_problem(replace(GPU12, driver=Driver("470.1", (11, 4), ("K80",), ""), torch_gpu=NO))
    assert problem.what == "driver 470.1 supports CUDA up to 11.4: update it to 525 or newer"


def test_two_builds_of_one_package():
    found = problems(replace(CPU12, builds=("cupy-cuda12x", "cupy-cuda13x", "nvidia-dali-cuda120")))
    assert found[0].what == "several builds of CuPy are installed: cupy-cuda12x, cupy-cuda13x"
    assert found[0].commands == ("pip uninstall -y cupy-cuda12x cupy-cuda13x", install_command("cuda12"))


def test_two_builds_are_no_coherent_stack_whichever_comes_last():
    facts = replace(CPU12, builds=("cupy-cuda12x", "nvidia-dali-cuda120", "nvidia-dali-cuda130"))
    assert any("several builds of DALI" in problem.what for problem in problems(facts))


@pytest.mark.parametrize("title", ["torch", "DALI"])
def test_without_torch_or_dali_nothing_can_train(title):
    facts = replace(
        without(CPU12, title), backends={"reference": YES, "torch": NO} if title == "torch" else CPU12.backends
    )
    facts = replace(facts, pipeline=NO, torch_cuda=None) if title == "DALI" else replace(facts, torch_cuda=None)
    found = report(facts)
    assert not found.ok
    assert found.problems[0].what == f"{title} not installed"
    assert found.problems[0].commands == (install_command("cuda12"),)


def test_nothing_is_installed():
    found = report(Facts(python="3.12.1", cpus=1, versions={"NumPy": "2.0"}, backends={"reference": YES, "torch": NO}))
    assert not found.ok
    assert [problem.what for problem in found.problems] == ["torch, torchvision, DALI not installed"]
    assert "  torch        not installed" in found.text


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
def test_no_package_is_named_that_this_system_lacks(system):
    found = report(replace(without(CPU12, "DALI"), system=system, pipeline=NO, builds=()))
    (problem,) = found.problems
    assert f"for Linux alone, and this is {system}: use Linux, or WSL 2" in problem.what
    assert problem.commands == ("pip install torch torchvision",)
    assert not found.ok


def test_a_package_that_does_not_load():
    facts = without(CPU12, "torchvision")
    facts = replace(facts, broken={"torchvision": "operator torchvision::nms does not exist"})
    problem = only_problem(facts)
    assert problem.what == "torchvision is installed but does not load: operator torchvision::nms does not exist"
    assert problem.commands == (install_command("cuda12"),)
    assert "  torchvision  does not load" in report(facts).text


def test_a_pipeline_that_does_not_run():
    found = report(replace(CPU12, pipeline=Availability(False, "no python_function")))
    assert not found.ok
    assert found.problems[0].what == "DALI cannot run a pipeline on the CPU: no python_function"


def test_a_torch_backend_that_does_not_run():
    found = report(replace(CPU12, backends={"reference": YES, "torch": Availability(False, "too old")}))
    assert not found.ok
    assert found.problems[0].what == "the torch backend cannot run: too old"


class TestGpu:
    def test_a_cpu_build_of_torch_beside_a_gpu(self):
        problem = only_problem(replace(GPU12, torch_cuda=None, torch_gpu=NO))
        assert problem.what == "torch 2.10.0 is a CPU build, and there is a GPU"
        assert problem.commands == ("pip uninstall -y torch torchvision", install_command("cuda12"))

    def test_torch_does_not_see_the_gpu(self):
        problem = only_problem(replace(GPU12, torch_gpu=Availability(False, "CUDA_VISIBLE_DEVICES is ''")))
        assert problem.what == "torch does not see the GPU: CUDA_VISIBLE_DEVICES is ''"

    def test_no_cupy_beside_a_gpu(self):
        problem = only_problem(without(replace(GPU12, builds=("nvidia-dali-cuda130",), torch_cuda="13.0"), "CuPy"))
        assert "CuPy is not installed" in problem.what
        assert problem.commands == (install_command("cuda13"),)

    def test_the_text_names_it(self):
        text = report(GPU12).text
        assert "  0: NVIDIA H200\n  driver 580.65.06, CUDA up to 13.0" in text
        assert "  on the GPU   yes" in text
        assert "  on the GPU   no   no NVIDIA driver" in report(CPU12).text


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (CPU12, 12),
        (replace(CPU12, **CUDA13), 13),
        (replace(CPU12, driver=OLD, **CUDA13), 12),
        (replace(CPU12, torch_cuda=None, builds=("cupy-cuda13x",)), 13),
        (replace(CPU12, torch_cuda="11.8", builds=()), 12),
        (replace(GPU12, torch_cuda="11.8", builds=("cupy-cuda13x",)), 13),
    ],
)
def test_the_stack_to_install(facts, expected):
    assert stack_for(facts) == expected


def test_the_text_fits_80_columns_and_keeps_commands_whole():
    long = Availability(False, "a very long reason " * 12)
    facts = replace(GPU12, torch_cuda="13.0", torch_gpu=long, backends={"torch": long, "reference": YES}, pipeline=long)
    found = report(facts)
    assert max(map(len, found.text.splitlines())) <= 80
    commands = {command for problem in found.problems for command in problem.commands}
    assert commands <= {line.strip() for line in found.text.splitlines()}
    assert all(word in found.text for word in ("Packages", "Backends", "GPU", "Training", "What to do"))


def test_gpu_kernels_that_cannot_run_are_a_problem_where_there_is_a_gpu():
    cupy = Availability(False, "cuFFT does not load")
    without_gpu = replace(CPU12, backends={**CPU12.backends, "cupy": cupy})
    assert problems(without_gpu) == ()
    problem = only_problem(replace(without_gpu, driver=H200, torch_gpu=YES))
    assert problem.what == "the GPU kernels cannot run, plain torch serves in their place: cuFFT does not load"
    assert problem.commands == (install_command("cuda12"),)


def test_two_gpus_are_both_named():
    assert (
        "  0: NVIDIA A100\n  1: NVIDIA A100\n  driver 550.54.15, CUDA up to 12.4"
        in report(replace(CPU12, driver=OLD)).text
    )


def test_what_is_missing_is_installed_from_where_the_package_lies(tmp_path, monkeypatch):
    """The clone's own command here; the name on an index for a package without its pyproject.toml."""
    clone = Path(errors.__file__).resolve().parents[1]
    assert install_command("eval") == f'pip install -e "{clone}[eval]"'
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "apr_dali" / "errors.py"))
    assert install_command("eval") == 'pip install "apr_dali[eval]"'


# ---- the oldest versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "message", "extras"),
    [
        (
            {"numpy": Age("2.4.0", "1.26"), "nvidia-dali-cuda120": Age("2.1.0", "2.2", "cuda12")},
            "too old: nvidia-dali-cuda120 2.1.0 (at least 2.2)",
            "cuda12",
        ),
        (
            {"pillow": Age("9.5.0", "10.3"), "timm": Age("1.0.9", "1.0.20", "eval")},
            "too old: pillow 9.5.0 (at least 10.3), timm 1.0.9 (at least 1.0.20)",
            "cuda12,eval",
        ),
    ],
)
def test_what_is_too_old_is_named(ages, message, extras):
    problem = only_problem(replace(CPU12, ages=ages))
    assert problem.what == message
    assert problem.commands == (install_command(extras),)
    assert message.partition(" (")[0] in report(replace(CPU12, ages=ages)).text
    assert problems(replace(CPU12, ages={"torch": Age("2.10.0+cu128", "2.10", "cuda12")})) == ()
