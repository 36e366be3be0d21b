"""Fingerprints follow content alone: not names of folders, not times; and unchanged files are not read twice."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from codes.data import fingerprint as module
from codes.data.fingerprint import changes, combined, fingerprint, source_fingerprint
from codes.errors import InputError

YEAR_2000 = 946684800


@pytest.fixture
def files(tmp_path, monkeypatch) -> dict[str, Path]:
    """Three files, and a clock that is a minute ahead: they count as settled."""
    clock = module.time_ns
    monkeypatch.setattr(module, "time_ns", lambda: clock() + 60 * 10**9)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = {f"spike_data/scene/{name}.dat": tmp_path / f"set/spike_data/scene/{name}.dat" for name in ("a", "b", "c")}
    for number, path in enumerate(found.values()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 3_000_000)
    return found


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The files that are read, in the order in which they are."""
    names, digest = [], module._digest

    def noted(path: str) -> str:
        names.append(Path(path).stem)
        return digest(path)

    monkeypatch.setattr(module, "_digest", noted)
    return names


def rewritten_in_place(path: Path, content: bytes) -> None:
    """Write other content of the same size into the same inode, and restore the time of modification."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def replaced(path: Path, content: bytes) -> None:
    """Put another file of the same size and time of modification in its place, as `cp -p` and `mv` do."""
    before, other = path.stat(), path.with_suffix(".new")
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


def test_digests_are_sha256_of_the_content(files):
    for name, digest in fingerprint(files).items():
        assert digest == hashlib.sha256(files[name].read_bytes()).hexdigest()[:32]


def test_unchanged_files_are_read_once(files, read):
    first = fingerprint(files)
    assert sorted(read) == ["a", "b", "c"]
    assert fingerprint(files) == first and len(read) == 3


@pytest.mark.parametrize("change", [rewritten_in_place, replaced])
def test_content_changed_at_equal_size_and_time_is_read_and_named(files, read, change):
    before, path = fingerprint(files), files["spike_data/scene/b.dat"]
    change(path, b"x" * path.stat().st_size)
    now = fingerprint(files)
    assert read[3:] == ["b"] and changes(before, now) == "spike_data/scene/b.dat changed"
    assert combined(before) != combined(now)


def test_a_file_that_was_just_written_is_not_cached(tmp_path, read):
    """A second change within the resolution of its time stamps would go unnoticed."""
    path = tmp_path / "young.dat"
    path.write_bytes(b"one")
    fingerprint({"young": path})
    fingerprint({"young": path})
    assert read == ["young", "young"]


def test_a_moved_data_set_keeps_its_fingerprint(files, tmp_path):
    before = fingerprint(files)
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    moved = {name: tmp_path / "elsewhere" / name for name in files}
    for path in moved.values():
        os.utime(path, (YEAR_2000, YEAR_2000))
    assert fingerprint(moved) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_cache_is_computed_anew(files, read, damage):
    first = fingerprint(files)
    (cached,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json")
    cached.write_bytes(damage)
    assert fingerprint(files) == first and len(read) == 6
    assert fingerprint(files) == first and len(read) == 6
    assert len(json.loads(cached.read_bytes())) == 3


@pytest.mark.parametrize("place", ["file", "relative", ""])
def test_without_a_place_for_the_cache_files_are_read_again(files, read, monkeypatch, tmp_path, place):
    """A cache that cannot be written; a path that the standard does not allow; a user without a home directory."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if place == "file" else place)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert fingerprint(files) == fingerprint(files) and len(read) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "set"]


def test_a_missing_file_is_named(files):
    files["spike_data/scene/b.dat"].unlink()
    with pytest.raises(InputError, match=r"scene/b\.dat: missing"):
        fingerprint(files)


def test_changes_are_counted_beyond_the_first_three():
    before, now = {"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1", "e": "1"}
    assert changes(before, now) == "a missing, b changed, d added, and 1 more" and changes(now, now) == ""


def test_source_code_counts_without_its_comments_and_docstrings(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    package = tmp_path / "package"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir()
    (package / "__init__.py").write_text("")
    one, other = package / "one.py", package / "other.py"
    one.write_text('"""Doc."""\nfrom package import other\n\ndef f(x):\n    """Double."""\n    return 2 * x\n')
    other.write_text("LIMIT = 3  # why\n")

    def found() -> dict[str, str]:
        module._parsed.cache_clear()
        return source_fingerprint("package.one")

    first = found()
    assert list(first) == ["package", "package.one", "package.other"]
    one.write_text("from package import other  # used\n\n\ndef f(x):\n    return (2\n            * x)\n")
    assert found() == first
    other.write_text("LIMIT = 4\n")
    assert changes(first, found()) == "package.other changed"
    one.write_text("from package import other\n\ndef f(x):\n    return 3 * x\n")
    assert changes(first, found()) == "package.one changed, package.other changed"


def test_source_code_of_the_teachers_holds_what_they_compute_with():
    found = source_fingerprint("codes.distillation.teachers")
    assert {"codes.motion.super_resolution", "codes.physics.sdm", "codes.data.spikes"} <= found.keys()
    assert not any(name.startswith(("codes.reporting", "scripts")) for name in found)
