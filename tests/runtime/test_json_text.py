"""JSON that every reader takes."""

import json
import math

import pytest

from apr_dali.runtime.json_text import json_text


def test_what_is_not_finite_is_null():
    given = {
        "a": [1.5, math.nan, (math.inf, -math.inf)],
        "b": {"c": math.nan, "d": "nan"},
        "e": None,
        "f": True,
        "g": 2,
    }

    def refuse(constant):
        pytest.fail(f"{constant} is no JSON")

    found = json.loads(json_text(given, indent=2), parse_constant=refuse)
    assert found == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": "nan"}, "e": None, "f": True, "g": 2}
