"""The names of devices."""

import subprocess
import sys

import pytest
import torch

from apr_dali.errors import InputError
from apr_dali.runtime.device import parse_device


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", ("cpu", None)),
        ("cpu:0", ("cpu", None)),
        ("cuda", ("cuda", None)),
        ("cuda:0", ("cuda", 0)),
        ("cuda:12", ("cuda", 12)),
        ("gpu", ("cuda", None)),
        ("gpu:1", ("cuda", 1)),
        (torch.device("cpu"), ("cpu", None)),
        (torch.device("cpu", 0), ("cpu", None)),
        (torch.device("cuda"), ("cuda", None)),
        (torch.device("cuda", 3), ("cuda", 3)),
    ],
)
def test_every_way_to_name_a_device(device, expected):
    assert parse_device(device) == expected


@pytest.mark.parametrize(
    "device",
    ["", "CPU", "cuda:", "cuda:-1", "cuda:01", "cuda: 1", "cuda:1\n", "cuda:١", "cpu:1", "mps", "meta", 0, True, None],
)
def test_what_is_no_device_is_refused(device):
    with pytest.raises(InputError, match=r'device must be a torch\.device, "cpu", .* got ') as caught:
        parse_device(device)
    assert f"{caught.value}".endswith(repr(device))


def test_a_device_of_another_kind_is_refused():
    with pytest.raises(InputError, match=r"got device\(type='mps'\)"):
        parse_device(torch.device("mps"))


def test_a_string_is_read_without_torch():
    code = (
        "import sys; from apr_dali.runtime.device import parse_device; parse_device('gpu:1');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
