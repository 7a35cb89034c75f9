"""Targets that are files of a study: commits, table parts, rows and foreground indexes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from radiobject import RadiObject
from radiobject.backends.zarr.metadata import parse_hint
from radiobject.config import TileConfig, WriteConfig
from radiobject.format import catalog
from radiobject.format.change_list import read_change
from radiobject.format.commit import Commit
from radiobject.format.foreground import ForegroundIndex
from radiobject.format.meta import row_meta
from radiobject.location import Location
from radiobject.model.volume import Volume
from radiobject.storage import Storage
from tests.fuzz.mutation import as_json, changed_bytes, changed_json, nasty, sealed

__all__ = ["Commits", "ForegroundIndexes", "Rows", "TableParts", "look_at_volume"]

COMMIT = "study/versions/000000000002.json"


class Study:
    """A study of two collections in two versions. What is read of it holds together, voxel for voxel."""

    whole = True

    def prepare(self, place: Path) -> None:
        """Four volumes of a few chunks each, one of them time by space, one scaled."""
        rng = np.random.default_rng(5)
        write = WriteConfig(tile=TileConfig(chunks=(8, 8, 8)))
        scans = [rng.integers(-500, 500, (12, 9, 10), dtype=np.int16) for _ in range(3)]
        scans[2] = rng.integers(0, 99, (6, 9, 10, 3), dtype=np.uint8)
        spaced = np.diag([1.0, 2.0, 3.0, 1.0])
        mask = (rng.random((12, 9, 10)) > 0.6).astype("u1")
        meta = pd.DataFrame(
            {"obs_subject_id": ["a", "b", "c"], "age": [30, None, 50], "dx": ["AD", "CN", None]}
        )
        images = {
            "T1w": [((scans[0], spaced), "a"), ((scans[1], spaced), "b")],
            "seg": [((mask, spaced), "a")],
        }
        radi = RadiObject.from_niftis(
            str(place / "study"), images, meta, labels=["seg"], write=write, progress=False, axis4="time"
        )
        radi.append({"T1w": [((scans[2], spaced), "c")]}, write=write, progress=False, axis4="time")
        radi = RadiObject(str(place / "study"))
        known = {v.uri: v.to_numpy(raw=True) for name in radi for v in radi.collection(name)}
        relative = {uri.split("/study/", 1)[1]: array for uri, array in known.items()}
        with (place / "voxels.npz").open("wb") as file:
            np.savez(file, **{key.replace("/", "|"): array for key, array in relative.items()})

    def open(self, place: Path) -> None:
        """The voxels of each stored volume, by its path in the study."""
        self.place = place
        with np.load(place / "voxels.npz") as file:
            self.voxels = {key.replace("|", "/"): file[key] for key in file.files}
        self.commit = json.loads((place / COMMIT).read_bytes())
        del self.commit["self_sha256"]

    def look(self) -> None:
        """Open, list, describe and read everything."""
        catalog._snapshots.clear()
        parse_hint.cache_clear()
        row_meta.cache_clear()
        radi = RadiObject(str(self.place / "study"))
        repr(radi)
        assert type(radi.version) is int
        table = radi.obs_meta.to_arrow()
        table.validate(full=True)
        ids = radi.obs_subject_ids
        assert all(isinstance(i, str) for i in ids)
        assert len(ids) == table.num_rows
        radi.obs_meta.read(filter="age > 35 or dx == 'AD'")
        for name in radi:
            collection = radi.collection(name)
            repr(collection)
            rows = collection.obs.to_arrow()
            rows.validate(full=True)
            found = list(collection)
            assert len(found) == rows.num_rows == len(collection)
            for volume in found:
                look_at_volume(volume)
                self._same(volume)
        newest = radi.versions()[-1]
        repr(newest)
        radi.validate("full")

    def _same(self, volume: Volume) -> None:
        """As many voxels as were stored there, and the same ones."""
        truth = self.voxels.get(volume.uri.split("/study/", 1)[1])
        assert truth is not None, f"voxels of {volume.uri}, where no volume is"
        found = volume.to_numpy(raw=True)
        alike = (found.shape, found.dtype) == (truth.shape, truth.dtype)
        # a row is its author's word: one that names a smaller array is shown as that
        assert alike or not self.whole, "another volume than was stored"
        assert not alike or np.array_equal(found, truth), "voxels that nobody stored"


def look_at_volume(volume: Volume) -> None:
    """What a volume says of itself agrees with itself and can be used."""
    repr(volume)
    assert len(volume.shape) == len(volume.axes) in (3, 4, 5)
    assert all(type(n) is int and n > 0 for n in volume.shape)
    assert volume.axes[:3] == ("x", "y", "z")
    assert np.isfinite(volume.affine).all()
    assert np.isfinite(volume.spacing).all()
    assert min(volume.spacing) > 0
    assert np.linalg.matrix_rank(volume.affine[:3, :3] / volume.spacing) == 3
    meta = volume.meta
    assert meta.kind in ("image", "label")
    assert meta.space_unit in ("mm", "um", "m", "unknown")
    hash(meta.dims)
    for label in meta.labels:
        assert label.rgba is None or (len(label.rgba) == 4 and all(type(v) is int for v in label.rgba))
    volume.orientation_info  # noqa: B018 - reads the source's header
    with np.errstate(all="ignore"):  # scaled by a hostile slope, floats may overflow
        values = volume.to_numpy()
    assert values.shape == volume.shape
    assert values.dtype == volume.dtype


class Commits(Study):
    """The newest commit: its bytes as they are, and its JSON with a hash that fits."""

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """The commit, sometimes with a hint that must not be trusted."""
        if rng.random() < 0.2:
            return {COMMIT: changed_bytes(rng, (self.place / COMMIT).read_bytes())}
        body = as_json(changed_json(rng, self.commit))
        made = {COMMIT: sealed(body)}
        if rng.random() < 0.2:
            hint = {"latest": 2, "oldest": 1, "sha256": hashlib.sha256(body).hexdigest()}
            made["study/hint.json"] = sealed(as_json(changed_json(rng, hint)))
        return made

    def look(self) -> None:
        """The list of what it changed, too, wherever that stands."""
        super().look()
        data = (self.place / COMMIT).read_bytes()
        change = read_change(Storage(Location(self.place / "study")), Commit.from_bytes(data, "it"))
        assert all(isinstance(i, str) for i in change.volumes | change.subjects)


class TableParts(Study):
    """A part of a table: any of its bytes, and other columns and values, as the commit would name them."""

    whole = False

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """One part, and the commit that states its size and hashes."""
        stated = rng.choice(list(_parts(self.commit)))
        data = (self.place / "study" / stated["path"]).read_bytes()
        if rng.random() < 0.6:
            footer = rng.random() < 0.6
            data = changed_bytes(rng, data, len(data) - stated["footer_bytes"] if footer else 0)
        else:
            data = _written(
                self.changed(rng, pq.read_table(io.BytesIO(data), arrow_extensions_enabled=False))
            )
        return self.committed(stated, data, follow=rng.random() < 0.8)

    def changed(self, rng: Random, rows: pa.Table) -> pa.Table:
        """The rows with columns gone, new, of other types and values; twice, or none."""
        for _ in range(rng.randint(1, 3)):
            what = rng.choice(("gone", "retyped", "value", "null", "name", "twice", "rows", "values"))
            at = rng.randrange(max(rows.num_columns, 1))
            if not rows.num_columns:
                break
            field = rows.schema.field(at)
            if what == "gone":
                rows = rows.remove_column(at)
            elif what == "name":
                names = list(rows.column_names)
                names[at] = rng.choice([*names, "x", "", "age"])
                rows = rows.rename_columns(names)
            elif what == "twice":
                rows = rows.append_column(field, rows.column(at))
            elif what == "rows":
                rows = pa.concat_tables([rows, rows.slice(0, 1)]) if rng.random() < 0.5 else rows.slice(0, 0)
            elif what == "null":
                rows = rows.set_column(at, field.name, pa.nulls(rows.num_rows, field.type))
            else:
                rows = rows.set_column(
                    at, field.name, _column(rng, rows.column(at), retyped=what == "retyped")
                )
        return rows

    def committed(
        self, stated: Mapping[str, Any], data: bytes, *, follow: bool = True
    ) -> Mapping[str, bytes]:
        """The part, and the commit as it names it; without `follow`, the number of rows stays."""
        commit = json.loads(json.dumps(self.commit))
        part = next(p for p in _parts(commit) if p["path"] == stated["path"])
        part["bytes"], part["sha256"] = len(data), hashlib.sha256(data).hexdigest()
        footer = min(int.from_bytes(data[-8:-4], "little") + 8, len(data))
        part["footer_bytes"] = footer if footer > 8 else part["footer_bytes"]
        part["footer_sha256"] = hashlib.sha256(data[-part["footer_bytes"] :]).hexdigest()
        if follow:
            try:
                part["rows"] = pq.read_metadata(io.BytesIO(data)).num_rows
            except (pa.ArrowException, OSError, ValueError):
                follow = False
        return {f"study/{stated['path']}": data, COMMIT: sealed(as_json(commit))}


_ROW_COLUMNS = (
    "_volume", "_volume", "_volume", "_hint", "_hint", "_path", "_objects", "affine", "dim_x", "dtype",
    "axcodes", "_foreground",
)  # fmt: skip


class Rows(TableParts):
    """What the row of a volume says, its geometry included; and the attributes of a volume."""

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """The rows of one part, or the document of one volume."""
        if rng.random() < 0.3:
            return {self.document: as_json(self._attributes(rng))}
        entry = rng.choice(self.commit["collections"])
        stated = rng.choice(entry["tables"]["obs"])
        rows = pq.read_table(self.place / "study" / stated["path"], arrow_extensions_enabled=False)
        sound_rows = rows
        for _ in range(rng.randint(1, 2)):
            name = rng.choice(_ROW_COLUMNS)
            at = rows.schema.get_field_index(name)
            if name in ("_volume", "_hint"):
                texts = rows.column(at).to_pylist()
                number = rng.randrange(len(texts))
                sound = json.loads(sound_rows[name][number].as_py())
                texts[number] = as_json(changed_json(rng, sound)).decode()
                rows = rows.set_column(at, rows.schema.field(at), pa.array(texts, pa.string()))
            else:
                rows = rows.set_column(at, name, _column(rng, rows.column(at), retyped=False))
        return self.committed(stated, _written(rows))

    def _attributes(self, rng: Random) -> Any:
        document = json.loads((self.place / self.document).read_bytes())
        attributes = document["attributes"]
        which = rng.choice(("radiobject", "radiobject", "ome"))
        if which == "ome" and rng.random() < 0.7:
            del attributes["radiobject"]  # then it is a foreign image
        attributes[which] = changed_json(rng, attributes[which])
        return document

    def open(self, place: Path) -> None:
        """Which document is attacked."""
        super().open(place)
        first = sorted(self.voxels)[0]
        self.document = f"study/{first}/zarr.json"

    def look(self) -> None:
        """The volume by its own URL, too."""
        super().look()
        volume = Volume(str((self.place / self.document).parent))
        look_at_volume(volume)
        self._same(volume)


class ForegroundIndexes(TableParts):
    """An index of a label volume, of which the row knows size and checksum; and the bytes by themselves."""

    def open(self, place: Path) -> None:
        """Where the index lies, and its row."""
        super().open(place)
        (self.part,) = self.commit["collections"][1]["tables"]["obs"]
        self.rows = pq.read_table(place / "study" / self.part["path"], arrow_extensions_enabled=False)
        self.file = "study/" + self.rows["_foreground"].to_pylist()[0]["path"]

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """The bytes of the index, sometimes with a row that fits them."""
        sound = (self.place / self.file).read_bytes()
        data = changed_bytes(rng, sound) if rng.random() < 0.7 else self._structure(rng, sound)
        if rng.random() < 0.3:
            return {self.file: data}
        index = self.rows["_foreground"].to_pylist()[0]
        index.update(bytes=len(data), crc32c=google_crc32c.value(data))
        at = self.rows.schema.get_field_index("_foreground")
        rows = self.rows.set_column(
            at, self.rows.schema.field(at), pa.array([index], self.rows.schema.field(at).type)
        )
        return {self.file: data, **self.committed(self.part, _written(rows))}

    def _structure(self, rng: Random, sound: bytes) -> bytes:
        table = self.changed(rng, pa.ipc.open_file(sound).read_all())
        said = json.loads(pa.ipc.open_file(sound).schema.metadata[b"radiobject"])
        if rng.random() < 0.6:
            said = changed_json(rng, said, 2)
        table = table.replace_schema_metadata({b"radiobject": as_json(said)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue().to_pybytes())

    def look(self) -> None:
        """An index that is taken holds no place outside its volume, and no more voxels than there are."""
        data = (self.place / self.file).read_bytes()
        try:
            index = ForegroundIndex.from_buffer(data, "the index")
        finally:
            catalog._snapshots.clear()
            radi = RadiObject(str(self.place / "study"))
            radi.validate("full")
        assert len(index.shape) == len(index.block) == 3
        for (blocks, counts), places, total in zip(index.blocks, index.places, index.counts, strict=True):
            assert len(blocks) == len(counts)
            assert int(counts.sum(dtype="u8")) == int(total)
            assert 0 <= int(places.min()) <= int(places.max()) < np.prod(index.shape, dtype=object)
        assert len(ForegroundIndex.from_buffer(index.to_bytes(), "again").values) == len(index.values)


def _parts(commit: Mapping[str, Any]) -> Any:
    for tables in (commit["tables"], *(c["tables"] for c in commit["collections"])):
        for parts in tables.values():
            yield from parts


def _column(rng: Random, column: pa.ChunkedArray, *, retyped: bool) -> Any:
    """One value, or all of them, exchanged; in another type, where the column's own does not hold it."""
    values = column.to_pylist()
    if retyped:
        return pa.array(
            [None if v is None else str(v)[:2_000] for v in values],
            rng.choice((pa.string(), pa.large_string())),
        )
    if not values:
        return column
    number = rng.randrange(len(values))
    values[number] = (
        changed_json(rng, values[number]) if rng.random() < 0.5 and _plain(values[number]) else nasty(rng)
    )
    for kind in (column.type, None):
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    return pa.array([str(v).encode("utf-8", "replace").decode()[:2_000] for v in values])


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _written(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    try:
        pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
    except pa.ArrowException:  # a type that Parquet does not have
        pq.write_table(rows.select([]), sink := io.BytesIO())
    return sink.getvalue()
