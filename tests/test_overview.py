"""The overview drawing is well-formed SVG in one file, with all boxes inside."""

from xml.etree import ElementTree

import numpy as np

from scripts.dev.draw_overview import BOXES, HEIGHT, WIDTH, overview

SVG = "{http://www.w3.org/2000/svg}"


def test_the_drawing_is_well_formed_whole_and_small():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    spikes = np.random.default_rng(0).integers(0, 2, (3, 16, 16), np.uint8)
    drawing = overview(picture, spikes, picture, picture, picture, picture)
    root = ElementTree.fromstring(drawing)
    assert len(drawing) < 400_000
    assert len(root.findall(f"{SVG}image")) == 3 + 2 + 3
    assert all(image.get("href").startswith("data:image/") for image in root.iter(f"{SVG}image"))
    words = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "B · S / M" in words and not any("*" in line for line in words)
    assert {box[6].replace("*", "") for box in BOXES} <= set(words)
    for rectangle in root.iter(f"{SVG}rect"):
        left, top, width, height = (float(rectangle.get(name)) for name in ("x", "y", "width", "height"))
        assert left >= 0 and top >= 0 and left + width <= WIDTH and top + height <= HEIGHT
