"""Python scripts in processes of their own, forked from one that has imported the libraries they need.

An interpreter takes seconds to import torch and DALI. What is forked here has imported nothing of this project, and
ends as every interpreter does: by itself, with its exit handlers, or by a signal.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

LIBRARIES = ("torch.distributed", "torchvision", "nvidia.dali.fn", "nvidia.dali.math", "timm.data", "scipy.ndimage")
PATIENCE = 2000
"""Seconds that a test waits for a process or a thread before it fails: more than any slow or busy machine needs."""
_ROOT = str(Path(__file__).resolve().parents[2])  # the project is found there, before one that is installed
_READY = "ready\n"


def run(script: str | Path, *given: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
    """A script, or "-m" and a module, with its arguments; `variables` of the environment beside ours."""
    return _run_together([variables], script, *given, cwd=cwd)


def in_two(script: str | Path, *given: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    """Two processes of a script that make a group by the variables which torchrun sets."""
    from torch.distributed import TCPStore

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # on any free port
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    meeting |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0", **variables}
    ranks = [meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return _run_together(ranks, script, *given, cwd=cwd)


def _run_together(
    environments: list[dict[str, str]], script: str | Path, *given: object, cwd: Path | None
) -> subprocess.CompletedProcess:
    """What they wrote, one after another; the exit code is the first that is not 0, which ends the others."""
    argv, server = list(map(str, (script, *given))), _server()
    with tempfile.TemporaryDirectory() as folder:
        common = {"argv": argv, "cwd": str(cwd or Path.cwd())}
        programs = []
        for number, variables in enumerate(environments):  # in files of their own: a shared one would mix their lines
            files = {"out": f"{folder}/out{number}", "err": f"{folder}/err{number}"}
            programs.append({**common, **files, "env": {**os.environ, **variables}})
        server.stdin.write(json.dumps(programs) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        told = ["".join(Path(program[name]).read_text() for program in programs) for name in ("out", "err")]
    return subprocess.CompletedProcess(argv, code, *told)


@cache
def _server() -> subprocess.Popen:
    # Neither threads nor a device's driver outlive a fork: what is imported must start none.
    env = os.environ | {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    env["CUDA_VISIBLE_DEVICES"] = ""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    server = subprocess.Popen([sys.executable, __file__, *LIBRARIES], env=env, text=True, **pipes)
    told = []
    while (line := server.stdout.readline()) != _READY:
        told.append(line)
        if not line:
            server.communicate()
            raise RuntimeError(f"nothing can be forked for the tests: {''.join(told)}")
    atexit.register(server.communicate)  # the end of its input ends it
    return server


# ---- The process that forks ------------------------------------------------------------------------------------------


def _serve() -> list[str]:
    """Run what each line of stdin has, and write the exit code. In a forked process it returns the arguments."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
        if len(os.listdir("/proc/self/task")) > 1:
            sys.exit(f"importing {name} has started a thread, whose locks what is forked would wait for")
    print(_READY, end="", flush=True)
    gc.freeze()  # what lives here needs no look when a forked one ends
    for line in sys.stdin:
        running, code = set(), 0
        for program in json.loads(line):
            if (pid := os.fork()) == 0:
                _become(**program)
                return program["argv"]
            running.add(pid)
        while running:
            pid, status = os.wait()
            running.discard(pid)
            if status and code == 0:
                code = os.waitstatus_to_exitcode(status)
                for other in running:
                    os.kill(other, signal.SIGTERM)
        print(code, flush=True)
    sys.exit(0)


def _become(argv: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        file = os.open(path, flags | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    own = cwd if argv[0] == "-m" else str(Path(argv[0]).resolve().parent)
    sys.path[:1] = [own, _ROOT]
    sys.argv = argv
    signal.alarm(PATIENCE)


if __name__ == "__main__":
    match _serve():
        case ["-m", module, *_]:
            del sys.argv[0]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [script, *_]:
            runpy.run_path(script, run_name="__main__")
