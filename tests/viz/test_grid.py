"""Contact sheets: text, zoom, and pictures of one class together."""

import numpy as np
import pytest
from PIL import ImageFont

from arzoo.viz.grid import by_title, contact_sheet, without_accents, wrapped


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


@pytest.mark.parametrize(("width", "cell"), [(1, 96), (16, 96), (64, 128), (96, 96), (256, 256)])
def test_small_pictures_are_enlarged_by_a_whole_number_and_large_ones_are_not(width, cell):
    picture = np.arange(width * width * 3).reshape(1, width, width, 3).astype(np.uint8)
    sheet = np.asarray(contact_sheet(picture))
    assert sheet.shape[1] == cell + 4
    zoom = cell // width
    assert (sheet[2:-2, 2:-2] == picture[0].repeat(zoom, 0).repeat(zoom, 1)).all(), "no pixel is smoothed"


def rows(titles: list[str]) -> list[str]:
    """Rows of a sheet of pictures with these titles."""
    columns, cells = by_title(titles)
    assert len(set(cells)) == len(titles)
    title = dict(zip(cells, titles, strict=True))
    return [
        "".join(title.get(row * columns + x, ".") for x in range(columns))
        for row in range(max(cells) // columns + 1)
    ]


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        ("abcabcab", ["abc", "abc", "ab."]),  # a column each
        ("abababab", ["aaaa", "bbbb"]),  # a row each, which is wider
        ("aaabb", ["aaa", "bb."]),
        ("aaaaaaaaa", ["aaa", "aaa", "aaa"]),
        ("abcd", ["ab", "cd"]),
        ("ab" * 12, ["a" * 10, "a" * 2 + "." * 8, "b" * 10, "b" * 2]),  # whole rows each
        ("abcdefghijkl" * 3, ["aaabbbccc", "dddeeefff", "ggghhhiii", "jjjkkklll"]),
    ],
)
def test_pictures_of_one_title_share_a_column_or_rows(titles, expected):
    assert [row.rstrip(".") for row in rows([*titles])] == [row.rstrip(".") for row in expected]


def test_captions_stay_within_their_cell():
    font = ImageFont.load_default(13)
    texts = [
        "cat",
        "face-smiling/openmoji",
        "a red heart with an arrow, drawn by hand",
        "w" * 60,
        "",
        "a_b/c-d e" * 9,
    ]
    for text in texts:
        lines = wrapped(text, 94, font)
        assert len(lines) <= 3
        assert all(font.getlength(line) <= 94 for line in lines)
        shown = "".join(lines).replace(" ", "")
        assert shown == text.replace(" ", "") or (shown.endswith("…") and len(lines) == 3)
    assert wrapped("face-smiling/openmoji", 94, font) == ["face-smiling/", "openmoji"]
    sheet = np.asarray(contact_sheet(np.zeros((2, 64, 64, 3), np.uint8), columns=2, captions=["m" * 99, ""]))
    assert (sheet[:, 132:] == sheet[2, -1]).all(2)[131:].all(), "nothing is written below the other picture"
