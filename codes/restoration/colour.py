"""Add the averaging of luminance and the correction of colours along motion to a method, as its last stages."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from codes.data.spikes import Exposure
from codes.motion.colour import ReferenceColours, correct_colour
from codes.motion.luminance import ExposureLuminance, average_luminance
from codes.physics.data_consistency import consistency_times
from codes.restoration.methods import Restore
from codes.restoration.view import View


def with_colour_along_motion(restore: Restore, window: int) -> Restore:
    """Return a method of restoration with luminance averaged and colours corrected along motion; frames not clipped.

    The frames evenly over the exposure are restored too. window: spike frames that the method needs around a target
    time; where the stream ends too close to the exposure for them, frames stay as the method restores them.
    """
    return partial(_restore, restore, window)


def _restore(
    restore: Restore,
    window: int,
    blur: Tensor,
    spikes: Tensor,
    times: Sequence[int],
    *,
    exposure: Exposure,
    view: View | None = None,
) -> Iterator[Tensor]:
    averaged = consistency_times(exposure)
    if averaged[0] < window // 2 or averaged[-1] > spikes.shape[1] - window + window // 2:
        yield from restore(blur, spikes, times, exposure=exposure, view=view)
        return
    others = [time for time in times if time not in averaged]
    frames = restore(blur, spikes, [*averaged, *others], exposure=exposure, view=view)
    restored = torch.stack([next(frames).float() for _ in averaged], 1)
    corrected, known = zip(*map(correct, restored, blur), strict=True)
    kept = dict(zip(averaged, torch.stack(corrected).unbind(1), strict=True))
    for time in times:
        if time in kept:
            yield kept[time]
        else:
            position = (time - exposure.margin) / max(exposure.length - 1, 1)
            yield torch.stack(
                [
                    colours.correct(luminance.average(frame.float(), position), position)
                    for (luminance, colours), frame in zip(known, next(frames), strict=True)
                ]
            )


def correct(frames: Tensor, blur: Tensor) -> tuple[Tensor, tuple[ExposureLuminance, ReferenceColours]]:
    """Average the luminance and correct the colours of frames [N,3,H,W], evenly over the exposure of a picture [3,H,W].

    Returns what frames at other times are averaged and corrected with, too.
    """
    averaged, luminance = average_luminance(frames)
    corrected, colours = correct_colour(averaged, blur)
    return corrected, (luminance, colours)
