"""The network that a command line names, as `add_network` declares it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from apr_dali.eval.session import Options, Session, default_output, open_session


@contextmanager
def open_network(args: argparse.Namespace, model: str | None = None, output: str | None = None) -> Iterator[Session]:
    """The session that a command line asks for, on all processes; it says what the network is.

    model, output: in place of those of the command line.
    """
    model = model or args.model
    options = Options(
        weights=args.weights,
        classes=args.classes,
        image_size=args.image_size,
        mean=args.mean,
        std=args.std,
        crop_pct=args.crop_pct,
        interpolation=args.interpolation,
        output=output or args.output or default_output(model),
        batch_size=args.batch_size,
        device=args.device,
        amp=args.amp,
        threads=args.threads,
        # Not all commands read images.
        tar_image=getattr(args, "tar_image", None),
        tar_label=getattr(args, "tar_label", None),
    )
    with open_session(model, **options) as session:
        if session.group.main:
            print(session.network.description())
        yield session
