"""Pictures in rows on one picture, each with a text below it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

BACKGROUND, INK = (24, 26, 32), (230, 233, 240)
GAP = 4


def tiles(
    pictures: Sequence[tuple[str, Image.Image]], size: tuple[int, int], *, columns: int | None = None, label: int = 22
) -> Image.Image:
    """Rows of `columns` pictures, one row by default; the texts stand in lines of `label` pixels.

    A picture fills its tile of `size`; where its shape is another one, its middle does.
    """
    columns = columns or len(pictures)
    width, height = size[0] + GAP, size[1] + label + GAP
    sheet = Image.new("RGB", (columns * width - GAP, -(-len(pictures) // columns) * height - GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(label * 2 / 3) if label else None
    for place, (text, picture) in enumerate(pictures):
        x, y = place % columns * width, place // columns * height
        sheet.paste(ImageOps.fit(picture, size, Image.Resampling.LANCZOS), (x, y))
        draw.text((x + size[0] / 2, y + size[1] + label / 2), text, font=font, fill=INK, anchor="mm")
    return sheet
