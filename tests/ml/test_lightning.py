"""Lightning trains from our loader; stopped anywhere, it goes on with the batches that it would have had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as lit
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from radiobject import RadiObject
from radiobject.errors import ConfigError
from radiobject.ml import PatchPlan, RadiLoader, SampleSpec, Uniform

pytestmark = [
    pytest.mark.slow,
    # lightning 2.6 asks torch 2.13 for what that deprecates, and finds our small loaders short
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
Seen = list[tuple[str, list[int]]]


class Killed(Exception):
    """Raised in the place of a signal."""


class Patches(lit.LightningDataModule):
    """Eight patches an epoch: three batches, of which the last is short."""

    def __init__(self, radi: RadiObject, seed: int = 1) -> None:
        super().__init__()
        self.radi, self.seed = radi, seed

    def setup(self, stage: str) -> None:
        self.loader = self.made(self.trainer.global_rank, self.trainer.world_size)

    def made(self, rank: int, world: int) -> RadiLoader:
        plan = PatchPlan(SampleSpec("CT", patch_size=4), self.radi, Uniform(2), seed=self.seed)
        return RadiLoader(plan.shard(rank, world), 3)

    def train_dataloader(self) -> RadiLoader:
        return self.loader

    def state_dict(self) -> dict[str, Any]:
        return {"loader": self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state["loader"])


class Net(lit.LightningModule):
    """A convolution that writes down what it sees, and dies before a step."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.net, self.seen, self.dies_at = torch.nn.Conv3d(1, 1, 3), list[Seen](), dies_at

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        if self.global_step == self.dies_at:
            raise Killed
        self.seen.append(list(zip(batch["obs_id"], batch["start"].tolist(), strict=True)))
        loss: torch.Tensor = self.net(batch["image"] / 1e5).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trained(
    folder: Path, data: Patches, dies_at: int | None = None, every: int | None = 1, **options: Any
) -> Net:
    """A net after three epochs or after its death; goes on from the last checkpoint of that folder.

    They are saved every so many steps, with None at the end of epochs.
    """
    lit.seed_everything(0, verbose=False)
    net, kept = Net(dies_at), folder / "last.ckpt"
    trainer = lit.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, **options,
        enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, save_last=True, every_n_train_steps=every)],
    )  # fmt: skip
    with suppress(Killed):
        trainer.fit(net, data, ckpt_path=kept if kept.exists() else None)
    return net


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4, 6, 8])
def test_training_that_was_killed_goes_on_with_the_batches_it_would_have_had(
    coded_study: RadiObject, tmp_path: Path, dies_at: int
) -> None:
    whole = trained(tmp_path / "whole", Patches(coded_study))
    assert [len(batch) for batch in whole.seen] == [3, 3, 2] * 3
    assert len({str(batch) for batch in whole.seen}) == 9
    first = trained(tmp_path / "broken", Patches(coded_study), dies_at)
    second = trained(tmp_path / "broken", Patches(coded_study))
    assert len(first.seen) == dies_at
    assert first.seen + second.seen == whole.seen
    for mine, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_training_goes_on_from_the_end_of_an_epoch(coded_study: RadiObject, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", Patches(coded_study), every=None)
    trained(tmp_path / "broken", Patches(coded_study), dies_at=5, every=None)
    assert trained(tmp_path / "broken", Patches(coded_study), every=None).seen == whole.seen[3:]


def test_a_checkpoint_of_other_batches_is_refused(coded_study: RadiObject, tmp_path: Path) -> None:
    trained(tmp_path, Patches(coded_study), dies_at=2)
    with pytest.raises(ConfigError, match="another plan"):
        trained(tmp_path, Patches(coded_study, seed=2))


RANKS = """
import json, sys
from pathlib import Path
from radiobject import RadiObject
from tests.ml.test_lightning import Patches, trained

uri, folder, *dies_at = sys.argv[1:]
net = trained(Path(folder), Patches(RadiObject(uri)), *map(int, dies_at), devices=2, strategy="ddp")
Path(folder, f"seen-{net.global_rank}-{len(dies_at)}.json").write_text(json.dumps(net.seen))
"""


def test_each_of_two_processes_goes_on_with_its_own_part(coded_study: RadiObject, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(RANKS, encoding="utf-8")

    def seen(*dies_at: str) -> list[list[Seen]]:
        command = [sys.executable, str(script), coded_study.uri, str(tmp_path), *dies_at]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        files = [tmp_path / f"seen-{rank}-{len(dies_at)}.json" for rank in range(2)]
        return [json.loads(file.read_text()) for file in files]

    first, second = seen("3"), seen()
    for rank in range(2):
        expected = []
        loader = Patches(coded_study).made(rank, 2)
        for _ in range(3):
            expected += [list(map(list, zip(b["obs_id"], b["start"].tolist(), strict=True))) for b in loader]
        assert [len(batch) for batch in expected] == [3, 1] * 3
        assert first[rank] == expected[:3]
        assert second[rank] == expected[3:]
