"""Video files, decoded by FFmpeg: frames that are damaged, missing or unevenly spaced in time are refused.

Most damage is detected in H.264, MPEG-4 and FFV1, only some of it in HEVC, VP9 and Motion JPEG. Interlaced video is
refused where it says so.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import numpy as np

from codes.data.ffmpeg import MISSING, error_messages
from codes.errors import InputError

STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
# Bicubic, full chroma and accurate rounding, of libswscale: its colours are up to 2.5 of 255 off without.
ACCURATE = 0x4 | 0x2000 | 0x4000 | 0x40000
JITTER = 0.25  # of the usual time between two frames
FEW = 0.05  # share of the steps in time that may be wrong where single frames are missing


def video_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of the frames as they are shown.

    Raises: InputError if this is no video, or its first frame is damaged.
    """
    return _to_bgr(next(_decoded(path))).shape[:2]


@cache  # a walk through a video costs as much as decoding it
def count_frames(path: str | Path) -> int:
    """Count the frames and check all of them; a header cannot be relied on.

    Raises: InputError if a frame is damaged or missing, or the frame rate varies.
    """
    times = [frame.time for frame in _decoded(path)]
    _check_times(path, times)
    return len(times)


def read_frames(path: str | Path, first: int, last: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the frames first..last: name for messages, and [H,W,3] uint8 BGR, turned as the camera says.

    Colours follow the matrix and range that the video names, BT.601 and the limited range where it names none.
    Raises: InputError if one of them, or one before, is damaged or missing. Only `count_frames` checks their times.
    """
    number = -1
    for number, frame in enumerate(_decoded(path)):
        if number >= first:
            yield f"{path}, frame {number}", _to_bgr(frame)
        if number == last:
            return
    raise InputError(f"{path}: frame {number + 1} cannot be read")


def _decoded(path: str | Path) -> Iterator[av.VideoFrame]:
    """Yield the frames of a video.

    Raises: InputError naming the first one that is damaged, or the number of those that a shortened file has left.
    """
    with _opened(path) as (container, stream):
        stream.codec_context.options = STRICT
        stream.codec_context.thread_count = 1  # so that a message comes with its frame
        promised, times = stream.frames, []
        packets = container.demux(stream)
        while (packet := _next(path, packets, len(times), promised)) is not None:
            promised -= packet.is_discard  # as an edit list says
            with error_messages(stream.codec_context.codec.name) as messages:
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    messages.append(error.strerror)
                    frames = []
            damaged = packet.is_corrupt or any(frame.is_corrupt for frame in frames)
            if damaged or messages:
                raise _damaged(path, len(times), packet, messages)
            if any(frame.interlaced_frame for frame in frames):
                raise InputError(
                    f"{path}: interlaced near frame {len(times)}: its rows are of two times; deinterlace it "
                    f"(ffmpeg -i {Path(path).name} -vf bwdif -crf 12 OUT.mp4)"
                )
            for frame in frames:
                times.append(frame.pts or 0)
                yield frame
    if not times:
        raise InputError(f"{path}: holds no frame of video")
    # An AVI counts empty packets too: there the time shows whether its end is reached.
    span = (stream.duration or math.inf) * (len(times) - 1.5) / len(times)
    if len(times) < promised and times[-1] - times[0] < span:
        raise _shortened(path, len(times), promised)


def _damaged(path: str | Path, found: int, packet: av.Packet, messages: list[str]) -> InputError:
    """Return the error of a packet after `found` frames, with what the decoder said of it."""
    at = f"frame {found}" + (f" ({float(packet.pts * packet.time_base):.2f} s)" if packet.pts is not None else "")
    if messages and all(MISSING in message for message in messages):
        return InputError(
            f"{path}: frames are missing near {at}, by the numbers that H.264 gives them; copy the video again, or "
            "make a sequence of each part"
        )
    why = messages[0].rstrip(".") if messages else "marked as corrupt by FFmpeg"
    return InputError(f"{path}: damaged near {at}: {why}; copy the video again, or cut the part out")


def _next(path: str | Path, packets: Iterator[av.Packet], found: int, promised: int) -> av.Packet | None:
    try:
        return next(packets, None)
    except av.FFmpegError:
        raise _shortened(path, found, promised) from None


def _shortened(path: str | Path, found: int, promised: int) -> InputError:
    return InputError(
        f"{path}: holds {found} of the {promised} frames that its header promises; copy it again, or cut it"
    )


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: no video that FFmpeg can read ({error.strerror}): its end is missing or its format is unknown; "
            "copy it again, or make it an H.264 mp4 or a folder of PNGs"
        ) from None
    with container:
        if not container.streams.video:
            raise InputError(f"{path}: holds no video; make it an H.264 mp4 or a folder of PNGs")
        yield container, container.streams.video[0]


def _to_bgr(frame: av.VideoFrame) -> np.ndarray:
    """Convert a frame to [H,W,3] uint8 BGR, upright."""
    image = frame.reformat(format="bgr24", interpolation=ACCURATE).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _check_times(path: str | Path, times: list[float | None]) -> None:
    """Refuse frames that are not evenly spaced in time, up to the jitter of a camera.

    Raises: InputError naming the frames between which one is missing, those that are too close or in another order, or
    a varying rate.
    """
    if None in times or len(times) < 3:
        return
    steps = [after - before for before, after in pairwise(times)]
    if min(steps) < 0 or not any(steps):
        number = int(np.argmin(steps)) + 1
        raise InputError(
            f"{path}: frame {number} ({times[number]:.3f} s) is not later than the one before ({times[number - 1]:.3f} "
            "s): the time stamps are damaged; copy the video again, or make it a folder of PNGs"
        )
    usual = median(steps)
    wrong = [number for number, step in enumerate(steps) if abs(step - usual) > JITTER * usual + 0.001]
    mean = (times[-1] - times[0]) / len(steps)
    drift = max(abs(time - times[0] - number * mean) for number, time in enumerate(times))
    if len(wrong) > max(2, FEW * len(steps)) or (not wrong and drift > usual):
        longest, shortest = max(steps), max(min(steps), 1e-6)
        raise InputError(
            f"{path}: the frame rate varies ({1 / longest:.1f} to {1 / shortest:.1f} frames a second); record at a "
            "constant rate, or cut out a part that has one"
        )
    if wrong:
        number = wrong[0]
        between = f"frames {number} and {number + 1} ({times[number]:.3f} and {times[number + 1]:.3f} s)"
        if steps[number] > usual:
            raise InputError(
                f"{path}: frames are missing between {between}; copy the video again, or make a sequence of each part"
            )
        raise InputError(f"{path}: {between} are closer than the others, {usual:.3f} s: one is a repeat; cut it out")
