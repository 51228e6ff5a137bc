"""Pictures of every format and mode, damaged, empty, animated and huge: the same picture, or one message."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from command import command, failing, tiny_models
from fuzz.settings import PLAIN, cuts, examples, flips, only_ours
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.cli.generate import Generate, repeat
from arzoo.cli.knobs import control
from arzoo.cli.pictures import read_picture, read_settings
from arzoo.core.control import Control
from arzoo.data.folder import image_folder
from arzoo.viz.settings import write_png

FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16", "F", "I"),
}
CASES = [(kind, mode) for kind, modes in FORMATS.items() for mode in modes]


@functools.cache
def encoded(kind: str, mode: str, frames: int = 1) -> bytes:
    """Gray from black on the left to white on the right, in one or more equal frames."""
    ramp = np.tile(np.linspace(0, 255, 24).astype(np.uint8), (20, 1))
    if mode in ("I", "I;16"):
        picture = Image.fromarray(ramp.astype(np.uint16) * 257)
        picture = picture.convert("I") if mode == "I" else picture
    elif mode == "F":
        picture = Image.fromarray(ramp.astype(np.float32) / 255)
    elif mode == "LAB":
        flat = np.full_like(ramp, 128)
        picture = Image.merge("LAB", [Image.fromarray(band) for band in (ramp, flat, flat)])
    else:
        picture = Image.fromarray(ramp).convert("RGB").convert(mode)
    file = io.BytesIO()
    more = {"save_all": True, "append_images": [picture.rotate(180)] * (frames - 1)} if frames > 1 else {}
    picture.save(file, kind, **more)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_every_mode_shows_the_same_picture(tmp_path, kind, mode):
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(encoded(kind, mode))
    pixels = read_picture(str(path), 16, 16).numpy()
    assert pixels.shape == (16, 16, 3)
    if mode != "1":
        means = pixels.mean((0, 2))
        assert means[0] < 50
        assert means[-1] > 205
        assert (np.diff(means) > -12).all(), means
    assert image_folder(tmp_path, 16).images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_an_animation_the_first_frame(tmp_path, kind):
    still, moving = tmp_path / f"still.{kind.lower()}", tmp_path / f"moving.{kind.lower()}"
    still.write_bytes(encoded(kind, "RGB"))
    moving.write_bytes(encoded(kind, "RGB", frames=3))
    assert abs(read_picture(str(still), 16, 16).int() - read_picture(str(moving), 16, 16).int()).max() < 12


@examples(250)
@given(st.data())
def test_damaged_pictures(tmp_path, data):
    kind, mode = data.draw(st.sampled_from(CASES))
    whole = encoded(kind, mode)
    path = tmp_path / f"x.{data.draw(st.sampled_from([kind.lower(), 'png', 'jpg']))}"
    path.write_bytes(data.draw(flips(whole) | cuts(whole) | st.binary(max_size=40)))
    with only_ours(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_picture(str(path), 8, 8).shape == (8, 8, 3)
    with only_ours(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(image_folder(tmp_path, 8)) == 1
    path.unlink()


@examples(40)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP"]), st.floats(0, 0.6))
def test_half_a_picture_is_no_picture(tmp_path, kind, share):
    whole = encoded(kind, "RGB")
    path = tmp_path / "x.png"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArzooError, match="not a whole picture"):
        read_picture(str(path), 8, 8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims, and would decompress to, an enormous picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60000, 60000), (1 << 30, 1 << 30), (10000, 9000), (1, 1 << 31), (0, 0)])
def test_bombs(tmp_path, capsys, size):
    (tmp_path / "x.png").write_bytes(bomb(*size))
    with pytest.raises(ArzooError, match="not a whole picture"):
        read_picture(str(tmp_path / "x.png"), 8, 8)
    with pytest.raises(ArzooError, match="none readable"):
        image_folder(tmp_path, 8)


def test_a_text_that_unpacks_to_a_lot_is_refused(tmp_path):
    whole = encoded("PNG", "RGB")
    text = b"arzoo\0\1\0\0\0" + zlib.compress(b"[" * (1 << 28))
    (tmp_path / "x.png").write_bytes(whole[:33] + chunk(b"iTXt", text) + whole[33:])
    with pytest.raises(ArzooError):
        read_settings(str(tmp_path / "x.png"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("models"))


def weights_of(models):
    return open_checkpoint(models / "gen").parts["backbone"]["weights"][:12]


NAMES = (
    "model",
    "seed",
    "precision",
    "guidance",
    "top_k",
    "keep",
    "init",
    "class",
    "prompt",
    "sample_seed",
    "weights",
    "x",
)


@examples(150)
@given(st.dictionaries(st.sampled_from(NAMES), PLAIN, max_size=4), st.booleans())
def test_pictures_that_claim_any_settings(tmp_path, models, settings, whole):
    """`--like` of a stranger's picture: options of the right types, or one message."""
    base = {
        "model": str(models / "gen"),
        "seed": 0,
        "class": "",
        "sample_seed": 1,
        "weights": weights_of(models),
    }
    write_png(tmp_path / "x.png", Image.new("RGB", (4, 4)), {**base, **settings} if whole else settings)
    with only_ours():
        wanted, (seed,) = repeat(Generate(like=str(tmp_path / "x.png")))
        assert type(wanted.seed) is int
        assert 0 <= seed < 1 << 63
        wanted.check()
        control(Control(), wanted.knobs())


def test_one_such_picture_is_drawn(capsys, tmp_path, models):
    base = {
        "model": str(models / "gen"),
        "seed": 0,
        "class": "food/plain",
        "sample_seed": 1,
        "weights": weights_of(models),
    }
    write_png(tmp_path / "x.png", Image.new("RGB", (4, 4)), {**base, "top_k": 3, "x": [1]})
    options = ["generate", "--like", tmp_path / "x.png", "--out", tmp_path / "out"]
    assert command(capsys, *options, "--json").json["config"]["top_k"] == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_reconstructing_no_picture(capsys, tmp_path, models, content):
    (tmp_path / "x.png").write_bytes(content)
    options = ["--tokenizer", models / "tok", "--out", tmp_path / "out"]
    failing(command(capsys, "reconstruct", tmp_path / "x.png", *options), "not a whole picture")
    assert not (tmp_path / "out").exists()
