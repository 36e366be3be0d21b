"""Damaged pictures are refused wherever the damage lies; intact ones decode as OpenCV does, bit for bit."""

import io
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from codes.data.images import check_image, image_size, read_image
from codes.errors import InputError
from codes.simulation.demo_scenes import photograph

SCENE = photograph("astronaut.png", None)[100:356, 100:420]
ENCODINGS = {
    "OpenCV": {},
    "optimised tables": {"quality": 75, "optimize": True},
    "progressive": {"quality": 90, "progressive": True},
    "restart markers": {"quality": 90, "restart_marker_rows": 1},
    "no subsampling": {"quality": 95, "subsampling": 0},
}


def jpeg(encoding: str = "OpenCV") -> bytes:
    if encoding == "OpenCV":
        return cv2.imencode(".jpg", SCENE)[1].tobytes()
    file = io.BytesIO()
    Image.fromarray(SCENE[..., ::-1]).save(file, "JPEG", **ENCODINGS[encoding])
    return file.getvalue()


def png() -> bytes:
    return cv2.imencode(".png", SCENE)[1].tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zeroed(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + bytes(size) + data[at + size :]


def missing(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + data[at + size :]


def places(data: bytes, size: int, count: int = 40) -> list[int]:
    """Spread `count` places over the entropy-coded data of a JPEG."""
    first = data.index(b"\xff\xda") + 20
    return np.linspace(first, len(data) - size - 20, count).astype(int).tolist()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_intact_jpeg_is_what_opencv_decodes(tmp_path, encoding):
    path = write(tmp_path / "a.jpg", jpeg(encoding))
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))
    assert check_image(path) == (256, 320)


@pytest.mark.parametrize("encoding", [encoding for encoding in ENCODINGS if encoding != "progressive"])
@pytest.mark.parametrize("size", [32, 200, 2000])
def test_zeroed_bytes_of_a_jpeg_are_found_everywhere(tmp_path, encoding, size):
    data = jpeg(encoding)
    for at in places(data, size):
        with pytest.raises(InputError, match=r"a\.jpg: the data of the JPEG are damaged"):
            read_image(write(tmp_path / "a.jpg", zeroed(data, at, size)))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("damage", [missing, zeroed])
def test_a_thousand_damaged_bytes_are_found_nearly_everywhere_or_do_no_harm(tmp_path, encoding, damage):
    """Rarely decoding falls into step again with the right number of blocks; late scans refine what is there."""
    data, unnoticed = jpeg(encoding), 0
    for at in places(data, 1000):
        try:
            image = read_image(write(tmp_path / "a.jpg", damage(data, at, 1000)))
            unnoticed += cv2.PSNR(image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)) < 35
        except InputError:
            pass
    assert unnoticed <= 1


@pytest.mark.parametrize(("encoding", "least"), [("OpenCV", 34), ("optimised tables", 38), ("restart markers", 30)])
def test_64_missing_bytes_leave_blocks_that_no_encoder_writes(tmp_path, encoding, least):
    """By the number of blocks alone libjpeg refuses 13, 35 and 21 of the 40 places.

    Huffman codes fall into step again; the blocks that follow are brighter or darker by what is missing.
    """
    data, refused = jpeg(encoding), 0
    for at in places(data, 64):
        try:
            read_image(write(tmp_path / "a.jpg", missing(data, at, 64)))
        except InputError:
            refused += 1
    assert refused >= least


@pytest.mark.parametrize(("quality", "least"), [(97, 34), (100, 36)])
def test_missing_bytes_are_found_at_the_highest_qualities(tmp_path, quality, least):
    """Quantisation steps of 1 cannot be halved: libjpeg refuses 12 and 30 of the 40 places, and clips the rest."""
    file, refused = io.BytesIO(), 0
    Image.fromarray(SCENE[..., ::-1]).save(file, "JPEG", quality=quality)
    data = file.getvalue()
    for at in places(data, 64):
        try:
            read_image(write(tmp_path / "a.jpg", missing(data, at, 64)))
        except InputError:
            refused += 1
    assert refused >= least


@pytest.mark.parametrize("scans", [1, 4, 7, 9])
def test_a_progressive_jpeg_without_its_last_scans_is_refused(tmp_path, scans):
    """Its end marker may have been added by a tool that repairs files: what is there is a valid, blurry picture."""
    data = jpeg("progressive")
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    assert len(starts) == 10
    with pytest.raises(InputError, match=r"a\.jpg: the data of the JPEG are damaged \(scans are missing\)"):
        read_image(write(tmp_path / "a.jpg", data[: starts[scans]] + b"\xff\xd9"))


def test_pictures_of_extreme_contrast_are_intact(tmp_path):
    """Blocks of saturated colours and of black and white are at the limits of what is possible."""
    rng = np.random.default_rng(0)
    for size in (1, 5, 16):
        colours = np.kron(rng.integers(0, 2, (80 // size, 112 // size, 3)) * 255, np.ones((size, size, 1)))
        for quality in (10, 50, 75, 95, 100):
            for options in ({}, {"progressive": True}, {"subsampling": 0}):
                Image.fromarray(colours.astype(np.uint8)).save(tmp_path / "a.jpg", quality=quality, **options)
                Image.fromarray(colours[..., 0].astype(np.uint8)).save(tmp_path / "b.jpg", quality=quality)
                assert read_image(tmp_path / "a.jpg").shape == colours.shape == read_image(tmp_path / "b.jpg").shape


def test_flat_pictures_with_long_runs_of_zero_bits_are_intact(tmp_path):
    for value in (0, 128, 255):
        for options in ({}, {"optimize": True}, {"progressive": True}):
            flat = Image.new("RGB", (256, 256), (value,) * 3)
            flat.save(tmp_path / "a.jpg", **options)
            assert read_image(tmp_path / "a.jpg").mean() == pytest.approx(value, abs=1)


def test_damage_anywhere_in_a_png_is_found(tmp_path):
    data = png()
    for at in np.linspace(8, len(data) - 13, 60).astype(int):
        changed = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        with pytest.raises(InputError, match=r"a\.png: "):
            read_image(write(tmp_path / "a.png", changed))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("lost", ["first", "middle", "last", "all"])
def test_a_png_without_some_of_its_data_is_refused(tmp_path, lost):
    """Every chunk that is left has its checksum."""
    compressed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in SCENE))
    parts = [chunk(b"IDAT", compressed[at : at + 8000]) for at in range(0, len(compressed), 8000)]
    whole = list(parts)
    del parts[{"first": slice(0, 1), "middle": slice(5, 6), "last": slice(-1, None), "all": slice(None)}[lost]]
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 256, 8, 2, 0, 0, 0))
    assert read_image(write(tmp_path / "a.png", start + b"".join(whole) + chunk(b"IEND", b""))).shape == SCENE.shape
    with pytest.raises(InputError, match=r"a\.png: the data of the PNG are damaged|a\.png: not a readable picture"):
        read_image(write(tmp_path / "a.png", start + b"".join(parts) + chunk(b"IEND", b"")))


@pytest.mark.parametrize("name, data", [("a.png", png()), ("a.jpg", jpeg()), ("a.jpg", jpeg("progressive"))])
@pytest.mark.parametrize("behind", [b"\n", bytes(100_000), b"ftypmp42" * 10_000])
def test_bytes_behind_the_end_are_ignored(tmp_path, name, data, behind):
    """Copying tools pad files, and telephones append a film."""
    path = write(tmp_path / name, data + behind)
    assert check_image(path) == (256, 320)
    np.testing.assert_array_equal(read_image(path), read_image(write(tmp_path / f"plain-{name}", data)))


@pytest.mark.parametrize("name, data", [("a.png", png()), ("a.jpg", jpeg()), ("a.jpg", jpeg("progressive"))])
@pytest.mark.parametrize("damage", [lambda data: data[:-50], lambda data: zeroed(data, len(data) // 2, len(data) // 2)])
@pytest.mark.parametrize("read", [read_image, check_image])
def test_a_file_whose_end_is_missing_or_zero_is_refused(tmp_path, name, data, damage, read):
    with pytest.raises(InputError, match=r"picture is truncated \(no end marker\)|damaged"):
        read(write(tmp_path / name, damage(data)))


def test_random_changes_end_in_a_picture_or_in_a_named_error(tmp_path):
    rng = np.random.default_rng(0)
    for data in (jpeg(), jpeg("progressive"), png()):
        for _ in range(150):
            changed = bytearray(data[: rng.integers(20, len(data))] if rng.random() < 0.2 else data)
            for at in rng.integers(0, min(len(changed), rng.choice((700, len(changed)))), rng.integers(1, 9)):
                changed[at] = rng.integers(256)
            for read in (read_image, check_image, image_size):
                try:
                    read(write(tmp_path / "a.jpg", bytes(changed)))
                except InputError as error:
                    assert "a.jpg" in str(error)


def test_a_16_bit_picture_is_its_upper_8_bits(tmp_path):
    image = np.random.default_rng(0).integers(0, 2**16, (16, 32, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image // 256)
    np.testing.assert_allclose(read_image(tmp_path / "a.png", white=2**16 - 1), image / 257, atol=0.5)


@pytest.mark.parametrize("bits, shape", [(10, (16, 32, 3)), (12, (16, 32, 3)), (14, (16, 32, 3)), (12, (16, 32))])
def test_fewer_bits_in_16_are_refused_or_scaled(tmp_path, bits, shape):
    image = np.random.default_rng(0).integers(0, 2**bits, shape, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.raises(InputError, match=rf"values up to \d+, nearly black: .* --white {2**bits - 1} does it"):
        read_image(tmp_path / "a.png")
    wanted = image / (2**bits - 1) * 255
    found = read_image(tmp_path / "a.png", white=2**bits - 1)
    np.testing.assert_allclose(found, wanted if image.ndim == 3 else np.dstack([wanted] * 3), atol=0.51)


def test_a_jpeg_of_printing_colours_is_refused(tmp_path):
    Image.new("CMYK", (16, 16)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: a JPEG in CMYK; RGB and gray are accepted: convert it"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("bits, mode", [(1, "1"), (1, "P"), (4, "P")])
def test_a_png_of_less_than_8_bits_is_refused(tmp_path, bits, mode):
    Image.fromarray(SCENE).convert("L").convert(mode).save(tmp_path / "a.png", bits=bits)
    with pytest.raises(InputError, match=rf"a\.png: a picture of {bits} bits? a channel; 8 or 16 are accepted"):
        read_image(tmp_path / "a.png")


def test_a_png_of_several_pictures_is_refused(tmp_path):
    one, other = Image.fromarray(SCENE), Image.fromarray(255 - SCENE)
    one.save(tmp_path / "a.png", save_all=True, append_images=[other])
    with pytest.raises(InputError, match=r"a\.png: an animated PNG; save one picture"):
        read_image(tmp_path / "a.png")
