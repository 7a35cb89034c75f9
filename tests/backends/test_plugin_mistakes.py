"""What `BackendTests` finds: tests/plugin with one mistake at a time, and gaps that are declared."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "tests" / "plugin" / "npy_backend.py").read_text()
PAGE = ROOT / "docs" / "writing-a-backend.md"

# (mistake as docs/writing-a-backend.md calls it, the test that finds it, what is written instead of what)
MISTAKES: list[tuple[str, str, dict[str, str]]] = [
    (
        "the manifest is not written last",
        "test_nothing_is_openable_before_finish",
        {
            "        del self._missing[level][box]\n": (
                "        del self._missing[level][box]\n"
                '        self._send(MANIFEST, sealed({**self._manifest, "files": {}}, self._where))\n'
            )
        },
    ),
    (
        "`finish` does not count the shards",
        "test_finish_refuses_while_a_shard_is_missing",
        {"if not self._open or any(self._missing):": "if not self._open:"},
    ),
    (
        "a shard may be written twice",
        "test_a_writer_refuses_what_is_no_shard_or_comes_twice",
        {"        del self._missing[level][box]\n": ""},
    ),
    (
        "a writer goes on after `abort`",
        "test_abort_leaves_nothing_openable",
        {"            self._open = False\n            self._storage": "            self._storage"},
    ),
    (
        "a taken path is written over",
        "test_a_taken_path_is_refused_and_untouched",
        {'if self.storage.size(f"{path}/{MANIFEST}") is not None:': "if not path:"},
    ),
    (
        "`delete_volume` removes the manifest and leaves the rest",
        "test_delete_removes_every_object_and_may_be_repeated",
        {"        self.storage.delete_tree(path)\n": ""},
    ),
    (
        "only sizes are checked",
        "test_damage_is_an_error_and_never_a_wrong_voxel",
        {
            'if [len(data), google_crc32c.value(data)] != self._known("files").get(name):': (
                'if len(data) != self._known("files")[name][0]:'
            )
        },
    ),
    (
        "a missing file is read as zeros",
        "test_damage_is_an_error_and_never_a_wrong_voxel",
        {
            "            if part.size:\n": (
                "            block[part.shift([-n for n in box.start]).slices] = 0\n"
                '            if self._storage.size(f"{self._path}/levels/{path}/{number}.npy"):\n'
            )
        },
    ),
    (
        "a cache answers in place of the files",
        "test_damage_is_an_error_and_never_a_wrong_voxel",
        {
            'MANIFEST = "manifest.json"\n': 'MANIFEST = "manifest.json"\nCACHE = {}\n',
            "        self._objects.append(": "        CACHE[name] = data\n        self._objects.append(",
            "        data = self._storage.read(": "        data = CACHE.get(name) or self._storage.read(",
        },
    ),
    (
        "the manifest has whole paths",
        "test_a_volume_is_its_objects_wherever_they_stand",
        {
            "{o.path: [o.bytes": '{f"{self._path}/{o.path}": [o.bytes',
            'if f"extras/{name}" not in': 'if f"{self._path}/extras/{name}" not in',
            '.get(name):\n            where = f"{self.uri}': (
                '.get(f"{self._path}/{name}"):\n            where = f"{self.uri}'
            ),
        },
    ),
    (
        "`finish` does not name the manifest",
        "test_stored_objects_have_the_size_and_crc_that_finish_says",
        {"tuple(self._objects))": "tuple(self._objects[:-1]))"},
    ),
    (
        "the hint names the volume",
        "test_alike_volumes_share_a_hint",
        {
            '{"levels": to_hint(levels),': '{"levels": to_hint(levels).replace('
            '\'"path"\', f\'"of": {json.dumps(path)}, "path"\'),'
        },
    ),
    (
        "a handle reads before it is asked",
        "test_a_hint_opens_without_a_request",
        {
            "            return NpyHandle(self.storage, path, hint)\n": (
                "            return NpyHandle(self.storage, path, hint, read_manifest(self.storage, path))\n"
            )
        },
    ),
    (
        "`read` gives a view of what it keeps",
        "test_a_read_is_owned_writable_and_in_native_c_order",
        {"        return block\n": "        block.flags.writeable = False\n        return block\n"},
    ),
    (
        "NumPy cuts what lies outside",
        "test_a_box_outside_is_refused",
        {"        spec.check(box)\n": ""},
    ),
    (
        "`attrs` are handed out, not copied",
        "test_attrs_come_back_and_cannot_be_changed_from_outside",
        {'return copy.deepcopy(self._known("attrs"))': 'return self._known("attrs")'},
    ),
    (
        "a handle holds a lock or an open file",
        "test_handles_and_backends_pickle",
        {
            "    def __reduce__(": "    def _reduce(",
            "        self.spec =": '        self._lock = __import__("threading").Lock()\n        self.spec =',
        },
    ),
]

TESTS = """
import pytest
from radiobject.location import Location
from radiobject.testing import BackendTests, Quirks


class Ground(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return self.kind(Location(tmp_path))

    @pytest.fixture
    def reopen(self, backend):
        return lambda: self.kind(backend.location)

"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Outcomes of tests, by class and test: Right is the plug-in as it is, Wrong<n> one with mistake n."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "right.py").write_text(SOURCE)
    text, wanted = TESTS, set()
    kinds = [("Right", "right", "")]
    gap = 'quirks = Quirks({"test_alike_volumes_share_a_hint": "the hint names the volume"})'
    number = next(n for n, (name, *_) in enumerate(MISTAKES) if name == "the hint names the volume")
    kinds += [("DeclaredGap", f"wrong{number}", gap), ("MendedGap", "right", gap)]
    wanted |= {f"Test{kind}::test_alike_volumes_share_a_hint" for kind in ("DeclaredGap", "MendedGap")}
    for n, (name, test, changes) in enumerate(MISTAKES):
        changed = SOURCE
        for old, new in changes.items():
            assert changed.count(old) == 1, (name, old)
            changed = changed.replace(old, new)
        (folder / f"wrong{n}.py").write_text(changed)
        kinds.append((f"Wrong{n}", f"wrong{n}", ""))
        wanted |= {f"TestWrong{n}::{test}", f"TestRight::{test}"}
    for kind, module, more in kinds:
        text += f"import {module}\nclass Test{kind}(Ground):\n    kind = {module}.NpyBackend\n    {more}\n\n"
    (folder / "test_all.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    done = subprocess.run(
        [*command, *(f"test_all.py::{test}" for test in sorted(wanted))],
        cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found: dict[str, set[str]] = {}
    for outcome, test in re.findall(
        r"^(PASSED|FAILED|XFAIL|ERROR) test_all.py::(\w+::\w+)", done.stdout, re.M
    ):
        found.setdefault(test, set()).add(outcome)
    assert found.keys() == wanted, done.stdout[-3000:] + done.stderr
    return found


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[name for name, *_ in MISTAKES])
def test_the_suite_finds_it(outcomes: dict[str, set[str]], number: int) -> None:
    _, test, _ = MISTAKES[number]
    assert outcomes[f"TestRight::{test}"] == {"PASSED"}
    assert "FAILED" in outcomes[f"TestWrong{number}::{test}"]


def test_a_declared_gap_fails_as_expected_and_must_be_there(outcomes: dict[str, set[str]]) -> None:
    assert outcomes["TestDeclaredGap::test_alike_volumes_share_a_hint"] == {"XFAIL"}
    assert outcomes["TestMendedGap::test_alike_volumes_share_a_hint"] == {"FAILED"}


def test_the_page_lists_these_mistakes() -> None:
    listed = re.findall(r"^\| ([^|]+) \| `(test_\w+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert listed == [(name, test) for name, test, _ in MISTAKES]


def test_the_page_shows_the_plug_in_as_it_is() -> None:
    text = PAGE.read_text()
    assert f"```python\n{SOURCE}```\n" in text
    for name, fence in (("test_npy_backend.py", ""), ("pyproject.toml", "toml")):
        assert f"```{fence}\n{(ROOT / 'tests' / 'plugin' / name).read_text()}```\n" in text, name
