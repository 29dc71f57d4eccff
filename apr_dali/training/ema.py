"""An exponential moving average of a network's weights over the steps of training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from apr_dali.errors import InputError


class Average:
    """The network whose floating weights and buffers are averages: a ← decay · a + (1 − decay) · w after each step.

    The first step copies what the network is then, as in torch's AveragedModel, which this is, and in timm's train.py.
    What is not floating, such as batch norm's number of batches, is the network's own: a mean of indices is none.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """decay: between 0 and 1. `model` is on its device; the average lies there too."""
        floating = get_ema_multi_avg_fn(decay)

        def average(averages: list[Tensor], values: list[Tensor], steps: Tensor | int) -> None:
            if averages[0].is_floating_point():
                floating(averages, values, steps)
            else:
                for own, value in zip(averages, values, strict=True):
                    own.copy_(value)

        self._averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
        self.model: nn.Module = self._averaged.module
        # Nobody asks for their gradients; evaluation needs none.
        self.model.requires_grad_(False)

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """The averages, and over how many steps they go."""
        return {"steps": int(self._averaged.n_averaged), "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; InputError if it is of another network."""
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise InputError(f"the average of the checkpoint is of another network: {error}") from error
        self._averaged.n_averaged.fill_(state["steps"])
