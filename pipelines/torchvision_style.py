"""APR-S and APR-P as operators of DALI's torchvision-compatible API: they stand in its `Compose`, and run in DALI.

    chain = Compose([RandomResizedCrop(224), AprSingle(), RandomHorizontalFlip(), AprPair(in_scale=1 / 255)], batch_size=64)
    mixed = chain(images)  # uint8 (N, 3, H, W) to float32 (N, 3, 224, 224)

A `Compose` gives one tensor, which labels do not pass: `AprPair` gives one view per image, so that the labels stay.
"""

from __future__ import annotations

from typing import Any

from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from apr_dali.errors import check_share
from apr_dali.pipelines import operators
from apr_dali.pipelines.newer import require

_operator = require("nvidia.dali.experimental.torchvision.v2.operator", "2.2")


class _OfLayout(_operator.Operator):  # type: ignore[misc, name-defined]
    """An operator that knows how the images of its `Compose` lie: HWC of PIL images, CHW of tensors."""

    def __init__(self, device: str, **options: Any) -> None:
        super().__init__(device=device)
        self.options = options

    def _kernel(self, data_input: DataNode) -> DataNode:
        raise NotImplementedError
