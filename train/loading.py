"""Batches whose content depends on (seed, epoch, index) alone, so that a resumed run sees what an unbroken one sees.

PyTorch gives each loader iterator and worker a seed drawn from the global generator: after a restart in the middle of
an epoch the drawn numbers differ, and with them every random augmentation. Here the sampler hands out *keys*,
`epoch · len(dataset) + index`, and the dataset seeds its own generators from the keys of the batch. Worker processes,
prefetching and restarts then make no difference.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

from ..processing.errors import InputError

if TYPE_CHECKING:
    from .arguments import TrainingArguments


Collate = Callable[[list[Any]], Any]


def mix_seed(*parts: int) -> int:
    """One 63-bit seed out of several whole numbers; close inputs give unrelated seeds."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch (all devices) from one number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs a block under its own seed and gives the host's generators back as they were (CPU ones)."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


class EpochKeys(Sampler[int]):
    """Yields `epoch · length + index` over one epoch, shuffled by (seed, epoch) or in order."""

    def __init__(self, length: int, seed: int, shuffle: bool):
        self.length, self.seed, self.shuffle, self.epoch = length, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length
        if not self.shuffle:
            return iter(range(start, start + self.length))
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch))
        return iter((torch.randperm(self.length, generator=generator) + start).tolist())


class SeededBatches(Dataset):
    """Turns the keys of a batch into the collated batch, with all randomness seeded by (seed, first key)."""

    def __init__(self, dataset: Any, collate: Collate, seed: int):
        self.dataset, self.collate, self.seed = dataset, collate, seed
        self.length = len(dataset)

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, keys: Sequence[int]) -> Any:
        with seeded(mix_seed(self.seed, keys[0])):
            indices = [key % self.length for key in keys]
            if hasattr(self.dataset, "__getitems__"):
                return self.collate(self.dataset.__getitems__(indices))
            return self.collate([self.dataset[index] for index in indices])

    def __getitem__(self, key: int) -> Any:
        return self.__getitems__([key])


def _as_it_is(batch: Any) -> Any:
    return batch


def build_dataloader(data: Any, args: TrainingArguments, collate: Collate | None = None) -> DataLoader:
    """Makes the training loader out of a map-style dataset, an iterable one, or a loader that is ready.

    Args:
        data: a `Dataset` or anything with `len` and `[]` (a list, a Hugging Face dataset), an `IterableDataset`, or a
            `DataLoader`, which is taken as it is (its exact resume then rests on its sampler).
        args: batch size *per process*, workers, seed and shuffling are read.
        collate: makes a batch out of a list of rows; PyTorch's default one if not given.

    Raises:
        InputError: fewer rows than one batch.
    """
    if isinstance(data, DataLoader):
        return data
    common: dict[str, Any] = {"num_workers": args.num_workers, "persistent_workers": args.num_workers > 0}
    common["pin_memory"] = torch.cuda.is_available() and not args.cpu
    collate = collate or default_collate
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=args.batch_size, collate_fn=collate, drop_last=True, **common)
    if not isinstance(data, Sized):
        raise TypeError(f"{type(data).__name__} has no length; wrap it as an IterableDataset")
    if len(data) < args.batch_size:
        raise InputError(
            None, f"{len(data)} training rows do not fill one batch of {args.batch_size}; lower batch_size"
        )
    return DataLoader(
        SeededBatches(data, collate, args.seed),
        batch_size=args.batch_size,
        sampler=EpochKeys(len(data), args.seed, args.shuffle),
        collate_fn=_as_it_is,
        drop_last=True,
        **common,
    )


class BatchStream:
    """An endless run of batches over the epochs that knows where it stands and can start in the middle.

    Args:
        loader: the loader as `Accelerator.prepare` gave it back.
        epoch: epoch to start in, from 0.
        batch_in_epoch: batches of that epoch (per process) that are already used up.
    """

    def __init__(self, loader: Any, epoch: int = 0, batch_in_epoch: int = 0):
        self.loader, self.epoch, self.batch_in_epoch = loader, epoch, batch_in_epoch
        self._iterator: Iterator[Any] | None = None

    def _open(self) -> Iterator[Any]:
        from accelerate import skip_first_batches

        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(self.epoch)
        loader = skip_first_batches(self.loader, self.batch_in_epoch) if self.batch_in_epoch else self.loader
        return iter(loader)

    def __next__(self) -> Any:
        for _ in range(2):
            if self._iterator is None:
                self._iterator = self._open()
            try:
                batch = next(self._iterator)
            except StopIteration:
                self._iterator = None
                self.epoch, self.batch_in_epoch = self.epoch + 1, 0
                continue
            self.batch_in_epoch += 1
            return batch
        raise InputError(
            None, "the training data gave no batch in a whole epoch; is it empty, or smaller than a batch?"
        )
