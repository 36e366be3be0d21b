"""JPEG, decoded strictly: data that no encoder writes are refused.

Where bytes are missing in the middle, Huffman codes soon fall into step again, and only three things can tell: too few
or too many blocks (libjpeg), a block of too many coefficients, and a block darker than black or brighter than white
(FFmpeg). At 1,050 places in pictures of 480x854 (DAVIS, quality 75) without 1, 8 and 64 bytes, libjpeg alone refuses
17, 29 and 80 %, all three tests 32, 64 and 97 %; reading takes 3.2 ms instead of 1.8. 7, 10 and 3 % pass with a PSNR
under 30 dB: as many blocks as before, and means that are wrong but possible. At a quality of 97 and more the means of
blocks are not tested.
Source: ITU-T T.81.
"""

import re
from pathlib import Path

import numpy as np

from codes.errors import InputError

JPEG_END = b"\xff\xd9"
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a segment; not escaped data, padding, or a restart marker
START_OF_SCAN, HUFFMAN_TABLES, QUANTISATION_TABLES, FRAMES = 0xDA, 0xC4, 0xDB, (0xC0, 0xC1, 0xC2)
ZEROS = bytes(8)
BROKEN_CODES = ("error", "mjpeg_decode_dc: bad vlc")  # how messages of FFmpeg on Huffman codes begin
SLACK = 4  # of 255, by which rounding may bring the mean of a block out of range, beside its quantisation


def segments(data: bytes) -> list[tuple[int, int, int]]:
    """List the segments of a JPEG up to the end of the picture: (marker, first byte, behind the last byte).

    The segment of a scan reaches to the end of its entropy-coded data.
    """
    listed = [(0, 0, 2)]
    while (found := MARKER.search(data, listed[-1][2])) and listed[-1][0] != JPEG_END[1]:
        marker, start = data[found.start() + 1], found.end()
        end = start if marker == JPEG_END[1] else start + int.from_bytes(data[start : start + 2], "big")
        if marker == START_OF_SCAN:
            behind = MARKER.search(data, end)
            end = behind.start() if behind else len(data)
        listed.append((marker, start, min(end, len(data))))
    return listed


def decode_jpeg(path: str | Path, data: bytes, mode: str) -> np.ndarray:
    """Decode a JPEG as OpenCV does, bit for bit, but refuse what libjpeg warns of: OpenCV and Pillow hide it.

    Raises: InputError naming the damage, or a picture that is neither RGB nor gray.
    """
    try:
        import simplejpeg  # data sets of PNG do without
    except ImportError:
        raise InputError(f"{path}: reading JPEG needs simplejpeg: pip install -r requirements.txt") from None
    if mode not in ("RGB", "L"):
        raise InputError(f"{path}: a JPEG in {mode}; RGB and gray are accepted: convert it")
    try:
        if _has_zeroed_data(data):
            raise ValueError("zeros in the place of data")
        image = simplejpeg.decode_jpeg(data, colorspace="BGR", strict=True)
        if wrong := _impossible_blocks(data):
            raise ValueError(wrong)
        return image
    except ValueError as error:
        raise InputError(f"{path}: the data of the JPEG are damaged ({error}); copy it or make it again") from None


def _has_zeroed_data(data: bytes) -> bool:
    """Tell whether a part of a JPEG was overwritten with zeros, as by a copy that broke off.

    Zero bits are the first code of the Huffman table. Unless that ends a block, as it may in a flat picture, they
    would be 20 equal coefficients in a row, which pictures do not have.
    Source: ITU-T T.81, annexes B, F and G.
    """
    first_codes: dict[int, int] = {}
    for marker, start, end in segments(data):
        if marker == HUFFMAN_TABLES:
            at = start + 2
            while at + 17 < end:
                first_codes[data[at]] = data[at + 17]
                at += 17 + sum(data[at + 1 : at + 17])
        elif marker == START_OF_SCAN and start + 5 < end:
            header = data[start + 2 : start + 6 + 2 * data[start + 2]]  # components, and what it holds of coefficients
            table, last, is_refinement = header[2], header[-2], header[-1] >> 4
            has_value = first_codes.get(0x10 | table & 0x0F, 0) & 0x0F
            if last > 0 and not is_refinement and has_value and ZEROS in data[start:end]:
                return True
    return False


def _impossible_blocks(data: bytes) -> str:
    """Say what is wrong if a block has too many coefficients, or its mean is darker than black or brighter than white.

    Each block stores the difference of its mean from the last one's. Damage therefore shifts all means that follow, and
    some leave the range. Decoders hide this by clipping. FFmpeg decodes the means alone here, at an eighth of the size,
    and with half the quantisation steps nothing is clipped; a step of 1 has no half, and is not checked.
    """
    import av

    from codes.data.ffmpeg import error_messages

    halved, steps = _halved_steps(data)
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count, decoder.options = 1, {"err_detect": "explode", "lowres": "3"}
    with error_messages("mjpeg") as messages:
        try:
            frames = decoder.decode(av.Packet(halved)) + decoder.decode(None)
        except av.FFmpegError:
            frames = []  # of a kind that FFmpeg does not know, unless it says what is broken
    if broken := [message for message in messages if message.startswith(BROKEN_CODES)]:
        return broken[0]
    for frame in frames if len(frames) == 1 and frames[0].format.name.startswith(("yuv", "gray")) else ():
        for plane, (step, half) in zip(frame.planes, steps, strict=False):
            means = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            limit = (127.5 + SLACK + step / 8) * half / step
            if half < step and (means.max() - 127.5 > limit or 127.5 - means.min() > limit):
                return "a block darker than black or brighter than white"
    return ""


def _halved_steps(data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """Halve the quantisation steps of the means in a JPEG; return it and (step, halved step) of each component."""
    changed, steps, components = bytearray(data), {}, []
    for marker, start, end in segments(data):
        if marker in FRAMES:
            components = [data[at + 2] for at in range(start + 8, end - 2, 3)]
        at = start + 2
        while marker == QUANTISATION_TABLES and at < end:
            wide, table = divmod(data[at], 16)
            place = slice(at + 1, at + 3 if wide else at + 2)
            step = int.from_bytes(data[place], "big")
            half = max(1, step // 2)
            changed[place] = half.to_bytes(place.stop - place.start, "big")
            steps[table] = (step, half)
            at += 129 if wide else 65
    return bytes(changed[: segments(data)[-1][2]]), [steps.get(table, (1, 1)) for table in components]
