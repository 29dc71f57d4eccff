"""What the tests on a CUDA device share."""

from importlib.util import find_spec

import pytest


@pytest.fixture
def photographs(request):
    """Skips frost, whose photographs a package brings that may be missing beside a bare copy of the tree."""
    if request.node.callspec.params["name"] == "frost" and find_spec("imagecorruptions") is None:
        pytest.skip("frost takes its photographs from imagecorruptions-imaug")
