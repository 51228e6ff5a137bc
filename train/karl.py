"""Objective of KARL tokenizers: two passes per step over the latents of a base, frozen in the first stage.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025, section 3.2; the losses are in
`tokenizers/karl/stage.py`. The number of slots of the first pass follows from the step, its target errors from the
samples and from the curriculum, which is part of the trained module and so of saved states.

Shapes: B pictures, E channels of the base latents, h x w of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.draws import sample_draws, step_rng
from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.data.transforms import composite, to_model, to_uint8
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.common.still_pictures import to_unit
from arzoo.tokenizers.karl.network import BINS, quality_bin
from arzoo.tokenizers.karl.stage import (
    Curriculum,
    halting_terms,
    pixel_errors,
    quantizer_terms,
    reconstruction_terms,
    slot_counts,
)
from arzoo.tokenizers.karl.tokenizer import Karl, Reading
from arzoo.tokenizers.quantizers.base import perplexity
from arzoo.tokenizers.quantizers.vq import VectorQuantizer
from arzoo.tokenizers.vq.maskgit import MaskGITAutoencoder
from arzoo.train.objective import LOSS, Metrics
from arzoo.train.settings import CodebookCare, KarlTraining
from arzoo.train.tokenizer import TokenizerObjective, clean
from arzoo.viz.grid import contact_sheet

QUALITIES = (0.03, 0.05, 0.09)
"""Target errors of validation and previews."""


@dataclass(frozen=True)
class KarlBatch:
    """A micro-batch.

    Attributes:
        x: (B, 3, H, W) pictures in [-1, 1].
        uniform: (B,) uniform numbers that choose target errors.
        slots: Slots of the first pass, the same in a whole step.
        noise: (B, E, h, w) for the latents of a KL base; None for their means.
        single: Run the first pass alone.
    """

    x: Tensor
    uniform: Tensor
    slots: int
    noise: Tensor | None
    single: bool = False

    def to(self, device: torch.device | str, **options: Any) -> KarlBatch:
        """Return the batch on another device."""
        noise = None if self.noise is None else self.noise.to(device, **options)
        x, uniform = self.x.to(device, **options), self.uniform.to(device, **options)
        return replace(self, x=x, uniform=uniform, noise=noise)


@dataclass
class Passes:
    """Result of both passes.

    Attributes:
        terms: Weighted terms of the loss that need no pictures, by pass and name.
        errors: (B,) mean absolute errors of the first pass; None if it was the only one.
        kept: (B, T) bool, slots kept in the second pass, or in the only one.
        made: In full finetuning, the pictures (B, 3, H, W) in about [0, 1] of either pass.
    """

    terms: dict[str, Tensor]
    errors: Tensor | None
    kept: Tensor
    made: dict[str, Tensor]


class TwoPasses(nn.Module):
    """A tokenizer and its curriculum as one module, so that it can be wrapped, averaged and saved.

    In the first stage the base is frozen and the loss compares latents; in full finetuning the base is trained too.
    """

    def __init__(self, tokenizer: Karl, loss: TokenizerLossConfig, settings: KarlTraining) -> None:
        super().__init__()
        self.tokenizer, self.curriculum = tokenizer, Curriculum(settings.first_targets)
        self.loss, self.settings = loss, settings
        self.finetunes = settings.stage == "pixels"
        tokenizer.base.requires_grad_(self.finetunes)

    def forward(self, batch: KarlBatch) -> Passes:
        """Run both passes."""
        model, pictures = self.tokenizer, to_unit(batch.x)
        with torch.set_grad_enabled(self.finetunes and torch.is_grad_enabled()):
            latents = model.base_latents(pictures, batch.noise)
        first = model.read(pictures, latents, self.curriculum.targets(batch.uniform), batch.slots)
        rebuilt = model.decoder(first.vectors, torch.ones_like(first.kept))
        codes = model.base.codes(latents) if isinstance(model.base, MaskGITAutoencoder) else None
        if batch.single and not self.finetunes:
            terms = self._terms("first", first, 0)
            terms |= _named("first", reconstruction_terms(model, rebuilt.float(), latents, codes))
            return Passes(terms, None, first.kept, {})
        with torch.set_grad_enabled(self.finetunes and torch.is_grad_enabled()):
            made = model.pictures(rebuilt).float()
        errors = pixel_errors(pictures, made)
        second = model.read(pictures, latents, errors)
        again = model.decoder(second.vectors, second.kept, tiled=self.settings.tiled_mask)
        beyond = max(0, model.config.slots - batch.slots)
        terms = self._terms("first", first, 0) | self._terms("second", second, beyond)
        if self.finetunes:
            both = {"first": made, "second": model.pictures(again).float()}
            return Passes(terms, errors, second.kept, both)
        for name, grid in (("first", rebuilt), ("second", again)):
            terms |= _named(name, reconstruction_terms(model, grid.float(), latents, codes))
        return Passes(terms, errors, second.kept, {})

    def _terms(self, name: str, reading: Reading, beyond: int) -> dict[str, Tensor]:
        """Terms of the quantizer and of halting."""
        terms = quantizer_terms(reading, self.loss.codebook, self.loss.commitment)
        halting = halting_terms(reading.halting.float(), beyond)
        return _named(name, terms | {key: self.settings.halting * value for key, value in halting.items()})


def _named(name: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}_{key}": value for key, value in terms.items()}


class KarlObjective(TokenizerObjective):
    """Trains a KARL tokenizer on the latents of its base. Arguments as for `TokenizerObjective`, and settings of KARL.

    Raises:
        ArzooError: A term of pictures has a weight, or the table of slots is too small for the first pass.
    """

    tokenizer: Karl

    def __init__(
        self,
        tokenizer: Karl,
        data: ImageSet,
        loss: TokenizerLossConfig,
        policy: Augment,
        care: CodebookCare,
        balance: float,
        seed: int,
        settings: KarlTraining,
    ) -> None:
        self.counts, rows = slot_counts(tokenizer.config.slots), tokenizer.config.table_slots
        if self.counts[-1] > rows:
            raise ArzooError(
                f"the first pass of KARL's training takes up to 23/16 of the slots={tokenizer.config.slots}, which is "
                f"{self.counts[-1]}, and there are table_slots={rows}: set model.table_slots={self.counts[-1]}"
            )
        super().__init__(tokenizer, data, loss, policy, care, balance, seed)
        self.settings = settings
        if settings.stage == "latents":
            self.criterion.refuse_pictures("set these weights to 0, or karl.stage=pixels")
        self.parts = {"model": TwoPasses(tokenizer, loss, settings)}
        self._best: Tensor | None = None

    def batch(self, step: int, numbers: Sequence[int]) -> KarlBatch:
        """Return augmented pictures, the slots of the step, and the randomness of the samples."""
        draws = sample_draws(self.seed, numbers, LOSS)
        uniform, noise = draws.uniform((len(numbers),)), None
        if self.settings.posterior_noise and not isinstance(self.tokenizer.base, MaskGITAutoencoder):
            noise = self.settings.posterior_noise * self.tokenizer.noise(draws)
        slots = self.counts[int(torch.randint(len(self.counts), (), generator=step_rng(self.seed, step)))]
        single = step < self.settings.single_steps
        return KarlBatch(self.pictures(numbers), uniform, slots, noise, single)

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: KarlBatch, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the sum of the terms of both passes."""
        passes = parts[name](batch)
        return torch.stack([*passes.terms.values()]).sum(), self.numbers(passes)

    def numbers(self, passes: Passes) -> Metrics:
        """Return numbers to log, and remember the smallest error for the curriculum."""
        kept = {"kept": passes.kept.float().mean()}
        if passes.errors is None:
            return {**passes.terms, **kept}
        best = passes.errors.min()
        self._best = best if self._best is None else torch.minimum(best, self._best)
        return {**passes.terms, "error": passes.errors.mean(), **kept}

    @torch.no_grad()
    def after_step(self, step: int, numbers: Sequence[int]) -> Metrics:
        """Update the curriculum from all pictures of the step, and do the upkeep of the codebook."""
        best, self._best = self._best, None
        curriculum: Any = self.parts["model"].curriculum
        if best is not None:
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(best, dist.ReduceOp.MIN)
            curriculum.update(best)
        bins = torch.tensor(BINS, device=curriculum.weights.device)
        return super().after_step(step, numbers) | {"mean_target": (curriculum.weights * bins).sum()}

    @property
    def codebook(self) -> VectorQuantizer | None:
        """The codebook of the slots; None for continuous tokens."""
        return self.tokenizer.quantizer

    def vectors(self, x: Tensor) -> Tensor:
        """Vectors (B, T, Z) of all slots of pictures (B, 3, 1, H, W) in [-1, 1], before the quantizer."""
        model, pictures = self.tokenizer, to_unit(as_pictures(x))
        bins = quality_bin(torch.full((len(x),), model.config.quality, device=x.device))
        return model.encoder(pictures, model.base_latents(pictures), bins, model.config.slots)[0]

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute figures of held-out pictures.

        They are PSNR, perceptual distance (if a network for it is installed) and perplexity of the kept codes at the
        default target, and the number of kept tokens and the mean absolute error at several targets.
        """
        tokenizer: Any = model.tokenizer
        device, default = next(model.parameters()).device, tokenizer.config.quality
        lists: dict[str, list[Tensor]] = {}
        codes: list[Tensor] = []
        for x in clean(self.validation, model):
            pictures = to_unit(x)
            latents = tokenizer.base_latents(pictures)
            for quality in sorted({*QUALITIES, default}):
                reading = tokenizer.read(pictures, latents, torch.full((len(x),), quality, device=device))
                y = tokenizer.pictures(tokenizer.rebuild(reading.vectors, reading.kept)).clamp(0, 1)
                rows = {
                    f"tokens_at_{quality:g}": reading.kept.sum(1).float(),
                    f"error_at_{quality:g}": pixel_errors(pictures, y),
                }
                if quality == default:
                    mse = (pictures - y).square().mean((1, 2, 3))
                    rows["psnr"] = -10 * mse.log10()
                    if self.distance is not None:
                        rows["perceptual"] = self.distance(2 * y - 1, x)
                    if reading.quantized is not None:
                        codes.append(reading.quantized.codes[reading.kept])
                for name, values in rows.items():
                    lists.setdefault(name, []).append(values)
        figures = {name: float(torch.cat(values).mean()) for name, values in lists.items()}
        if codes:
            uses = torch.bincount(torch.cat(codes))
            figures["perplexity"] = perplexity(uses / uses.sum().clamp(min=1))
        return {f"validation_{name}": value for name, value in figures.items()}

    @torch.inference_mode()
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save a grid of held-out pictures, each row above its reconstructions for several target errors."""
        tokenizer: Any = model.tokenizer
        rows = torch.linspace(0, len(self.validation) - 1, 32).long()
        originals = composite(self.validation.images[rows])
        x = as_clips(to_model(originals)).to(next(model.parameters()).device)
        rebuilt = [
            to_uint8(as_pictures(tokenizer.decode(tokenizer.encode(x, quality=quality)))).cpu()
            for quality in QUALITIES
        ]
        blocks = zip(*(pictures.split(16) for pictures in (originals, *rebuilt)), strict=True)
        pictures = torch.cat([part for block in blocks for part in block])
        contact_sheet(pictures, columns=16).save(folder / f"reconstructions_{step:07d}.png")

    def calibrate(self, model: nn.Module) -> None:
        """Calibrate the tokenizer."""
        super().calibrate(model.tokenizer)  # type: ignore[arg-type]

    def export(
        self,
        model: nn.Module,
        folder: Path,
        metrics: Metrics,
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the tokenizer as a checkpoint folder."""
        super().export(model.tokenizer, folder, metrics, record, add)  # type: ignore[arg-type]
