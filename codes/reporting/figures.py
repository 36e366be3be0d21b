"""Figures of qualitative results: outputs side by side, an enlarged detail, error maps."""

from collections.abc import Sequence

import cv2
import numpy as np

LARGEST_ERROR = 0.25  # absolute error of the brightest colour of the error map; intensities are in [0,1]
GAP = 6
FRAME = (60, 200, 255)  # BGR colour of the frame around the detail


def comparison_grid(outputs: dict[str, np.ndarray], captions: dict[str, str], *, width: int = 320) -> np.ndarray:
    """Draw one column for each output: the picture, an enlarged detail, the error map against "truth", a caption.

    Outputs are [H,W,3] uint8 BGR; smaller ones are enlarged by nearest neighbour. Columns are `width` pixels wide. The
    detail is a square of a quarter of the width where the error of the first output is largest; without a truth it is
    the centre, and there is no error map. Returns [H',W',3] uint8.
    """
    height, wide = max(image.shape[:2] for image in outputs.values())
    whole = {
        name: cv2.resize(image, (wide, height), interpolation=cv2.INTER_NEAREST) for name, image in outputs.items()
    }
    truth = whole.get("truth")
    errors = {} if truth is None else {name: _error(image, truth) for name, image in whole.items()}
    top, left, side = _detail(next(iter(errors.values()), None), height, wide)
    columns = []
    for name, image in whole.items():
        framed, thick = image.copy(), max(1, wide // 200)
        cv2.rectangle(framed, (left, top), (left + side, top + side), FRAME, thick)
        tall = round(height * width / wide)
        tiles = [
            cv2.resize(framed, (width, tall), interpolation=cv2.INTER_AREA),
            cv2.resize(image[top : top + side, left : left + side], (width, width), interpolation=cv2.INTER_NEAREST),
        ]
        if errors:
            colours = cv2.applyColorMap(np.uint8(errors[name] / LARGEST_ERROR * 255), cv2.COLORMAP_INFERNO)
            tiles.append(cv2.resize(colours, (width, tall), interpolation=cv2.INTER_AREA))
        tiles.append(_caption([name, captions.get(name, "")], width))
        columns.append(np.vstack([np.pad(tile, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for tile in tiles]))
    columns = [np.pad(column, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255) for column in columns]
    return np.pad(np.hstack(columns), ((0, 0), (0, GAP), (0, 0)), constant_values=255)


def side_by_side(names: Sequence[str], rows: list[list[np.ndarray]]) -> np.ndarray:
    """Place pictures [H,W,3] uint8 BGR side by side at their size, one row for each sample, under a row of names."""
    pictures = [np.hstack(row) for row in rows]
    width = max(picture.shape[1] for picture in pictures)
    filled = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    head = np.hstack([_caption([name], image.shape[1]) for name, image in zip(names, rows[0], strict=True)])
    return np.vstack([np.pad(head, ((0, 0), (0, width - head.shape[1]), (0, 0)), constant_values=255), *filled])


def _error(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of the channels, [H,W] in [0, LARGEST_ERROR]."""
    return np.minimum(cv2.absdiff(image, truth).mean(2) / 255, LARGEST_ERROR)


def _detail(error: np.ndarray | None, height: int, width: int) -> tuple[int, int, int]:
    """Choose the square to enlarge: the one with the largest sum of errors, else the centre; (top, left, side)."""
    side = max(min(width // 4, height), 1)
    if error is None:
        return (height - side) // 2, (width - side) // 2, side
    sums = cv2.boxFilter(error, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    top, left = np.unravel_index(
        sums[: height - side + 1, : width - side + 1].argmax(), (height - side + 1, width - side + 1)
    )
    return int(top), int(left), side


def _caption(lines: list[str], width: int) -> np.ndarray:
    image = np.full((22 * len(lines) + 6, width, 3), 255, np.uint8)
    for place, line in enumerate(lines):
        cv2.putText(image, line, (4, 18 + 22 * place), cv2.FONT_HERSHEY_SIMPLEX, 0.52, (20, 20, 20), 1, cv2.LINE_AA)
    return image
