"""Quality of reconstructions: registered pairwise metrics, and the bank that collects their scores."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.utilities import dim_zero_cat

from arzoo.base.finite import refuse_unscorable
from arzoo.base.registry import register
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.data.transforms import to_model, to_uint8
from arzoo.metrics.comparison import Comparison, Pairs, Unavailable
from arzoo.metrics.protocol import Figure
from arzoo.metrics.rate import OWN, Rate
from arzoo.metrics.scores.bootstrap import error_of_mean
from arzoo.metrics.scores.codebook import codebook_use, perplexity_error
from arzoo.tokenizers.common.perceptual import PerceptualDistance

EQUAL = 100.0
"""PSNR in dB that equal pictures have in a mean."""
_COUNTED = "a count over these pictures: resampling them can only lose codes, so it says nothing of the error"
PERCEPTUAL_SIDE = 32
"""Smallest side of pictures for the perceptual distance."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (B,) in dB of pictures (B, H, W, 3) uint8; equal pictures give infinity."""
    error = (a.double() - b.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255.0**2 / error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity (B,) of pictures (B, H, W, 3) uint8, Gaussian window of 11 pixels."""
    x, y = (t.permute(0, 3, 1, 2).double() for t in (a, b))
    value = structural_similarity_index_measure(x, y, data_range=255.0, reduction="none")
    assert isinstance(value, Tensor)
    return value.reshape(-1)


@torch.inference_mode()
def reconstruct(tokenizer: Tokenizer, images: Tensor, rate: Rate = OWN) -> tuple[Tensor, Tensor, Tensor]:
    """Encode and decode pictures or clips one by one, so that no result depends on the batch.

    Args:
        tokenizer: In evaluation mode.
        images: (B, H, W, 3) or (B, T, H, W, 3) uint8.
        rate: How many tokens a picture may have.

    Returns:
        Tokens (B, N, ...), which of them are present (B, N) bool, and reconstructions like the pictures.
    """
    device = next(tokenizer.parameters()).device
    tokens = [rate.encode(tokenizer, as_clips(to_model(picture[None])).to(device)) for picture in images]
    with refuse_unscorable():
        rebuilt = [to_uint8(tokenizer.decode(one)).cpu() for one in tokens]
    values, present = (
        torch.cat(parts).cpu() for parts in zip(*((t.values, t.present) for t in tokens), strict=True)
    )
    return values, present, torch.cat(rebuilt).view(images.shape)


class ReconstructionBank(Metric):
    """Scores of reconstructions, picture by picture or frame by frame; `compute` gathers them from all processes.

    Args:
        vocab: Size of the codebook, 0 for continuous tokens.
        perceptual: The perceptual distance, None to leave it out.
        ordered: Pictures may have different numbers of tokens.
        **options: Options of `torchmetrics.Metric`.
    """

    full_state_update = False

    def __init__(
        self,
        vocab: int,
        perceptual: PerceptualDistance | None = None,
        ordered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.vocab, self.distance = vocab, perceptual
        available = {"perceptual": perceptual is not None, "codes": vocab > 0, "tokens": ordered}
        self.lists = ["rows", "psnr", "ssim", *(name for name, present in available.items() if present)]
        for name in self.lists:
            self.add_state(name, [], "cat")

    def update(
        self, originals: Tensor, rebuilt: Tensor, values: Tensor, present: Tensor, rows: Tensor
    ) -> None:
        """Add pictures, or clips.

        Args:
            originals: (B, H, W, 3) or (B, T, H, W, 3) uint8.
            rebuilt: Their reconstructions.
            values: Their tokens (B, N, ...).
            present: (B, N) bool, tokens that reach a picture.
            rows: Their numbers (B,).
        """
        batch = len(rows)
        ours, theirs = (x.reshape(-1, *x.shape[-3:]) for x in (rebuilt, originals))  # frames as pictures
        parts = {
            "rows": rows,
            "psnr": psnr(ours, theirs).clamp(max=EQUAL).view(batch, -1),
            "ssim": ssim(ours, theirs).view(batch, -1),
            "tokens": present.sum(1),
        }
        if self.distance is not None:
            pairs = zip(to_model(ours).split(1), to_model(theirs).split(1), strict=True)
            with torch.inference_mode():  # picture by picture, as in `reconstruct`
                distances = torch.cat([self.distance(a, b) for a, b in pairs]).double()
            parts["perceptual"] = distances.view(batch, -1)
        if self.vocab:
            absent = ~present.reshape(*present.shape, *[1] * (values.dim() - 2))
            parts["codes"] = values.int().masked_fill(absent, -1)
        for name in self.lists:
            cast("list[Tensor]", getattr(self, name)).append(parts[name])

    def compute(self) -> dict[str, Tensor]:
        """Return scores and codes in the order of the pictures."""
        lists = {name: dim_zero_cat(getattr(self, name)) for name in self.lists}
        order = lists["rows"].argsort(stable=True)
        return {name: value[order] for name, value in lists.items()}

    def pairs(self) -> Pairs:
        """Return the scores that metrics need."""
        scores = self.compute()
        name = self.distance.name if self.distance is not None else ""
        return Pairs(
            scores["psnr"], scores["ssim"], scores.get("perceptual"), name, scores.get("codes"), self.vocab,
            scores.get("tokens"),
        )  # fmt: skip


@register("metric", "psnr")
def psnr_metric(comparison: Comparison) -> dict[str, Figure]:
    """Peak signal-to-noise ratio of reconstructions in dB, mean over pictures."""
    values = comparison.require_pairs("psnr").psnr
    definition = f"dB over 0..255, {_over(values)}, equal ones count as {EQUAL:g}"
    return {"psnr": _mean(values, comparison, "higher", definition)}


@register("metric", "ssim")
def ssim_metric(comparison: Comparison) -> dict[str, Figure]:
    """Structural similarity of reconstructions, mean over pictures."""
    values = comparison.require_pairs("ssim").ssim
    return {"ssim": _mean(values, comparison, "higher", f"Gaussian window of 11, {_over(values)}")}


@register("metric")
def perceptual(comparison: Comparison) -> dict[str, Figure]:
    """Perceptual distance of reconstructions, named after its network."""
    pairs = comparison.require_pairs("perceptual")
    if pairs.perceptual is None:
        raise Unavailable(
            f"the perceptual distance takes pictures of at least {PERCEPTUAL_SIDE} pixels a side"
        )
    definition = f"sum over layers, {_over(pairs.perceptual)}"
    figure = _mean(pairs.perceptual, comparison, "lower", definition)
    return {f"perceptual_{pairs.perceptual_net}": figure}


@register("metric", "tokens")
def tokens_metric(comparison: Comparison) -> dict[str, Figure]:
    """Number of tokens of a picture, mean over pictures."""
    counts = comparison.require_pairs("tokens").tokens
    if counts is None:
        raise Unavailable("this tokenizer gives every picture the same number of tokens")
    definition = "tokens that reach a picture, mean over pictures"
    return {"tokens": _mean(counts[:, None], comparison, None, definition)}


@register("metric")
def codebook(comparison: Comparison) -> dict[str, Figure]:
    """Number of used codes, and the perplexity of their distribution."""
    pairs = comparison.require_pairs("codebook")
    if pairs.codes is None:
        raise Unavailable("this tokenizer is continuous and has no codebook")
    used, perplexity = codebook_use(pairs.codes, pairs.vocab)
    error = perplexity_error(pairs.codes, pairs.vocab, comparison.replicates)
    definition = f"of {pairs.vocab} codes, over all pictures"
    return {
        "codes_used": Figure(used, None, "higher", definition, _COUNTED),
        "codebook_perplexity": Figure(perplexity, error, "higher", definition),
    }


def by_frame(pairs: Pairs) -> dict[str, list[float]]:
    """Return the mean scores of each frame over the clips, by name; empty for pictures."""
    scores = {"psnr": pairs.psnr, "ssim": pairs.ssim, f"perceptual_{pairs.perceptual_net}": pairs.perceptual}
    return {
        name: values.double().mean(0).tolist()
        for name, values in scores.items()
        if values is not None and values.shape[1] > 1
    }


def _over(values: Tensor) -> str:
    return "mean over frames, then over clips" if values.shape[1] > 1 else "mean over pictures"


def _mean(values: Tensor, comparison: Comparison, better: Any, definition: str) -> Figure:
    """Average values (n, T); frames of one clip are resampled together."""
    values = values.double().mean(1)
    error = error_of_mean(values, comparison.replicates)
    return Figure(float(values.mean()), error, better, definition)
