"""Ranks of a real process group: together every patch of an epoch once, the same number of batches each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError
from radiobject.ml import create_distributed_dataloader, set_epoch

CODE = """
import datetime, json, sys
import torch
import torch.distributed as dist
from radiobject import RadiObject
from radiobject.ml.distributed import create_distributed_dataloader, set_epoch

uri, file, rank = sys.argv[1:]
limit = datetime.timedelta(seconds=60)
dist.init_process_group("gloo", init_method=f"file://{file}", rank=int(rank), world_size=2, timeout=limit)
loader = create_distributed_dataloader(
    RadiObject(uri).CT, labels="age", patch_size=4, patches_per_volume=6, batch_size=3
)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Conv3d(1, 1, 3))
seen = []
for epoch in range(2):
    set_epoch(loader, epoch)
    for batch in loader:
        model(batch["image"]).mean().backward()
        seen.append([[epoch, o, *s] for o, s in zip(batch["obs_id"], batch["start"].tolist())])
print(json.dumps(seen))
# torch 2.13 aborts a process that ends while gloo's thread still holds the last backward's context
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_read_every_patch_once(coded_study: RadiObject, tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, coded_study.uri, str(tmp_path / "group"), str(rank)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = [rank.communicate(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(error for _, error in told)
    batches: list[list[Any]] = [json.loads(out) for out, _ in told]
    assert [len(of) for of in batches] == [8, 8]
    seen = Counter(tuple(patch) for of in batches for batch in of for patch in batch)
    plan = create_distributed_dataloader(
        coded_study.CT, 0, 1, labels="age", patch_size=4, patches_per_volume=6
    ).plan
    expected: Counter[Any] = Counter()
    for epoch in range(2):
        plan.set_epoch(epoch)
        expected.update((epoch, plan.cohort.obs_ids[r.sample], *r.start) for r in plan)
    assert seen == expected


def test_ranks_are_given_or_those_of_a_group(coded_study: RadiObject) -> None:
    parts = [create_distributed_dataloader(coded_study.CT, rank, 2, batch_size=1) for rank in range(2)]
    seen = [batch["obs_id"][0] for loader in parts for batch in loader]
    assert sorted(seen) == ["a_CT", "b_CT", "c_CT", "d_CT"]
    for loader in parts:
        set_epoch(loader, 1)
    assert sorted(b["obs_id"][0] for loader in parts for b in loader) == sorted(seen)
    with pytest.raises(ConfigError, match="init_process_group"):
        create_distributed_dataloader(coded_study.CT)
