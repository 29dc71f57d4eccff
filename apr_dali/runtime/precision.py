"""The arithmetic that --amp asks for, in the words of torch and of the loaders."""

from __future__ import annotations

import torch

AMP_TYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}
LOADER_TYPES = {"none": "float32", "bf16": "bfloat16", "fp16": "float16"}
