"""Video files: the right colours, the right way up, and no frame that is damaged, missing or out of time."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from codes.data.video import count_frames, read_frames, video_size
from codes.errors import InputError
from codes.restoration.video import write_video

HEIGHT, WIDTH, FRAMES = 64, 96, 36
CODECS = {  # of files that cameras and programs write: suffix, pixel format, options
    "libx264": (".mp4", "yuv420p", {"crf": "16"}),
    "mpeg4": (".avi", "yuv420p", {"b": "8M"}),
    "mjpeg": (".avi", "yuvj420p", {"b": "8M"}),
    "ffv1": (".avi", "yuv444p", {}),
    "prores_ks": (".mov", "yuv422p10le", {}),
}


def scene() -> list[np.ndarray]:
    """A coloured texture that drifts to the left."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, WIDTH + 2 * FRAMES, 3)), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [texture[:, 2 * k : 2 * k + WIDTH] for k in range(FRAMES)]


def write(
    path: Path,
    frames: Iterable[av.VideoFrame],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Iterable[int] | None = None,  # in milliseconds
    matrix: int = 2,
    levels: int = 0,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24, options=options or {})
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, levels
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            if not stream.width or number == 0:
                stream.height, stream.width, stream.pix_fmt = frame.height, frame.width, pixels
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def clip(folder: Path, codec: str, more: dict[str, str] | None = None, **settings: object) -> Path:
    suffix, pixels, options = CODECS[codec]
    options = options | (more or {})
    frames = (av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="bgr24") for frame in scene())
    return write(folder / f"clip{suffix}", frames, codec=codec, pixels=pixels, options=options, **settings)


def opencv_frames(path: Path) -> int:
    video, frames = cv2.VideoCapture(str(path)), 0
    while video.grab():
        frames += 1
    return frames


@pytest.mark.parametrize("codec", CODECS)
def test_an_intact_video_gives_every_frame(tmp_path, codec):
    path = clip(tmp_path, codec)
    assert count_frames(path) == FRAMES == opencv_frames(path)
    assert video_size(path) == (HEIGHT, WIDTH)
    found = list(read_frames(path, 3, FRAMES - 1))
    assert [name for name, _ in found] == [f"{path}, frame {number}" for number in range(3, FRAMES)]
    truth = np.stack(scene())
    for number, (_, frame) in enumerate(found, 3):
        errors = np.square(truth.astype(np.int64) - frame).mean((1, 2, 3))
        assert errors.argmin() == number and errors[number] < 150
    with pytest.raises(InputError, match=f"frame {FRAMES} cannot be read"):
        list(read_frames(path, 0, FRAMES))


@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (2, 0.299, 0.114)])
@pytest.mark.parametrize(("levels", "span"), [(1, (16, 219, 224)), (2, (0, 255, 255))])
def test_colours_follow_the_matrix_and_the_range_of_the_video(tmp_path, matrix, red, blue, levels, span):
    """ITU-R BT.709 and BT.601, which holds where nothing is said: R = Y + 2 (1 - Kr) Cr, B = Y + 2 (1 - Kb) Cb."""
    rng = np.random.default_rng(1)
    planes = [rng.integers(*limits, (4, 6)) for limits in ((80, 170), (110, 146), (110, 146))]  # 24 flat patches
    drawn = np.stack([np.kron(plane, np.ones((16, 16))) for plane in planes]).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(drawn, format="yuv444p")
    frame.colorspace, frame.color_range = matrix, levels
    path = write(tmp_path / "c.mp4", [frame], pixels="yuv444p", options={"crf": "0"}, matrix=matrix, levels=levels)
    offset, luma, chroma = span
    y, cb, cr = (planes[0] - offset) / luma, (planes[1] - 128) / chroma, (planes[2] - 128) / chroma
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    truth = 255 * np.stack((b, (y - red * r - blue * b) / (1 - red - blue), r), -1)
    ((_, found),) = read_frames(path, 0, 0)
    np.testing.assert_allclose(found[8::16, 8::16], truth, atol=1)


@pytest.mark.parametrize(("suffix", "most"), [(".mp4", 0.5), (".mkv", 0)])
def test_a_video_of_ours_has_the_colours_of_its_frames(tmp_path, suffix, most):
    path = tmp_path / f"a{suffix}"
    patches = np.random.default_rng(3).integers(60, 200, (8, 12, 3))
    drawn = np.kron(patches, np.ones((16, 16, 1))).astype(np.uint8)
    write_video(path, [drawn] * 5, rate=24)
    found = np.stack([frame for _, frame in read_frames(path, 0, 4)]).astype(np.float64)
    assert np.abs((found - drawn)[:, 8::16, 8::16].mean((0, 1, 2))).max() <= most
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        assert suffix == ".mkv" or (stream.codec_context.colorspace, stream.codec_context.color_range) == (6, 1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_video_is_turned_as_the_camera_says(tmp_path, turns):
    """A telephone writes the matrix that turns its frames for display; here clockwise, by quarter turns."""
    path = clip(tmp_path, "libx264")
    data, (cos, sin) = path.read_bytes(), ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    matrix = data.index(b"tkhd") + 4 + 40  # of version 0: version, times, track, duration, layer, volume
    numbers = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    turned = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(data[:matrix] + turned + data[matrix + 36 :])
    truth = np.ascontiguousarray(np.rot90(scene()[0], -turns))
    ((_, found),) = read_frames(path, 0, 0)
    assert found.shape == truth.shape and video_size(path) == truth.shape[:2]
    assert cv2.PSNR(found, truth) > 32


@pytest.mark.parametrize("codec", CODECS)
def test_a_video_without_its_end_is_refused(tmp_path, codec):
    path = clip(tmp_path, codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(InputError, match=r"clip.*(damaged near frame \d+|holds \d+ of the 36|its end is missing)"):
        count_frames(path)


@pytest.mark.parametrize(("codec", "least"), [("libx264", 10), ("ffv1", 12), ("mpeg4", 9)])
def test_damage_in_the_middle_is_refused_with_its_place(tmp_path, codec, least):
    """64 random bytes at twelve places: FFmpeg alone hides most of it."""
    path = clip(tmp_path, codec)
    data, rng, refused = path.read_bytes(), np.random.default_rng(2), 0
    for number, at in enumerate(np.linspace(0.2, 0.8, 12)):
        at = int(at * len(data))
        damaged = path.with_name(f"{number}{path.suffix}")
        damaged.write_bytes(data[:at] + rng.bytes(64) + data[at + 64 :])
        try:
            count_frames(damaged)
        except InputError as error:
            refused += f"{damaged}: damaged near frame" in str(error) and " s): " in str(error)
    assert refused >= least


def remuxed(
    path: Path, keep: Callable[[int], bool], *, time: Callable[[int], int] | None = None, suffix: str = ""
) -> Path:
    """Copy the packets that are kept; time: of each among them, in frames."""
    target = path.with_name(f"remuxed{suffix or path.suffix}")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(source.streams.video[0]) if packet.dts is not None]
        step = packets[1].dts - packets[0].dts
        kept = [packet for number, packet in enumerate(packets) if keep(number)]
        for number, packet in enumerate(kept):
            packet.stream = stream
            if time:
                packet.pts, packet.dts = time(number) * step, number * step
            container.mux(packet)
    return target


@pytest.mark.parametrize("codec", ["libx264", "prores_ks", "mjpeg"])
def test_missing_packets_are_named(tmp_path, codec):
    path = clip(tmp_path, codec)
    assert count_frames(remuxed(path, lambda number: True)) == FRAMES
    count_frames.cache_clear()
    with pytest.raises(InputError, match=r"frames are missing between frames 19 and 20|near frame"):
        count_frames(remuxed(path, lambda number: number not in (20, 21)))


def test_missing_packets_are_named_though_the_others_were_numbered_anew(tmp_path):
    path = clip(tmp_path, "libx264", more={"bf": "0"})
    assert count_frames(remuxed(path, lambda number: True, time=lambda number: number)) == FRAMES
    count_frames.cache_clear()
    with pytest.raises(InputError, match=r"frames are missing near frame 20 .*numbers that H\.264 gives"):
        count_frames(remuxed(path, lambda number: number != 20, time=lambda number: number))


@pytest.mark.parametrize(
    "time", [lambda number: number + (20 if number < 18 else 10), lambda number: FRAMES], ids=["back", "none"]
)
def test_times_that_do_not_rise_are_named(tmp_path, time):
    path = remuxed(clip(tmp_path, "libx264", more={"g": "1"}), lambda number: True, time=time, suffix=".mkv")
    with pytest.raises(InputError, match=r"frame (18|1) .* is not later than the one before .*time stamps are damaged"):
        count_frames(path)


def test_interlaced_video_is_refused(tmp_path):
    path = clip(tmp_path, "libx264", more={"x264-params": "interlaced=1"})
    with pytest.raises(InputError, match=r"clip\.mp4: interlaced near frame 0: .*-vf bwdif"):
        video_size(path)


def milliseconds(steps: np.ndarray) -> list[int]:
    return np.rint(np.cumsum(steps) - steps[0]).astype(int).tolist()


EVEN = np.full(FRAMES, 1000 / 30)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (EVEN, None),
        (EVEN + np.random.default_rng(0).uniform(-3, 3, FRAMES), None),  # jitter of a clock
        (np.where(np.arange(FRAMES) == 16, 2, 1) * EVEN, r"missing between frames 15 and 16 \(0.500 and 0.567 s\)"),
        (np.where(np.arange(FRAMES) == 16, 0.1, 1) * EVEN, "frames 15 and 16 .* are closer than the others"),
        (np.random.default_rng(1).choice([17, 33, 50], FRAMES), r"rate varies \(20.0 to 58.8 frames a second\)"),
        (np.where(np.arange(FRAMES) < 18, 33, 41), "rate varies"),
    ],
    ids=["even", "jitter", "gap", "repeat", "varying", "two rates"],
)
def test_frames_have_to_be_evenly_spaced_in_time(tmp_path, steps, message):
    path = clip(tmp_path, "libx264", times=milliseconds(steps))
    if message is None:
        assert count_frames(path) == FRAMES
    else:
        with pytest.raises(InputError, match=message):
            count_frames(path)


def test_what_is_no_video_is_named(tmp_path):
    path = tmp_path / "a.mp4"
    for content in (b"", b"no video", bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a.mp4: (no video that FFmpeg can read|holds no video)"):
            video_size(path)
