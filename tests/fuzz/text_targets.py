"""Targets that come from outside a study: filters, and NIfTI files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa

from radiobject.errors import RadiObjectError
from radiobject.format.pruning import rows_where
from radiobject.ingest.loading import load
from radiobject.ingest.nifti import peek_nifti, read_nifti, says_labels
from radiobject.model.expression import compile_expression, names_in
from radiobject.writing.loaded import with_scaled_dtype
from tests.fuzz.mutation import changed_bytes

__all__ = ["Filters", "NiftiFiles"]


class Filters:
    """Filters made by a grammar, spoilt by a few characters, and any characters at all."""

    def prepare(self, place: Path) -> None:
        """A filter that is one."""
        (place / "filter").write_bytes(b"age > 40 and dx == 'AD'")

    def open(self, place: Path) -> None:
        """Rows of every type that a table holds."""
        self.place = place
        self.rows = pa.table(
            {
                "age": pa.array([1, None, 90, -5], pa.int64()),
                "score": pa.array([0.5, float("nan"), None, float("inf")]),
                "dx": ["AD", None, "", "C'N"],
                "smoker": [True, False, None, True],
                "seen": pa.array([0, 10**6, None, 5], pa.timestamp("us")),
                "site": pa.array(["x", "y", None, "x"]).dictionary_encode(),
                "day": pa.array([0, 20_000, None, 5], pa.date32()),
                "box": pa.array([[1], [], None, [2, 3]], pa.list_(pa.int32())),
                "small": pa.array([0, 255, None, 7], pa.uint8()),
            }
        )
        self.columns = dict(zip(self.rows.column_names, self.rows.schema.types, strict=True))

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """A text, kept so that lone surrogates survive."""
        what = rng.random()
        if what < 0.55:
            text = _condition(rng, rng.randint(0, 4))
        elif what < 0.8:
            text = _spoilt(rng, _condition(rng, rng.randint(0, 3)))
        else:
            kinds = ((0, 127), (32, 126), (0, 0x10FFFF), (0x2000, 0x206F), (0xD7F0, 0xE000))
            text = "".join(chr(rng.randint(*rng.choice(kinds))) for _ in range(rng.randint(0, 60)))
        return {"filter": text.encode("utf-8", "surrogatepass")}

    def look(self) -> None:
        """A filter that compiles keeps rows of the table."""
        text = (self.place / "filter").read_bytes().decode("utf-8", "surrogatepass")
        names = names_in(text)
        expression = compile_expression(text, self.columns, table="obs")
        kept = rows_where(self.rows, expression, "the filter")
        assert isinstance(names, set | frozenset | list | tuple)
        assert all(0 <= n < self.rows.num_rows for n in kept)


_COLUMNS = (
    "age",
    "score",
    "dx",
    "smoker",
    "seen",
    "site",
    "day",
    "box",
    "small",
    "obs.age",
    "nothing",
    "obs.dx.x",
)
_VALUES = (
    "0", "1", "-1", "40", "0.5", "1e400", "9223372036854775807", "9223372036854775808", "256", "nan", "inf",
    "-9223372036854775808", "'AD'", "''", '"x"', "'C\\'N'", "None", "True", "False", "date('2020-01-01')",
    "date('x')", "date('99999-01-01')", "1_000", "0x10", "'\\u00e9'", "'2020-02-30'", "1j", "b'x'", "...",
    "date('1677-01-01')",
)  # fmt: skip


def _condition(rng: Random, depth: int) -> str:
    if depth > 0:
        left, right = _condition(rng, depth - 1), _condition(rng, depth - 1)
        return rng.choice(
            (f"{left} and {right}", f"{left} or {right}", f"not {left}", f"({left})", f"not ({left})",
             f"{left} == {right}")
        )  # fmt: skip
    if rng.random() < 0.75:
        return _fitting(rng)
    a, b = _value(rng), _value(rng)
    several = ", ".join(_value(rng) for _ in range(rng.randint(0, 4)))
    return rng.choice(
        (f"{a} {rng.choice(_SIGNS)} {b}", f"{a} {rng.choice(_SIGNS)} {b} {rng.choice(_SIGNS)} {_value(rng)}",
         f"{a} in [{several}]", f"{a} not in ({several})", f"{a} is None", f"{a} is not {b}", a,
         f"{rng.choice(_FUNCTIONS)}({a}, {b})", f"{rng.choice(_FUNCTIONS)}({a}, '{rng.choice(_PATTERNS)}')")
    )  # fmt: skip


def _fitting(rng: Random) -> str:
    """A condition whose types agree, with values at their edges."""
    columns, values = rng.choice(_FITTING)
    a, b, c = rng.choice(columns), rng.choice(values), rng.choice(values + columns)
    if rng.random() < 0.2 and values is _NUMBERS:
        a = f"({a} {rng.choice('+-*/%')} {c})"
    sign = rng.choice(_SIGNS[:6])
    several = ", ".join(rng.choice(values) for _ in range(rng.randint(1, 5)))
    return rng.choice(
        (f"{a} {sign} {b}", f"{b} {sign} {a} {sign} {c}", f"{a} in [{several}]", f"{a} not in [{several}]",
         f"{a} is None", f"{a} is not None", f"{a} {sign} {rng.choice(columns)}",
         f"{rng.choice(('contains', 'matches', 'startswith'))}(dx, '{rng.choice(_PATTERNS)}')")
    )  # fmt: skip


_NUMBERS = (
    "0",
    "1",
    "-1",
    "0.5",
    "1e308",
    "-1e-320",
    "9223372036854775807",
    "-9223372036854775808",
    "255",
    "256",
)
_TEXTS = ("'AD'", "''", "'x'", "'C\\'N'", "'\u00e9'", "'\U0001f600'")
_DATES = (
    "date('2020-01-01')",
    "date('1677-09-21')",
    "date('9999-12-31')",
    "date('0001-01-01')",
    "'2020-01-01'",
)
_FITTING = (
    (("age", "score", "small", "obs.age"), _NUMBERS),
    (("dx", "site"), _TEXTS),
    (("seen", "day"), _DATES),
    (("smoker",), ("True", "False")),
)


def _value(rng: Random) -> str:
    one = rng.choice(_COLUMNS + _VALUES if rng.random() < 0.5 else _COLUMNS[:9])
    if rng.random() < 0.15:
        return f"{one} {rng.choice('+-*/%')} {rng.choice(_VALUES + _COLUMNS)}"
    return f"-{one}" if rng.random() < 0.05 else one


_SIGNS = ("==", "!=", "<", "<=", ">", ">=", "is", "in", "=", "<>", "//", "**")
_FUNCTIONS = ("contains", "matches", "startswith", "endswith", "isnull", "date", "lower", "len", "f")
_PATTERNS = (
    "a",
    "^A.$",
    "(a*)*b",
    "[",
    "\\\\",
    "(?i)ad",
    "(?P<n>a)",
    "x{1000}",
    "\\\\1",
    "(?=a)",
    "\u00e9",
    "%",
    "",
)


def _spoilt(rng: Random, text: str) -> str:
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        more = rng.choice(
            (
                "",
                "(",
                ")",
                "'",
                '"',
                "\\",
                "\n",
                "\0",
                "#",
                ".",
                "[",
                "\ud800",
                "\uff41",
                "\u202e",
                " or ",
                ":=",
            )
        )
        text = text[:at] + more + text[at + rng.randint(0, 3) :]
    return text * rng.choice((1, 1, 1, 1, 30))


class NiftiFiles:
    """Headers, extensions and gzip streams, of files and pairs, of NIfTI-1 and -2 in both byte orders."""

    def prepare(self, place: Path) -> None:
        """One file of each kind."""
        rng = np.random.default_rng(3)
        (place / "sound").mkdir()
        array = rng.integers(0, 100, (7, 6, 5), dtype=np.int16)
        for version, order in ((1, "<"), (1, ">"), (2, "<"), (2, ">")):
            for shape in ((7, 6, 5), (7, 6, 5, 2), (7, 6, 5, 1, 3)):
                kind = getattr(nibabel, f"nifti{version}")
                header = getattr(kind, f"Nifti{version}Header")(endianness=order)
                header.set_data_shape(shape)
                header.set_data_dtype(array.dtype.newbyteorder(order))
                header.set_sform(np.diag([2.0, 2.5, 3.0, 1.0]), 1)
                header["scl_slope"], header["scl_inter"], header["xyzt_units"] = 2, -3, 2 | 8
                voxels = np.resize(array, shape).astype(array.dtype.newbyteorder(order)).tobytes()
                ending = f"{version}{'le' if order == '<' else 'be'}{len(shape)}"
                label = (
                    b"\1\0\0\0"
                    + np.array([48, 30], order + "i4").tobytes()
                    + b"<CaretExtension/>".ljust(40, b"\0")
                )
                single = header.copy()
                single["vox_offset"] = header.sizeof_hdr + len(label)
                whole = single.binaryblock + label + voxels
                (place / "sound" / f"{ending}.nii").write_bytes(whole)
                (place / "sound" / f"{ending}.nii.gz").write_bytes(gzip.compress(whole, mtime=0))
                pair = getattr(kind, f"Nifti{version}PairHeader")(endianness=order)
                for field in (
                    "dim",
                    "datatype",
                    "bitpix",
                    "pixdim",
                    "srow_x",
                    "srow_y",
                    "srow_z",
                    "sform_code",
                ):
                    pair[field] = header[field]
                (place / "sound" / f"{ending}.hdr").write_bytes(pair.binaryblock)
                (place / "sound" / f"{ending}.img").write_bytes(voxels)
        self._write(place, "a.nii", (place / "sound" / "1le3.nii").read_bytes())

    @staticmethod
    def _write(place: Path, name: str, data: bytes) -> None:
        (place / name).write_bytes(data)
        (place / "name").write_text(json.dumps({"name": name, "exact": False, "sound": "1le3.nii"}))

    def open(self, place: Path) -> None:
        """The sound files."""
        self.place = place
        self.sound = {p.name: p.read_bytes() for p in sorted((place / "sound").iterdir())}

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """One file; of a pair either; of a gzipped one its content or its stream."""
        name = rng.choice(list(self.sound))
        data, stem = self.sound[name], name[:4]
        ending = name.removeprefix(stem)
        made = {}
        exact = False
        if ending == ".nii.gz" and rng.random() < 0.6:
            data, exact = changed_bytes(rng, data), True
        elif ending == ".nii.gz":
            data = gzip.compress(_header(rng, gzip.decompress(data)), mtime=0)
        elif ending == ".img":
            made["a.hdr"] = self.sound[f"{stem}.hdr"]
            data = changed_bytes(rng, data)
        else:
            data = _header(rng, data)
        if ending == ".hdr":
            made["a.img"] = self.sound[f"{stem}.img"]
            if rng.random() < 0.2:
                data = changed_bytes(rng, gzip.compress(data))
        made[f"a{ending}"] = data
        made["name"] = json.dumps({"name": f"a{ending}", "exact": exact, "sound": name}).encode()
        return made

    def look(self) -> None:
        """Geometry from the start, the whole file, and the volume as it would be stored, all of one mind."""
        said = json.loads((self.place / "name").read_text())
        path = self.place / said["name"]
        errors = []
        for axis4 in ("auto", "time"):
            try:
                self._look(path, said, axis4)
            except RadiObjectError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _look(self, path: Path, said: Mapping[str, Any], axis4: Any) -> None:
        start, whole = peek_nifti(path, axis4=axis4), read_nifti(path, axis4=axis4)
        says_labels(path)
        assert whole.voxels.shape == whole.shape == start.shape
        assert whole.voxels.dtype == whole.dtype == start.dtype
        assert whole.voxels.flags.c_contiguous
        assert whole.voxels.dtype.isnative
        assert np.isfinite(whole.affine.matrix).all()
        if said["exact"]:
            truth = read_nifti(self.place / "sound" / said["sound"], axis4=axis4)
            assert np.array_equal(whole.voxels, truth.voxels), "voxels that nobody stored"
        with np.errstate(all="ignore"):
            loaded = with_scaled_dtype(load(str(path), path.name, "image", axis4=axis4))
        assert loaded is not None


_OFFSETS = (
    0, 4, 16, 40, 42, 44, 46, 48, 50, 68, 70, 72, 76, 80, 84, 88, 92, 108, 112, 116, 123, 124, 252, 254, 256,
    280, 284, 296, 312, 344, 348, 352, 504, 540,
)  # fmt: skip
"""Of fields of either version that decide how much is read, and as what."""
_FIELDS = (
    b"\0\0", b"\xff\xff", b"\1\0", b"\0\1", b"\xff\x7f", b"\x7f\xff", b"\0\0\x80\x7f", b"\0\0\xc0\x7f",
    b"\x7f\x80\0\0", b"\xff\xff\x7f\x7f", b"\0\0\0\x80",
)  # fmt: skip


def _header(rng: Random, data: bytes) -> bytes:
    """Mostly the header's fields; sometimes any byte."""
    if rng.random() < 0.5:
        return changed_bytes(rng, data, 0, 348)
    made = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, raw = rng.choice(_OFFSETS), rng.choice((*_FIELDS, rng.randbytes(4), rng.randbytes(8)))
        made[at : at + len(raw)] = raw[: max(len(made) - at, 0)]
    return bytes(made)
