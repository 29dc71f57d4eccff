"""Training batches whose images grow from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.training.sizes import Sizes


class ProgressiveLoader(ImageNetLoader):
    """ImageNetLoader whose image_size follows `sizes` by the epoch of the run, which `run_epoch` says.

    The loader's own epochs begin anew where a run could not go on in mid-epoch. A state from within an epoch is refused
    where the sizes have been changed since.
    """

    def __init__(self, *given: Any, sizes: Sizes, run_epoch: Callable[[], int], **named: Any) -> None:
        self._sizes, self._run_epoch = sizes, run_epoch
        super().__init__(*given, **named, image_size=sizes.at(run_epoch()))

    def __iter__(self) -> Iterator[Any]:
        if self._batch == 0:
            self.resize(self._sizes.at(self._run_epoch()))
        return super().__iter__()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; see ImageNetLoader."""
        before = self._sizes.at(max(self._run_epoch() - 1, 0))
        if isinstance(state, dict) and state.get("batch") == 0 and _size_of(state) == before:
            # Between two epochs a state is still of the size of the first.
            self._begin(self.epoch)
            self.resize(before)
        super().load_state_dict(state)


def _size_of(state: dict[str, Any]) -> Any:
    signature = state.get("signature")
    return signature.get("image_size") if isinstance(signature, dict) else None
