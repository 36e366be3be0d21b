"""What holds for every input: formats come back as they were written, rubbish ends in the named error, physics holds.

In the suite a few examples each, always the same; `scripts/dev/fuzz.sh --minutes 30` looks further.
"""

import dataclasses
import io
import math
import os
import tempfile
from functools import partial
from pathlib import Path

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.extra.numpy import array_shapes, arrays

import train_deblur
from codes.archives import read_arrays, read_tensors
from codes.cli import parse
from codes.data import manifest
from codes.data.images import check_image, image_size, read_image, write_image
from codes.data.spikes import pack, read_packed, read_spikes, write_spikes
from codes.engine import checkpoint
from codes.engine.provenance import record_options, record_sources
from codes.errors import InputError
from codes.motion.flow import dis_flow
from codes.motion.interpolation import interpolate_frames
from codes.networks import read_weights
from codes.networks.tiling import spans, tiled
from codes.physics.sdm import sdm, tfp, window
from codes.reporting.run_results import read_options, read_record
from codes.reporting.table import Table
from codes.restoration.spike_file import guess, read
from codes.simulation.camera import (
    CHARGE_AT_THRESHOLD_1,
    CHARGE_PER_FRAME,
    Integrator,
    exposures,
    integrate,
    noise_from_gaps,
)

settings.register_profile("suite", max_examples=15, derandomize=True, database=None)
settings.register_profile("long", max_examples=1000)
for name in ("suite", "long"):
    quiet = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    settings.register_profile(name, parent=settings.get_profile(name), **quiet)
settings.load_profile(os.environ.get("FUZZ", "suite"))

FOLDER = tempfile.TemporaryDirectory()
PLACE = Path(FOLDER.name)
# Code that torch.compile builds in older versions of PyTorch makes a processor round subnormal numbers to 0.
floats = partial(st.floats, allow_subnormal=False)
unit = floats(0, 1, width=32)


def stream(frames: int = 12, side: int = 12) -> st.SearchStrategy:
    """Spikes [T,h,w] whose frames are whole bytes."""
    shape = st.tuples(st.integers(1, frames), st.integers(1, side), st.integers(1, side))
    return shape.filter(lambda s: s[1] * s[2] % 8 == 0).flatmap(
        lambda s: arrays(np.uint8, s, elements=st.integers(0, 1))
    )


@given(stream())
def test_spikes_come_back_as_they_were_written(spikes):
    path = PLACE / "s.dat"
    write_spikes(path, spikes)
    np.testing.assert_array_equal(read_spikes(path, *spikes.shape[1:]), spikes)
    assert path.read_bytes() == b"".join(pack(frame).tobytes() for frame in spikes)


@given(stream(), st.integers(-3, 15), st.integers(-3, 15))
def test_a_part_of_a_stream_is_that_part_or_named(spikes, first, frames):
    path = PLACE / "s.dat"
    write_spikes(path, spikes)
    height, width = spikes.shape[1:]
    if first < 0 or frames < 1 or first + frames > len(spikes):
        with pytest.raises(InputError, match=r"s\.dat"):
            read_packed(path, height, width, first=first, frames=frames)
    else:
        packed = read_packed(path, height, width, first=first, frames=frames)
        found = np.unpackbits(packed, axis=2, count=width, bitorder="little")
        np.testing.assert_array_equal(found, spikes[first : first + frames])


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)), st.booleans())
def test_pictures_come_back_as_they_were_written(image, colour):
    image = np.dstack([image, image[::-1], image[:, ::-1]]) if colour else image
    write_image(PLACE / "p.png", image)
    found = read_image(PLACE / "p.png")
    np.testing.assert_array_equal(found, image if colour else np.dstack([image] * 3))
    assert image_size(PLACE / "p.png") == image.shape[:2]


def seeds() -> dict[str, bytes]:
    """One whole file of every kind."""
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    spikes = np.random.default_rng(1).integers(0, 2, (16, 16, 16), np.uint8)
    saved, array, plain, packed = (io.BytesIO() for _ in range(4))
    torch.save({"net": {"a.weight": torch.ones(3, 4), "b": torch.zeros(2, dtype=torch.bfloat16)}}, saved)
    np.savez(array, spikes=spikes)
    np.savez_compressed(packed, spikes=spikes)
    np.save(plain, spikes)
    return {
        "png": cv2.imencode(".png", image)[1].tobytes(),
        "jpg": cv2.imencode(".jpg", image)[1].tobytes(),
        "dat": pack(spikes).tobytes(),
        "pth": saved.getvalue(),
        "npz": array.getvalue(),
        "compressed.npz": packed.getvalue(),
        "npy": plain.getvalue(),
        "json": b'{"options": {"threshold": [1.0]}, "versions": {}}',
        "csv": b"output,psnr,ssim\nblurry,20.5,0.5\nLDN,21,\n",
    }


SEEDS = seeds()


@st.composite
def spoilt(draw: st.DrawFn, *kinds: str) -> bytes:
    """Bytes that begin as a file of these kinds and are damaged, or anything at all."""
    content = bytearray(draw(st.sampled_from([SEEDS[kind] for kind in kinds] + [b""])))
    if not content:
        return draw(st.binary(max_size=400))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content) - 1))
        how = draw(st.sampled_from(("flip", "set", "cut", "insert", "move")))
        if how == "flip":
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "set":
            content[place] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[place : place + draw(st.integers(1, 64))]
        elif how == "insert":
            content[place:place] = draw(st.binary(max_size=16))
        else:
            content[place:place] = content[: draw(st.integers(0, 32))]
        if not content:
            break
    return bytes(content)


def accepted(reader, path: Path, content: bytes, *errors: type) -> object:
    """Read; nothing but the named errors may come, and an InputError has to name the file."""
    path.write_bytes(content)
    try:
        return reader(path)
    except (InputError, *errors) as error:
        if isinstance(error, InputError):
            assert str(path.parent) in str(error) and "\n" not in str(error)
        return None


@pytest.mark.filterwarnings("ignore")
@given(spoilt("png", "jpg"))
def test_rubbish_for_pictures(content):
    path = PLACE / "spoilt.png"
    image = accepted(read_image, path, content)
    size, checked = accepted(image_size, path, content), accepted(check_image, path, content)
    assert image is None or (image.dtype == np.uint8 and image.shape[2] == 3)
    assert image is None or size is None or image.shape[:2] == size
    assert checked in (None, size)


@pytest.mark.filterwarnings("ignore")
@given(spoilt("npz", "compressed.npz", "npy"), st.sampled_from(("a.npz", "a.npy")))
def test_rubbish_for_arrays(content, name):
    def whole(path: Path) -> list:
        return [np.array(array) for array in read_arrays(path)]

    accepted(whole, PLACE / name, content)
    accepted(lambda path: read(path, guess(path)[0]), PLACE / name, content)


@given(spoilt("dat"), st.integers(-1, 20), st.integers(-1, 20))
def test_rubbish_for_spikes(content, height, width):
    path = PLACE / "spoilt.dat"
    found = accepted(lambda path: read_spikes(path, height, width), path, content)
    assert found is None or (found.shape[1:] == (height, width) and found.max(initial=0) <= 1)
    accepted(lambda path: read(path, guess(path)[0]), path, content)


@pytest.mark.filterwarnings("ignore")
@given(spoilt("pth"))
def test_rubbish_for_weights(content):
    path = PLACE / "spoilt.pth"
    accepted(read_tensors, path, content, ValueError)
    accepted(read_weights, path, content)
    accepted(lambda path: checkpoint.load_state(path, lambda _: None, net=torch.nn.Linear(4, 3)), path, content)


@given(spoilt("json"))
def test_rubbish_for_records(content):
    accepted(manifest.read, PLACE / "manifest.json", content)
    accepted(lambda path: read_options(path.parent), PLACE / "options.json", content)
    accepted(lambda path: record_options(path.parent, {"a": 1}, same_but=set()), PLACE / "options.json", content)
    accepted(lambda path: record_sources(path.parent, {"a": "1"}, {}, same=True), PLACE / "options.json", content)


@given(spoilt("csv"), spoilt("csv"))
def test_rubbish_for_tables(means, pictures):
    folder = PLACE / "run/step-0000001"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pictures.csv").write_bytes(pictures.replace(b"output", b"sample,output"))
    (folder / "means.csv").write_bytes(means)
    try:
        read_record(folder.parent).samples()
    except InputError as error:
        assert "step-0000001" in str(error)


@given(st.integers(1, 30), st.integers(-5, 35), st.integers(-2, 35))
def test_a_window_is_those_frames_or_refused(total, center, length):
    spikes = torch.arange(total).view(1, total, 1, 1).expand(1, total, 2, 3)
    wanted = list(range(center - length // 2, center - length // 2 + length))
    if length >= 1 and wanted[0] >= 0 and wanted[-1] < total:
        cut = window(spikes, center, length)
        assert cut.shape == (1, length, 2, 3) and cut[0, :, 1, 2].tolist() == wanted
        assert cut[0, length // 2, 0, 0] == center
    else:
        with pytest.raises(ValueError, match=f"the stream has 0..{total - 1}"):
            window(spikes, center, length)


@given(stream(frames=20), st.data())
def test_tfp_counts_spikes(spikes, data):
    length = data.draw(st.integers(1, len(spikes)))
    center = data.draw(st.integers(length // 2, len(spikes) - length + length // 2))
    intensity = tfp(torch.from_numpy(spikes)[None], center, length)[0, 0].numpy()
    first = center - length // 2
    np.testing.assert_allclose(intensity * length, spikes[first : first + length].sum(0), atol=1e-4)


light_maps = arrays(np.float32, (2, 1, 4, 4), elements=floats(0.0078125, 1, width=32))


@given(light_maps, light_maps, unit, floats(0.125, 8, width=32))
def test_sdm_knows_no_scale_of_light(long, short, gray, scale):
    blur = torch.full((2, 3, 4, 4), gray)
    long, short = torch.from_numpy(long), torch.from_numpy(short)
    torch.testing.assert_close(sdm(blur, scale * long, scale * short), sdm(blur, long, short))
    torch.testing.assert_close(sdm(blur, long, long), blur)  # nothing moves
    assert (sdm(blur, torch.zeros_like(long), short) == 0).all()


@given(arrays(np.uint8, (9, 4, 4), elements=st.integers(0, 1)), unit)
def test_the_mean_of_sdm_over_the_exposure_is_the_blurry_picture(spikes, gray):
    stream, blur = torch.from_numpy(spikes)[None], torch.full((1, 3, 4, 4), gray)
    long = tfp(stream, 4, 9)
    mean = torch.stack([sdm(blur, long, tfp(stream, t, 1)) for t in range(9)]).mean(0)
    torch.testing.assert_close(mean, blur * (long > 0))


films = arrays(np.float32, (20, 2, 4), elements=unit)


@given(films, arrays(np.float32, (2, 4), elements=unit), st.sampled_from((1.0, 2.0, 4.0, 0.5)))
def test_charge_is_conserved_and_nothing_fires_in_the_dark(film, first, threshold):
    camera = Integrator(first, threshold=threshold)
    before = camera.charge.astype(np.float64)
    fired = sum(camera.step(intensity).astype(int) for intensity in film)
    came = CHARGE_PER_FRAME * film.astype(np.float64).sum(0)
    if threshold >= 1:  # below, a white pixel may owe more than a spike a frame
        limit = CHARGE_AT_THRESHOLD_1 * threshold
        np.testing.assert_allclose(before + came, fired * limit + camera.charge, atol=1e-4)
    assert (fired[film.sum(0) == 0] == 0).all() and (camera.charge <= camera.limit).all()


@given(unit, st.sampled_from((1.0, 2.0, 4.0)), unit)
def test_the_rate_is_proportional_to_the_intensity(intensity, threshold, phase):
    spikes = integrate(np.full((97, 1, 8), intensity), threshold=threshold, first=np.full((1, 8), phase))
    expected = 97 * CHARGE_PER_FRAME * intensity / (CHARGE_AT_THRESHOLD_1 * threshold)
    assert abs(float(spikes.sum(0)[0, 0]) - expected) <= 1.01


@given(arrays(np.float32, st.integers(0, 40), elements=floats(-50, 400, width=32)))
def test_false_spikes_lie_where_their_gaps_say(gaps):
    noise = noise_from_gaps(gaps, (5, 2, 4))
    assert noise.shape == (5, 2, 4) and noise.max(initial=0) <= 1
    places = {int(p) for p in np.cumsum(gaps, dtype=np.float64).astype(np.int64) if 0 <= p < 40}
    assert {int(p) for p in np.flatnonzero(noise.transpose(1, 2, 0))} == places


@given(st.integers(0, 900), st.integers(2, 14), st.integers(0, 9), st.integers(0, 30))
def test_exposures_lie_inside_the_film(frames, raw, between_raw, margin):
    windows = exposures(frames, raw_per_blur=raw, interpolated=between_raw, overlap=3, margin=margin)
    length = (raw - 1) * (between_raw + 1) + 1
    for place, one in enumerate(windows):
        assert one.last - one.first + 1 == length and one.first >= 0 and one.last < frames
        assert one.first <= one.sharp <= one.last and one.sharp - one.first == length // 2
        assert (one.spike_first is None) == (one.first < margin or one.last + margin >= frames)
        assert place == 0 or one.first == windows[place - 1].last + 4


@given(st.integers(16, 40), st.integers(16, 40), st.lists(floats(0.02, 0.98), max_size=3), st.integers(0, 2**31))
def test_frames_between_are_frames_and_of_a_still_scene_the_scene(height, width, times, seed):
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    found = list(interpolate_frames(before, after, times, dis_flow))
    assert [frame.shape for frame in found] == [before.shape] * len(times)
    assert all(frame.dtype == np.uint8 for frame in found)
    for frame in interpolate_frames(before, before, times, dis_flow):
        assert np.abs(frame.astype(int) - before).max() <= 1


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from((0, 4, 8, 16)), st.integers(0, 2))
def test_tiles_give_what_the_whole_gives(height, width, tile, reach):
    picture = torch.from_numpy(np.random.default_rng(height).random((1, 1, height, width), np.float32))
    kernel = torch.ones(1, 1, 2 * reach + 1, 2 * reach + 1)

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, kernel, padding=reach)

    torch.testing.assert_close(tiled(nearest, picture, tile=tile, reach=reach), nearest(picture), rtol=1e-5, atol=1e-5)
    kept = [index for span in spans(height, tile, reach) for index in range(span.written.start, span.written.stop)]
    assert kept == list(range(height))


VALUES = {
    int: st.integers(-(10**9), 10**9),
    float: floats(allow_nan=False, allow_infinity=False),
    str: st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).filter(lambda s: s[:1] != "-"),
    bool: st.just(True),
}


@given(st.data())
def test_options_come_back_as_they_were_typed(data):
    """Any subset of flags with any values; test_flags.py has those that are refused beside others."""
    always_used = [field for field in dataclasses.fields(train_deblur.Options) if not field.metadata["unused"]]
    fields = data.draw(st.lists(st.sampled_from(always_used), unique_by=lambda f: f.name))
    argv, expected = [], {}
    for field in fields:
        kind = next((k for k in VALUES if k is type(field.default)), None)
        if field.metadata["choices"]:
            value = data.draw(st.sampled_from(field.metadata["choices"]))
        elif isinstance(field.default, tuple):
            value = tuple(data.draw(st.lists(st.integers(0, 4096), min_size=1, max_size=2)))
        elif kind:
            value = data.draw(VALUES[kind])
        else:
            continue
        assume(field.default is not True)
        expected[field.name] = value
        argv += (
            [f"--{field.name}"]
            if value is True
            else [f"--{field.name}", *map(str, np.atleast_1d(value).tolist())]
            if isinstance(value, tuple)
            else [f"--{field.name}={value}"]
        )
    assert parse(train_deblur.Options, "", argv) == dataclasses.replace(train_deblur.Options(), **expected)


cells = st.one_of(st.none(), st.integers(), floats(allow_nan=False), st.text(max_size=8))


@given(st.lists(st.tuples(cells, cells), max_size=4))
def test_a_table_can_be_written_in_every_format(rows):
    table = Table("name", "title", ["a", "b"], [list(row) for row in rows], ["note"])
    assert table.csv() and table.latex() and table.markdown().count("|") >= 3


@given(st.recursive(st.none() | st.integers() | floats(), lambda x: st.lists(x, max_size=3), max_leaves=8), st.data())
def test_a_checksum_changes_with_anything(content, data):
    other = data.draw(st.recursive(st.none() | st.integers() | floats(), lambda x: st.lists(x, max_size=3)))
    same = repr(content) == repr(other)
    assert (checkpoint.digest(content) == checkpoint.digest(other)) == same or not math.isfinite(0 * len(repr(content)))
