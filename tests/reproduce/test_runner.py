"""Runs in slots: what runs, what failed, what is left after a signal."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.processes import PATIENCE
from helpers.project import ROOT
from helpers.reproduce import asked, stand_in
from helpers.waiting import until

from apr_dali.errors import InputError
from apr_dali.reproduce import slots as slots_module
from apr_dali.reproduce.runner import Runner, Stopped, prepare
from apr_dali.reproduce.slots import Slot, slots
from apr_dali.reproduce.tables import plan_of

HERE = [Slot("here", {})]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return stand_in(monkeypatch, tmp_path / "programs")


def plan(tmp_path, *methods, name="table2"):
    return plan_of(name, asked(tmp_path, datasets=("digits",), epochs=1, only=methods))


def words(programs):
    """(what, method) of the commands that ran."""
    found = []
    for line in programs.ran():
        place = next(Path(word).parts for word in line.split() if "seed0" in word)
        method = place[place.index("seed0") - 1]
        found.append(("train" if "--resume" in line else line.split()[1], method))
    return found


def test_a_run_trains_and_then_is_evaluated_once(tmp_path, programs):
    made = plan(tmp_path, "cutout", "mixup")
    runner = Runner(made, HERE)
    runner.run()
    expected = [(step, method) for method in ("cutout", "mixup") for step in ("train", "clean", "ood")]
    assert words(programs) == expected
    assert runner.failures == []
    Runner(made, HERE).run()
    assert words(programs) == expected


def test_slots_run_side_by_side_with_their_environment(tmp_path, programs):
    """Both wait for the other to have begun: one after the other they would never end."""
    program = Path(programs.folder / "program.py")
    together = f"""
import os, pathlib, time
here = pathlib.Path({str(programs.folder)!r})
if "--resume" in sys.argv:
    (here / ("GPU" + os.environ["CUDA_VISIBLE_DEVICES"])).write_text(os.environ["LOCAL_WORLD_SIZE"])
    end = time.monotonic() + {PATIENCE}
    while len(list(here.glob("GPU*"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
"""
    program.write_text(program.read_text() + together)
    given = [Slot(f"GPU {n}", {"CUDA_VISIBLE_DEVICES": n, "LOCAL_WORLD_SIZE": "2"}) for n in "03"]
    Runner(plan(tmp_path, "cutout", "mixup"), given).run()
    assert {path.name: path.read_text() for path in programs.folder.glob("GPU*")} == {"GPU0": "2", "GPU3": "2"}


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, programs, capsys):
    programs.set("FAILS", "cutout/seed0/train")
    runner = Runner(plan(tmp_path, "cutout", "mixup"), HERE)
    runner.run()
    # Without its network nothing of it is evaluated.
    assert words(programs) == [("train", "cutout"), *((step, "mixup") for step in ("train", "clean", "ood"))]
    (failure,) = runner.failures
    assert failure.run == "code/digits/wrn-16-1/cutout/seed0"
    assert failure.lines == ("it is broken",)
    assert failure.log.read_text().startswith(f"$ {failure.command}\n")
    assert "failed: code/digits/wrn-16-1/cutout/seed0, train" in capsys.readouterr().out
    programs.set("FAILS")
    Runner(plan(tmp_path, "cutout", "mixup"), HERE).run()
    assert words(programs)[4:] == [(step, "cutout") for step in ("train", "clean", "ood")]


def test_an_evaluation_that_fails_leaves_the_others_of_its_run(tmp_path, programs):
    programs.set("FAILS", "clean")
    runner = Runner(plan(tmp_path, "cutout"), HERE)
    runner.run()
    assert words(programs) == [(step, "cutout") for step in ("train", "clean", "ood")]
    assert [failure.command.split()[:3] for failure in runner.failures] == [["apr-dali", "eval", "clean"]]


def test_a_command_that_ends_well_without_its_result_has_failed(tmp_path, programs):
    program = programs.folder / "program.py"
    program.write_text("print('nothing to do')")
    runner = Runner(plan(tmp_path, "cutout"), HERE)
    runner.run()
    (failure,) = runner.failures
    assert failure.lines[-1] == "nothing to do"


def stop_when(path, signum, *, again=None):
    """Send a signal to this process once there is such a file, and once more when there is the file `again`."""

    def send():
        for there in filter(None, (path, again)):
            until(there.exists)
            os.kill(os.getpid(), signum)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_running_command_save_and_the_same_call_goes_on(tmp_path, programs, signum):
    programs.set("WAITS", "mixup/seed0/train")
    former = signal.getsignal(signum)
    thread = stop_when(programs.folder / "waits", signum)
    with pytest.raises(Stopped) as stopped:
        Runner(plan(tmp_path, "cutout", "mixup", "apr-p"), HERE).run()
    thread.join()
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) is former
    assert "mixup" in (programs.folder / "stopped").read_text()
    assert words(programs)[3:] == [("train", "mixup")]
    programs.set("WAITS")
    Runner(plan(tmp_path, "cutout", "mixup", "apr-p"), HERE).run()
    assert words(programs)[4:] == [(step, name) for name in ("mixup", "apr-p") for step in ("train", "clean", "ood")]


@pytest.mark.parametrize("waits", ["", "cutout/seed0/train"])
def test_it_goes_on_where_nobody_reads_what_it_prints(tmp_path, programs, monkeypatch, waits):
    """Ctrl-C ends what reads, such as tee, too: a running command is waited for all the same."""
    programs.set("WAITS", waits)
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as unread:
        os.close(reader)
        monkeypatch.setattr(sys, "stdout", unread)
        runner = Runner(plan(tmp_path, "cutout"), HERE)
        if waits:
            thread = stop_when(programs.folder / "waits", signal.SIGINT)
            with pytest.raises(Stopped):
                runner.run()
            thread.join()
            assert (programs.folder / "stopped").exists()
        else:
            runner.run()
            assert len(words(programs)) == 3


def test_a_second_signal_ends_a_command_that_does_not_stop(tmp_path, programs):
    program = programs.folder / "program.py"
    program.write_text(program.read_text().replace("    sys.exit(143)", "    return"))
    programs.set("WAITS", "cutout/seed0/train")
    # Of two signals at once the system may make one.
    thread = stop_when(programs.folder / "waits", signal.SIGINT, again=programs.folder / "stopped")
    with pytest.raises(Stopped):
        Runner(plan(tmp_path, "cutout"), HERE).run()
    thread.join()


KILLED = """
import os, signal, sys, time
from pathlib import Path
from apr_dali.reproduce.child import Child

child = Child(["python", sys.argv[1]], {}, Path("log"))
while not Path("waits").exists():
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
SAVES = """
import signal, sys, time
from pathlib import Path

def save(*_):
    Path("saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
Path("waits").touch()
time.sleep(600)
"""


def test_a_kill_lets_the_running_command_save(tmp_path):
    (tmp_path / "saves.py").write_text(SAVES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, "saves.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, timeout=PATIENCE, check=False)
    assert ran.returncode == -signal.SIGKILL
    until((tmp_path / "saved").exists)


def test_what_comes_before_all_runs_must_end_well(tmp_path, programs):
    prepare(("apr-dali", "sample", str(tmp_path / "there")), tmp_path)
    assert programs.ran() == [f"sample {tmp_path}/there"]
    programs.set("FAILS", "sample")
    with pytest.raises(InputError, match=r"(?s)`apr-dali sample there` failed:\n.*it is broken"):
        prepare(("apr-dali", "sample", "there"), tmp_path)


class TestSlots:
    def test_shares_of_the_cpus(self, monkeypatch):
        monkeypatch.setattr(slots_module, "_name_of", lambda _: "a GPU")
        found = slots((), 3)
        assert [slot.where for slot in found] == [f"the CPU, {n} of 3" for n in (1, 2, 3)]
        assert {tuple(slot.environment.items()) for slot in found} == {
            (("CUDA_VISIBLE_DEVICES", ""), ("LOCAL_WORLD_SIZE", "3"))
        }

    def test_the_gpu_that_there_is_else_the_cpus(self, monkeypatch):
        monkeypatch.setattr(slots_module, "_name_of", lambda _: "a GPU")
        assert slots((), None) == [Slot("a GPU", {})]
        monkeypatch.setattr(slots_module, "_name_of", lambda _: "")
        monkeypatch.setattr(slots_module.cpus, "usable", lambda: 2)
        assert len(slots((), None)) == 2

    def test_gpus_by_number_must_be_there(self, monkeypatch):
        monkeypatch.setattr(
            slots_module, "_name_of", lambda given: {"0": "H100", "7": ""}[given["CUDA_VISIBLE_DEVICES"]]
        )
        (slot,) = slots(("0",), None)
        assert slot == Slot("GPU 0, H100", {"CUDA_VISIBLE_DEVICES": "0", "LOCAL_WORLD_SIZE": "1"})
        with pytest.raises(InputError, match="torch finds no GPU 7"):
            slots(("0", "7"), None)

    def test_not_under_torchrun(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(InputError, match="without torchrun"):
            slots((), 1)
