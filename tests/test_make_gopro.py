"""The data factory: the same bytes however it is run, whole after any interruption, its limits told."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from codes.data.spikes import read_spikes
from codes.errors import InputError
from codes.simulation.camera import Window, integrate, noise_places, sense
from codes.simulation.footage import Footage, find
from codes.simulation.frames import Interpolation
from codes.simulation.gopro import convert, samples
from codes.simulation.stream import Stream

HEIGHT, WIDTH = 48, 64
OPTIONS = ("--factor", "32", "--threshold", "1", "2", "--sequence")


def scene(frames: int, seed: int, *, speed: float = 2.0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[np.ndarray]:
    """A smooth texture that shifts."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (size[0] + 40, size[1] + 120, 3)), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [
        cv2.getRectSubPix(texture, size[::-1], (size[1] / 2 + 10 + speed * k, size[0] / 2 + 20)) for k in range(frames)
    ]


def write(folder: Path, frames: list[np.ndarray], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}{suffix}"), frame)
    return folder


def make(*arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "make_gopro.py"), *map(str, arguments)]
    return subprocess.run(command, check=check, capture_output=True, text=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    write(root / "train" / "first", scene(12, 0))
    write(root / "train" / "second", scene(9, 1), ".jpg")
    write(root / "test" / "third", scene(13, 2, size=(53, 75)))
    for path in root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory) -> Path:
    """The set, made by one worker without interruption."""
    output = tmp_path_factory.mktemp("whole")
    before = {path: path.stat().st_mtime_ns for path in sorted(raw.rglob("*"))}
    told = make(raw, "--output", output, *OPTIONS).stdout
    assert "53x75 is cropped to its middle, 48x64" in told
    assert {path: path.stat().st_mtime_ns for path in sorted(raw.rglob("*"))} == before, "raw data are read only"
    return output


def test_the_set_has_the_published_layout(whole):
    files = content(whole)
    for sequence, names in {"train/first": ("000005",), "train/second": ("000005",), "test/third": ("000005",)}.items():
        split, name = sequence.split("/")
        for threshold in ("threshold_1", "threshold_2"):
            kept = {path.split("/")[-1] for path in files if path.startswith(f"{threshold}/{split}/spike_data/{name}/")}
            assert {f"{one}.dat" for one in names} <= kept
            for file in kept:
                for kind in ("blur_data", "sharp_data"):
                    assert f"{threshold}/{split}/{kind}/{name}/{file.replace('dat', 'png')}" in files
    assert not [path for path in files if path.endswith(".partial")]
    truth = whole / "threshold_1" / "test" / "sharp_sequence" / "third" / "000005"
    assert [path.name for path in sorted(truth.iterdir())] == [f"{at:03d}.png" for at in range(20, 117, 16)]
    middle = whole / "threshold_1" / "test" / "sharp_data" / "third" / "000005.png"
    assert (truth / "068.png").read_bytes() == middle.read_bytes()
    assert not (whole / "threshold_1" / "train" / "sharp_sequence").exists()


def test_a_size_that_is_no_whole_bytes_is_cropped_in_the_middle(raw, whole):
    record = json.loads((whole / "manifest" / "test" / "third.json").read_text())
    assert (record["raw_size"], record["size"]) == ([53, 75], [48, 64])
    # Spike frame 116 of this sample is raw frame 7, not an interpolated one.
    made = cv2.imread(str(whole / "threshold_1/test/sharp_sequence/third/000005/116.png"))
    source = cv2.imread(str(raw / "test/third/7.png"))
    np.testing.assert_array_equal(made, source[2:50, 5:69])
    assert read_spikes(whole / "threshold_1/test/spike_data/third/000005.dat", 12, 16).shape == (137, 12, 16)


def test_thresholds_differ_in_spikes_alone(whole):
    one, two = (content(whole / f"threshold_{threshold}") for threshold in (1, 2))
    assert one.keys() == two.keys()
    for path in one:
        assert (one[path] == two[path]) == path.endswith(".png"), path
    rates = [read_spikes(whole / f"threshold_{t}" / "train/spike_data/first/000005.dat", 12, 16).mean() for t in (1, 2)]
    assert rates[0] == pytest.approx(2 * rates[1], rel=0.05)


@pytest.mark.parametrize("run", [("--workers", 3), ("--shard", "1/2", "--shard", "2/2")])
def test_workers_and_shards_make_the_same_bytes(raw, whole, tmp_path, run):
    for start in range(0, len(run), 2):
        make(raw, "--output", tmp_path, *OPTIONS, *run[start : start + 2])
    assert content(tmp_path) == content(whole)


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_killed_at_any_point_and_run_again_it_is_the_same_set(raw, whole, tmp_path):
    wanted, kills = content(whole), 0
    command = [sys.executable, str(ROOT / "scripts" / "make_gopro.py"), raw, "--output", tmp_path, *OPTIONS]
    for files in (1, 6, 12, 22):
        process = subprocess.Popen([*map(str, command), "--workers", "2"], stderr=subprocess.DEVNULL, stdout=-3)
        while process.poll() is None and len(finished(tmp_path)) < files:
            time.sleep(0.005)
        kills += process.poll() is None
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until_gone(workers)
        here = finished(tmp_path)
        assert {path: wanted[path] for path in here} == here, "what is there is whole"
    assert kills >= 1, "no process was killed before it had made the whole set"
    make(raw, "--output", tmp_path, *OPTIONS)
    assert content(tmp_path) == wanted


def finished(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*.*") if path.suffix in (".png", ".dat", ".json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 120
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/exe").exists() and _runs(pid)]:
        assert time.monotonic() < deadline, f"workers outlive the program: {alive}"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_run_again_it_makes_what_is_missing_and_nothing_else(raw, whole, tmp_path):
    make(raw, "--output", tmp_path, *OPTIONS)
    lost = tmp_path / "threshold_2/train/spike_data/first/000005.dat"
    lost.unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    told = make(raw, "--output", tmp_path, *OPTIONS).stdout
    assert "1 samples to make" in told
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path != lost}
    assert {path for path in after if before.get(path) != after[path]} == set()
    assert content(tmp_path) == content(whole)


@pytest.mark.parametrize(
    "other, named",
    [
        (("--seed", "1"), r"seed was 0, now 1"),
        (("--no-noise",), r"noise was True, now False"),
        (("--threshold", "4"), r"threshold was \[1.0, 2.0\], now \[4.0\]"),
    ],
)
def test_other_options_are_refused_by_name(raw, whole, other, named):
    before = content(whole)
    ended = make(raw, "--output", whole, *OPTIONS, *other, check=False)
    assert ended.returncode == 2
    assert re.search(named, ended.stderr)
    assert content(whole) == before


@pytest.mark.parametrize("frame, kept", [(3, -20), (0, 0)])
def test_a_broken_frame_stops_its_sequence_alone(tmp_path, frame, kept):
    frames = scene(6, 0)
    write(tmp_path / "raw" / "good", frames)
    broken = write(tmp_path / "raw" / "broken", frames) / f"{frame}.png"
    broken.write_bytes(broken.read_bytes()[:kept])
    ended = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, check=False)
    assert ended.returncode == 2
    assert "train/broken" in ended.stderr and str(broken) in ended.stderr and "train/good" not in ended.stderr
    assert (tmp_path / "set/train/blur_data/good/000001.png").exists()
    assert not (tmp_path / "set/manifest/train/broken.json").exists()
    cv2.imwrite(str(broken), frames[frame])
    make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32)
    good, mended = (content(tmp_path / f"set/train/blur_data/{name}") for name in ("good", "broken"))
    assert good == mended


def test_frames_that_changed_since_their_samples_were_made_are_named(tmp_path):
    folder = write(tmp_path / "raw" / "one", scene(6, 0))
    make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32)
    before, frame = content(tmp_path / "set"), folder / "3.png"
    state = frame.stat()
    frame.write_bytes((folder / "2.png").read_bytes())
    os.utime(frame, ns=(state.st_atime_ns, state.st_mtime_ns))
    ended = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, check=False)
    assert ended.returncode == 2 and content(tmp_path / "set") == before
    assert f"train/one: {folder}: changed since samples of" in ended.stderr and "(3.png changed)" in ended.stderr


def test_too_few_frames_are_told(tmp_path):
    write(tmp_path / "raw" / "short", scene(3, 0))
    told = make(tmp_path / "raw", "--output", tmp_path / "set", check=False)
    assert told.returncode == 2 and "train/short: 3 frames are too few" in told.stdout
    assert "raw: no sequence is long enough for one sample" in told.stderr
    told = make(tmp_path / "raw/short/0.png", "--output", tmp_path / "set", check=False)
    assert told.returncode == 2 and "0.png: is no video (.mp4 .avi .mov .mkv) and no folder" in told.stderr


def test_a_video_is_a_sequence(tmp_path):
    frames = scene(10, 0, speed=1.0)
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 24, (WIDTH, HEIGHT))
    for frame in frames:
        video.write(frame)
    video.release()
    clip = tmp_path / "clip.avi"
    make(clip, "--output", tmp_path / "set", "--factor", 32, "--test_sequences", "clip")
    sharp = cv2.imread(str(tmp_path / "set/test/sharp_data/clip/000005.png"))
    # The middle of raw frames 5 and 6 by the closed form of the scene's motion.
    truth = scene(12, 0, speed=0.5)[11]
    assert cv2.PSNR(sharp, truth) > 28
    assert cv2.PSNR(sharp, truth) > cv2.PSNR(sharp, frames[4]) + 3


def test_no_sample_spans_a_scene_cut(tmp_path):
    """Raw frames 0..8 are one scene, from 9 on another: samples 1 and 5 are of the first, 9 spans the cut."""
    write(tmp_path / "raw" / "film", scene(9, 0) + scene(12, 1))
    told = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, "--no-noise").stdout
    made = {path.stem for path in (tmp_path / "set/train/blur_data/film").iterdir()}
    wanted = {f"{window.name:06d}" for window in samples(21, factor=32, interpolated=False)}
    record = json.loads((tmp_path / "set/manifest/train/film.json").read_text())
    assert wanted - made == record["left_out"].keys() == {"000009"}
    assert "000009" in told and "cut before raw frame 9" in told
    # The samples before the cut are those of the first scene alone.
    write(tmp_path / "alone" / "film", scene(9, 0))
    make(tmp_path / "alone", "--output", tmp_path / "part", "--factor", 32, "--no-noise")
    for name in ("blur_data/film/000001.png", "blur_data/film/000005.png"):
        assert (tmp_path / "set/train" / name).read_bytes() == (tmp_path / "part/train" / name).read_bytes()


def test_the_published_place_beside_raw_data_is_accepted(tmp_path):
    write(tmp_path / "test" / "raw_data" / "third", scene(5, 2))
    make(tmp_path, "--output", tmp_path, "--factor", 32)
    assert (tmp_path / "test/blur_data/third/000001.png").exists()
    assert make(tmp_path, "--output", tmp_path / "test/raw_data/set", check=False).returncode == 2


@pytest.mark.parametrize("place", ["", "train", "train/first", "train/first/set"])
def test_an_output_among_the_raw_data_is_refused(raw, place):
    ended = make(raw, "--output", raw / place, check=False)
    assert ended.returncode == 2 and "among the raw data" in ended.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ("--shard", "3/2"),
        ("--threshold", "0"),
        ("--threshold", "-1"),
        ("--threshold", "nan"),
        ("--threshold", "inf"),
        ("--threshold", "1", "nan"),
        ("--threshold", "1", "1"),
        ("--threshold",),
        ("--factor", "7"),
        ("--workers", "0"),
        ("--seed", "-1"),
        ("--shard", "²/2"),
        ("--white", "-1"),
        ("--noise_mean", "-1"),
        ("--noise_mean", "nan"),
        ("--noise_mean", "inf"),
        ("--noise_mean", "1e-9"),
        ("--noise_std", "nan"),
        ("--noise_std", "1000"),
        ("--test_sequences", "first"),
    ],
)
def test_wrong_values_are_named(raw, tmp_path, wrong):
    ended = make(raw, "--output", tmp_path / "set", *wrong, check=False)
    assert ended.returncode == 2 and wrong[0] in ended.stderr
    assert not (tmp_path / "set").exists()


def test_data_of_unknown_making_are_not_added_to(raw, tmp_path):
    (tmp_path / "train" / "blur_data").mkdir(parents=True)
    ended = make(raw, "--output", tmp_path, check=False)
    assert ended.returncode == 2 and "manifest.json" in ended.stderr


@pytest.mark.parametrize("frames", [97, 117, 221, 222, 225, 329, 800])
@pytest.mark.parametrize("interpolated", [True, False])
def test_samples_are_the_reference_windows(facts, frames, interpolated):
    wanted = [Window(**window) for window in facts["windows"][str(frames)]]
    if interpolated:
        assert samples(frames, factor=8, interpolated=True) == wanted
    elif (frames - 1) % 8 == 0:
        assert samples((frames - 1) // 8 + 1, factor=8, interpolated=False) == wanted


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96])
def test_every_factor_makes_exposures_of_97_frames_with_names_of_their_own(factor):
    windows = samples(40 * max(1, 96 // factor), factor=factor, interpolated=False)
    assert len({window.name for window in windows}) == len(windows) > 3
    assert {window.last - window.first for window in windows} == {96}
    photographed = all(window.sharp % factor == 0 for window in windows)
    assert photographed == (factor not in (32, 96))


@pytest.fixture
def sums_and_spikes(tmp_path):
    """A sequence taken as already interpolated, converted: 221 frames, sample 19 = frames 104..200, spikes 84..220."""
    frames = scene(221, 3, speed=0.2)
    folder = write(tmp_path / "frames", frames)
    windows = samples(221, factor=8, interpolated=True)
    options = {"interpolation": Interpolation(method="none"), "noise": None, "seed": 5, "spike_full": True}
    left_out = convert(
        Footage("train", "frames", folder), windows, lambda amount: None, folders={1.0: tmp_path / "set"}, **options
    )
    assert left_out == {}
    return frames, tmp_path / "set" / "train"


def test_pictures_are_the_mean_and_the_middle(sums_and_spikes):
    frames, folder = sums_and_spikes
    mean = np.rint(np.mean(frames[104:201], 0, dtype=np.float64))
    np.testing.assert_array_equal(cv2.imread(str(folder / "blur_data/frames/000019.png")), mean)
    np.testing.assert_array_equal(cv2.imread(str(folder / "sharp_data/frames/000019.png")), frames[152])


def test_spikes_are_those_of_sense_and_integrate(sums_and_spikes):
    """The phases are unknown here, but all that follows from them is: find them by the bits of each pixel."""
    frames, folder = sums_and_spikes
    spikes = read_spikes(folder / "spike_data/frames/000019.dat", HEIGHT // 4, WIDTH // 4)
    intensity = np.stack([sense(frame) for frame in frames[84:221]])
    stream = Stream(spikes.shape, False, 1.0, None, np.random.default_rng((5, zlib.crc32(b"frames"), 19, False)))
    first = np.random.default_rng((5, zlib.crc32(b"frames"), 19, False)).random(spikes.shape[1:], np.float32)
    np.testing.assert_array_equal(spikes, integrate(intensity, first=first))
    assert b"".join(stream.step(one) for one in intensity) == (folder / "spike_data/frames/000019.dat").read_bytes()
    full = read_spikes(folder / "spike_full/frames/000019.dat", HEIGHT, WIDTH)
    gray = np.mean([frame @ (0.11, 0.59, 0.30) / 255 for frame in frames[84:221]], 0)
    np.testing.assert_allclose(full.mean(0), gray * 1.98543 / 2, atol=1 / 137)


def test_the_golden_spikes_come_through_the_stream(golden, monkeypatch):
    frames, first = golden["sim_frames"], golden["sim_first"]

    class Phases:
        def random(self, shape, dtype):
            assert shape == first.shape
            return first

        def normal(self, mean, std, amount):
            return np.resize(golden["noise_gaps"], amount)

    stream = Stream(frames.shape, False, 1.0, None, Phases())
    packed = b"".join(stream.step(intensity) for intensity in frames)
    spikes = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    np.testing.assert_array_equal(spikes.reshape(frames.shape)[:, ::-1], golden["sim_spikes"])


def test_the_golden_noise_comes_through_the_stream(golden):
    noise = golden["noise_spikes"]
    times, pixels = noise_places(golden["noise_gaps"], noise.shape)
    laid = np.zeros(noise.shape, np.uint8)
    laid.reshape(len(laid), -1)[times, pixels] = 1
    np.testing.assert_array_equal(laid, noise)


def test_noise_of_a_stream_is_added_to_its_spikes():
    def spikes(noise):
        stream = Stream((137, 16, 16), False, 1.0, noise, np.random.default_rng(0))
        packed = b"".join(stream.step(np.full((16, 16), 0.3, np.float32)) for _ in range(137))
        return np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)

    clean, noisy = spikes(None), spikes((140.0, 50.0))
    assert not (clean & ~noisy).any()
    assert (noisy & ~clean).mean() == pytest.approx((1 - clean.mean()) / 140, rel=0.2)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    frames = [np.full((16, 16, 3), 20 * k, np.uint8) for k in range(12)]
    write(tmp_path / "raw" / "steps", frames)
    (footage,) = find(tmp_path / "raw")
    assert [frame[0, 0, 0] for frame in footage.read(0, 11)] == [20 * k for k in range(12)]


def test_a_frame_of_another_size_is_named(tmp_path):
    folder = write(tmp_path / "steps", [np.zeros((16, 16, 3), np.uint8)] * 3)
    cv2.imwrite(str(folder / "2.png"), np.zeros((16, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"2\.png.*16x32.*16x16"):
        list(find(folder)[0].read(0, 2))


def test_the_factory_needs_no_torch():
    """Each worker would hold half a gigabyte of it."""
    code = "import sys, codes.simulation.gopro, codes.parallel, codes.data.manifest; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_raw_data_that_were_moved_are_the_same_data(tmp_path):
    """A disk may be mounted elsewhere; another folder, and one of another name, is refused."""
    here, there = tmp_path / "here/films", tmp_path / "there/films"
    write(here / "scene", scene(9, 0))
    make(here, "--output", tmp_path / "set", "--factor", "32", "--interpolator", "none", check=False)  # too short
    before = content(tmp_path / "set")
    there.parent.mkdir()
    here.rename(there)
    make(there, "--output", tmp_path / "set", "--factor", "32", "--interpolator", "none", check=False)
    assert content(tmp_path / "set")["manifest.json"] == before["manifest.json"]
    write(here / "other", scene(9, 1))
    refused = make(there, "--output", tmp_path / "set", "--factor", "32", "--interpolator", "none", check=False)
    assert refused.returncode == 2 and "made with other options (input was" in refused.stderr


def test_frames_of_12_bits_are_refused_unless_the_value_of_white_is_given(tmp_path):
    frames = scene(5, 0)
    write(tmp_path / "raw/film", [frame.astype(np.uint16) * 16 for frame in frames])
    write(tmp_path / "plain/film", frames)
    ended = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, check=False)
    assert ended.returncode == 2 and re.search(r"0\.png: a 16-bit picture .* nearly black: .* 12 bits", ended.stderr)
    make(tmp_path / "raw", "--output", tmp_path / "white", "--factor", 32, "--white", 4080)
    make(tmp_path / "plain", "--output", tmp_path / "wanted", "--factor", 32)
    found, wanted = content(tmp_path / "white/train"), content(tmp_path / "wanted/train")
    assert found == wanted
    other = make(tmp_path / "raw", "--output", tmp_path / "white", "--factor", 32, "--white", 4095, check=False)
    assert other.returncode == 2 and "white was 4080, now 4095" in other.stderr


def test_sharp_sequences_of_no_test_sample_are_named(tmp_path):
    write(tmp_path / "raw/film", scene(5, 0))
    ended = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, "--sequence")
    assert "--sequence has no effect without test sequences; see --test_sequences" in ended.stderr
    assert not list(tmp_path.glob("set/*/sharp_sequence"))


@pytest.mark.parametrize("size, message", [((6, 10), "frames of 6x10: at least 16x16 are needed"), ((16, 16), "")])
def test_the_smallest_frames_are_named(tmp_path, size, message):
    write(tmp_path / "raw/film", scene(5, 0, size=size))
    ended = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, check=False)
    assert ended.returncode == (2 if message else 0), ended.stderr
    assert message in ended.stderr and "Traceback" not in ended.stderr


def test_a_missing_frame_is_named_and_not_interpolated(tmp_path):
    (write(tmp_path / "raw/film", scene(8, 0)) / "5.png").unlink()
    ended = make(tmp_path / "raw", "--output", tmp_path / "set", "--factor", 32, check=False)
    assert ended.returncode == 2 and "4.png and 6.png: the frames between them are missing" in ended.stderr
    assert not list(tmp_path.glob("set/train/*/film/*"))
