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
        if self._batch == 0 and isinstance(state, dict) and state.get("batch") == 0:
            # Between two epochs the state is still of the first one's size.
            self.resize(dict(state.get("signature") or {}).get("image_size", self.image_size))
        super().load_state_dict(state)
