"""A network learns from a stock Queue with TorchIO's transforms, wherever the study lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchio as tio

from radiobject import RadiObject
from radiobject.examples import study
from radiobject.ml import VolumeCollectionSubjectsDataset
from radiobject.ml.torchio import ForegroundSampler, TransformedSampler, scalar_image


@pytest.fixture(scope="module")
def head() -> RadiObject:
    """One real head in 4 mm: T1w, and grey and white matter as labels 1 and 2."""
    return study(1)


SCALED = tio.RescaleIntensity((0, 1), in_min_max=(0, 1000))


def small_net() -> torch.nn.Module:
    def block(n: int, m: int) -> list[torch.nn.Module]:
        return [torch.nn.Conv3d(n, m, 3, padding=1), torch.nn.LeakyReLU()]

    return torch.nn.Sequential(*block(1, 8), *block(8, 8), torch.nn.Conv3d(8, 3, 1))


def train(uri: str, epochs: int) -> tuple[torch.nn.Module, list[float]]:
    """The same lines for every place."""
    torch.manual_seed(0)
    radi = RadiObject(uri)
    dataset = VolumeCollectionSubjectsDataset({"t1": radi.T1w, "seg": radi.seg})
    sampler = TransformedSampler(ForegroundSampler(16, "seg"), tio.Compose([SCALED, tio.RandomFlip("LR")]))
    loader = tio.SubjectsLoader(tio.Queue(dataset, 12, 12, sampler), batch_size=4)
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(epochs):
        for batch in loader:
            target = batch["seg"][tio.DATA][:, 0].long()
            loss = torch.nn.functional.cross_entropy(net(batch["t1"][tio.DATA]), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return net.eval(), losses


def test_a_network_learns_one_head_and_its_result_is_a_collection(head: RadiObject, tmp_path: Path) -> None:
    radi = head.write(tmp_path / "own")
    net, losses = train(radi.uri, 15)
    assert sum(losses[-6:]) < 0.7 * sum(losses[:6])

    def segment(volume, row):  # type: ignore[no-untyped-def]
        subject = tio.Subject(t1=scalar_image(volume))
        grid = tio.GridSampler(subject, 24, 8)
        whole = tio.GridAggregator(grid, overlap_mode="hann")
        with torch.inference_mode():
            for batch in tio.SubjectsLoader([SCALED(patch) for patch in grid], batch_size=4):
                whole.add_batch(net(batch["t1"][tio.DATA]), batch[tio.LOCATION])
        return whole.get_output_tensor().argmax(dim=0).to(torch.uint8).numpy()

    radi.add_collection("found", radi.T1w.lazy().map(segment, format="volume", version="1"), kind="label")
    found, wanted = radi.found.iloc[0], radi.seg.iloc[0]
    assert (found.shape, found.affine.tolist()) == (wanted.shape, wanted.affine.tolist())
    inner = wanted.to_numpy() > 0
    assert ((found.to_numpy() == wanted.to_numpy())[inner]).mean() > 0.7


def test_another_backend_gives_the_same_losses(head: RadiObject, tmp_path: Path) -> None:
    other = head.write(tmp_path / "tiledb", backend="tiledb")
    assert train(other.uri, 2)[1] == pytest.approx(train(head.uri, 2)[1], rel=1e-3)
