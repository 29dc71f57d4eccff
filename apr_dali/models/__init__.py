"""Networks by exact name, and as the options of a trainer describe them."""

from apr_dali.models.build import build as build
from apr_dali.models.build import describe as describe
from apr_dali.models.registry import canonical_name as canonical_name
from apr_dali.models.registry import check_input as check_input
from apr_dali.models.registry import cifar_first as cifar_first
from apr_dali.models.registry import create_model as create_model

__all__ = ["build", "canonical_name", "check_input", "cifar_first", "create_model", "describe"]
