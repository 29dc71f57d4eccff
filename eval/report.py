"""What a page about a network says: its evaluations, and several networks side by side.

A report is a dict of JSON: when and how it was made (`date`, `command`, `settings`, `device`, `versions`),
`evaluations` with each one's result by name, `kept` with the dates of parts of earlier runs, and `missing`, `skipped`
and `failed`, lists of [set, text].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from apr_dali.eval.corruption import COMPUTED, CORRUPTIONS, SEVERITIES
from apr_dali.eval.page import Section, Table
from apr_dali.eval.published_numbers import CIFAR_NOTE, IMAGENET_NOTE, PUBLISHED, Published

Report = dict[str, Any]


def summary(report: Report) -> dict[str, str]:
    """The numbers that matter, with their units, in the order of a report; only those that are there.

    The names say on how many images and of how many classes: what has one name is comparable.
    """
    return {measure: value for (measure, _), value in _measured(report).items()}


def _measured(report: Report) -> dict[tuple[str, str], str]:
    """The same by measure and by what its images are, see `apr_dali.eval.passes.together`."""
    return {
        (measure, result.get("set", "")): value
        for name, result in report["evaluations"].items()
        for measure, value in _SUMMARIES.get(name, _shift_summary)(result).items()
    }


def _clean_summary(result: Mapping[str, Any]) -> dict[str, str]:
    return {f"clean error, {result['images']:,} images": percent(1 - result["top1"])}


def _shift_summary(result: Mapping[str, Any]) -> dict[str, str]:
    name = f"{result['name']}: error, {result['images']:,} images of {result['classes']:,} classes"
    return {name: percent(1 - result["top1"])}


_CORRUPTION_KEYS = {
    "mce": "mCE",
    "relative_mce": "relative mCE",
    "generated_mce": "generated set: AlexNet-normalised error (not mCE of ImageNet-C)",
    "generated_relative_mce": "generated set: relative error (not relative mCE of ImageNet-C)",
}


def _corruption_summary(result: Mapping[str, Any]) -> dict[str, str]:
    counts = f"{result['classes']:,} classes, {result['images']:,} images a cell"
    found = {f"{result['name']} ({counts}): mean error over {averaged_text(result)}": percent(result["mean_error"])}
    # mCE and its like are in percent already.
    labels = {key: label.replace("generated set", made_text(result)) for key, label in _CORRUPTION_KEYS.items()}
    found.update({label: f"{result[key]:.2f} %" for key, label in labels.items() if key in result})
    return found


def averaged_text(result: Mapping[str, Any]) -> str:
    """Which corruptions, and severities if not all, the mean error of a corruption result is over, in words."""
    severities = result.get("severities", SEVERITIES)  # reports of version 0.1.0 have all
    if result.get("kind") == "digits" or tuple(severities) == SEVERITIES:
        return _corruptions_text(result)
    return f"{_corruptions_text(result)} at severity {', '.join(map(str, severities))}"


def _corruptions_text(result: Mapping[str, Any]) -> str:
    own, of = result["averaged"], len(CORRUPTIONS)
    if result.get("kind") == "digits":
        return f"{len(own)} corruptions made here"
    if not set(own) <= set(CORRUPTIONS):
        return f"{', '.join(own)} (none of the benchmark's {of})"
    if len(own) == of:
        return f"all {of} corruptions"
    missing = [name for name in CORRUPTIONS if name not in own]
    if len(missing) < len(own):
        return f"{len(own)} of {of} corruptions (without {', '.join(missing)})"
    return f"{len(own)} of {of} corruptions ({', '.join(own)})"


def made_text(result: Mapping[str, Any]) -> str:
    """What stands before numbers of a corruption result that are made as ImageNet-C's are, of other images."""
    return COMPUTED if "computed" in result else "generated set"


def computed_text(result: Mapping[str, Any]) -> str:
    """How the images of a corruption result were made on the fly, in words."""
    made = result["computed"]
    part = f"{result['images']:,} of {made['of_images']:,} images, " if result["images"] < made["of_images"] else ""
    severities = "" if made["parameter_set"] == "imagenet" else f"severities of {made['parameter_set']}, "
    return f"{COMPUTED} ({part}{made['geometry']}, {severities}{made['form']}, seed {made['seed']})"


def _ood_summary(name: str) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    def found(result: Mapping[str, Any]) -> dict[str, str]:
        sets = f"{result['images']:,} images against {_counted(result['set_images'])}"
        return {
            f"{name} {title}, {score}, {sets}": percent(rows["mean"][key])
            for score, rows in result["scores"].items()
            for key, title in (("auroc", "AUROC"), ("aupr_out", "AUPR-out"))
        }

    return found


def _calibration_summary(result: Mapping[str, Any]) -> dict[str, str]:
    before, after = result["rows"].values()
    images = f"{before['images']:,} images"
    return {f"ECE, {images}": percent(before["ece"]), f"ECE, temperature tuned, {images}": percent(after["ece"])}


def _autoattack_summary(result: Mapping[str, Any]) -> dict[str, str]:
    budget = f"{result['norm']} {255 * result['epsilon']:.3g}/255"
    name = f"right under {result['version']} attack, {budget}, {result['images']:,} images"
    return {name: percent(result["robust"])}


_SUMMARIES = {
    "clean": _clean_summary,
    "corruption": _corruption_summary,
    "ood": _ood_summary("ood"),
    "imagenet-o": _ood_summary("imagenet-o"),
    "calibration": _calibration_summary,
    "autoattack": _autoattack_summary,
}


def percent(share: float | None) -> str:
    """A share in 0..1 as percent, – for None."""
    return "–" if share is None else f"{100 * share:.2f} %"


CAPTIONS = {
    "errors": "Error by corruption and severity",
    "reliability": "Accuracy by confidence, and how many images have which confidence",
    "scores": "Histograms of the score: in-distribution against each other set",
}
"""What the pictures of evaluations show, by the title that they are written under."""


def sections(report: Report, pictures: Mapping[str, Mapping[str, bytes]]) -> list[Section]:
    """The parts of a report's page. pictures: by evaluation, the PNG by the title that `CAPTIONS` puts in words."""
    results = report["evaluations"]
    found = [
        Section("Summary", tables=(Table(("measure", report["settings"]["network"]), tuple(summary(report).items())),))
    ]
    for name, make in _SECTIONS.items():
        if name in results:
            made = make(results[name])
            shown = tuple((CAPTIONS[title], png) for title, png in pictures.get(name, {}).items())
            found.append(replace(made, notes=(*made.notes, *_kept_note(report, name)), pictures=shown))
    found += [*_shifts(report), *_published(report)]
    for title, key, head in (
        ("Not measured: not found", "missing", "what to do"),
        ("Not measured: found, but not run", "skipped", "why"),
        ("Not measured: failed", "failed", "why"),
    ):
        if report[key]:
            found.append(Section(title, tables=(Table(("set", head), tuple(map(tuple, report[key])), words=True),)))
    return [*found, _settings(report)]


def _kept_note(report: Report, name: str) -> tuple[str, ...]:
    dates = sorted(report["kept"].get(name, {}).values())
    if not dates:
        return ()
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (f"Kept from an earlier run, {when}: {len(dates)} of its parts.",)


def _clean(result: Mapping[str, Any]) -> Section:
    rows = (
        ("top-1", percent(result["top1"])),
        ("top-5", percent(result["top5"])),
        ("mean cross-entropy (NLL)", f"{result['loss']:.4f}"),
        ("images", f"{result['images']:,}"),
        ("data", str(result["data"])),
    )
    return Section("Clean images", tables=(Table(("measure", "value"), rows, words=True),))


def _shifts(report: Report) -> list[Section]:
    results = {name: result for name, result in report["evaluations"].items() if name not in _SECTIONS}
    if not results:
        return []
    rows = tuple(
        (
            result["name"],
            *(percent(result[key]) for key in ("top1", "top5", "top1_of_all")),
            *(f"{result[key]:,}" for key in ("images", "classes", "all_classes")),
            str(result["data"]),
        )
        for result in results.values()
    )
    note = "Logits of the classes of each set alone, as its authors evaluate; beside it among all of the network's."
    kept = tuple(f"{name}: {text}" for name in results for text in _kept_note(report, name))
    table = Table(("set", "top-1", "top-5", "top-1 of all", "images", "classes", "of all", "data"), rows)
    return [Section("Other photographs and drawings", (note, *kept), (table,))]


def _corruption(result: Mapping[str, Any]) -> Section:
    rows = tuple(
        (_spaced(name), *(f"{100 * error:.1f}" for error in row), f"{100 * sum(row) / len(row):.1f}")
        for name, row in result["errors"].items()
    )
    notes = {
        "generated": "Made by apr-dali make-c: a generated set. Its corruptions are ImageNet-C's, given the "
        "draws; the published set has other draws, so that its numbers differ by chance.",
        "imagenet-c": "ImageNet-C's images, centre crop without resizing.",
        "cifar-10-c": "Published files; errors are not normalised.",
        "cifar-100-c": "Published files; errors are not normalised.",
        "digits": "scikit-learn's digits, corrupted in ways of our own: there is no published set of them.",
        "own": "Neither ImageNet-C nor CIFAR-C as published: none of its numbers is comparable with a published one.",
    }
    about = f"{result['name']}: {result['classes']:,} classes, {result['images']:,} images a cell; {result['data']}."
    mean = f"Mean error over {averaged_text(result)}: {percent(result['mean_error'])}."
    count = len(next(iter(result["errors"].values())))
    titles = ("error in percent", *map(str, result.get("severities", range(1, count + 1))), "mean")
    note = _sentence(computed_text(result)) if "computed" in result else notes[result["kind"]]
    return Section("Corruptions", (about, note, mean), _ce_tables(result), pictured=(Table(titles, rows),))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _ce_tables(result: Mapping[str, Any]) -> tuple[Table, ...]:
    """Corruption errors, beside published ones where they are ImageNet-C's."""
    own = result.get("ce", result.get("generated_ce"))
    if own is None:
        return ()
    beside = [entry for entry in PUBLISHED if entry.ce] if "ce" in result else []
    rows = [
        (_spaced(name), f"{own[name]:.1f}", *(str(entry.ce[CORRUPTIONS.index(name)]) for entry in beside))
        for name in CORRUPTIONS
        if name in own
    ]
    if "mce" in result:
        rows.append(("mCE", f"{result['mce']:.1f}", *(_shown(entry.imagenet_c) for entry in beside)))
    name = "CE, AlexNet = 100" if beside else "AlexNet-normalised error, not CE of ImageNet-C"
    return (Table((name, "this network", *(entry.method for entry in beside)), tuple(rows)),)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _ood(result: Mapping[str, Any]) -> Section:
    keys = ("auroc", "aupr_in", "aupr_out", "fpr95", "detection_accuracy", "oscr")
    titles = ("AUROC", "AUPR in", "AUPR out", "FPR at 95 % TPR", "detection accuracy", "OSCR")
    tables = tuple(
        Table(
            (f"{score}, percent", *titles),
            tuple((name, *(f"{100 * row[key]:.2f}" for key in keys)) for name, row in rows.items()),
        )
        for score, rows in result["scores"].items()
    )
    note = "In-distribution is the positive class. The APR paper names max-softmax, its released code takes max-logit."
    counts = f"{result['images']:,} in-distribution images, against {_counted(result['set_images'])} images."
    return Section("Out of distribution", (counts, *result["notes"], note), tables)


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in images.items())


def _imagenet_o(result: Mapping[str, Any]) -> Section:
    found = _ood(result)
    more = "Logits of ImageNet-O's 200 classes alone; in-distribution: the validation images of the same classes."
    return replace(found, title="ImageNet-O", notes=(*found.notes, more))


def _calibration(result: Mapping[str, Any]) -> Section:
    shares = {
        "accuracy": "accuracy",
        "confidence": "mean confidence",
        "ece": "ECE, 15 bins",
        "classwise_ece": "class-wise ECE, 15 bins",
        "rms": "RMS, all bins of 100",
        "rms_as_published": "RMS as published, last bin left out",
        "aurra": "AURRA",
    }
    scores = {"nll": "negative log-likelihood, nats", "brier": "Brier score, 0 to 2"}
    rows = result["rows"].values()
    table = Table(
        ("measure", *result["rows"]),
        (
            *((label, *(percent(row[key]) for row in rows)) for key, label in shares.items()),
            *((label, *(f"{row[key]:.4f}" for row in rows)) for key, label in scores.items()),
        ),
    )
    images = next(iter(rows))["images"]
    note = (
        f"Measured on {images:,} images; temperature {result['temperature']:.3f}, tuned on {result['tuned_on']:,} "
        "others that are not counted here."
    )
    return Section("Calibration", (note,), (table,))


def _autoattack(result: Mapping[str, Any]) -> Section:
    rows = (("no attack", percent(result["clean"])), *((k, percent(v)) for k, v in result["after"].items()))
    budget = f"{result['norm']}, epsilon {255 * result['epsilon']:.3g}/255"
    note = f"{result['version']}: {budget}, {result['images']} images, seed {result['seed']}."
    return Section("Adversarial attacks", (note,), (Table(("right after", "share"), tuple(rows)),))


_SECTIONS: dict[str, Callable[[Mapping[str, Any]], Section]] = {
    "clean": _clean,
    "corruption": _corruption,
    "ood": _ood,
    "imagenet-o": _imagenet_o,
    "calibration": _calibration,
    "autoattack": _autoattack,
}


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _published(report: Report) -> list[Section]:
    """Published numbers of what was measured here; none beside other sets."""
    kind = report["evaluations"].get("corruption", {}).get("kind")
    columns: dict[str, Callable[[Published], float | None]] = {
        "imagenet-c": lambda entry: entry.imagenet_c,
        "cifar-10-c": lambda entry: entry.cifar10_c,
        "cifar-100-c": lambda entry: entry.cifar100_c,
    }
    if kind not in columns:
        return []
    of = columns[kind]
    entries = [entry for entry in PUBLISHED if of(entry) is not None]
    if kind != "imagenet-c":
        table = Table(("method", "mean error"), tuple((entry.method, _shown(of(entry))) for entry in entries))
        return [Section("Published numbers, in percent", (CIFAR_NOTE,), (table,))]
    rows = tuple((entry.method, _shown(entry.clean), _shown(of(entry))) for entry in entries)
    table = Table(("method", "clean error", "mCE"), rows)
    return [Section("Published numbers, in percent", (IMAGENET_NOTE,), (table,))]


def _settings(report: Report) -> Section:
    rows = [("date", report["date"]), ("command", report["command"])]
    rows += [(_spaced(key), str(value)) for key, value in report["settings"].items()]
    rows += [(f"version of {name}", version) for name, version in report["versions"].items()]
    rows += [("device", report["device"]), ("processes", str(report["processes"]))]
    return Section("Settings", tables=(Table(("setting", "value"), tuple(rows), words=True),))


def compared(reports: Mapping[str, Report]) -> Table:
    """The summaries of several reports side by side, – where one has not what another has.

    What was measured on other images has a row of its own, however many these are and whatever they are called.
    """
    measured = {name: _measured(report) for name, report in reports.items()}
    keys = dict.fromkeys(key for found in measured.values() for key in found)
    sets = Counter(measure for measure, _ in keys)
    rows = tuple(
        (
            f"{measure} (set {of or 'unknown'})" if sets[measure] > 1 else measure,
            *(found.get((measure, of), "–") for found in measured.values()),
        )
        for measure, of in keys
    )
    return Table(("measure", *measured), rows)


def runs(reports: Mapping[str, Report]) -> Table:
    """When each report was made, and of which file of weights."""
    rows = []
    for name, report in reports.items():
        settings = report["settings"]
        rows.append((name, report["date"], settings.get("file", "–"), settings.get("file_sha256", "–")[:16]))
    return Table(("run", "date", "network file", "its SHA-256 begins"), tuple(rows), words=True)
