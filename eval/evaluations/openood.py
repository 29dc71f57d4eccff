"""Out-of-distribution detection on OpenOOD's own lists of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apr_dali.eval.evaluations.ood import Ood, evaluate_ood
from apr_dali.eval.ood_scores import KINDS
from apr_dali.eval.openood import lists_below
from apr_dali.eval.session import Options, Subject, session_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


def evaluate_openood(
    model: Subject,
    data: str | Path,
    *,
    full_spectrum: bool = False,
    scores: Sequence[str] | None = None,
    fit_data: str | Path | None = None,
    fit_images: int | None = None,
    list_root: str | Path | None = None,
    **options: Unpack[Options],
) -> Ood:
    """OpenOOD v1.5's benchmark of a network of ImageNet's, CIFAR-10's or CIFAR-100's classes.

    Args:
        model, options: as for `evaluate_clean`.
        data: OpenOOD's folder of that name, with `benchmark_imglist` and the folders of images.
        full_spectrum: with the shifted sets, too.
        scores, fit_images, list_root: as for `evaluate_ood`.
        fit_data: likewise; None for OpenOOD's training list, where a score is fitted.

    Raises:
        InputError: for lists or images that are not there, a network of other classes, or what `evaluate_ood` refuses.
    """
    with session_of(model, options) as session:
        lists = lists_below(data, session.network.kind, full_spectrum)
        fitted = any(name == "all" or (name in KINDS and KINDS[name].fitted) for name in scores or ())
        return evaluate_ood(
            session,
            lists.data,
            near=lists.near,
            far=lists.far,
            shifted=lists.shifted,
            scores=scores,
            fit_data=fit_data or (lists.fit if fitted else None),
            fit_images=fit_images,
            list_root=list_root,
            evaluation="openood",
        )
