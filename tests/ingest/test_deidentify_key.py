"""The key of pseudonyms: where it is looked for, that it is made once, and that it shows itself to nobody."""

from __future__ import annotations

import logging
import os
import pickle
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from radiobject.errors import ConfigError, StorageError
from radiobject.ingest.deidentify import Deidentifier, DeidKey, find_key
from radiobject.ingest.deidentify.key import VARIABLE, key_path

SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of nobody, without a key in its environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_the_id_of_a_key_stays_what_it_is() -> None:
    assert DeidKey(SECRET).id == "116b4852f3461f03"
    assert DeidKey(bytes(32)).id == "cbd9cb908d55aefd"


@pytest.mark.parametrize("secret", [b"", bytes(31)])
def test_a_short_key_is_refused(secret: bytes) -> None:
    with pytest.raises(ConfigError, match="expected 32 bytes or more"):
        find_key(secret)


def test_a_key_is_bytes_or_text_or_a_file(home: Path) -> None:
    file = home / "project.key"
    file.write_text(SECRET.hex().upper() + "\n")
    file.chmod(0o600)
    for given in (SECRET, SECRET.hex(), f" {SECRET.hex()}\n", str(file), file):
        assert find_key(given) == DeidKey(SECRET)
    assert find_key(SECRET + b"more").id != DeidKey(SECRET).id


def test_an_argument_wins_over_the_environment_and_that_over_the_users_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = find_key()
    file = home / "project.key"
    file.write_text(OTHER.hex())
    file.chmod(0o600)
    for text in (OTHER.hex(), str(file)):
        monkeypatch.setenv(VARIABLE, text)
        assert find_key() == DeidKey(OTHER)
        assert find_key(SECRET) == DeidKey(SECRET)
    monkeypatch.delenv(VARIABLE)
    assert find_key() == made


def test_a_file_is_made_once_for_its_owner_alone_and_its_path_is_told(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = os.umask(0)
    try:
        key = find_key()
    finally:
        os.umask(before)
    path = Path(key_path())
    assert path == home / "config" / "radiobject" / "deid.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["deid.key"]
    assert find_key() == key
    told = [r for r in caplog.records if str(path) in r.getMessage()]
    assert [r.levelno for r in told] == [logging.WARNING]
    assert path.read_text().strip() not in caplog.text


def test_a_relative_config_folder_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    monkeypatch.setenv("HOME", str(home))
    assert key_path() == str(home / ".config" / "radiobject" / "deid.key")


def test_processes_that_find_no_key_at_once_agree_on_one(home: Path) -> None:
    # Once for each of many homes: whoever comes late reads, which is quicker than to make, and catches up.
    code = """
import os, sys
from radiobject.ingest.deidentify import find_key
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    os.environ["XDG_CONFIG_HOME"] = os.path.join(sys.argv[1], str(number))
    print(find_key().id)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate() for process in running]
    assert ends[0][0] == ends[1][0]
    assert len(set(ends[0][0].split())) == 60
    assert sum(errors.count("made a key") for _, errors in ends) == 60


def test_a_key_that_others_can_read_is_warned_about_once(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = home / "open.key"
    file.write_text(SECRET.hex())
    file.chmod(0o644)
    find_key(file)
    find_key(file)
    assert [r.getMessage() for r in caplog.records] == [
        f"key file {file} can be read by others: chmod 600 {file}"
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SECRET.hex()[:-1], "got 63 hexadecimal digits"),
        (SECRET.hex()[:40], "got 40 hexadecimal digits"),
        ("nowhere.key", "got 'nowhere.key', where no file is"),
        (7, "got int"),
    ],
)
def test_what_is_no_key_is_an_error_that_does_not_repeat_it(given: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_key(given)  # type: ignore[arg-type]
    assert said in str(caught.value)
    # nor does the traceback, in which the system's own error would name it as a file
    assert SECRET.hex()[:40] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [b"", b"not a key", SECRET, SECRET.hex().encode() * 100])
def test_a_file_that_holds_no_key_is_an_error_that_names_it(home: Path, content: bytes) -> None:
    file = home / "bad.key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"key file .*bad\.key: expected 64 or more hexadecimal digits"):
        find_key(file)


def test_a_key_that_cannot_be_made_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "file"))
    with pytest.raises(StorageError, match=f"Pass deid_key=, or set .{VARIABLE}"):
        find_key()


def test_neither_text_nor_fields_show_the_key() -> None:
    key = DeidKey(SECRET)
    deid = Deidentifier(key, deid_map={"MRN-77": "sub-01"})
    for thing in (key, deid):
        for text in (repr(thing), str(thing), f"{thing!s}"):
            assert SECRET.hex() not in text
            assert repr(SECRET) not in text
            assert "MRN-77" not in text
        assert not hasattr(thing, "__dict__")  # what asdict, vars and their like would show
    assert SECRET.hex() not in deid.fingerprint


def test_a_pickle_gives_the_same_key_to_a_worker() -> None:
    key = DeidKey(SECRET)
    assert pickle.loads(pickle.dumps(key)) == key
    assert hash(pickle.loads(pickle.dumps(key))) == hash(key)
    assert key != DeidKey(OTHER)
