"""Keywords that have a new name."""

import inspect
import warnings

import numpy as np
import pytest

import apr_dali
from apr_dali.draws import PairDraws
from apr_dali.errors import InputError
from apr_dali.runtime.deprecation import renamed
from apr_dali.transforms import AprPair


@renamed("amount", "p", lambda amount: amount / 100)
def share(x: int, *, p: float = 0.5) -> tuple[int, float]:
    return x, p


def test_the_old_keyword_is_the_new_one_and_warns_where_it_is_given():
    with pytest.warns(
        DeprecationWarning, match=r"share: amount=20 is now p=0\.2; the next version refuses amount"
    ) as seen:
        assert share(3, amount=20) == (3, 0.2)
    assert [warning.filename for warning in seen if warning.category is DeprecationWarning] == [__file__]


def test_the_new_keyword_says_nothing_and_is_what_the_signature_shows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert share(3) == (3, 0.5)
        assert share(3, p=0.2) == (3, 0.2)
    assert list(inspect.signature(share).parameters) == ["x", "p"]


def test_both_are_refused():
    with pytest.raises(TypeError, match="amount is the old name of p, got both: give p alone"):
        share(3, amount=20, p=0.2)


def test_old_keywords_of_the_operators(crops):
    images, partner = crops(2, 8, 8), [1, 0]
    with pytest.warns(DeprecationWarning, match=r"pair: views='both' is now with_clean=True"):
        both = apr_dali.pair(images, partner, views="both")
    np.testing.assert_array_equal(both, apr_dali.pair(images, partner, with_clean=True))
    with pytest.warns(DeprecationWarning, match="with_clean=False"):
        assert apr_dali.pair(images, partner, views="mixed").shape == (2, 3, 8, 8)
    with pytest.raises(InputError, match="views must be one of mixed, both, got 'clean'"):
        apr_dali.pair(images, partner, views="clean")
    with pytest.warns(DeprecationWarning, match="AprPair: probability=0.25 is now p=0.25"):
        assert AprPair(probability=0.25).p == 0.25
    with pytest.warns(DeprecationWarning, match="PairDraws.sample: probability=1 is now p=1"):
        assert PairDraws.sample(4, seed=0, probability=1).mix


def test_old_keywords_in_a_graph_and_in_lightning():
    operators = pytest.importorskip("apr_dali.pipelines.operators")
    with pytest.warns(DeprecationWarning, match="apr_pair: probability=2 is now p=2"), pytest.raises(InputError):
        operators.apr_pair(None, probability=2)
    lightning = pytest.importorskip("apr_dali.integrations.lightning")
    with pytest.warns(DeprecationWarning, match="AprPairCallback: probability=0.25 is now p=0.25"):
        lightning.AprPairCallback(probability=0.25)
