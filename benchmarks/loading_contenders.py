"""Who hands out random patches: this loader, tensorstore, blosc2, MONAI, TorchIO, arrays in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorstore as ts
from proof.peers import TABLE, Served
from stored import raw_store

from radiobject import RadiObject, ReadConfig, configure
from radiobject.ml.caching import Cache
from radiobject.ml.loader import RadiLoader
from radiobject.ml.plan import PatchPlan
from radiobject.ml.sampling import Uniform
from radiobject.ml.spec import SampleSpec

__all__ = ["Blosc", "Contender", "InRam", "Loader", "Monai", "Predecessor", "Raw", "TorchIo"]

BATCH = 4
Job = tuple[int, tuple[int, int, int]]


class Contender(Protocol):
    """Gives patches of volumes drawn at random; `most` is how many it is asked for, where it is slow."""

    name: str
    most: int | None

    def seconds(self, edge: int, patches: int, seed: int) -> tuple[float, int]:
        """How long so many patches took, and how many they were."""


class _Threaded:
    """Patches read one by one, by as many threads as there are cores, as plain arrays."""

    name = ""
    most: int | None = None

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._shapes: list[tuple[int, ...]] = []

    def read(self, number: int, box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        """One patch; axes z, y, x."""
        raise NotImplementedError

    def seconds(self, edge: int, patches: int, seed: int) -> tuple[float, int]:
        rng = np.random.default_rng(seed)
        jobs = []
        for number in rng.integers(0, len(self._shapes), patches):
            starts = [int(rng.integers(0, n - edge + 1)) for n in self._shapes[number]]
            jobs.append((int(number), tuple(slice(a, a + edge) for a in starts)))
        run: Callable[[Any], object] = lambda job: self.read(*job)  # noqa: E731 - one call, given to map
        begun = time.perf_counter()
        if self._cores == 1:
            for job in jobs:
                run(job)
        else:
            with ThreadPoolExecutor(self._cores) as pool:
                list(pool.map(run, jobs))
        return time.perf_counter() - begun, patches


class Raw(_Threaded):
    """tensorstore on the study's own arrays: stores held open, nothing decoded is kept."""

    name = "tensorstore"

    def __init__(self, study: Path, cores: int) -> None:
        super().__init__(cores)
        limit = {"limit": cores}
        # as the loader has it: by itself it counts the machine's cores, and needs a fifth more time on one
        own = {"data_copy_concurrency": limit, "file_io_concurrency": limit}
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}, **own})
        folders = sorted((study / "collections" / "T1w").glob("*/*.ome.zarr"))
        self._stores = [raw_store(folder, context) for folder in folders]
        self._shapes = [store.shape for store in self._stores]

    def read(self, number: int, box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._stores[number][box].read().result()
        return found


class Blosc(_Threaded):
    """blosc2 as nnU-Net keeps its cases: LZ4HC 5, blocks of 128 KiB, memory-mapped, one thread for each."""

    name = "blosc2, as nnU-Net"

    def __init__(self, folder: Path, cores: int) -> None:
        import blosc2

        super().__init__(cores)
        blosc2.set_nthreads(1)
        files = sorted(folder.glob("*.b2nd"))
        self._arrays = [blosc2.open(str(f), mode="r", mmap_mode="r", dparams={"nthreads": 1}) for f in files]
        self._shapes = [array.shape for array in self._arrays]

    def read(self, number: int, box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._arrays[number][box]
        return found


class InRam(_Threaded):
    """A crop of arrays in memory: what there is without any storage."""

    name = "arrays in memory"

    def __init__(self, arrays: Sequence[npt.NDArray[Any]], cores: int) -> None:
        super().__init__(cores)
        self._arrays = arrays
        self._shapes = [array.shape for array in arrays]

    def read(self, number: int, box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        return self._arrays[number][box].copy()


class Loader:
    """This package: batches of 4 as tensors, with ids, places and affines."""

    most: int | None = None

    def __init__(
        self, name: str, study: Path, locality: int = 1, dtype: Any = "native", cache: Cache | None = None
    ) -> None:
        self.name, self._radi = name, RadiObject(study)
        self._locality, self._dtype, self._cache = locality, dtype, cache
        self._loaders: dict[tuple[int, int], RadiLoader] = {}

    def seconds(self, edge: int, patches: int, seed: int) -> tuple[float, int]:
        each = -(-patches // len(self._radi.T1w))
        key = edge, each
        if key not in self._loaders:
            spec = SampleSpec("T1w", patch_size=edge, dtype=self._dtype)
            plan = PatchPlan(spec, self._radi, Uniform(each), locality=self._locality)
            self._loaders[key] = RadiLoader(plan, BATCH, cache=self._cache)
        loader, count = self._loaders[key], 0
        loader.set_epoch(seed)
        with configure(read=ReadConfig(cache_bytes=0)):
            begun = time.perf_counter()
            for batch in loader:
                count += len(batch["obs_id"])
            return time.perf_counter() - begun, count


class Monai:
    """MONAI: LoadImage and a random crop, from the file every time or from `CacheDataset`."""

    def __init__(self, files: Sequence[str], cached: bool) -> None:
        import monai.data
        import monai.transforms as mt

        self.name = "MONAI CacheDataset" if cached else "MONAI LoadImage"
        self.most = None if cached else 4
        items = [{"image": file} for file in files]
        load = [mt.LoadImaged("image", ensure_channel_first=True)]
        crop: Any = mt.RandSpatialCropd("image", roi_size=1, random_size=False)
        steps = mt.Compose([*load, crop])
        kind = monai.data.CacheDataset if cached else monai.data.Dataset
        self._data = kind(items, steps, **({"progress": False, "num_workers": 1} if cached else {}))
        self._crop, self._loader = crop, monai.data.DataLoader

    def seconds(self, edge: int, patches: int, seed: int) -> tuple[float, int]:
        import torch

        self._crop.cropper.roi_size = (edge,) * 3
        picks = np.random.default_rng(seed).integers(0, len(self._data), patches).tolist()
        loader = self._loader(torch.utils.data.Subset(self._data, picks), batch_size=BATCH, num_workers=0)
        begun = time.perf_counter()
        count = sum(len(batch["image"]) for batch in loader)
        return time.perf_counter() - begun, count


class TorchIo:
    """TorchIO: a Queue of so many patches a volume."""

    def __init__(self, files: Sequence[str], each: int) -> None:
        self.name, self.most = f"TorchIO Queue, {each} a volume", 8 * each
        self._files, self._each = list(files), each

    def seconds(self, edge: int, patches: int, seed: int) -> tuple[float, int]:
        import torchio as tio

        rng = np.random.default_rng(seed)
        picks = rng.integers(0, len(self._files), max(patches // self._each, 1))
        subjects = tio.SubjectsDataset([tio.Subject(image=tio.ScalarImage(self._files[n])) for n in picks])
        queue = tio.Queue(subjects, max(8, self._each), self._each, tio.UniformSampler(edge), num_workers=0)
        begun = time.perf_counter()
        count = sum(len(batch["image"]["data"]) for batch in tio.SubjectsLoader(queue, batch_size=BATCH))
        return time.perf_counter() - begun, count


class Predecessor:
    """PyPI radiobject 0.1.1 with isotropic tiles, in its own environment: arrays, volumes held open."""

    name = "radiobject 0.1.1"
    most = 60

    def __init__(self, place: Path, files: Sequence[str], shape: Sequence[int]) -> None:
        (who,) = (who for who in TABLE if who.folder == "upstream-isotropic")
        self._served, self._shape = Served(who, place), shape
        self._names = [f"sub-{number:03d}" for number in range(len(files))]
        self._served.ask("store", files=dict(zip(self._names, files, strict=True)))

    def seconds(self, edge: int, patches: int, seed: int) -> tuple[float, int]:
        rng = np.random.default_rng(seed)
        jobs = []
        for number in rng.integers(0, len(self._names), patches):
            starts = [int(rng.integers(0, n - edge + 1)) for n in self._shape]
            jobs.append((self._names[number], [(a, a + edge) for a in starts]))
        return float(self._served.ask("patches", jobs=jobs)["seconds"]), patches
