"""The options of the trainers, as frozen dataclasses with their checks; the defaults are the published recipes.

Each module has the options of one subject. `TrainingOptions` is what all trainers have; `ImageNetOptions` and
`CifarOptions` add what belongs to their data.
"""

from apr_dali.training.options.cifar import ATTACKS, CifarOptions
from apr_dali.training.options.common import TrainingOptions
from apr_dali.training.options.declare import GROUPS, check_options, flag, option
from apr_dali.training.options.imagenet import BEST_BY, CHECKS, ImageNetOptions
from apr_dali.training.options.network import AMP_MODES, MEMORY_FORMATS, PRETRAINED
from apr_dali.training.options.optimization import ON_NONFINITE
from apr_dali.training.options.recipes import CIFAR_RECIPES, IMAGENET_RECIPES, Recipe

__all__ = [
    "AMP_MODES",
    "ATTACKS",
    "BEST_BY",
    "CHECKS",
    "CIFAR_RECIPES",
    "GROUPS",
    "IMAGENET_RECIPES",
    "MEMORY_FORMATS",
    "ON_NONFINITE",
    "PRETRAINED",
    "CifarOptions",
    "ImageNetOptions",
    "Recipe",
    "TrainingOptions",
    "check_options",
    "flag",
    "option",
]
