"""Networks by exact name."""

from apr_dali.models.gray import name_of_channels as name_of_channels
from apr_dali.models.registry import canonical_name as canonical_name
from apr_dali.models.registry import check_input as check_input
from apr_dali.models.registry import cifar_first as cifar_first
from apr_dali.models.registry import create_model as create_model

__all__ = ["canonical_name", "check_input", "cifar_first", "create_model", "name_of_channels"]
