"""How an augmentation is trained with: the views of an image, the steps that make each, and the loss over them."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.augmentations.record import Recipe
from apr_dali.augmentations.registry import COMBINATIONS, NAMES, PARALLEL, find, stages
from apr_dali.errors import InputError, check_choice
from apr_dali.recipes import CIFAR_AUGMENTATIONS

TRAINABLE = (*NAMES, *COMBINATIONS, *PARALLEL)
"""Names beside those of `apr_dali.recipes` that loaders and trainers take."""
FORMS = ("published", "replaced", "both")
"""What a network sees of an image: what the paper trains with; the changed image alone; or the image and, beside it,
the changed one, with the sum of their cross-entropies."""
_PAIR = "apr-p"
_MISSING = {
    "auxiliary": "batch norms of its own for the changed view",
    "teacher": "an averaged teacher whose predictions both views are held to",
    "self-supervised": "an objective without labels",
}


@dataclass(frozen=True)
class Plan:
    """The views of an image and what is made of them.

    levels: augmentations of uint8 images one after another, before crop or flip, where APR-S stands; of all views.
    last: the one that the views differ by, "" where there is none. pair: whether APR-P follows, as in apr-sp.
    views: rows of an image. clean: whether the first of several is without `last`.
    objective: "cross-entropy", "both views" or "jsd". jsd: the weight of the last.
    dataset: whose settings are taken. told: which settings are taken for want of published ones, "" otherwise.
    """

    levels: tuple[str, ...]
    last: str
    pair: bool
    views: int
    clean: bool
    objective: str
    jsd: float
    dataset: str
    told: str


def is_named(aug: str) -> bool:
    """Whether an augmentation is one that `plan` knows: of this package's registry, or registered from elsewhere."""
    if aug in TRAINABLE:
        return True
    if aug in CIFAR_AUGMENTATIONS:
        return False
    find(aug)
    return True


def check_aug(aug: str, others: tuple[str, ...], name: str = "aug") -> None:
    """Raise InputError unless `aug` is one of `others` or an augmentation that `plan` knows."""
    try:
        known = aug in others or (isinstance(aug, str) and is_named(aug))
    except InputError:
        known = False
    if not known:
        check_choice(name, aug, (*others, *TRAINABLE))


def check_form(aug: str, form: str, name: str = "aug_form") -> None:
    """Raise InputError unless `form` is one of FORMS, and "published" where the augmentation has no other."""
    check_choice(name, form, FORMS)
    if form != "published" and (not is_named(aug) or "apr-p" in COMBINATIONS.get(aug, ())):
        raise InputError(f"{name} {form} changes nothing with aug {aug}, whose views are fixed")


def plan(aug: str, dataset: str, form: str = "published") -> Plan:
    """How `aug` is trained with on `dataset`, one of `record.DATASETS`.

    Raises InputError for a published form that asks for what is not here, and names it.
    """
    check_form(aug, form)
    if aug in PARALLEL:
        raise InputError(f"--aug {aug} needs {_MISSING['auxiliary']}: take one of {', '.join(PARALLEL[aug])} alone")
    names = stages(aug)
    pair = names[-1] == _PAIR
    records = [find(name) for name in names if name != _PAIR]
    recipes = [record.recipe(dataset) for record in records]
    told = ", ".join(
        f"{record.name} has no published settings for {dataset}: those for {recipe.dataset} are taken"
        for record, recipe in zip(records, recipes, strict=True)
        if recipe.dataset != dataset
    )
    views, objective = _form(aug, Recipe(dataset) if pair else recipes[-1], form)
    leveled = tuple(record.name for record in records if record.takes == "levels")
    # A single one on levels that is the last: where views differ by it, it is no common step.
    last = "" if pair or (views == 1 and leveled == names) else names[-1]
    common = tuple(name for name in leveled if name != last)
    clean = form == "both" or recipes[-1].clean
    weight = float(recipes[-1].weights.get("jsd", 0.0)) if objective == "jsd" else 0.0
    return Plan(common, last, pair, 2 if pair else views, clean, objective, weight, dataset, told)


def _form(aug: str, recipe: Recipe, form: str) -> tuple[int, str]:
    """Views and objective of an augmentation whose last step has this recipe."""
    if form == "replaced":
        return 1, "cross-entropy"
    if form == "both":
        return 2, "both views"
    if recipe.objective in _MISSING:
        raise InputError(
            f"--aug {aug} is published with {_MISSING[recipe.objective]}, which is not here: give --aug-form both (the "
            "image and the changed one, with --jsd for their divergence) or --aug-form replaced (the changed one alone)"
        )
    return recipe.views, recipe.objective
