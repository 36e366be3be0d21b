"""Files from anywhere: they execute nothing, take no memory that they do not hold, and no name leaves its folder."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from codes import archives
from codes.archives import read_arrays, read_tensors
from codes.data.dataset import SpikeDataset
from codes.data.images import check_image, image_size, read_image
from codes.engine import Journal, checkpoint
from codes.errors import InputError
from codes.motion.flow import raft_flow
from codes.networks import LDN, load
from codes.reporting.run_results import read_record
from codes.restoration.spike_file import guess


class Exploit:
    """A pickle that runs code if it is believed."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


def torch_zip(path: Path, evil: object) -> None:
    torch.save({"format": 2, "net": evil}, path)


def torch_legacy(path: Path, evil: object) -> None:
    torch.save({"format": 2, "net": evil}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path, evil: object) -> None:
    path.write_bytes(pickle.dumps(evil))


def npy(path: Path, evil: object) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([evil], object), allow_pickle=True)


def npz(path: Path, evil: object) -> None:
    with open(path, "wb") as file:
        np.savez(file, spikes=np.array([evil], object))


def state_of_a_run(path: Path) -> None:
    checkpoint.load_state(path, net=torch.nn.Linear(1, 1))


READERS = {
    "weights": lambda path: load(LDN(), path),
    "weights of RAFT": lambda path: raft_flow(path, "cpu"),
    "state of a run": state_of_a_run,
    "spikes": guess,
    "arrays": read_arrays,
}


@pytest.mark.parametrize("write", [torch_zip, torch_legacy, bare_pickle, npy, npz])
@pytest.mark.parametrize("reader", READERS)
def test_a_pickle_that_runs_code_is_refused(tmp_path, reader, write):
    path = tmp_path / ("evil.npz" if reader == "spikes" else "evil.pth")
    write(path, Exploit(tmp_path / "executed"))
    with pytest.raises(InputError, match=r"evil\.(npz|pth)"):
        READERS[reader](path)
    assert not (tmp_path / "executed").exists()


def test_the_pickle_would_run_code(tmp_path):
    """Else the tests above could not fail."""
    for write, read in (
        (torch_zip, lambda path: torch.load(path, weights_only=False)),
        (npy, lambda path: np.load(path, allow_pickle=True)),
    ):
        path, witness = tmp_path / write.__name__, tmp_path / f"{write.__name__} executed"
        write(path, Exploit(witness))
        read(path)
        assert witness.exists()


@pytest.mark.parametrize("write", [npy, bare_pickle])
def test_a_label_of_the_teacher_that_runs_code_is_refused(data, tmp_path, write):
    path = tmp_path / "labels/train/scene/000000.npy"
    path.parent.mkdir(parents=True)
    samples = SpikeDataset(data, "train", fields=("spikes", "ratios"), ratio_folder=tmp_path / "labels")
    write(path, Exploit(tmp_path / "executed"))
    with pytest.raises(InputError, match=r"labels/train/scene/000000\.npy"):
        samples[0]
    assert not (tmp_path / "executed").exists()


def test_compressed_weights_are_refused_before_they_are_unpacked(tmp_path):
    """Zeros of a gigabyte are a megabyte in a zip file; torch.save compresses nothing."""
    plain, bomb = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match=r"would unpack to 0\.000\d+ GB"):
        read_tensors(bomb)
    assert read_tensors(plain)["a"].shape == (100_000,)


def array_file(shape: tuple[int, ...], data: bytes) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue() + data


@pytest.mark.filterwarnings("error")  # numpy warns when it multiplies such sides
def test_an_array_that_says_to_be_larger_than_its_file_is_refused(tmp_path):
    for name, absurd in (("a.npy", (10**6, 10**6, 10**6)), ("b.npy", (100, 100, 100)), ("c.npy", (2**62, 4, 4))):
        (tmp_path / name).write_bytes(array_file(absurd, bytes(64)))
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("spikes.npy", array_file(absurd, bytes(64)))
        with pytest.raises(InputError, match=rf"{name}: the array says that it is \[\d+, \d+, \d+\] uint8"):
            read_arrays(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}\.npz: spikes\.npy says that it is \[\d+, \d+, \d+\] uint8"):
            read_arrays(tmp_path / f"{name}.npz")


def test_a_compressed_array_larger_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", spikes=np.zeros((137, 8, 16), np.uint8))
    with pytest.raises(InputError, match=r"bomb\.npz.*at most 1e-05 GB are read"):
        read_arrays(tmp_path / "bomb.npz")


def png_of_size(width: int, height: int) -> bytes:
    """The smallest file that says to be a picture of that size, all zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("read", [read_image, image_size, check_image])
def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path, read: Callable):
    (tmp_path / "bomb.png").write_bytes(png_of_size(30_000, 30_000))
    with pytest.raises(InputError, match=r"bomb\.png: says that it is 30000x30000; at most"):
        read(tmp_path / "bomb.png")


@pytest.mark.parametrize("sample, row", [("../../outside", "BSN"), ("scene", "/../../outside"), ("..", "/../outside")])
def test_a_name_with_dots_and_slashes_stays_in_its_folder(tmp_path, sample, row):
    journal = Journal(tmp_path / "log/run")
    (tmp_path / "log/run/step-0000001" / f"{sample} ").mkdir(parents=True)  # where such a name would lead through
    journal.picture(1, sample, row, torch.zeros(3, 8, 8))
    journal.table(1, {row: {"psnr": 1.0}}, [{"sample": sample, "output": row, "psnr": 1.0}])
    written = [path for path in tmp_path.rglob("*.png")]
    assert [path.parent for path in written] == [tmp_path / "log/run/step-0000001"]
    record = read_record(tmp_path / "log/run")
    assert record.samples() == [sample] and list(record.outputs(sample)) == [row]


def test_a_changed_bit_among_the_weights_is_named(tmp_path):
    """A flipped bit leaves a weight finite: only the checksum of the archive tells."""
    path = tmp_path / "LDN.pth"
    torch.save(LDN().state_dict(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged in .* checksum"):
        load(LDN(), path)
