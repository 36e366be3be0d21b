"""Published baseline TFI: intensity from the last interval between spikes. The baseline TFP is `codes.physics.sdm.tfp`.

Source: Zhu et al., "A retina-inspired sampling method for visual texture reconstruction", ICME 2019.
"""

import torch
from torch import Tensor


def tfi(spikes: Tensor, center: int) -> Tensor:
    """Take intensity as 1 over the interval between the spikes around a time ("texture from inter-spike interval").

    spikes [B,T,h,w] of 0 and 1 -> [B,1,h,w] float in [0,1], spikes a frame as `codes.physics.sdm.tfp`. The interval
    runs from the last spike at or before `center` to the next one after it. Where the stream ends before either, it is
    the longer of what is seen of it and of the interval beside it; a pixel that never fires is 0.
    Raises: ValueError if `center` is outside the stream.
    """
    total = spikes.shape[1]
    if not 0 <= center < total:
        raise ValueError(f"time {center} is outside the stream, which has frames 0..{total - 1}")
    time = torch.arange(total, dtype=torch.int32, device=spikes.device).view(-1, 1, 1)
    fired, start, end = spikes > 0, -1, total

    def latest(before: Tensor | int) -> Tensor:
        return torch.where(fired & (time < before), time, start).amax(1, keepdim=True)

    def earliest(after: Tensor | int) -> Tensor:
        return torch.where(fired & (time > after), time, end).amin(1, keepdim=True)

    last, following = latest(center + 1), earliest(center)
    interval = following - last
    interval = torch.where(following == end, torch.maximum(interval, last - latest(last)), interval)
    interval = torch.where(last == start, torch.maximum(interval, earliest(following) - following), interval)
    return torch.where(fired.any(1, keepdim=True), 1 / interval, 0)
