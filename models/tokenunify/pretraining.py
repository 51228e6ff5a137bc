"""What TokenUnify hides from a network in pre-training, and the losses of what it makes of the rest.

"TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025 (arXiv 2405.16847), on random token,
next token and next-all token prediction; here as in its published code, whose losses are squared errors of voxels in
[0, 1]. A token is a patch of voxels; tokens are numbered in raster order, x fastest.

* Random: any tokens are hidden. The loss is over all voxels, not only the hidden ones.
* Next: tokens from one on are hidden, and a head predicts that one. Nothing but the noise says which it is.
* Next-all: the same input; the network makes the whole volume, what is kept and all that follows.

Hidden voxels are standard normal noise, or zeros ("fill_nose" and mode 0 of the published code).

Shapes: B samples, C channels, Z Y X sides of the volume, K tokens, V numbers of a token.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.draws import Draws
from arzoo.core.volumes import Size, in_words
from arzoo.models.tokenunify.network import SegMamba

SHARES = (0.2, 0.8)
"""Range of the share of tokens that random prediction hides, as published."""


def to_tokens(volume_BCZYX: Tensor, patch: Size) -> Tensor:
    """Cut a volume into tokens (B, K, V).

    Raises:
        ArzooError: The sides of the volume are no multiples of those of the tokens.
    """
    B, C, *sides = volume_BCZYX.shape
    t, h, w = token_grid((sides[0], sides[1], sides[2]), patch)
    blocks = volume_BCZYX.reshape(B, C, t, patch[0], h, patch[1], w, patch[2])
    return blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(B, t * h * w, -1)


def to_volume(tokens_BKV: Tensor, sides: Size, patch: Size) -> Tensor:
    """Put tokens together to a volume (B, C, Z, Y, X) with these sides; the inverse of `to_tokens`."""
    t, h, w = token_grid(sides, patch)
    blocks = tokens_BKV.reshape(len(tokens_BKV), t, h, w, -1, *patch)
    return blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(len(tokens_BKV), -1, *sides)


def token_grid(sides: Size, patch: Size) -> Size:
    """Return the tokens along each axis of a volume with these sides.

    Raises:
        ArzooError: A side is no multiple of that of the tokens.
    """
    if any(side % part for side, part in zip(sides, patch, strict=True)):
        raise ArzooError(
            f"tokens of {in_words(patch)} voxels do not tile a volume of {in_words(sides)}: crop or pad the volume"
        )
    return sides[0] // patch[0], sides[1] // patch[1], sides[2] // patch[2]


def random_tokens(draws: Draws, tokens: int, share: float | None = None) -> Tensor:
    """Choose the tokens that random prediction hides.

    Args:
        draws: Randomness of each sample.
        tokens: K.
        share: Share of hidden tokens, from 0 to 1; None draws it for each sample from `SHARES`, as published.

    Returns:
        (B, K) bool, True where hidden.
    """
    low, high = SHARES if share is None else (share, share)
    counts = ((low + (high - low) * draws.uniform((draws.batch,))) * tokens).long()
    ranks = draws.uniform((draws.batch, tokens)).argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    return ranks < counts[:, None]


def random_cuts(draws: Draws, tokens: int) -> Tensor:
    """Choose the next token of each sample, (B,) from 1 to `tokens` - 1: there is always a token before it."""
    return 1 + draws.integers((draws.batch,), tokens - 1)


def later_tokens(cut_B: Tensor, tokens: int) -> Tensor:
    """Return which tokens next and next-all prediction hide, (B, K) bool: those from the cut on."""
    return torch.arange(tokens, device=cut_B.device) >= cut_B[:, None]


def hide(volume_BCZYX: Tensor, hidden_BK: Tensor, patch: Size, noise: Tensor | None = None) -> Tensor:
    """Hide tokens of a volume.

    Args:
        volume_BCZYX: The volume.
        hidden_BK: True where a token is hidden.
        patch: Sides of a token.
        noise: (B, C, Z, Y, X) what stands in hidden voxels; None for zeros.
    """
    tokens = to_tokens(volume_BCZYX, patch)
    others = torch.zeros_like(tokens) if noise is None else to_tokens(noise, patch)
    sides = volume_BCZYX.shape[2], volume_BCZYX.shape[3], volume_BCZYX.shape[4]
    return to_volume(torch.where(hidden_BK[..., None], others, tokens), sides, patch)


def token_at(volume_BCZYX: Tensor, cut_B: Tensor, patch: Size) -> Tensor:
    """Return one token of each sample as a volume (B, C, *patch)."""
    tokens = to_tokens(volume_BCZYX, patch)
    return tokens[torch.arange(len(tokens)), cut_B].unflatten(1, (-1, *patch))


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error (B,) of each sample."""
    return (prediction - target).square().flatten(1).mean(1)


class Prediction(NamedTuple):
    """What a network makes of a volume whose later tokens are hidden.

    Attributes:
        volume: (B, 1, Z, Y, X) the whole volume, voxels in [0, 1].
        token: (B, 1, z, y, x) the next token.
    """

    volume: Tensor
    token: Tensor

    def loss(self, volume: Tensor, token: Tensor, mode: Literal[0, 1] = 1) -> Tensor:
        """Return the loss (B,) of each sample.

        Args:
            volume: The volume with nothing hidden, and not augmented.
            token: The next token, of the volume that was hidden from, augmented or not.
            mode: `auto_mode` of the published code: 1 adds the losses of next-all and of next, and gave the published
                models; 0 was meant to take turns, but its code only ever gets to the loss of next.
        """
        following = squared_error(self.token, token)
        return squared_error(self.volume, volume) + following if mode == 1 else following


def predict(network: SegMamba, hidden_B1ZYX: Tensor) -> Prediction:
    """Predict the next token, and the whole volume.

    Args:
        network: A network with a resampler.
        hidden_B1ZYX: Volumes whose later tokens are hidden.

    Raises:
        ArzooError: The network has no head of the next token, or is made for other volumes.
    """
    if network.resampler is None:
        raise ArzooError("this network has no head of the next token: set `resampler`, as in segmamba_ar")
    logits = network.logits(hidden_B1ZYX)
    return Prediction(logits.sigmoid(), network.resampler(logits))
