"""arzoo: a model zoo for autoregressive visual generation.

    import arzoo

    model = arzoo.load("nar_emoji64")                                 # a name, a folder, a .tar or hf-hub:org/name
    images = model.generate(classes=["food-fruit/twemoji", 7])        # (2, 1, 64, 64, 3) uint8: clips of one frame
    arzoo.save(images, "out/")                                        # out/0000.png, out/0001.png
    for step in model.stream(classes=[3], seed=1): preview = step.preview()    # uint8 pictures after every step
    codes = model.encode(images); back = model.decode(codes)          # `codes.values` (2, 64), and pictures again

Classes go by name or number; `images.images` are the pictures without frames, (2, 64, 64, 3).
`arzoo.list_models("nar*")` names checkpoints and networks; `arzoo.create("nar_b", classes=10)` makes a fresh network.
`model.tokenizer.encode` and `.decode` work on clips (B, 3, T, H, W) of floats in [-1, 1]; `save_pretrained`,
`from_pretrained` and `push_to_hub` share a model.

Importing this module does not import torch; the first call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arzoo.base.sharing import PROVIDER
from arzoo.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from arzoo.core.contracts import Tokenizer
    from arzoo.generation.generator import Generator

PROVIDER.append("arzoo.generation.sharing")

__all__ = ["__version__", "create", "list_models", "load", "save"]


def load(name: str | Path) -> Generator | Tokenizer:
    """A trained generator or tokenizer.

    Args:
        name: A shipped name or one of your own (`arzoo checkpoints ls`), the folder of a checkpoint or training run, a
            .tar that `arzoo checkpoints export` wrote, or `hf-hub:org/name`.

    Raises:
        ArzooError: It does not exist, is damaged, or belongs to another tokenizer.
    """
    from arzoo.generation import sharing

    return sharing.load(name)


def create(name: str, **changes: Any) -> nn.Module:
    """A backbone or tokenizer with fresh weights.

    Args:
        name: A registered name, see `list_models`.
        **changes: Settings that differ from the registered ones.

    Raises:
        UnknownName: Nothing has this name.
        ArzooError: A change names no setting or has the wrong type.
    """
    from arzoo.base import registry
    from arzoo.base.errors import UnknownName

    for kind in ("backbone", "tokenizer"):
        if name in registry.names(kind):
            return registry.create(kind, name, **changes)
    raise UnknownName("model", name, list_models())


def list_models(pattern: str = "*") -> list[str]:
    """Names of shipped checkpoints, backbones and tokenizers that match a shell pattern."""
    import fnmatch

    from arzoo.base import registry
    from arzoo.checkpoints.names import bundled

    found = {name for name in bundled() if fnmatch.fnmatchcase(name, pattern)}
    for kind in ("backbone", "tokenizer"):
        found.update(registry.summaries(kind, pattern))
    return sorted(found, key=registry.natural_key)


def save(images: Tensor, folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Write pictures as numbered PNGs.

    Args:
        images: (n, H, W, 3) uint8, or clips of one frame (n, 1, H, W, 3) as generators draw them.
        folder: Where to; made if absent.
        overwrite: Replace files that exist.

    Returns:
        The files.

    Raises:
        ArzooError: The shape or type is another one, or a file exists.
    """
    from pathlib import Path

    from PIL import Image

    from arzoo.base.errors import ArzooError

    if images.ndim == 5 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 4 or images.shape[-1] != 3 or str(images.dtype) != "torch.uint8":
        raise ArzooError(f"pictures must be (n, H, W, 3) uint8, got {tuple(images.shape)} {images.dtype}")
    files = [Path(folder) / f"{i:04d}.png" for i in range(len(images))]
    taken = next((path for path in files if path.exists()), None)
    if taken is not None and not overwrite:
        raise ArzooError(f"{taken} exists. Give another folder, or overwrite=True.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path, picture in zip(files, images.cpu().numpy(), strict=True):
        Image.fromarray(picture).save(path)
    return files
