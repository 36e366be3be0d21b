"""Messages of FFmpeg's decoders about damaged data, collected while frames are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager

import av

HARMLESS = ("SEI", "APP fields")  # in error messages of decoders: extra data that do not concern the picture
MISSING = "Frame num gap"  # of H.264: its numbers tell that frames are missing; FFmpeg says so for debugging alone


@contextmanager
def error_messages(decoder: str) -> Iterator[list[str]]:
    """Collect what a decoder of FFmpeg reports as errors and as MISSING: for some damage it does nothing else."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.DEBUG)
    av.logging.set_skip_repeated(False)
    messages: list[str] = []
    try:
        with av.logging.Capture() as logs:
            yield messages
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    messages[:0] = [
        text.strip()
        for level, name, text in logs
        if name == decoder
        and (level <= av.logging.ERROR or MISSING in text)
        and not any(harmless in text for harmless in HARMLESS)
    ]
