"""Normal equations of the super-resolution, accumulated from weighted samples between the pixels of a picture."""

import torch
from torch import Tensor


class NormalEquations:
    """Normal equations of weighted samples of N pictures: S^T W S picture = S^T W value.

    S samples a picture between its pixels, bilinear: half way between four pixels that is what a spike pixel sees.
    W holds the weights. S^T W S is a symmetric stencil of nine points for each pixel, so a sample is needed only once.
    """

    def __init__(self, pictures: Tensor):
        """Begin without samples; pictures: of the size [N,H,W], dtype and device."""
        number, self.height, self.width = pictures.shape
        self.sums = pictures.new_zeros(5, number, self.height * self.width)

    @property
    def observed(self) -> Tensor:
        """S^T W value, [N,H,W]."""
        return self.sums[4].unflatten(1, (self.height, self.width))

    def add(self, x: Tensor, y: Tensor, values: Tensor, weights: Tensor) -> None:
        """Add samples at positions x, y, each [N,...]; those outside the pictures are left out."""
        x, y, values, weights = (each.reshape(len(x), -1) for each in (x, y, values, weights))
        inside_x, inside_y = x.clamp(0, self.width - 1), y.clamp(0, self.height - 1)
        weights = weights * ((x == inside_x) & (y == inside_y))
        left, top = inside_x.floor().clamp_(max=self.width - 2), inside_y.floor().clamp_(max=self.height - 2)
        place = torch.add(left.long(), top.long(), alpha=self.width)
        right, down = inside_x - left, inside_y - top
        # Bilinear weights of the pixels around a sample: top left, top right, bottom left, bottom right.
        rest, above = 1 - right, 1 - down
        bilinear = rest * above, right * above, rest * down, right * down
        weighted = [weights * each for each in bilinear]
        corners = 0, 1, self.width, self.width + 1

        def add(plane: int, corner: int, samples: Tensor) -> None:
            self.sums[plane, :, corner:].scatter_add_(1, place, samples)

        for corner, each, own in zip(corners, weighted, bilinear, strict=True):
            add(4, corner, each * values)
            add(0, corner, each * own)
        add(1, 0, weighted[0] * bilinear[1])  # with the pixel to the right
        add(1, self.width, weighted[2] * bilinear[3])
        add(2, 0, weighted[0] * bilinear[2])  # with the pixel below
        add(2, 1, weighted[1] * bilinear[3])
        add(3, 0, weighted[0] * bilinear[3])  # along both diagonals

    def normal_matrix(self, pictures: Tensor) -> Tensor:
        """Return S^T W S of pictures [N,H,W]."""
        same, right, down, diagonal = self.sums[:4].unflatten(2, (self.height, self.width))
        first, last, whole = slice(None, -1), slice(1, None), slice(None)
        total = same * pictures
        for coefficient, one, other in (
            (right[..., first], (whole, whole, first), (whole, whole, last)),
            (down[:, first], (whole, first), (whole, last)),
            (diagonal[:, first, first], (whole, first, first), (whole, last, last)),
            (diagonal[:, first, first], (whole, first, last), (whole, last, first)),
        ):
            total[one].addcmul_(coefficient, pictures[other])
            total[other].addcmul_(coefficient, pictures[one])
        return total
