"""Comparison of the clocks that a recording may have.

All pictures decide together. A clock names a window of each picture, and the rig has one geometry: each window is
fitted by its picture, all with one correction of the geometry. The clock that leaves least unexplained is the
best. By one picture alone, most motions of a camera make a shift in time look like one of the views.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codes.registration.evidence import Evidence
from codes.registration.windows import GROUPS

AT_ONCE = 4096  # clocks that are compared at once
REPEATS = 2  # of the correction, whose weights depend on it
RIDGE = 1e-3  # of the correction, relative
FLOOR = 0.2  # of the energy of noise: by chance, an estimate of what is unexplained is negative


class Candidate(NamedTuple):
    """A clock, and how well it fits."""

    first: float  # spike frame at which the exposure of the first picture starts
    last: float  # of the last picture
    length: float
    loss: float = np.inf  # logarithm of the unexplained share of a window's energy, mean of all pictures
    correction: np.ndarray = np.zeros(0)  # [P], of the geometry, as the references


class Comparison:
    """Compares clocks by the evidence of some groups of pixels."""

    def __init__(
        self, evidence: Evidence, numbers: Sequence[int], groups: Sequence[int] = range(GROUPS), *, caution: float = 0.0
    ):
        """numbers: of the pictures, from 0; all 0 if each has a stream of its own and all have one exposure.

        caution: part of the noise of a window that counts as unexplained: by chance, one of many short windows fits.
        """
        cross, noise, along, own = (
            getattr(evidence, name)[:, list(groups)].sum(1, dtype=np.float64)
            for name in ("cross", "noise", "along", "own")
        )
        self.starts, self.lengths = evidence.starts, evidence.lengths
        self.share = np.asarray(numbers) / max(numbers[-1], 1)  # of the time from the first start to the last
        self.cross, self.along, self.own = (
            cross + caution * noise,
            np.moveaxis(along, 1, -1),
            own,
        )  # [n,S,L], [n,S,L,R], [n,R,R]
        gain = self.along[..., 0] / np.maximum(own[:, :1, :1], 1e-12)
        noise = np.where(gain > 0, noise / np.maximum(gain, 1e-9) ** 2, np.nan)
        # The same for all windows of a picture: else long ones, which have less, would be preferred.
        self.noise = np.array([np.nanmedian(one) if np.isfinite(one).any() else 1.0 for one in noise])

    def search(self, firsts: np.ndarray, lasts: np.ndarray, lengths: np.ndarray) -> Candidate:
        """Compare all clocks of some starts of the first picture, of the last one and lengths; return the best."""
        if not self.share[-1]:  # exposures are the same in streams of their own
            first, length = map(np.ravel, np.meshgrid(np.intersect1d(firsts, lasts), lengths, indexing="ij"))
            return self._best(np.stack((first, first, length)))
        grid = np.stack([one.ravel() for one in np.meshgrid(firsts, lasts, lengths, indexing="ij")])
        follows = (grid[1] - grid[0]) * np.diff(self.share).min() >= grid[2]  # one exposure the one before
        return self._best(grid[:, follows])

    def climb(self, candidate: Candidate, steps: Sequence[float]) -> Candidate:
        """Improve a clock by ever smaller steps of its starts and its length, in spike frames."""
        shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)), float)
        if not self.share[-1]:
            shifts = shifts[shifts[:, 0] == shifts[:, 1]]
        # A change of the length that leaves the middles of exposures where they are: they are known best.
        shifts = np.concatenate((shifts, shifts - shifts[:, 2:] * (0.5, 0.5, 0)))
        for step in steps:
            while (better := self._best((np.array(candidate[:3]) + step * shifts).T)).loss < candidate.loss - 1e-9:
                candidate = better
        return candidate

    def _best(self, grid: np.ndarray) -> Candidate:
        found = [self._losses(*grid[:, at : at + AT_ONCE]) for at in range(0, grid.shape[1], AT_ONCE)]
        loss, correction, _ = (np.concatenate(parts) for parts in zip(*found, strict=True))
        best = int(loss.argmin())
        return Candidate(*map(float, grid[:, best]), float(loss[best]), correction[best])

    def correlations(self, candidate: Candidate) -> np.ndarray:
        """Return the correlation of the window of each picture with it, without noise: [n]."""
        return self._losses(*np.array(candidate[:3])[:, None])[2][0]

    def _losses(self, first: np.ndarray, last: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the loss [K] of clocks by their values [K], corrections [K,P], and correlations of pictures [K,n]."""
        cross, along = self._windows(first[:, None] + (last - first)[:, None] * self.share, length)
        correction = np.zeros((len(first), self.own.shape[1] - 1))
        for repeat in range(REPEATS + 1):
            terms = np.concatenate((np.ones((len(first), 1)), correction), 1)
            product = np.maximum(np.einsum("knr,kr->kn", along, terms), 0)
            energy = np.einsum("kr,nrs,ks->kn", terms, self.own, terms) + 1e-12
            explained = product**2 / energy
            # Of a window per unit of its picture.
            scale = np.maximum(product / energy, 1e-6 * np.sqrt(cross.clip(1e-12) / energy))
            rest = np.maximum((cross - explained) / scale**2 + self.noise, FLOOR * self.noise)
            if correction.size and repeat < REPEATS:
                correction = self._correction((product > 0) / rest, along[..., 1:] / scale[..., None])
        loss = np.log(rest / (np.maximum(cross, explained) / scale**2 + self.noise))
        correlation = np.sqrt(explained / np.maximum(cross, 1e-12))
        return np.where(product > 0, loss, 0).mean(1), correction, correlation

    def _windows(self, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return energy [K,n] and products with the references [K,n,R] of windows; 0 for those that are not known."""
        places = np.rint((start - self.starts[:, 0]) / (self.starts[0, 1] - self.starts[0, 0])).astype(int)
        lengths = np.rint((length - self.lengths[0]) / (self.lengths[1] - self.lengths[0])).astype(int)[:, None]
        count = self.starts.shape[1], len(self.lengths)
        known = (places >= 0) & (places < count[0]) & (lengths >= 0) & (lengths < count[1])
        at = (np.arange(len(self.share)), places.clip(0, count[0] - 1), lengths.clip(0, count[1] - 1))
        return self.cross[at], self.along[at] * known[..., None]

    def _correction(self, weight: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Fit one correction [K,P] to all pictures with weights [K,n]; along: [K,n,P], per unit of a picture."""
        normal = np.einsum("kn,nrs->krs", weight, self.own[:, 1:, 1:])
        trace = np.trace(normal, axis1=1, axis2=2)[:, None, None] / normal.shape[1]
        normal += (RIDGE * trace + 1e-12) * np.eye(normal.shape[1])
        toward = np.einsum("kn,knr->kr", weight, along - self.own[:, 1:, 0])
        return np.linalg.solve(normal, toward[..., None])[..., 0]
