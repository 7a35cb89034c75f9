"""Plan: the future volumes of a folder as a table, to look at, edit, save and ingest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from radiobject.errors import ConfigError, DuplicateIdError, MetadataError, RadiObjectError
from radiobject.format.layout import check_collection_name
from radiobject.format.meta import Kind
from radiobject.ingest.nifti import peek_nifti
from radiobject.ingest.scanning.estimate import Estimate, estimated
from radiobject.ingest.scanning.kinds import find
from radiobject.ingest.scanning.rows import Found, PlanRow, Verdict
from radiobject.ingest.scanning.rules import apply_rules, rules_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Plan", "scan"]

_EDITED = ("verdict", "reason", "collection", "obs_subject_id", "obs_id", "session", "run", "kind")
"""Columns that an ingest takes from the table; the others only show."""

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_KINDS: tuple[Kind, ...] = get_args(Kind)


def scan(path: str | os.PathLike[str], kind: str = "auto", rules: Any = None, **options: Any) -> Plan:
    """The plan of a folder: one row for each volume that it would become. Reads headers, no voxels.

    `kind`: "bids", "msd", "nnunet", "dicom" or "nifti"; "auto" knows them by their files. `rules` send rows
    to collections by regular expressions on their tags, the first match wins, and what matches none is
    skipped: `[{"collection": "T1w", "SeriesDescription": "(?i)t1"}, {"collection": None, "Modality": "SR"}]`.
    `options` are those of the layout: deid_key= and others of `RadiObject.from_dicoms`, derivatives= of BIDS.

    >>> import tempfile
    >>> from radiobject.examples import cohort
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = cohort(folder, 2, spacing=16, progress=False)
    ...     plan = scan(folder)
    >>> plan
    Plan of 6 volumes (nifti): 3 T1w, 3 seg (label)
    >>> plan.table.loc[:, ["collection", "obs_subject_id", "obs_id", "dtype"]].iloc[0].to_list()
    ['T1w', 'sub-01', 'sub-01_T1w', 'int16']
    """
    root = os.path.abspath(os.path.expanduser(os.fspath(path)))
    found = find(root, kind, dict(options))
    apply_rules(found.rows, rules_of(rules))
    return Plan(root, found)


@dataclass(frozen=True)
class _Look:
    """What a header says of a row, as the table shows it."""

    shape: str = ""
    spacing: str = ""
    dtype: str = ""


class Plan:
    """Rows of future volumes. `table` is a DataFrame, yours to edit: drop rows, or change any of the columns
    verdict ("ingest", "skip", "error"), reason, collection, obs_subject_id, obs_id, session, run and kind.

    Other columns show what was found: layout, path, tags, geometry. A plan holds paths and what headers say,
    also of patients: keep it where the files are. `obs_meta` is the table of subjects that the layout has.
    """

    def __init__(self, root: str, found: Found) -> None:
        self.root, self.layout = root, found.layout
        self.obs_meta, self.skipped = found.obs_meta, dict(found.skipped)
        looks = [_look(row) for row in found.rows]
        _name(found.rows)
        self._rows = dict(zip(_keys(found.rows, root), found.rows, strict=True))
        self._table = self._made(looks)

    @property
    def table(self) -> pd.DataFrame:
        """The rows; its index says which source each is."""
        return self._table

    @table.setter
    def table(self, table: pd.DataFrame) -> None:
        self._table = table

    @property
    def _key_id(self) -> str:
        """The key that pseudonyms of its rows were made with, "none" for none."""
        keys = {str(row.columns.get("deid_key_id") or "none") for row in self._rows.values()} - {"none"}
        return ",".join(sorted(keys)) or "none"

    def __len__(self) -> int:
        return len(self._table)

    def rows(self) -> list[PlanRow]:
        """The rows as the table has them now, in its order.

        Raises `MetadataError` for a row that the scan did not find or a value that cannot be,
        `DuplicateIdError` for two volumes of one obs_id.
        """
        missing = [name for name in _EDITED if name not in self._table.columns]
        if missing:
            raise MetadataError("plan.table", expected=f"the columns {_EDITED}", got=f"none of {missing}")
        table = self._table[list(_EDITED)]
        found = [
            self._edited(str(key), dict(zip(_EDITED, values, strict=True)))
            for key, values in zip(table.index, table.to_numpy(dtype=object), strict=True)
        ]
        counts = Counter(row.obs_id for row in found if row.verdict == "ingest")
        if twice := [obs_id for obs_id, count in counts.items() if count > 1]:
            raise DuplicateIdError(
                f"plan, obs_id {twice[0]!r}", expected="one row", got=str(counts[twice[0]])
            )
        return found

    def estimate(self, sample: int = 3, workers: int | None = None) -> Estimate:
        """Convert a few volumes for real and say how long the whole will take, and how large it will be.

        The sample is spread over sizes of files and goes to a temporary folder. `workers` as in the ingest.
        """
        return estimated([row for row in self.rows() if row.verdict == "ingest"], sample, workers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as .csv or .parquet, to edit elsewhere and `read` again."""
        table = self._table.reset_index().assign(root=self.root, layout=self.layout, deid_key_id=self._key_id)
        text = os.fspath(path)
        if text.endswith(".parquet"):
            table.astype(dict.fromkeys(table.columns, "string")).to_parquet(text)
        elif text.endswith(".csv"):
            table.to_csv(text, index=False)
        else:
            raise ConfigError("plan.save(path)", expected="a name that ends in .csv or .parquet", got=text)

    @classmethod
    def read(cls, path: str | os.PathLike[str], **options: Any) -> Plan:
        """A plan that was saved: its folder is scanned again, and the table as it was edited laid over it.

        `options` are those of the scan. Sources that are new since are not in it; one that is gone is an
        error when the plan is ingested.
        """
        import pandas as pd

        text = os.fspath(path)
        try:
            table = pd.read_parquet(text) if text.endswith(".parquet") else pd.read_csv(text, dtype="string")
            table = table.astype(dict.fromkeys(table.columns, "string")).set_index("source")
            root, layout, key_id = (str(table[n].iloc[0]) for n in ("root", "layout", "deid_key_id"))
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise MetadataError(text, expected="a plan that was saved", got=str(error)) from error
        plan = scan(root, layout, **options)
        if plan._key_id != key_id:
            raise MetadataError(
                text, expected=f"de-identification as it was planned with (key {key_id})", got=plan._key_id,
                hint="Pass the same deid_key= or deidentify= as to scan().",
            )  # fmt: skip
        plan.table = table.drop(columns=["root", "layout", "deid_key_id"])
        return plan

    def __repr__(self) -> str:
        shown = self._table[self._table["verdict"] == "ingest"]
        counts = Counter(zip(shown["collection"], shown["kind"], strict=True))
        listed = [
            f"{n:,} {name}{' (label)' if kind == 'label' else ''}" for (name, kind), n in counts.items()
        ]
        text = f"Plan of {len(shown):,} volumes ({self.layout}): {', '.join(listed) or 'none'}"
        left = Counter(
            f"{verdict}: {str(reason).partition(': ')[2] or reason}"[:100]
            for verdict, reason in zip(self._table["verdict"], self._table["reason"], strict=True)
            if verdict != "ingest"
        )
        lines = [f"  {count:,} {what}" for what, count in left.most_common(10)]
        lines += [
            f"  {count:,} {'file' if count == 1 else 'files'} left out: {reason}"
            for reason, count in self.skipped.items()
        ]
        return "\n".join([text, *lines])

    def _repr_html_(self) -> str:
        shown = [c for c in (*_EDITED, "shape", "spacing", "dtype") if c in self._table.columns]
        head = self._table[shown].head(20).to_html()
        return f"<p>{'<br>'.join(repr(self).splitlines())}</p>{head}"

    def _edited(self, key: str, said: Mapping[str, Any]) -> PlanRow:
        row = self._rows.get(key)
        if row is None:
            raise MetadataError(
                f"plan row {key!r}", expected=f"a source below {self.root}", got="none of that name",
                hint="It is gone, or the index of the table was changed: scan again.",
            )  # fmt: skip
        text = {name: _text(said[name]) for name in _EDITED}
        verdict = next((v for v in _VERDICTS if v == text["verdict"]), None)
        kind = next((k for k in _KINDS if k == text["kind"]), None)
        if verdict is None or kind is None:
            raise MetadataError(
                f"plan row {key!r}", expected=f"verdict {_VERDICTS}, kind {_KINDS}",
                got=f"{text['verdict']!r}, {text['kind']!r}",
            )  # fmt: skip
        if verdict == "ingest":
            check_collection_name(text["collection"] or "")
            for name in ("obs_subject_id", "obs_id"):
                if not text[name]:
                    raise MetadataError(f"plan row {key!r}, {name}", expected="an id", got="none")
        obs_id = text["obs_id"] or ""
        moved = (text["collection"], text["obs_subject_id"]) != (row.collection, row.obs_subject_id)
        if moved and obs_id == row.obs_id and obs_id.startswith(f"{row.obs_subject_id}_{row.collection}"):
            # an id that was made of both follows them
            rest = obs_id.removeprefix(f"{row.obs_subject_id}_{row.collection}")
            obs_id = f"{text['obs_subject_id']}_{text['collection']}{rest}"
        return replace(
            row, verdict=verdict, reason=text["reason"] or "", kind=kind, collection=text["collection"] or "",
            obs_subject_id=text["obs_subject_id"] or "", obs_id=obs_id, session=text["session"],
            run=_run(key, text["run"]),
        )  # fmt: skip

    def _made(self, looks: Sequence[_Look]) -> pd.DataFrame:
        import pandas as pd

        tags = list(dict.fromkeys(tag for row in self._rows.values() for tag in row.tags))
        listed = []
        for (key, row), look in zip(self._rows.items(), looks, strict=True):
            shown = {name: getattr(row, name) for name in _EDITED}
            own = {"shape": look.shape, "spacing": look.spacing, "dtype": look.dtype, "path": row.path}
            listed.append(
                {"source": key, **shown, **own, **{t: row.tags.get(t) for t in tags if t not in own}}
            )
        columns = ["source", *_EDITED, "shape", "spacing", "dtype", "path"]
        table = pd.DataFrame(listed, columns=None if listed else columns)
        return table.astype({"run": "Int64"}).set_index("source")


def _look(row: PlanRow) -> _Look:
    """From the header; a file that cannot be read becomes a row with the reason."""
    if row.item is not None:
        shape, spacing, dtype = (getattr(row.item, name, None) for name in ("shape", "spacing", "dtype"))
        return _Look(_times(reversed(shape)) if shape else "", _times(spacing or ()), str(dtype or ""))
    if row.verdict == "error":
        return _Look()
    try:
        geometry = peek_nifti(row.path, axis4="channel" if row.channel is not None else "time")
    except RadiObjectError as error:
        row.verdict, row.reason = "error", str(error)
        return _Look()
    whole = geometry.vox_offset + geometry.nbytes
    if row.path.endswith(".nii") and (there := os.path.getsize(row.path)) < whole:
        row.verdict, row.reason = "error", f"{row.path}: expected {whole:,} bytes, got {there:,}"
    shape = geometry.shape if row.channel is None else geometry.shape[1:]
    spacing = [f"{s:.4g}" for s in geometry.affine.spacing]
    return _Look(_times(reversed(shape)), _times(spacing), str(geometry.dtype))


def _times(values: Iterable[Any]) -> str:
    return "x".join(map(str, values))


def _keys(rows: Sequence[PlanRow], root: str) -> list[str]:
    """What each row is called in the index: its path below the folder, and what tells it from others."""
    keys, seen = [], Counter[str]()
    for row in rows:
        key = os.path.relpath(row.path, root) if os.path.isabs(row.path) else row.path
        key += f"#{row.channel}" if row.channel is not None else ""
        seen[key] += 1
        keys.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
    return keys


def _name(rows: Iterable[PlanRow]) -> None:
    """Give rows without an obs_id `{subject}_{collection}`, further ones with `_acq-1` and so on."""
    rows = list(rows)
    taken = {row.obs_id for row in rows if row.obs_id}
    for row in rows:
        if row.obs_id or not row.obs_subject_id:
            continue
        name, count = f"{row.obs_subject_id}_{row.collection}", 0
        row.obs_id = name
        while row.obs_id in taken:
            count += 1
            row.obs_id = f"{name}_acq-{count}"
        taken.add(row.obs_id)


def _text(value: Any) -> str | None:
    """Text of a cell, None for what pandas holds instead of nothing."""
    import pandas as pd

    return (
        None
        if value is None or (not isinstance(value, str) and pd.isna(value)) or value == ""
        else str(value)
    )


def _run(key: str, text: str | None) -> int | None:
    try:
        return None if text is None else int(float(text))
    except ValueError as error:
        raise MetadataError(f"plan row {key!r}, run", expected="a whole number", got=repr(text)) from error
