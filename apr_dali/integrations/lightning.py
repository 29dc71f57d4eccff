"""Lightning: the loaders as a data module, and APR-P as a callback for data modules of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from apr_dali.data.folders import ImageSet, TarSet, check_components, has_split, holds_tars, open_set, open_unlabeled
from apr_dali.data.tar_sources import is_elsewhere
from apr_dali.data.tars import DEFAULT, Components
from apr_dali.errors import InputError
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.runtime.deprecation import renamed
from apr_dali.transforms import AprPair

_OF_TRAINING = (
    *("scale", "ratio", "hflip", "sampler", "on_break", "repeat_unmixed"),
    *("policy", "policy_magnitude", "random_erasing"),
)
"""Options of the loader that say how training images are drawn."""
_FOLDERS = {"train": ["train"], "val": ["val"], "test": ["test", "val"], "predict": ["predict", "test", "val"]}
"""Where the images of each part are: in the first that is there."""


class AprDataModule(LightningDataModule):
    """`path`/train with APR and `path`/val, each process its shard, for `Trainer.fit(module, AprDataModule(...))`.

    Training batches are ImageNetLoader's: with APR-P the clean and the mixed view side by side, two rows per image, and
    one in batches that are not mixed; 2 times the mean loss is the published one in both.
    `test` and `predict` go through `path`/test where there is one, else through val, whose images ImageNet is tested
    on: (images, targets) as in validation. Labels mean the training set's classes in all of them. `predict` takes
    `path`/predict first, and `path` itself where images lie in it; images without class folders have their numbers for
    targets, by which `loader.files` names them.
    A checkpoint of Lightning, in mid-epoch too, holds every process's place; `fit(..., ckpt_path=...)` goes on with the
    batches that would have come.

    Args:
        path: a folder with train/ and val/, of class folders or of tars with their indices, or a file list of both.
        batch_size: images per batch and process, before the second view.
        aug: one of none, apr-p, apr-s, apr-sp.
        views: "both" or "mixed", of training.
        classes: names in the order of the labels. None: those of `path`/train, which must then be there for
            validation, too.
        allow_missing_classes: val and test may lack some of the classes; one that has others is refused as ever.
        components: which members of a tar's samples are image and label.
        options: further arguments of `apr_dali.ImageNetLoader` for all parts: image_size, seed, dtype, threads; and of
            training, such as repeat_unmixed.
    """

    def __init__(
        self,
        path: str | Path,
        batch_size: int,
        aug: str = "none",
        views: str = "both",
        *,
        classes: Sequence[str] | None = None,
        allow_missing_classes: bool = False,
        components: Components = DEFAULT,
        **options: Any,
    ) -> None:
        super().__init__()
        self._path: str | Path = str(path) if is_elsewhere(path) else Path(path)
        self._batch_size, self._aug, self._views = batch_size, aug, views
        self._classes, self._allow_missing = classes, allow_missing_classes
        self._components, self._options = components, options
        self._open: dict[str, ImageNetLoader] = {}
        self._trained: RankLoader | None = None
        self._place: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        self.teardown(stage)  # what a run that was broken off has left open
        self._trained, self._place = None, {}

    def train_dataloader(self) -> RankLoader:
        if getattr(self.trainer, "overfit_batches", 0):
            # Lightning makes a DataLoader's order fixed for it, and cannot ours.
            raise InputError(
                "overfit_batches shows the same batches in every epoch, and AprDataModule draws others: leave it out, "
                "with limit_train_batches for short epochs, or keep a few batches in a list of your own"
            )
        self._trained = RankLoader(
            self._loader("train", aug=self._aug, views=self._views, drop_last=True), self._epoch_is_over
        )
        if self._place and self.trainer is not None:
            if self._place.get("over"):
                _tell_of_the_epochs_end(self.trainer)
            # In mid-epoch Lightning itself gives the loader its state.
            if not self.trainer.fit_loop.restarting:
                self._trained.load_state_dict(self._place | {"over": True})
        self._place = {}
        return self._trained

    def _epoch_is_over(self) -> bool:
        """Whether Lightning has had all batches of the epoch that it wants."""
        trainer = self.trainer
        if trainer is None:
            return False
        return trainer.fit_loop.epoch_loop.batch_progress.current.processed >= trainer.num_training_batches

    def state_dict(self) -> dict[str, Any]:
        # Also after the run, whose loader is closed.
        return self._trained.state_dict() if self._trained else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict

    def val_dataloader(self) -> ImageNetLoader:
        return self._loader("val", train=False)

    def test_dataloader(self) -> ImageNetLoader:
        return self._loader("test", train=False)

    def predict_dataloader(self) -> ImageNetLoader:
        return self._loader("predict", train=False)

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        while self._open:
            self._open.popitem()[1].close()

    def _loader(self, part: str, **options: Any) -> ImageNetLoader:
        # Lightning may ask anew each epoch: a second loader would begin with the first epoch again.
        if part not in self._open:
            self._open[part] = self._new_loader(part, **options)
        return self._open[part]

    def _new_loader(self, part: str, **options: Any) -> ImageNetLoader:
        trainer = self.trainer
        if trainer is None:
            raise InputError("AprDataModule needs a Trainer, which knows the processes: give it to Trainer.fit")
        device = trainer.strategy.root_device
        given = {name: value for name, value in self._options.items() if part == "train" or name not in _OF_TRAINING}
        return ImageNetLoader(
            self._images(part),
            self._batch_size,
            device=device,
            shard=(trainer.global_rank, trainer.world_size),
            **options,
            **given,
        )

    def _has(self, folder: str) -> bool:
        if is_elsewhere(self._path):
            return has_split(self._path, folder)
        return Path(self._path, folder).is_dir()

    def _images(self, part: str) -> ImageSet | TarSet:
        tars = is_elsewhere(self._path) or any(holds_tars(Path(self._path, folder)) for folder in _FOLDERS)
        check_components(self._components, tars, [self._path])
        folders = _FOLDERS[part]
        there = next((folder for folder in folders if self._has(folder)), folders[-1])
        if part == "predict" and (images := open_unlabeled(self._path) or open_unlabeled(Path(self._path, there))):
            return images
        if part == "train" or self._classes is None:
            trained = open_set(self._path, "train", self._classes, components=self._components, mixed=True)
            self._classes = trained.classes
            if part == "train":
                return trained
        return open_set(
            self._path,
            there,
            self._classes,
            allow_missing_classes=self._allow_missing,
            components=self._components,
            mixed=True,
        )


def _tell_of_the_epochs_end(trainer: Trainer) -> None:
    """See to it that a run that was saved at the end of an epoch goes on with the next one.

    Where max_steps is given, Lightning takes the epoch for one that goes on: without a validation in between it gives
    it a batch of the next one, and leaves out the rest of that.
    """
    loop = trainer.fit_loop
    progress = loop.epoch_progress.current
    if loop.restarting and progress.ready == progress.started == progress.processed:
        # Its property does not take this for a run by steps.
        loop._restarting = False
        loop.epoch_loop.restarting = False


class RankLoader:
    """A loader whose state is that of all processes: Lightning writes the main one's checkpoint alone.

    over: says whether the loop has had the batches that it takes of this epoch, which may be fewer than there are.
    """

    def __init__(self, loader: ImageNetLoader, over: Callable[[], bool]) -> None:
        self.loader, self._over = loader, over

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Called by all processes together."""
        return {"ranks": _of_all(self.loader.state_dict(), self.loader.shard[1]), "over": self._over()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` of as many processes was taken."""
        self.loader.load_state_dict(_own(state["ranks"], *self.loader.shard))
        if state.get("over"):
            self.loader.leave_epoch()


def _of_all(mine: Any, world: int) -> list[Any]:
    """What each of `world` processes, which call this together, has: Lightning writes the main one's alone."""
    states = [mine] * world
    if world > 1:
        dist.all_gather_object(states, mine)
    return states


def _own(states: list[Any], rank: int, world: int) -> Any:
    """This process's part of what `_of_all` gave; InputError if that was of another number of processes."""
    if len(states) != world:
        raise InputError(f"the checkpoint was saved by {len(states)} processes, now there are {world}")
    return states[rank]


class AprPairCallback(Callback):
    """APR-P on the training batches of any data module, before the module's `training_step` sees them.

    Batches are lists [images, labels] of normalized images (B, C, H, W), as PyTorch's default collate gives them, and
    are changed in place. A checkpoint of Lightning holds where each process's draws stand.

    Args:
        p, axes, views, seed, repeat_unmixed: of `apr_dali.transforms.AprPair`. Each process adds its number to the
            seed; None takes the main process's from torch's generator. All processes have the same coin at a step.
    """

    @renamed("probability", "p")
    def __init__(
        self,
        p: float = 0.5,
        *,
        axes: str = "chw",
        views: str = "both",
        seed: int | None = None,
        repeat_unmixed: bool = False,
    ) -> None:
        self._seed = seed
        self._pair = AprPair(p, axes=axes, views=views, seed=seed, repeat_unmixed=repeat_unmixed)
        self._place = (0, 1)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        seed = int(torch.randint(2**62, ())) if self._seed is None else self._seed
        seed, given = trainer.strategy.broadcast(seed), self._pair
        self._pair = AprPair(
            given.p,
            axes=given.axes,
            views=given.views,
            seed=seed + trainer.global_rank,
            repeat_unmixed=given.repeat_unmixed,
            coin_seed=seed,
        )
        self._place = (trainer.global_rank, trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        # Called by all processes together.
        return {"draws": _of_all(self._pair.draws_state(), self._place[1])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._pair.load_draws_state(_own(state_dict["draws"], *self._place))

    def on_train_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        if not isinstance(batch, list) or len(batch) != 2:
            raise InputError(
                f"AprPairCallback needs batches that are lists [images, labels], got {type(batch).__name__}; "
                "call apr_dali.transforms.AprPair in the data module's on_after_batch_transfer instead"
            )
        batch[:] = self._pair(*batch)
