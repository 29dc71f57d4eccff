"""Error by corruption and severity of a validation set, which is corrupted while the network runs over it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from apr_dali.corruptions import EXTRA, corruptions_of
from apr_dali.errors import InputError
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.clean import CleanResult
from apr_dali.eval.corruption import CELLS, COMPUTED, SEVERITIES
from apr_dali.eval.evaluations.corruption import Corruption, cleaned_of, corruption_table, pictures_of
from apr_dali.eval.on_the_fly import Computed, computed_cells, open_clean, told
from apr_dali.eval.passes import together
from apr_dali.eval.recorded import KEEPS, Recorded, evaluate_recorded, joined
from apr_dali.eval.session import Options, Session, Subject, session_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


def evaluate_corruption_on_the_fly(
    model: Subject,
    data: str | Path,
    *,
    corruptions: Sequence[str] | None = None,
    set: str | None = None,
    severities: Sequence[int] | None = None,
    limit: int | None = None,
    extra: bool = False,
    seed: int = 0,
    in_memory: bool = False,
    clean: str | Path | None = None,
    **options: Unpack[Options],
) -> Corruption:
    """The error under ImageNet-C's corruptions, without a corrupted set on disk.

    The images are those that `apr-dali make-c` writes with the same seed, at the network's size; for a set of 32×32
    images, such as CIFAR's, those of `make-c --cifar`. The published sets have other draws.

    Args:
        model, options: as for `evaluate_clean`.
        data: clean images: a folder of class folders, a file list, or what `open_small` takes.
        corruptions: some of `apr_dali.corruptions.NAMES`, `C_BAR` or of 32×32 images `CIFAR_C_BAR`; None for all of a
            benchmark.
        set: which: "c", the 15 of ImageNet-C, or "c-bar", the 10 of ImageNet-C-bar or CIFAR-10-C-bar; None
            for "c".
        severities: some of 1 to 5; None for all.
        limit: only so many images, evenly taken, the same for everyone; None for all.
        extra: the four extra corruptions too.
        seed: of the draws, 0..2^64 - 1.
        in_memory: leave out the JPEG file that the published images went through: quality 85, 4:2:0.
        clean: the clean images, for the relative mCE; None to leave them out.

    Raises:
        InputError: for an unknown corruption or severity, tars, or images or a network that do not fit.
    """
    if isinstance(corruptions, str):
        raise InputError(f"corruptions must be a list of names, got the text {corruptions!r}")
    if extra and (corruptions is not None or set not in (None, "c")):
        raise InputError("extra adds four corruptions to the 15: name them in corruptions instead")
    if set is not None and corruptions is not None:
        raise InputError(f"the set {set} has no effect beside corruptions: these name all")
    of_benchmark = corruptions_of(set or "c", "imagenet")
    chosen = dict.fromkeys((*of_benchmark, *(EXTRA if extra else ())) if corruptions is None else corruptions)
    numbers = SEVERITIES if severities is None else dict.fromkeys(severities)
    computed = Computed(tuple(chosen), tuple(numbers), limit, seed, in_memory)
    with session_of(model, options) as session:
        if set == "c-bar" and session.takes_small(str(data)):
            computed = replace(computed, corruptions=corruptions_of(set, "cifar"))
        return _measure(session, str(data), computed, None if clean is None else str(clean))


def _measure(session: Session, val: str, computed: Computed, clean: str | None) -> Corruption:
    session = session.of_several([val] if clean is None else [val, clean])
    computed.check(session.network.image_size, "cifar" if session.takes_small(val) else "imagenet")
    found = open_clean(session, val).taking(computed.limit)
    few = found.numbers[: session.feeding.batch_size]
    session.check(session.feeding.array("clean", found.read(few), found.labels[: len(few)]))
    made = computed_cells(session.feeding, found, computed)
    cells = [cell for cell, _ in made]
    more = [] if clean is None else [session.labeled(clean)]
    # All cells of a part before the next part: it is decoded once.
    parts = [part for chunk in zip(*(parts for _, parts in made), strict=True) for part in chunk]
    state = session.state("corruption", keeps=KEEPS)
    results = evaluate_recorded(session.model, parts, session.group.device, state, session.amp)
    cleaned = cleaned_of(session, more, state)
    whole = _is_whole(session, computed, len(found.numbers))
    of_cells = {cell.name: _joined([results[part.name] for part in parts]) for cell, parts in made}
    table = corruption_table(cells, of_cells, "generated" if whole else "own", cleaned)
    name = f"{os.path.basename(os.path.abspath(val))}, {COMPUTED}"
    classes, facts = len(session.network.classes), told(session.network.image_size, found, computed)
    result = Corruption(val, together([*cells, *more]), name, classes, table, computed=facts)
    return result.finished(session, pictures_of(result), state)


def _joined(found: Sequence[Recorded]) -> Recorded:
    """The result over the images of all parts: of one that is run at once the same counts."""
    parts = [part for part, _ in found]
    images = sum(part.images for part in parts)
    top1, top5 = (sum(round(getattr(part, key) * part.images) for part in parts) / images for key in ("top1", "top5"))
    whole = CleanResult(images, sum(part.loss * part.images for part in parts) / images, top1, top5)
    return whole, joined([part for _, part in found])


def _is_whole(session: Session, computed: Computed, images: int) -> bool:
    """Whether it is what `make-c` makes of ImageNet's validation set."""
    full = images == CELLS["generated"] and is_imagenet(session.network.classes)
    return full and computed.severities == SEVERITIES and not computed.in_memory
