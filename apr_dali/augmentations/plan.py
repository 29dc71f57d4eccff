"""How an augmentation is trained with: the views of an image, the steps that make each, and the loss over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apr_dali.augmentations.record import Recipe
from apr_dali.augmentations.registry import COMBINATIONS, NAMES, PARALLEL, find, registered, stages
from apr_dali.errors import InputError, check_choice
from apr_dali.recipes import CIFAR_AUGMENTATIONS, uses_pair

TRAINABLE = (*NAMES, *COMBINATIONS, *PARALLEL)
"""Names beside those of `apr_dali.recipes` that loaders and trainers take."""
FORMS = ("published", "jsd", "replaced", "both")
"""What a network sees of an image: what the paper trains with; the same with the divergence of the views in the loss,
where the paper has that too; the changed image alone; or the image and, beside it, the changed one, with the sum of
their cross-entropies."""
_PAIR = "apr-p"
_MISSING = {"self-supervised": "an objective without labels"}


@dataclass(frozen=True)
class Plan:
    """The views of an image and what is made of them.

    levels: augmentations of uint8 images one after another, before crop or flip, where APR-S stands; of all views.
    changes: what makes each view of the image, "" where it stays as it is. pair: whether APR-P follows, as in apr-sp.
    objective: "cross-entropy", "both views", "jsd", "auxiliary" or "teacher", see `record.OBJECTIVES`.
    weights: its numbers; "jsd" is the divergence's, and absent where there is none.
    auxiliary: whether each view goes through batch norms of its own; empty where none does.
    dataset: whose settings are taken. told: which settings are taken for want of published ones, "" otherwise.
    """

    levels: tuple[str, ...]
    changes: tuple[str, ...]
    pair: bool
    objective: str
    weights: Mapping[str, float]
    auxiliary: tuple[bool, ...]
    dataset: str
    told: str

    @property
    def views(self) -> int:
        """Rows of an image."""
        return 2 if self.pair else len(self.changes)

    @property
    def clean(self) -> bool:
        """Whether the first of several views is without what makes the others."""
        return self.views > 1 and not self.changes[0]

    @property
    def coin(self) -> float | None:
        """The share of batches that each change is made of, where one coin decides over a batch; else None."""
        records = [find(name) for name in self.changes if name]
        if not records or not all(record.coin for record in records):
            return None
        return float(records[0].recipe(self.dataset).settings["p"])

    @property
    def may_come_once(self) -> bool:
        """Whether there are batches whose views are one and the same, by a coin other than APR-P's."""
        return self.views > 1 and self.coin is not None

    @property
    def rows(self) -> float:
        """Rows of an image on average, where those batches come once."""
        if self.coin is None:
            return float(self.views)
        coins = sum(map(bool, self.changes))
        return 1 + (self.views - 1) * (1 - (1 - self.coin) ** coins)

    @property
    def names(self) -> tuple[str, ...]:
        """Every augmentation but APR-P, once."""
        return tuple(dict.fromkeys(filter(None, (*self.levels, *self.changes))))


def trainable() -> tuple[str, ...]:
    """TRAINABLE, and what is registered so far."""
    return (*TRAINABLE, *registered())


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
        known = isinstance(aug, str) and (aug in others or is_named(aug))
    except InputError:
        known = False
    if not known:
        check_choice(name, aug, (*others, *trainable()))


def check_form(aug: str, form: str, name: str = "aug_form") -> None:
    """Raise InputError unless `form` is one of FORMS, and one that the augmentation has."""
    check_choice(name, form, FORMS)
    if form == "published":
        return
    if not is_named(aug) or _PAIR in COMBINATIONS.get(aug, ()):
        raise InputError(f"{name} {form} changes nothing with aug {aug}, whose views are fixed")
    if aug in PARALLEL:
        if form != "jsd":
            raise InputError(f"{name} must be published or jsd with aug {aug}, whose views are fixed, got {form}")
    elif form == "jsd" and find(stages(aug)[-1]).recipes[0].objective != "auxiliary":
        raise InputError(f"{name} jsd is of afa and {', '.join(PARALLEL)}, whose paper has two losses, got aug {aug}")


def plan(aug: str, dataset: str, form: str = "published") -> Plan:
    """How `aug` is trained with on `dataset`, one of `record.DATASETS`.

    Raises InputError for a published form that asks for what is not here, and names it.
    """
    check_form(aug, form)
    names = PARALLEL.get(aug) or stages(aug)
    pair = names[-1] == _PAIR
    records = [find(name) for name in names if name != _PAIR]
    recipes = [record.recipe(dataset) for record in records]
    told = ", ".join(
        f"{record.name} has no published settings for {dataset}: those for {recipe.dataset} are taken"
        for record, recipe in zip(records, recipes, strict=True)
        if recipe.dataset != dataset
    )
    leveled = tuple(record.name for record in records if record.takes == "levels")
    if pair:
        return Plan(leveled, ("", ""), True, "cross-entropy", {}, (), dataset, told)
    views, objective = _form(aug, recipes[-1], form)
    weights = dict(recipes[-1].weights) if form in ("published", "jsd") else {}
    if objective == "auxiliary":
        main = _main_ways(names, form)
        if form != "jsd":
            weights.pop("jsd", None)
        auxiliary = (False,) * len(main) + (True,)
        return Plan((), (*main, names[-1]), False, objective, weights, auxiliary, dataset, told)
    # A single one on levels that is the last: where views differ by it, it is no common step.
    last = "" if views == 1 and leveled == names else names[-1]
    common = tuple(name for name in leveled if name != last)
    clean = views > 1 and (form == "both" or recipes[-1].clean)
    changes = ("",) * clean + (last,) * (views - clean)
    return Plan(common, changes, False, objective, weights, (), dataset, told)


def _main_ways(names: tuple[str, ...], form: str) -> tuple[str, ...]:
    """What makes the views beside the auxiliary one: the visual augmentation, or the image itself where there is none.

    With the divergence it is the image, and beside it the visual augmentation if there is one.
    """
    visual = names[:-1] or ("",)
    return tuple(dict.fromkeys(("", *visual))) if form == "jsd" else visual


def form_here(aug: str, dataset: str) -> str:
    """The published form, or the changed image alone, "replaced", where that asks for what is not here."""
    try:
        plan(aug, dataset)
    except InputError:
        return "replaced"
    return "published"


def may_be_unmixed(aug: str, dataset: str, form: str = "published") -> bool:
    """Whether there are batches whose views are one and the same: APR-P's coin decides on them, or another one's."""
    return uses_pair(aug) or (is_named(aug) and plan(aug, dataset, form).may_come_once)


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
