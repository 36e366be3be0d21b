"""Light from the time between spikes, which knows it far better than the number of spikes in a window.

A pixel fires when it has gathered a fixed charge, so over each interval its light is 1/interval. A window of 9 ticks
counts to 1/9; the intervals that it cuts tell the fractions.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.data.spikes import UPSCALE, Exposure
from codes.physics.sdm import gray, sharpen, tfp, windows

DARKEST = 1e-3  # share of the mean light below which light over the exposure is not divided by
LARGEST_RATIO = 255.0  # beyond it a ratio changes no 8-bit picture
IN_CACHE = 2**18  # spikes whose rates a CPU finds without leaving its cache
GAIN_OF_DOUBT = 0.3  # how much more alike its intervals must become for a spike to be called false


def estimate_intensity(spikes: Tensor, spike_input: str) -> Tensor:
    """Return what the method averages: the spikes themselves ("counts"), or the rates of the true ones ("rates")."""
    if spike_input == "counts":
        return spikes
    # Every pixel is on its own: some rows at a time stay in the cache of a CPU; a GPU takes the whole.
    rows = max(IN_CACHE // spikes[:, :, :1].numel(), 1) if spikes.device.type == "cpu" else spikes.shape[2]
    return torch.cat([firing_rate(remove_noise_spikes(part)) for part in spikes.split(rows, 2)], 2)


def ldn_input(
    blur: Tensor, light: Tensor, *, length: int, short: int, exposure: Exposure, spike_input: str
) -> Callable[[list[int]], tuple[Tensor, Tensor, Tensor | None]]:
    """Return a function from N instants to what LDN is given for them: picture, windows, and where it starts.

    blur: pictures [B,3,H,W]; light: [B,T,h,w] by `estimate_intensity`. Counts are given as they are, [B*N,length,h,w],
    beside the blurry picture, where LDN starts (None). Rates are brought to the scale of the picture, so that threshold
    and gain cancel, and LDN starts at what the closed form makes of them, [B*N,3,H,W]: it learns what is missing there.
    """
    if spike_input == "counts":
        return lambda centers: (blur, windows(light, centers, length), None)
    light = match_picture_scale(light, blur, exposure)
    mean = upsample_bicubic(tfp(light, exposure.center, exposure.length))

    def given(centers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        ratios = intensity_ratios(
            torch.stack([upsample_bicubic(tfp(light, center, short)) for center in centers], 1), mean
        )
        return blur, windows(light, centers, length), apply_ratios(blur, ratios).flatten(0, 1)

    return given


def match_picture_scale(light: Tensor, blur: Tensor, exposure: Exposure) -> Tensor:
    """Scale light [B,T,h,w] so that over the exposure it is as bright as the picture [B,3,H,W] in gray."""
    mean = tfp(light, exposure.center, exposure.length).mean((1, 2, 3))
    return light * (gray(blur).mean((1, 2, 3)) / mean).view(-1, 1, 1, 1)


def intensity_ratios(light: Tensor, mean: Tensor) -> Tensor:
    """Divide light [B,N,1,H,W] by its mean [B,1,H,W] and append that: [B,N+1,1,H,W]."""
    darkest = DARKEST * mean.mean((1, 2, 3), keepdim=True)
    mean, light = torch.maximum(mean, darkest).unsqueeze(1), torch.maximum(light, darkest.unsqueeze(1))
    return torch.cat(((light / mean).clamp(max=LARGEST_RATIO), mean), 1)


def apply_ratios(blur: Tensor, ratios: Tensor) -> Tensor:
    """Apply `intensity_ratios` [B,N+1,1,H,W] to a blurry picture [B,3,H,W]: [B,N,3,H,W], clipped to [0,1]."""
    return torch.stack([sharpen(blur, ratio, ratios[:, -1]) for ratio in ratios[:, :-1].unbind(1)], 1).clamp_(0, 1)


def upsample_bicubic(light: Tensor) -> Tensor:
    """Enlarge light [B,C,h,w] by 4."""
    return F.interpolate(light, scale_factor=UPSCALE, mode="bicubic")


def firing_rate(spikes: Tensor) -> Tensor:
    """Return the light at every tick as 1/interval: spikes [B,T,h,w] of 0 and 1 -> [B,T,h,w] float32 in [1/2T,1].

    A tick belongs to the interval that ends with the next spike at or after it. Where the stream begins or ends inside
    an interval, that is taken as the longer of what is seen of it and its neighbour; a pixel that never fires has 2T.
    """
    total, fired = spikes.shape[1], spikes > 0
    before, after = interval_ends(spikes)
    # -1 and `total` stand for spikes that were not seen: at either end the interval is at least this long.
    interval = after - before
    opening, closing = before < 0, after == total
    first, last = after[:, :1], ((_clock(fired) + 1) * fired).amax(1, keepdim=True) - 1
    known = interval.masked_fill(opening | closing, 0)  # an inner interval, seen whole
    neighbour = opening * known.gather(1, (first + 1).clamp(max=total - 1).long())
    neighbour += closing * known.gather(1, last.clamp(min=0).long())
    interval = torch.maximum(interval, neighbour).float()
    return interval.masked_fill_(opening & closing, 2 * total).reciprocal_()


def interval_ends(spikes: Tensor) -> tuple[Tensor, Tensor]:
    """Return between which spikes every tick lies, [B,T,h,w]: the last before it or -1, the next from it on or T."""
    fired = spikes > 0
    return _last_before(_clock(fired), fired), _next_from(_clock(fired), fired)


def remove_noise_spikes(spikes: Tensor) -> Tensor:
    """Remove the spikes that no light made, which a sensor adds at random: [B,T,h,w] of 0 and 1 -> the same, uint8.

    A false spike splits an interval in two: without it neighbouring intervals are more alike. Differences of one tick,
    the clock's, say nothing; the interval at either end of the stream says only how long it is at least.
    """
    total, fired = spikes.shape[1], spikes > 0
    time = _clock(fired)
    before, after = _last_before(time, fired), _next_after(time, fired)
    earlier, later = _last_before(before, fired), _next_after(after, fired)

    one, two, whole = time - before, after - time, after - before
    left, right = before - earlier, later - after

    def unlike(end: Tensor, is_open: Tensor | None, interval: Tensor) -> Tensor:
        """Compare an interval with its neighbour, of which at an open end only the least length is known."""
        longer = end - interval
        apart = longer.abs() if is_open is None else torch.where(is_open, longer, longer.abs())
        return (apart - 1).clamp_(min=0).float().div_((end + interval).clamp_(min=1))

    apart = unlike(left, earlier < 0, one) + unlike(two, None, one) + unlike(right, later == total, two)
    together = unlike(left, earlier < 0, whole) + unlike(right, later == total, whole)
    gain = (apart - together - GAIN_OF_DOUBT).relu_() * (fired & (before >= 0) & (after < total))
    # Of two neighbours that both look false one is: the more so.
    former, following = (gain.gather(1, other.clamp(0, total - 1).long()) for other in (before, after))
    return (fired & ~((gain > former) & (gain >= following))).to(torch.uint8)


def _clock(like: Tensor) -> Tensor:
    """Number the ticks of a stream [B,T,h,w]: [T,1,1], in 16 bits where they do."""
    dtype = torch.int16 if like.shape[1] < 2**14 else torch.int32
    return torch.arange(like.shape[1], dtype=dtype, device=like.device).view(-1, 1, 1)


def _last_before(values: Tensor, fired: Tensor) -> Tensor:
    """Return, at every tick, the value at the last spike before it, -1 if there was none; values grow with time."""
    found = (values + 1) * fired - 1
    found = torch.cat((torch.full_like(found[:, :1], -1), found[:, :-1]), 1)
    step = 1
    while step < found.shape[1]:  # a running maximum in log2(T) passes: torch.cummax walks along time one by one
        found = torch.cat((found[:, :step], torch.maximum(found[:, step:], found[:, :-step])), 1)
        step *= 2
    return found


def _next_after(values: Tensor, fired: Tensor) -> Tensor:
    """Return, at every tick, the value at the next spike after it, T if there is none; values grow with time."""
    last = fired.shape[1] - 1
    return last - _last_before((last - values).expand_as(fired).flip(1), fired.flip(1)).flip(1)


def _next_from(values: Tensor, fired: Tensor) -> Tensor:
    """Return, at every tick, the value at the spike at it or the next one, T if there is none."""
    return torch.where(fired, values, _next_after(values, fired))
