"""What APR's operators are called with inside a graph."""

import copy
from types import SimpleNamespace

import pytest

import apr_dali
from apr_dali.pipelines import operators


@pytest.fixture
def calls(monkeypatch):
    """What the operators were called with inside the graph, and gave: copies, since DALI uses its buffers again."""
    seen = []

    def recording(direct):
        def record(images, *draws, **options):
            result = direct(images, *draws, **options)
            seen.append((images.copy(), *(copy.deepcopy(draw) for draw in draws), options, result.copy()))
            return result

        return record

    recorder = SimpleNamespace(single=recording(apr_dali.single), pair=recording(apr_dali.pair))
    monkeypatch.setattr(operators, "functional", recorder)
    return seen
