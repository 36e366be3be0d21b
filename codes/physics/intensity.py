"""ISI intensity: intensity from inter-spike intervals, far more accurate than the number of spikes in a window.

A pixel fires when it has collected a fixed charge, so its intensity over each inter-spike interval (ISI) is 1/interval.
A window of 9 spike frames resolves ninths; the intervals that it cuts resolve fractions.
"""

import torch
from torch import Tensor

IN_CACHE = 2**18  # spikes whose ISI intensity a CPU computes without leaving its cache
NOISE_THRESHOLD = 0.3  # how much more similar its intervals must become for a spike to be removed as noise


def estimate_intensity(spikes: Tensor, spike_input: str) -> Tensor:
    """Return what the method averages: the spikes [B,T,h,w] themselves ("counts"), or their ISI intensity."""
    return spikes if spike_input == "counts" else isi_intensity(spikes)


def isi_intensity(spikes: Tensor) -> Tensor:
    """Estimate the intensity of each pixel from its intervals without noise spikes: [B,T,h,w] -> the same, float32."""
    # Pixels are independent: on a CPU a few rows at a time stay in the cache; a GPU computes all at once.
    rows = max(IN_CACHE // spikes[:, :, :1].numel(), 1) if spikes.device.type == "cpu" else spikes.shape[2]
    return torch.cat([firing_rate(remove_noise_spikes(part)) for part in spikes.split(rows, 2)], 2)


def firing_rate(spikes: Tensor) -> Tensor:
    """Return the intensity in every spike frame as 1/interval: spikes [B,T,h,w] of 0 and 1 -> float32 in [1/2T,1].

    A spike frame belongs to the interval that ends with the next spike at or after it. An interval that the stream cuts
    at its beginning or end counts as the longer of its visible part and its neighbour; a pixel that never fires has 2T.
    """
    total, fired = spikes.shape[1], spikes > 0
    before, after = interval_ends(spikes)
    # -1 and `total` stand for spikes outside the stream: at either end the interval is at least this long.
    interval = after - before
    opening, closing = before < 0, after == total
    first, last = after[:, :1], ((_clock(fired) + 1) * fired).amax(1, keepdim=True) - 1
    known = interval.masked_fill(opening | closing, 0)  # an interval that the stream does not cut
    neighbour = opening * known.gather(1, (first + 1).clamp(max=total - 1).long())
    neighbour += closing * known.gather(1, last.clamp(min=0).long())
    interval = torch.maximum(interval, neighbour).float()
    return interval.masked_fill_(opening & closing, 2 * total).reciprocal_()


def interval_ends(spikes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spikes around every spike frame, [B,T,h,w]: the last one before it or -1, the next from it on or T."""
    fired = spikes > 0
    return _last_before(_clock(fired), fired), _next_from(_clock(fired), fired)


def remove_noise_spikes(spikes: Tensor) -> Tensor:
    """Remove noise spikes, which a sensor adds at random: [B,T,h,w] of 0 and 1 -> the same, uint8.

    A noise spike splits an interval in two: without it neighbouring intervals are more similar. Differences of one
    spike frame are quantisation and do not count; of an interval that the stream cuts only a lower bound is known.
    """
    total, fired = spikes.shape[1], spikes > 0
    time = _clock(fired)
    before, after = _last_before(time, fired), _next_after(time, fired)
    earlier, later = _last_before(before, fired), _next_after(after, fired)

    first, second, merged = time - before, after - time, after - before
    left, right = before - earlier, later - after

    def dissimilarity(neighbour: Tensor, is_cut: Tensor | None, interval: Tensor) -> Tensor:
        """Compare an interval with its neighbour; where the stream cuts that, its length is a lower bound."""
        longer = neighbour - interval
        difference = longer.abs() if is_cut is None else torch.where(is_cut, longer, longer.abs())
        return (difference - 1).clamp_(min=0).float().div_((neighbour + interval).clamp_(min=1))

    split = dissimilarity(left, earlier < 0, first) + dissimilarity(second, None, first)
    split += dissimilarity(right, later == total, second)
    joined = dissimilarity(left, earlier < 0, merged) + dissimilarity(right, later == total, merged)
    gain = (split - joined - NOISE_THRESHOLD).relu_() * (fired & (before >= 0) & (after < total))
    # Of two neighbouring candidates one is noise: the one with the larger gain.
    former, following = (gain.gather(1, other.clamp(0, total - 1).long()) for other in (before, after))
    return (fired & ~((gain > former) & (gain >= following))).to(torch.uint8)


def _clock(like: Tensor) -> Tensor:
    """Number the spike frames of a stream [B,T,h,w]: [T,1,1], in 16 bits where they suffice."""
    dtype = torch.int16 if like.shape[1] < 2**14 else torch.int32
    return torch.arange(like.shape[1], dtype=dtype, device=like.device).view(-1, 1, 1)


def _last_before(values: Tensor, fired: Tensor) -> Tensor:
    """Return, in every spike frame, the value at the last spike before it, -1 if there is none; values ascend."""
    found = (values + 1) * fired - 1
    return _running_maximum(torch.cat((torch.full_like(found[:, :1], -1), found[:, :-1]), 1))


def _running_maximum(found: Tensor) -> Tensor:
    """Return the largest value up to each spike frame of [B,T,h,w]."""
    if found.device.type != "cpu":
        return found.cummax(1).values
    step = 1
    while step < found.shape[1]:  # log2(T) passes: on a CPU torch.cummax walks along time one by one
        found = torch.cat((found[:, :step], torch.maximum(found[:, step:], found[:, :-step])), 1)
        step *= 2
    return found


def _next_after(values: Tensor, fired: Tensor) -> Tensor:
    """Return, in every spike frame, the value at the next spike after it, T if there is none; values ascend."""
    last = fired.shape[1] - 1
    return last - _last_before((last - values).expand_as(fired).flip(1), fired.flip(1)).flip(1)


def _next_from(values: Tensor, fired: Tensor) -> Tensor:
    """Return, in every spike frame, the value at the spike at it or the next one, T if there is none."""
    return torch.where(fired, values, _next_after(values, fired))
