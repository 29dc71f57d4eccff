"""How many CPUs a process counts on: its affinity, its container's quota, and systems that have neither."""

import os
from pathlib import Path

import pytest
from helpers.project import ROOT

from apr_dali.runtime import cpus

UNIFIED = "31 23 0:28 {root} {top} rw - cgroup2 cgroup2 rw\n"
SPLIT = (
    "31 23 0:28 / {top}/memory rw - cgroup cgroup rw,memory\n"
    "32 23 0:29 {root} {top} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
)


@pytest.fixture
def process(tmp_path):
    """A function: a process in a group, of a hierarchy with the given limits by folder."""

    def make(mounts: str, group: str, root: str = "/", **limits: str) -> Path:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "mountinfo").write_text(
            "22 1 0:21 / /proc rw - proc proc rw\n23 1 0:22 / /tmp rw - tmpfs  rw\n"
            + mounts.format(root=root, top=tmp_path / "top")
        )
        (tmp_path / "self" / "cgroup").write_text(group)
        for path, limit in limits.items():
            folder = tmp_path / "top" / path.strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            if "cgroup2" in mounts:
                (folder / "cpu.max").write_text(limit + "\n")
            else:
                for name, value in zip(("quota", "period"), limit.split(), strict=True):
                    (folder / f"cpu.cfs_{name}_us").write_text(value + "\n")
        return tmp_path / "self"

    return make


@pytest.mark.parametrize(("limits", "allowed"), [
    ({"/job": "200000 100000"}, 2),
    ({"/job": "25000 50000"}, 0.5),
    ({"/job": "max 100000"}, None),
    ({"/job": "max 100000", "/": "300000 100000"}, 3),
    ({"/job": "400000 100000", "/": "300000 100000"}, 3),
    ({"/job": "200000 100000", "/": "300000 100000"}, 2),
    ({"/other": "200000 100000"}, None),
    ({"/job": "nonsense"}, None),
])  # fmt: skip
def test_the_smallest_quota_of_the_second_version_counts(process, limits, allowed):
    assert cpus.quota(process(UNIFIED, "0::/job\n", **limits)) == allowed


@pytest.mark.parametrize(("limits", "allowed"), [
    ({"/job": "150000 100000"}, 1.5),
    ({"/job": "-1 100000"}, None),
    ({"/job": "-1 100000", "/": "300000 100000"}, 3),
])  # fmt: skip
def test_the_smallest_quota_of_the_first_version_counts(process, limits, allowed):
    group = "5:memory:/elsewhere\n4:cpu,cpuacct:/job\n0::/\n"
    assert cpus.quota(process(SPLIT, group, **limits)) == allowed


@pytest.mark.parametrize("root", ["/", "/docker/1f"])
def test_a_container_sees_its_own_group_at_the_top(process, root):
    found = process(SPLIT, "4:cpu,cpuacct:/docker/1f\n", root, **{"/": "200000 100000"})
    assert cpus.quota(found) == 2


def test_another_system_has_no_quota(tmp_path):
    assert cpus.quota(tmp_path) is None


@pytest.mark.parametrize(("bound", "quota", "usable"), [(8, None, 8), (8, 2, 2), (8, 1.5, 2), (8, 0.2, 1), (2, 4, 2)])
def test_affinity_and_quota_count(monkeypatch, bound, quota, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
    monkeypatch.setattr(cpus, "quota", lambda: quota)
    assert cpus.usable() == usable


def test_without_affinities_the_machines_cpus_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cpus, "quota", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpus.usable() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.usable() == 1


@pytest.mark.parametrize(("processes", "each"), [("1", 6), ("4", 1), ("9", 1), ("0", 6), ("x", 6), ("-2", 6)])
def test_the_processes_of_a_machine_share(monkeypatch, processes, each):
    monkeypatch.setattr(cpus, "usable", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert cpus.share() == each


def test_nothing_else_asks_for_the_affinity():
    asking = [
        path.relative_to(ROOT).as_posix()
        for folder in ("apr_dali", "kernels", "pipelines", "eval", "examples", "benchmarks", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        if "sched_getaffinity" in path.read_text() and path.name != "cpus.py"
    ]
    assert asking == []
