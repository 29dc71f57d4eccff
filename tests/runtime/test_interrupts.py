"""Signals: the first is a request, a second Ctrl-C is an order."""

from __future__ import annotations

import os
import signal

import pytest

from apr_dali.runtime.interrupts import Interrupted, Interrupts


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_a_request(signum, capfd):
    former = signal.getsignal(signum)
    with Interrupts(announce=True) as interrupts:
        os.kill(os.getpid(), signum)
        assert interrupts.signum == signum
        with pytest.raises(Interrupted, match="later"):
            next(interrupts.watch([1], "later"))
    assert signal.getsignal(signum) == former
    assert "stopping after this step" in capfd.readouterr().err


def test_second_ctrl_c_quits_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with Interrupts(announce=False) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
        assert codes == [130]
        assert interrupts.signum == signal.SIGTERM, "the first one gives the exit status"
