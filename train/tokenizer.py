"""Objective of tokenizers: reconstruct pictures, with a discriminator or an alignment head as second part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.checkpoints.folder import save_parts
from arzoo.core.clips import as_clips, as_pictures
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import sample_draws, step_rng
from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.data.transforms import augment, composite, to_model, to_uint8
from arzoo.tokenizers.common.bottleneck import Bottleneck
from arzoo.tokenizers.common.discriminator import PatchDiscriminator
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.common.losses import TokenizerLoss
from arzoo.tokenizers.common.perceptual import PerceptualDistance
from arzoo.tokenizers.flextok.tokenizer import FlowMatching
from arzoo.tokenizers.quantizers.vq import VectorQuantizer
from arzoo.tokenizers.vq.network import VQTokenizer
from arzoo.train.alignment import alignment_of, misalignment
from arzoo.train.objective import DATA, Metrics, Objective, Sampler, balanced_weights
from arzoo.train.settings import CodebookCare
from arzoo.viz.grid import contact_sheet

CALIBRATION = 4096
"""Largest number of training pictures on which the scale of latents is measured."""


class TokenizerObjective(Objective):
    """Trains a tokenizer.

    Args:
        tokenizer: The tokenizer; its `forward` returns a reconstruction and its bottleneck.
        data: All pictures.
        loss: Weights of the loss.
        policy: Settings of the augmentation.
        care: Upkeep of the codebook, if the tokenizer has one.
        balance: Classes are drawn with frequency to the power 1 - balance.
        seed: Seed of the order of the data.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        data: ImageSet,
        loss: TokenizerLossConfig,
        policy: Augment,
        care: CodebookCare,
        balance: float,
        seed: int,
    ) -> None:
        self.tokenizer, self.policy, self.care, self.seed = tokenizer, policy, care, seed
        self.train, self.validation = data.split("train"), data.split("validation")
        self.distance = PerceptualDistance()
        self.frozen = (self.distance,)
        self.criterion = TokenizerLoss(loss, self.distance)
        self.parts: dict[str, nn.Module] = {"model": tokenizer.to(memory_format=torch.channels_last)}
        if loss.adversarial:
            self.parts["discriminator"] = PatchDiscriminator(
                loss.discriminator_width, loss.discriminator_layers
            )
        if loss.align:
            self.parts["alignment"], self.targets = alignment_of(tokenizer)
            self.frozen += (self.targets,)
        weights = balanced_weights(self.train.labels, balance) if balance else None
        self.sampler = Sampler(len(self.train), seed, weights)
        self._pair: tuple[Tensor, Tensor] | None = None
        self._replaced = 0

    @property
    def codebook(self) -> VectorQuantizer | None:
        """The codebook whose unused codes are replaced, if there is one."""
        return self.tokenizer.quantizer if isinstance(self.tokenizer, VQTokenizer) else None

    def vectors(self, x: Tensor) -> Tensor:
        """Vectors (..., C) that the codebook quantizes, of pictures (B, 3, H, W) in [-1, 1]."""
        assert isinstance(self.tokenizer, VQTokenizer)
        return self.tokenizer.latents(x)

    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Return augmented pictures (B, 3, H, W) in [-1, 1]."""
        return self.pictures(numbers)

    def pictures(self, numbers: Sequence[int]) -> Tensor:
        """Return the augmented pictures (B, 3, H, W) in [-1, 1] of some samples."""
        rows = self.sampler.rows(numbers)
        uniform = sample_draws(self.seed, numbers, DATA).uniform((len(rows), 9), torch.float32)
        x = augment(self.train.images[rows], self.train.mirrorable[rows], uniform, self.policy)
        return x.contiguous(memory_format=torch.channels_last)

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: Any, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the loss of the tokenizer, then that of a second part on the same reconstruction or features."""
        warm = self.criterion.adversarial_weight(step) == 0
        if name == "discriminator":
            if warm or self._pair is None:
                return None, {}
            real, fake = self._pair
            return self.criterion.discriminator(parts[name](real), parts[name](fake), step), {}
        if name == "alignment":
            assert self._pair is not None
            features, targets = self._pair
            return misalignment(parts[name](features), targets), {}
        clips, bottleneck = parts[name](as_clips(batch))
        if clips is None:
            loss, terms = self.criterion.generator(batch, None, bottleneck, None, step)
            return self._with_alignment(loss, terms, parts, bottleneck, batch)
        reconstruction = as_pictures(clips)
        logits = None if warm or "discriminator" not in parts else parts["discriminator"](reconstruction)
        decoder: Any = self.tokenizer.decoder
        last = decoder.last_layer if self.criterion.config.adaptive else None
        loss, terms = self.criterion.generator(batch, reconstruction, bottleneck, logits, step, last)
        self._pair = batch, reconstruction.detach()
        return loss, terms

    def _with_alignment(
        self,
        loss: Tensor,
        terms: dict[str, Tensor],
        parts: dict[str, nn.Module],
        bottleneck: Bottleneck,
        batch: Tensor,
    ) -> tuple[Tensor, Metrics]:
        """Add the alignment of the decoder's features to the loss, if it has a weight."""
        if "alignment" not in parts:
            return loss, terms
        assert isinstance(bottleneck, FlowMatching)
        assert bottleneck.features is not None
        targets = self.targets(batch)
        align = misalignment(parts["alignment"](bottleneck.features), targets)
        self._pair = bottleneck.features.detach(), targets
        return loss + self.criterion.config.align * align, terms | {"align": align}

    @torch.no_grad()
    def after_step(self, step: int, numbers: Sequence[int]) -> Metrics:
        """Seed or restart codes of the codebook, if there is one, from all pictures of the step."""
        codebook = self.codebook
        if codebook is not None and self.care.due(step):
            x = self.pictures(numbers).to(codebook.embedding.weight.device)
            vectors = torch.cat([self.vectors(part) for part in x.split(32)])
            self._replaced += codebook.restart(
                vectors, step_rng(self.seed, step), everything=step == self.care.seed_at
            )
        return {}

    def health(self) -> Metrics:
        """Return the use of the codebook, if there is one, and the number of codes replaced since the last call."""
        codebook = self.codebook
        if codebook is None:
            return {}
        replaced, self._replaced = self._replaced, 0
        return {**codebook.health(), "codes_replaced": replaced}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute PSNR and perceptual distance of held-out pictures, and the figures of the bottleneck."""
        mse, perceptual, bottlenecks = [], [], []
        for x in clean(self.validation.images, model):
            clips, bottleneck = model(as_clips(x))
            if clips is None:
                clips = model.decode(model.encode(as_clips(x)))  # type: ignore[operator]
            y = as_pictures(clips).clamp(-1, 1)
            mse.append(((x - y) / 2).square().mean((1, 2, 3)))
            perceptual.append(self.distance(y, x))
            bottlenecks.append(bottleneck)
        figures = {
            "psnr": float(-10 * torch.cat(mse).log10().mean()),
            "perceptual": float(torch.cat(perceptual).mean()),
            **bottlenecks[0].figures(bottlenecks),
        }
        return {f"validation_{name}": value for name, value in figures.items()}

    @torch.inference_mode()
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save a grid of held-out pictures, each row above its reconstructions."""
        assert isinstance(model, Tokenizer)
        rows = torch.linspace(0, len(self.validation) - 1, 32).long()
        originals = composite(self.validation.images[rows])
        x = as_clips(to_model(originals)).to(next(model.parameters()).device)
        rebuilt = to_uint8(as_pictures(model.decode(model.encode(x)))).cpu()
        pairs = torch.cat(
            [part for a, b in zip(originals.split(16), rebuilt.split(16), strict=True) for part in (a, b)]
        )
        contact_sheet(pairs, columns=16).save(folder / f"reconstructions_{step:07d}.png")

    def export(self, model: nn.Module, folder: Path, metrics: Metrics, record: dict[str, Any]) -> None:
        """Calibrate the tokenizer on training pictures and write it as a checkpoint folder."""
        assert isinstance(model, Tokenizer)
        rows = torch.linspace(0, len(self.train) - 1, min(len(self.train), CALIBRATION)).long()
        model.calibrate(map(as_clips, clean(self.train.images[rows], model)))
        save_parts(
            folder, "tokenizer", {"tokenizer": model}, bits=16, overwrite=True, metrics=metrics, record=record,
            spec=model.spec.to_dict(), data=self.train.name,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return facts about data and size."""
        sizes = {
            f"{name} parameters": sum(p.numel() for p in part.parameters())
            for name, part in self.parts.items()
        }
        counts = {"pictures": len(self.train), "held out": len(self.validation)}
        return {**counts, "tokens per picture": self.tokenizer.spec.layout.size, **sizes}


def clean(images: Tensor, model: nn.Module, batch: int = 32) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) in [-1, 1] of pictures (n, H, W, 3 or 4) uint8, on the model's device, not augmented."""
    device = next(model.parameters()).device
    return (to_model(composite(chunk)).to(device) for chunk in images.split(batch))
