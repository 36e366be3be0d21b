"""Training curves as SVG: one panel for each loss or metric."""

import math
from html import escape

from codes.reporting.run_results import Curves

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 460, 220, 58, 30, 30
COLOURS = ("#2563a8", "#c4491d", "#2f8f4e", "#8a4fa3", "#9a7b12", "#3b8c99", "#b8457e", "#555555")


def group_into_panels(curves: Curves) -> dict[str, Curves]:
    """Group curves into panels: one for each loss and for the learning rate, one for each metric of all outputs."""
    found: dict[str, Curves] = {}
    for name, points in curves.items():
        group, _, last = name.rpartition("/")
        panel, label = (name, last) if group == "train" else (last, group)
        found.setdefault(panel, {})[label] = points
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("train/")))


def draw_panel(title: str, curves: Curves, *, logarithmic: bool = False) -> str:
    """Draw curves over optimiser steps as an SVG element; values that are not finite leave a gap."""
    scale = (lambda value: math.log10(value) if value > 0 else math.nan) if logarithmic else float
    lines = {name: [(step, scale(value)) for step, value in points] for name, points in curves.items()}
    finite = [(step, value) for points in lines.values() for step, value in points if math.isfinite(value)]
    first, last = min((step for step, _ in finite), default=0), max((step for step, _ in finite), default=1)
    low, high = min((value for _, value in finite), default=0.0), max((value for _, value in finite), default=1.0)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = max(low - margin, 0) if low >= 0 and not logarithmic else low - margin, high + margin

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 12) * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>']
    for part in (0, 0.25, 0.5, 0.75, 1):
        value = low + part * (high - low)
        label = f"{10**value:.2g}" if logarithmic else f"{value:.4g}"
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - 12}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
    for step in sorted({first + (last - first) * part // 4 for part in range(5)}):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{step}</text>')
    for place, (name, points) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = "".join(
            f"{'L' if before and math.isfinite(before[-1][1]) else 'M'}{x(step):.1f} {y(value):.1f}"
            for index, (step, value) in enumerate(points)
            if math.isfinite(value)
            for before in [points[:index][-1:]]
        )
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(points) == 1 and path:
            parts.append(f'<circle cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="3" fill="{colour}"/>')
        if len(lines) > 1:
            column, row = place % 4, place // 4
            parts.append(
                f'<text x="{LEFT + 100 * column}" y="{HEIGHT + 10 + 15 * row}" fill="{colour}">{escape(name)}</text>'
            )
    height = HEIGHT + (15 * -(-len(lines) // 4) if len(lines) > 1 else 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def draw_curves(curves: Curves) -> list[str]:
    """Draw all panels of a run as SVG elements, losses on a logarithmic scale."""
    return [
        draw_panel(panel, lines, logarithmic=panel.startswith("train/") and panel != "train/lr")
        for panel, lines in group_into_panels(curves).items()
    ]
