"""Cards: what a notebook shows of a volume, a collection, a study: facts from the tables, stored thumbnails.

No voxel is read. Everything that comes from a study is escaped: ids and names are other people's text.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.format.meta import row_meta
from radiobject.model.study import ObsRow, Study
from radiobject.show.sections import lean_of
from radiobject.show.units import in_mm

if TYPE_CHECKING:
    from radiobject.model.collection_view import CollectionView
    from radiobject.model.view import StudyView
    from radiobject.model.volume import Volume

__all__ = ["collection_card", "study_card", "thumbnails_of", "volume_card"]

_MOST = 12
"""Thumbnails of a collection on its own."""

_MOST_IN_STUDY = 6
"""Thumbnails of each collection of a study."""

_MOST_SHEETS = 8
"""Collections of a study that have thumbnails."""

_NAMES = 8
"""Names of labels, and kinds of volumes."""

_GRID = ("dim_x", "dim_y", "dim_z", "dim_t", "spacing_x", "spacing_y", "spacing_z", "axcodes", "dtype")


def thumbnails_of(study: Study, collection: str, obs_ids: Sequence[str]) -> dict[str, bytes]:
    """The JPEG of each of these volumes, as far as there is one, by one read of the table."""
    table = study.snapshot.table("thumbnails", collection)
    wanted = pc.field("obs_id").isin(pa.array(obs_ids, pa.string()))
    rows = table.read(["obs_id", "jpeg"], filter=wanted)
    return dict(zip(rows["obs_id"].to_pylist(), rows["jpeg"].to_pylist(), strict=True))


def volume_card(volume: Volume) -> str:
    """Facts of a volume beside its thumbnail, which only a whole stored one has."""
    meta, lean, placed = volume.meta, lean_of(volume.meta.affine), in_mm(volume)
    stored = "" if volume.dtype == volume.stored_dtype else f", stored as {volume.stored_dtype}"
    facts = {
        "subject": volume.obs_subject_id,
        "voxels": " x ".join(map(str, volume.shape)) + f" ({', '.join(volume.axes)})",
        "spacing": " x ".join(f"{s:.4g}" for s in placed.spacing) + " mm",
        "orientation": "".join(volume.axcodes) + (f", {lean}" if lean else ""),
        "time step": "" if meta.time_step is None else f"{meta.time_step:g} s",
        "values": f"{meta.kind}, {volume.dtype}{stored}",
        "labels": _listed([label.name for label in meta.labels]),
    }
    picture, row = "", volume._row
    if isinstance(row, ObsRow) and volume._row_of_all():
        found = thumbnails_of(row._study, row._name, [volume.obs_id])
        picture = _sheet([volume.obs_id], found)
    beside = f'<div style="display: flex; gap: 12px"><div>{picture}</div>{_table(facts)}</div>'
    return _card(f"<b>Volume</b> {escape(volume.obs_id)}", beside)


def collection_card(collection: CollectionView) -> str:
    """A contact sheet of the first volumes, and how many there are of each size, spacing and type."""
    ids = collection.obs_ids[:_MOST]
    of = "a view of " if collection.is_view else ""
    title = (
        f"<b>VolumeCollection</b> {of}{escape(collection.name)}: {len(collection)} {collection.kind} volumes "
        f"of {len(collection.subjects)} subjects, {escape(collection.backend)}"
    )
    more = f"<div>and {len(collection) - len(ids)} more</div>" if len(collection) > len(ids) else ""
    sheet = _sheet(ids, thumbnails_of(collection._study, collection.name, ids))
    return _card(title, sheet + more, _grids(collection))


def study_card(study: StudyView) -> str:
    """The table of the collections, and a few thumbnails of each."""
    of = "a view of " if study.is_view else ""
    # the path before it tells of the machine, in a notebook that others may see
    name = study._study.location.uri.rstrip("/").rsplit("/", 1)[-1]
    title = f"<b>RadiObject</b> {of}{escape(name)}, version {study.version}: {len(study)} subjects"
    sheets = []
    for name in study.collection_names[:_MOST_SHEETS]:
        ids = study.collection(name).obs_ids[:_MOST_IN_STUDY]
        if found := thumbnails_of(study._study, name, ids):
            sheets.append(f"<div>{escape(name)}</div>{_sheet(ids, found)}")
    return _card(title, study.describe().to_html(), "".join(sheets))


def _card(*parts: str) -> str:
    return "<div>" + "".join(f"<div>{part}</div>" for part in parts if part) + "</div>"


def _table(facts: Mapping[str, str]) -> str:
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items() if v)
    return f"<table>{''.join(rows)}</table>"


_ABSENT = "width: 96px; line-height: 96px; text-align: center; color: gray"


def _sheet(ids: Iterable[str], jpegs: Mapping[str, bytes]) -> str:
    """Thumbnails with their ids below; a volume without one, whose voxels nobody has read, says so."""
    style = "display: inline-block; margin: 0 4px 4px 0; font-size: 11px; vertical-align: top"
    found = []
    for obs_id in ids:
        name, jpeg = escape(obs_id), jpegs.get(obs_id)
        size = "height: 96px; background: black; display: block"
        if jpeg is None:
            image = f'<div style="{size}; {_ABSENT}">not read yet</div>'
        else:
            source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            image = f'<img alt="{name}" src="{source}" style="{size}">'
        found.append(f'<div style="{style}">{image}{name}</div>')
    return "".join(found)


def _grids(collection: CollectionView) -> str:
    """How many volumes share a shape, a spacing, an orientation and a type; the most frequent first."""
    rows = collection.obs.to_arrow([*_GRID, "_volume"])
    texts = rows["_volume"].combine_chunks().dictionary_encode()
    sides = pa.array([row_meta(text).side for text in texts.dictionary.to_pylist()])
    rows = rows.drop_columns("_volume").append_column("mm", sides.take(texts.indices))
    kinds: Counter[tuple[str, ...]] = Counter()
    for row in rows.group_by([*_GRID, "mm"]).aggregate([([], "count_all")]).to_pylist():
        size = " x ".join(str(row[d]) for d in _GRID[:4] if row[d] is not None)
        # less than 0.1 % apart is no other kind
        spacing = " x ".join(f"{row[s] * row['mm']:.4g}" for s in _GRID[4:7])
        kinds[size, spacing, str(row["axcodes"]), str(row["dtype"])] += row["count_all"]
    lines = ["<tr><th>volumes</th><th>voxels</th><th>spacing, mm</th><th>axes</th><th>dtype</th></tr>"]
    for kind, count in kinds.most_common(_NAMES):
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in (str(count), *kind)) + "</tr>")
    if len(kinds) > _NAMES:
        lines.append(f"<tr><td colspan=5>and {len(kinds) - _NAMES} more kinds</td></tr>")
    return f"<table>{''.join(lines)}</table>"


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(names[:_NAMES])
    return f"{shown} and {len(names) - _NAMES} more" if len(names) > _NAMES else shown
