"""Networks that others exported to be run and nothing else: ONNX, TorchScript, torch.export's .pt2.

They give logits; what needs gradients or layers of a network refuses them by name.
"""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apr_dali.errors import InputError, first_line, install_command
from apr_dali.runtime import cpus

ONNX, EXPORTED = ".onnx", ".pt2"
SCRIPTED = (".pt", ".pth", ".ts", ".torchscript")
"""How names of TorchScript's files end; those of checkpoints may end so, too."""
_ONNX_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}


class InferenceOnly(nn.Module):
    """A network that maps images (N, 3, S, S) to logits (N, classes) and has no layers, weights or gradients to offer.

    kind: what it is, for people. image_size: pixels per side, None for any. batch: how many images it takes at a time,
    None for any number. taken: the type of images that it takes.
    """

    kind = ""

    def __init__(self, image_size: int | None, batch: int | None, taken: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.image_size, self.batch, self.taken = image_size, batch, taken

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 (N, classes), on the images' device."""
        images = images.to(self.taken)
        if self.batch is None:
            return self.run(images)
        parts = []
        for part in images.split(self.batch):
            # The last part is filled up with its first image.
            filled = torch.cat([part, part[:1].expand(self.batch - len(part), *part.shape[1:])])
            logits = self.run(filled)
            if not isinstance(logits, Tensor):
                return logits  # which is said by name where it is looked at
            parts.append(logits[: len(part)])
        return torch.cat(parts)

    @abstractmethod
    def run(self, images: Tensor) -> Tensor:
        """The logits of as many images as it takes."""


class OnnxNetwork(InferenceOnly):
    """A network of an ONNX file, run by ONNX Runtime: on the GPU where that is built for it, else on the CPU."""

    kind = "ONNX"

    def __init__(self, path: Path) -> None:
        runtime = _runtime()
        try:
            session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        # What a broken or foreign file raises depends on where it is broken.
        except Exception as error:
            raise InputError(f"{path} cannot be read as ONNX: {first_line(error)}") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4:
            told = [f"{given.name} {given.shape}" for given in (*inputs, *outputs)]
            raise InputError(f"{path}: expected one input (N, 3, H, W) and one output of logits, got {', '.join(told)}")
        if inputs[0].type not in _ONNX_TYPES:
            known = ", ".join(_ONNX_TYPES)
            raise InputError(f"{path} takes {inputs[0].type}: expected normalized images, one of {known}")
        super().__init__(*_fixed(path, inputs[0].shape), _ONNX_TYPES[inputs[0].type])
        self._path, self._name = path, inputs[0].name
        self._sessions: dict[str, Any] = {}

    def run(self, images: Tensor) -> Tensor:
        """The logits, by way of the CPU."""
        (logits,) = self._session(images.device).run(None, {self._name: images.cpu().numpy()})
        return torch.from_numpy(np.asarray(logits, np.float32)).to(images.device)

    def _session(self, device: torch.device) -> Any:
        if str(device) not in self._sessions:
            runtime = _runtime()
            options = runtime.SessionOptions()
            options.intra_op_num_threads = cpus.share()
            wanted: list[Any] = [("CUDAExecutionProvider", {"device_id": device.index or 0})]
            on_gpu = device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers()
            providers = [*(wanted if on_gpu else []), "CPUExecutionProvider"]
            self._sessions[str(device)] = runtime.InferenceSession(self._path, options, providers=providers)
        return self._sessions[str(device)]

    def __getstate__(self) -> dict[str, Any]:
        """Sessions are no data."""
        return {**self.__dict__, "_sessions": {}}


class TorchNetwork(InferenceOnly):
    """A network of a TorchScript file or of torch.export's.

    placed: gives the program on a device.
    """

    def __init__(
        self,
        kind: str,
        placed: Callable[[torch.device], Any],
        taken: torch.dtype,
        image_size: int | None = None,
        batch: int | None = None,
    ) -> None:
        super().__init__(image_size, batch, taken)
        self.kind, self._placed = kind, placed
        # In a dict, not as one of its modules: an exported one cannot be put into the mode in which it already is.
        self._programs: dict[str, Callable[[Tensor], Tensor]] = {}

    def run(self, images: Tensor) -> Tensor:
        """The logits."""
        place = str(images.device)
        if place not in self._programs:
            self._programs[place] = self._placed(images.device)
        logits = self._programs[place](images)
        return logits.float() if isinstance(logits, Tensor) else logits


def is_exported(path: Path) -> bool:
    """Whether a file is of one of these kinds."""
    return path.is_file() and (path.suffix in (ONNX, EXPORTED) or _is_script(path))


def load_exported(path: Path) -> InferenceOnly:
    """The network of a file, as `is_exported` knows them; InputError where it cannot be read."""
    if path.suffix == ONNX:
        return OnnxNetwork(path)
    if path.suffix == EXPORTED:
        return _exported(path)
    try:
        script = torch.jit.load(path, map_location="cpu").eval()
    # What a broken file raises depends on where it is broken.
    except Exception as error:
        raise InputError(f"{path} cannot be read as TorchScript: {first_line(error)}") from error
    types = {value.dtype for value in script.parameters() if value.is_floating_point()}
    return TorchNetwork("TorchScript", script.to, types.pop() if len(types) == 1 else torch.float32)


def refuse_inference_only(model: nn.Module, name: str, what: str) -> None:
    """Raise InputError if `model`, which is called `name`, is for inference only. what: needs more, in words."""
    if isinstance(model, InferenceOnly):
        raise InputError(f"{what}, and {name} is {model.kind}, for inference only: give a checkpoint of the network")


def _exported(path: Path) -> InferenceOnly:
    try:
        if not zipfile.is_zipfile(path):  # of which torch would print pages
            raise ValueError("it is no whole zip file")
        program = torch.export.load(path)
        (image,) = [
            node.meta["val"]
            for node in program.graph.nodes
            if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
        ]
        shape = [None if isinstance(side, torch.SymInt) else int(side) for side in image.shape]
        if len(shape) != 4 or not image.dtype.is_floating_point:
            raise ValueError(f"expected one input (N, 3, H, W) of normalized images, got {image.dtype} {shape}")
        fixed = _fixed(path, shape)
    except InputError:
        raise
    # What a broken or foreign file raises depends on where it is broken.
    except Exception as error:
        raise InputError(f"{path} cannot be read as torch.export's: {first_line(error)}") from error

    def placed(device: torch.device) -> Any:
        from torch.export.passes import move_to_device_pass

        moved = program if device.type == "cpu" else move_to_device_pass(program, str(device))
        return moved.module()

    return TorchNetwork("torch.export", placed, image.dtype, *fixed)


def _fixed(path: Path, shape: list[Any]) -> tuple[int | None, int | None]:
    """The size and the number of images that an input of this shape, (N, 3, H, W), is fixed to."""
    batch, channels, height, width = (side if isinstance(side, int) and side > 0 else None for side in shape)
    if channels not in (None, 3) or height != width:
        raise InputError(f"{path} takes images of {shape[1:]}: expected 3 channels, and squares, as (3, S, S)")
    return height, batch


def _is_script(path: Path) -> bool:
    if path.suffix not in SCRIPTED or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"an ONNX file needs onnxruntime: {install_command('onnx')}") from error
    return onnxruntime
