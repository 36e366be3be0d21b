"""Add `codes.motion.colour` to a method of restoration, as its last stage."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from codes.data.spikes import Exposure
from codes.motion.colour import correct_colour
from codes.physics.data_consistency import consistency_times
from codes.restoration.methods import Restore
from codes.restoration.view import View


def with_colour_along_motion(restore: Restore, window: int) -> Restore:
    """Return a method of restoration whose colours are corrected along motion; its frames are not clipped.

    The frames evenly over the exposure are restored too. window: spike frames that the method needs around a target
    time; where the stream ends too close to the exposure for them, colours stay as the method restores them.
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
    corrected, colours = zip(*map(correct_colour, restored, blur), strict=True)
    kept = dict(zip(averaged, torch.stack(corrected).unbind(1), strict=True))
    for time in times:
        if time in kept:
            yield kept[time]
        else:
            position = (time - exposure.margin) / max(exposure.length - 1, 1)
            yield torch.stack([c.correct(f.float(), position) for c, f in zip(colours, next(frames), strict=True)])
