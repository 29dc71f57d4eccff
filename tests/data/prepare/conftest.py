"""ImageNet as small as its miniatures."""

import pytest
from helpers.archives import MINIATURE

from apr_dali.data.prepare import count


@pytest.fixture
def miniature(monkeypatch):
    """ImageNet as if the miniatures were all of it."""
    monkeypatch.setattr(count, "IMAGENET", MINIATURE)
