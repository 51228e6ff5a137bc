"""Text on contact sheets."""

import numpy as np
from PIL import ImageFont

from arzoo.viz.grid import contact_sheet, without_accents


def test_letters_that_the_font_lacks_are_shown_without_accents():
    font = ImageFont.load_default(13)
    box = font.getmask("\N{SNOWMAN}").getbbox(), bytes(font.getmask("\N{SNOWMAN}"))
    assert (font.getmask("ã").getbbox(), bytes(font.getmask("ã"))) == box, "the font shows a box"
    assert without_accents("São Tomé, Åland, three o’clock…") == "Sao Tome, Aland, three o’clock…"
    pictures = np.full((1, 64, 96, 3), 255, np.uint8)
    sheets = [
        contact_sheet(pictures, titles=[text], captions=[f"{text}\n{text}"])
        for text in ("São Tomé", "Sao Tome")
    ]
    assert (np.asarray(sheets[0]) == np.asarray(sheets[1])).all()
