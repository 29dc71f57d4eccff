"""The paper's tables and figures as data, and the plan that one of them becomes for what is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise

from apr_dali.errors import InputError, check_choice, install_command
from apr_dali.eval.corruption import CORRUPTIONS
from apr_dali.eval.ood_sources import PHOTOGRAPHS
from apr_dali.models.registry import canonical_name, cifar_first
from apr_dali.reproduce import evaluations, methods, paper
from apr_dali.reproduce.evaluations import DATASETS, RINGS, Dataset, corruption_error, mean_auroc, number
from apr_dali.reproduce.follow import Follow, Options
from apr_dali.reproduce.plan import Asked, Cell, Column, Evaluation, Method, Plan, Run, Training, Words, script_of
from apr_dali.reproduce.sets import DIGITS, SAMPLE, Sets
from apr_dali.training.options import CIFAR_RECIPES

_SMALL = {DIGITS: ("wrn-16-1",), SAMPLE: ("resnet18",)}
"""Networks for the sets that are for trying things."""
_SAMPLE_OPTIONS: Options = {"image-size": ("64",), "batch-size": ("32",)}


@dataclass(frozen=True)
class Table:
    """A table or figure. title: what it shows. datasets: by default, and others that it takes. networks: by default.
    methods: its rows. evaluations: of each run. columns: of a data set, and of the score that is followed."""

    title: str
    datasets: tuple[str, ...]
    others: tuple[str, ...]
    networks: tuple[str, ...]
    methods: Callable[[Follow], tuple[Method, ...]]
    evaluations: tuple[Callable[[Asked, Sets, str], Evaluation], ...]
    columns: Callable[[str, str, str], tuple[Column, ...]]
    notes: tuple[str, ...] = ()


# ---- columns: (data set, network, score) → what is compared ----------------------------------------------------------

_CLEAN = Column("clean_error", "clean error", number("corruption", "clean_error"))
_CORRUPTED = "mean error under corruptions"


def _columns1(dataset: str, network: str, score: str) -> tuple[Column, ...]:  # noqa: ARG001
    measure = number("corruption", "mean_error")
    known = paper.TABLE_1.get(dataset, {})
    mean = Column("mean.corrupted_error", "mean over the networks", measure, known.get(paper.MEAN, {}), mean=True)
    corrupted = Column("corrupted_error", _CORRUPTED, measure, known.get(network, {}))
    return (corrupted, _CLEAN, *([mean] if dataset in paper.TABLE_1 else []))


def _columns2(dataset: str, network: str, score: str) -> tuple[Column, ...]:  # noqa: ARG001
    known = paper.TABLE_2 if dataset == "cifar10" else {}

    def of(name: str) -> dict[str, float]:
        return {method: row[name] for method, row in known.items()}

    names = (PHOTOGRAPHS,) if dataset == DIGITS else paper.OOD_SETS
    each = [
        Column(f"auroc.{name}", f"AUROC, {name}", number("ood", "scores", score, name, "auroc"), of(name))
        for name in names
    ]
    mean = Column("auroc.mean", f"AUROC, mean of the {len(names)} sets", mean_auroc(score, names), of(paper.MEAN))
    accuracy = Column("accuracy", "test accuracy", number("clean", "top1"), of(paper.ACCURACY))
    return (accuracy, *each, *([mean] if len(names) > 1 else []))


def _columns3(dataset: str, network: str, score: str) -> tuple[Column, ...]:  # noqa: ARG001
    known = paper.TABLE_3 if dataset == "cifar10" else {}
    return tuple(
        Column(key, title, number("autoattack", key), {method: row[place] for method, row in known.items()})
        for place, (key, title) in enumerate((("clean", "accuracy, clean"), ("robust", "accuracy under AutoAttack")))
    )


def _columns4(dataset: str, network: str, score: str) -> tuple[Column, ...]:  # noqa: ARG001
    if dataset == SAMPLE:
        return (_CLEAN, Column("corrupted_error", _CORRUPTED, number("corruption", "mean_error")))

    def of(name: str) -> dict[str, float]:
        return {method: row[name] for method, row in paper.TABLE_4.items()}

    each = (
        Column(f"ce.{name}", f"corruption error, {name.replace('_', ' ')}", corruption_error(name), of(name))
        for name in CORRUPTIONS
    )
    mce = Column("mce", "mCE", corruption_error(None), of(paper.MCE))
    return (replace(_CLEAN, title="test error", paper=of(paper.CLEAN)), mce, *each)


def _columns_of_figure4(dataset: str, network: str, score: str) -> tuple[Column, ...]:  # noqa: ARG001
    known = paper.FIGURE_4 if dataset == "cifar10" else {}
    flat = {methods.band_name(amplitude, phase): n for amplitude, row in known.items() for phase, n in row.items()}
    return (Column("accuracy", "test accuracy", number("clean", "top1"), flat),)


def _columns_of_figure9(dataset: str, network: str, score: str) -> tuple[Column, ...]:
    corrupted = Column("corrupted_error", _CORRUPTED, number("corruption", "mean_error"))
    # The paper has no numbers: those of Table 2 are of other networks.
    others = [replace(column, paper={}) for column in _columns2(dataset, network, score)[1:]]
    return (_CLEAN, corrupted, *others)


def _columns_of_maps(dataset: str, network: str, score: str) -> tuple[Column, ...]:  # noqa: ARG001
    top = (evaluations.frequencies(dataset) - 1) // 2
    edges = [top * n / RINGS for n in range(RINGS + 1)]
    rings = (
        Column(f"ring{n}", f"error under noise of {low:g} to {high:g} cycles/image", evaluations.ring_error(n))
        for n, (low, high) in enumerate(pairwise(edges))
    )
    return (Column("clean_error", "error without noise", evaluations.heatmap_clean), *rings)


_RESNET18 = ("resnet18",)
TABLES = {
    "table1": Table(
        "Table 1: corrupted CIFAR",
        ("cifar10", "cifar100"),
        (DIGITS,),
        tuple(paper.NETWORKS),
        methods.table1,
        (evaluations.corruption,),
        _columns1,
    ),
    "table2": Table(
        "Table 2: out of distribution",
        ("cifar10",),
        (DIGITS,),
        _RESNET18,
        methods.table2,
        (evaluations.clean, evaluations.ood),
        _columns2,
    ),
    "table3": Table(
        "Table 3: AutoAttack",
        ("cifar10",),
        (DIGITS,),
        ("preactresnet18",),
        methods.table3,
        (evaluations.autoattack,),
        _columns3,
        ("The paper calls the network ResNet-18; the released settings train a PreActResNet-18.",),
    ),
    "table4": Table(
        "Table 4: ImageNet-C",
        ("imagenet",),
        (SAMPLE,),
        ("resnet50",),
        methods.table4,
        (evaluations.corruption,),
        _columns4,
        ("The paper's Table 4 has 69.3 for APR-P and 70.5 for APR-S; the README of the released code the reverse.",),
    ),
    "fig4": Table(
        "Figure 4: bands of amplitude and phase",
        ("cifar10",),
        ("cifar100", DIGITS),
        _RESNET18,
        methods.figure4,
        (evaluations.clean,),
        _columns_of_figure4,
        ("The paper gives no radii of its bands; those here meet at 0.125 and 0.25 cycles per pixel.",),
    ),
    "fig9": Table(
        "Figure 9: the label of the phase or of the amplitude",
        ("cifar10",),
        (DIGITS,),
        _RESNET18,
        methods.figure9,
        (evaluations.corruption, evaluations.ood),
        _columns_of_figure9,
        ("The paper draws Fig. 9 without numbers.",),
    ),
    "fourier": Table(
        "Heat maps of Fourier noise",
        ("cifar10",),
        ("cifar100", "imagenet", DIGITS, SAMPLE),
        ("wrn-40-2",),
        methods.heat_maps,
        (evaluations.heatmap,),
        _columns_of_maps,
        ("The README of the released code shows its maps without numbers.",),
    ),
}
_OTHER_NETWORKS = {("fourier", "imagenet"): ("resnet50",)}


# ---- the plan --------------------------------------------------------------------------------------------------------


def plan_of(name: str, asked: Asked) -> Plan:
    """What to run for a table, and what to compare. InputError for what it does not take."""
    table = TABLES[name]
    datasets = asked.datasets or table.datasets
    for dataset in datasets:
        check_choice(f"--dataset of {name}", dataset, (*table.datasets, *table.others))
    if asked.on_the_fly and not set(datasets) - {DIGITS, SAMPLE}:
        raise InputError(f"--on-the-fly changes nothing for {' and '.join(datasets)}: no corrupted set is published")
    rows = _chosen(name, table.methods(asked.follow), asked)
    sets = Sets(asked.data)
    runs: dict[str, Run] = {}
    cells: list[Cell] = []
    for dataset in datasets:
        script_of(DATASETS[dataset].trainer)
        # The evaluations look for their sets once, whatever the number of runs.
        evaluated = tuple(evaluate(asked, sets, dataset) for evaluate in table.evaluations)
        networks = _networks(name, table, asked, dataset)
        of: dict[tuple[str, str], list[str]] = {}
        for network in networks:
            for method in rows:
                made = [_run(asked, sets, dataset, network, method, seed, evaluated) for seed in _seeds(asked, method)]
                runs |= {run.key: run for run in made}
                of[network, method.name] = [run.key for run in made]
        cells += _cells(table, asked, dataset, networks, rows, of)
    return Plan(
        name,
        _page_name(name, table, asked, datasets),
        table.title,
        asked,
        tuple(datasets),
        tuple(runs.values()),
        tuple(cells),
        tuple(_prepared(asked, datasets)),
        dict(sets.missing),
        {method.title: method.why for method in rows if method.options is None},
        table.notes,
    )


def _chosen(name: str, rows: tuple[Method, ...], asked: Asked) -> tuple[Method, ...]:
    known = tuple(method.name for method in rows)
    for one in asked.only:
        check_choice(f"--only of {name}", one, known)
    return tuple(method for method in rows if not asked.only or method.name in asked.only)


def _networks(name: str, table: Table, asked: Asked, dataset: str) -> tuple[str, ...]:
    exact = cifar_first if DATASETS[dataset].trainer == "cifar" else canonical_name
    for network in asked.networks:
        exact(network)
    return asked.networks or _SMALL.get(dataset) or _OTHER_NETWORKS.get((name, dataset)) or table.networks


def _seeds(asked: Asked, method: Method) -> range:
    return range(asked.seeds if method.options is not None else 0)


def _page_name(name: str, table: Table, asked: Asked, datasets: tuple[str, ...]) -> str:
    other = () if tuple(datasets) == table.datasets else datasets
    return "-".join([name, *other, *(["paper"] if asked.follow.name == "paper" else [])])


def _prepared(asked: Asked, datasets: tuple[str, ...]) -> list[Words]:
    return [("apr-dali", "sample", str(evaluations.sample_folder(asked)))] if SAMPLE in datasets else []


def _run(
    asked: Asked,
    sets: Sets,
    dataset: str,
    network: str,
    method: Method,
    seed: int,
    evaluated: tuple[Evaluation, ...],
) -> Run:
    facts = DATASETS[dataset]
    needs = (*([facts.need] if facts.need else []), *method.needs)
    return Run(
        asked.follow.name,
        dataset,
        network,
        method.name,
        seed,
        facts.size,
        facts.classes,
        _training(asked, sets, dataset, network, method, seed),
        evaluated,
        tuple(name for name in needs if sets.find(name) is None),
    )


def _training(asked: Asked, sets: Sets, dataset: str, network: str, method: Method, seed: int) -> Training:
    facts = DATASETS[dataset]
    assert method.options is not None
    recipe = method.options.get("recipe", ("",))[0]
    epochs, schedule = _length(asked, facts, recipe)
    options: Options = {
        **({"dataset": (dataset,)} if facts.trainer == "cifar" else {}),
        "model": (network,),
        **(_SAMPLE_OPTIONS if dataset == SAMPLE else {}),
        **method.options,
        "epochs": (str(epochs),),
        **schedule,
        "seed": (str(seed),),
        **({"amp": (asked.amp,)} if asked.amp != "none" else {}),
    }
    path = str(evaluations.sample_folder(asked)) if dataset == SAMPLE else facts.need and sets.at(facts.need)
    further = tuple(sets.at(name) for name in method.needs)
    places: Options = {**({"data": (path,)} if path else {}), **({"train": further} if further else {})}
    images = facts.train * (1 + len(method.needs))
    return Training(facts.trainer, options, places, epochs, images, method.passes)


def _length(asked: Asked, facts: Dataset, recipe: str) -> tuple[int, Options]:
    """The epochs of a run, and when its learning rate falls. Recipes have their own of both."""
    if recipe:
        published = int(CIFAR_RECIPES[recipe].values["epochs"])
        return asked.epochs or (published if facts.need else facts.epochs), {}
    epochs = asked.epochs or facts.epochs
    return epochs, asked.follow.of_schedule(facts.trainer, epochs)


def _cells(
    table: Table,
    asked: Asked,
    dataset: str,
    networks: tuple[str, ...],
    rows: tuple[Method, ...],
    of: Mapping[tuple[str, str], list[str]],
) -> list[Cell]:
    found: list[Cell] = []
    for network in networks:
        for column in table.columns(dataset, network, asked.follow.score):
            if not column.mean:
                # The paper's numbers are of its networks.
                known = column if network in table.networks else replace(column, paper={})
                make = partial(_cell, f"{dataset}.{network}", f"{dataset}, {network}", known)
                found += [make(method, tuple((key,) for key in of[network, method.name])) for method in rows]
    for column in table.columns(dataset, networks[0], asked.follow.score):
        # The paper's mean is over its four networks.
        if column.mean and set(networks) == set(table.networks):
            make = partial(_cell, dataset, dataset, column)
            found += [make(method, _by_seed(networks, method, of)) for method in rows]
    return found


def _by_seed(
    networks: tuple[str, ...], method: Method, of: Mapping[tuple[str, str], list[str]]
) -> tuple[tuple[str, ...], ...]:
    return tuple(zip(*(of[network, method.name] for network in networks), strict=True))


def _cell(prefix: str, place: str, column: Column, method: Method, runs: tuple[tuple[str, ...], ...]) -> Cell:
    why = method.why and f"not trained here: {method.why}"
    key = f"{prefix}.{column.key}.{method.name}"
    number = column.paper.get(method.name)
    return Cell(key, place, column.title, method.name, method.title, number, runs, column.measure, why)


def check_runs(plan: Plan) -> None:
    """Raise InputError where nothing of a plan can be run, or some of it would fail for want of a package."""
    if not plan.runs:
        raise InputError("none of the chosen methods is trained here: give --only others")
    if all(run.lacks for run in plan.runs):
        told = "\n".join(f"  {name}: {what}" for name, what in plan.missing.items())
        raise InputError(f"no run has its images below --data {plan.asked.data}; missing are\n{told}")
    for name in {evaluation.package for run in plan.runs for evaluation in run.evaluations} - {""}:
        if find_spec(name) is None:
            raise InputError(f"{plan.table} needs {name}: {install_command('eval')}")
