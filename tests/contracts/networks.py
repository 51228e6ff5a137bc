"""Small networks of every family with random weights, and their heads."""

import torch
from reference import CLASSES, FeatureFlow

from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.heads.depth import DepthConfig
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.dit import DiTConfig
from arzoo.models.heads.flow import FlowMLPConfig
from arzoo.models.himar.network import HiMARConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.mamba.network import MambaConfig
from arzoo.models.mar.network import MARConfig
from arzoo.models.maskgit.network import MaskGITConfig
from arzoo.models.nbp.network import NBPConfig
from arzoo.models.rar.network import RARConfig


def head(spec, axes=1, width=16):
    if not spec.discrete:
        return FeatureFlow(spec.channels)
    if spec.codebooks > 1:
        sizes = {"width": width, "vocab": spec.vocab, "codebooks": spec.codebooks, "axes": axes}
        return DepthConfig(**sizes, heads=2).build()
    made = CategoricalConfig(width=width, vocab=spec.vocab, axes=axes).build()
    torch.nn.init.normal_(made.output.weight)
    return made


def transformer(spec, axes=1, extras=0, **changes):
    sizes = {
        "width": 16,
        "depth": 2,
        "heads": 2,
        "hidden_multiple": 8,
        "vocab": spec.vocab,
        "channels": spec.channels,
        "classes": CLASSES,
    }
    config = TransformerConfig(
        grid=spec.layout.shape, axes=axes, extras=extras, codebooks=spec.codebooks, **(sizes | changes)
    )
    return config.build()


def mar(spec):
    """A small MAR with all weights at random: positions and gates that start at zero would hide mistakes."""
    sizes = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 24, "decoder_depth": 2, "buffer": 3}
    kind = {"channels": spec.channels, "vocab": spec.vocab, "codebooks": spec.codebooks, "classes": CLASSES}
    return shaken(MARConfig(grid=spec.layout.shape, **sizes, **kind).build())


def himar(spec):
    """A small Hi-MAR with all weights at random."""
    sizes = {"width": 24, "depth": 1, "heads": 2, "decoder_depth": 2, "buffer": 3, "classes": CLASSES}
    return shaken(HiMARConfig(levels=(2, 4), channels=spec.channels, vocab=spec.vocab, **sizes).build())


def dit(spec, std=0.2):
    """A small DiT head over 4 x 4 tokens."""
    sizes = {"width": 24, "hidden": 16, "depth": 1, "heads": 2, "grid": (1, 4, 4)}
    return shaken(DiTConfig(channels=spec.channels, **sizes).build(), std)


def rar(spec):
    """A small RAR with all weights at random."""
    sizes = {"width": 16, "depth": 2, "heads": 2, "hidden_width": 24, "vocab": spec.vocab, "classes": CLASSES}
    return shaken(RARConfig(grid=spec.layout.shape, **sizes).build())


def maskgit(spec):
    """A small MaskGIT with all weights at random."""
    sizes = {"width": 16, "depth": 2, "heads": 2, "hidden_width": 24, "vocab": spec.vocab, "classes": CLASSES}
    return shaken(MaskGITConfig(grid=spec.layout.shape, **sizes).build())


def mamba(spec, **changes):
    """A small Mamba with all weights at random, but rates and steps as they start."""
    sizes = {
        "width": 16,
        "depth": 2,
        "state_size": 4,
        "head_width": 8,
        "vocab": spec.vocab,
        "channels": spec.channels,
    }
    config = MambaConfig(
        grid=spec.layout.shape, codebooks=spec.codebooks, **({"classes": CLASSES} | sizes | changes)
    )
    made = config.build()
    for name, parameter in made.named_parameters():
        if not name.endswith(("A_log", "dt_bias", "dt_proj.bias")):
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def bare_head(spec):
    return [shaken(CategoricalConfig(width=16, vocab=spec.vocab, bare=True).build(), 1.0)]


def nbp(spec, **changes):
    """A small NBP with all weights at random, and its head, which also draws special ids."""
    config = NBPConfig(
        width=16, depth=2, heads=2, vocab=spec.vocab, grid=spec.layout.shape, positions=40, **changes
    )
    head = CategoricalConfig(width=16, vocab=spec.vocab, layer_norm=True, shift=config.shift)
    return shaken(config.build(), 0.5), [shaken(head.build(), 0.3)]


def plain_head(spec):
    return [shaken(CategoricalConfig(width=16, vocab=spec.vocab, plain=True).build(), 1.0)]


def diffusion(spec, width=24, std=0.2):
    return shaken(DiffusionMLPConfig(width=width, channels=spec.channels, hidden=16, depth=2).build(), std)


def shaken(module, std=0.2):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module


def flow_mlp(width=16):
    """A velocity a token, for features of some width."""
    made = FlowMLPConfig(channels=4, width=width, hidden=16, depth=1).build()
    torch.nn.init.normal_(made.output.weight)
    return [made]
