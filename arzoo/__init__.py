"""arzoo: a model zoo for autoregressive visual generation.

    import arzoo

    model = arzoo.load("nar_emoji64")                                 # a name, a folder, a .tar or hf-hub:org/name
    drawings = model.generate("cat-face", num=4, temperature=0.8)     # classes by name or number, or prompts
    images, files = drawings.images, drawings.save("out/")            # PIL images; out/0000.png, out/0001.png, ...
    for step in model.stream([3, 7], seed=1): preview = step.preview()    # the pictures after every step
    codes = model.encode(drawings.images); back = model.decode(codes)     # `codes.values` (4, 64), and pictures again

`arzoo.list_models("nar*")` names checkpoints and networks; `arzoo.create("nar_b", classes=10)` makes a fresh network.
Tokenizers have `encode_images`, `decode_images` and `reconstruct`, for pictures in the same layout; their `encode` and
`decode` are for networks, on clips (B, 3, T, H, W) of floats in [-1, 1]. `save_pretrained`, `from_pretrained` and
`push_to_hub` share a model.

Drawings are a tensor (4, 1, 64, 64, 3) uint8 as well, clips of one frame; `drawings.stills` are (4, 64, 64, 3).
`docs/python.md` shows more: completing pictures and likelihoods; `docs/extending.md` has plans and backbones of your
own. Importing this module does not import torch; the first call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arzoo.base.sharing import PROVIDER
from arzoo.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from arzoo.core.contracts import Tokenizer
    from arzoo.generation.generator import Generator
    from arzoo.segmentation.segmenter import Segmenter

PROVIDER.append("arzoo.generation.sharing")

__all__ = ["Generator", "__version__", "create", "list_models", "load", "save"]

_NETWORKS = ("backbone", "tokenizer", "segmenter")
"""Kinds of networks that are created by name."""


def __getattr__(name: str) -> Any:
    """Import `Generator` when it is first used, because that imports torch."""
    if name != "Generator":
        raise AttributeError(f"module 'arzoo' has no attribute {name!r}")
    from arzoo.generation.generator import Generator

    return Generator


def load(name: str | Path) -> Generator | Tokenizer | Segmenter:
    """A trained generator or tokenizer, or a segmenter of volumes.

    Args:
        name: A shipped name or one of your own (`arzoo checkpoints ls`), the folder of a checkpoint or training run, a
            .tar that `arzoo checkpoints export` wrote, or `hf-hub:org/name`.

    Raises:
        ArzooError: It does not exist, is damaged, belongs to another tokenizer, or is a segmenter that was only
            pre-trained.
    """
    from arzoo.generation import sharing

    return sharing.load(name)


def create(name: str, pretrained: bool = False, **changes: Any) -> nn.Module | Generator | Segmenter:
    """A backbone, tokenizer or segmenter with fresh weights, or a trained model.

    Args:
        name: A registered name, or with `pretrained` a checkpoint, see `list_models`.
        pretrained: Load trained weights, as `load` does.
        **changes: Settings that differ from the registered ones.

    Raises:
        UnknownName: Nothing has this name.
        ArzooError: A change names no setting or has the wrong type, there are no weights under this name, or weights
            and settings are asked for at once.
    """
    from arzoo.base import registry
    from arzoo.base.errors import ArzooError, UnknownName
    from arzoo.checkpoints.names import bundled

    kind = next((kind for kind in _NETWORKS if name in registry.names(kind)), "")
    if pretrained:
        if changes:
            raise ArzooError(f"trained weights have settings of their own: leave {', '.join(changes)} out")
        if kind:
            raise ArzooError(
                f"{name!r} is the name of a network, of which no trained weights are shipped. With weights there are: "
                f"{', '.join(bundled())}. Published ones are converted by `arzoo convert`, and read by arzoo.load."
            )
        return load(name)
    if kind:
        network: nn.Module = registry.create(kind, name, **changes)
        return network
    if name in bundled():
        raise ArzooError(
            f"{name!r} has trained weights: create({name!r}, pretrained=True), or arzoo.load({name!r})"
        )
    raise UnknownName("model", name, list_models())


def list_models(pattern: str = "*") -> list[str]:
    """Names of shipped checkpoints, backbones, tokenizers and segmenters that match a shell pattern."""
    import fnmatch

    from arzoo.base import registry
    from arzoo.checkpoints.names import bundled

    found = {name for name in bundled() if fnmatch.fnmatchcase(name, pattern)}
    for kind in _NETWORKS:
        found.update(registry.summaries(kind, pattern))
    return sorted(found, key=registry.natural_key)


def save(images: Any, folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Write pictures as numbered PNGs, and clips as numbered WebP animations of 8 frames a second, without any loss.

    Args:
        images: (n, H, W, 3) uint8, or clips (n, T, H, W, 3) as generators draw them; those of one frame are pictures.
            A list of PIL images is fine too.
        folder: Where to; made if absent.
        overwrite: Replace files that exist.

    Returns:
        The files.

    Raises:
        ArzooError: The shape or type is another one, or a file exists.
    """
    from arzoo.viz.saving import save

    return save(images, folder, overwrite)
