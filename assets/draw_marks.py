"""Draw the app's icon and logo: a gland in cross-section, a ring of nuclei around its lumen.

Run it from the project's root: ``python assets/draw_marks.py``.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
TEAL, PALE = (11, 110, 117, 255), (226, 240, 241, 255)
OVERSAMPLING = 8


def draw_icon(side_px: int) -> Image.Image:
    """Draw the mark on a rounded square."""
    side = side_px * OVERSAMPLING
    icon = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(icon)
    draw.rounded_rectangle((0, 0, side - 1, side - 1), radius=side * 0.22, fill=TEAL)
    middle, ring, nucleus = side / 2, side * 0.29, side * 0.085
    for turn in np.linspace(0, 2 * np.pi, 9, endpoint=False):
        x, y = middle + ring * np.cos(turn), middle + ring * np.sin(turn)
        draw.ellipse((x - nucleus, y - nucleus, x + nucleus, y + nucleus), fill=PALE)
    lumen = side * 0.11
    draw.ellipse((middle - lumen, middle - lumen, middle + lumen, middle + lumen), fill=PALE)
    return icon.resize((side_px, side_px), Image.Resampling.LANCZOS)


def draw_logo(height_px: int) -> Image.Image:
    """Set the name beside the mark, in a grey that reads on light and dark ground."""
    icon = draw_icon(height_px)
    font = ImageFont.load_default(size=height_px * 0.5)
    words = "Breast histology"
    left, top, right, bottom = font.getbbox(words)
    logo = Image.new("RGBA", (round(height_px * 1.3 + right - left), height_px), (0, 0, 0, 0))
    logo.paste(icon, (0, 0))
    y = (height_px - (bottom - top)) / 2 - top
    ImageDraw.Draw(logo).text((height_px * 1.25, y), words, font=font, fill=(96, 122, 130, 255))
    return logo


if __name__ == "__main__":
    draw_icon(128).save(HERE / "icon.png")
    draw_logo(96).save(HERE / "logo.png")
