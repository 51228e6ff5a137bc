"""Full finetuning of KARL tokenizers: the base is trained too, on pictures, against several discriminators.

"Single-pass Adaptive Image Tokenization for Minimum Program Search", 2025, section 3.2. The pictures of both passes are
compared with the originals, and a discriminator judges them that sees only pictures of about as many slots.

The published loss is that of values in [0, 1], also for the perceptual network, which expects [-1, 1]; here all terms
see [-1, 1], so `loss.l1` of 0.5 is the published 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.tokenizers.common.bottleneck import Bottleneck
from arzoo.tokenizers.common.discriminator import PatchDiscriminator
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.common.losses import TokenizerLoss
from arzoo.tokenizers.karl.tokenizer import Karl
from arzoo.train.karl import KarlBatch, KarlObjective
from arzoo.train.objective import Metrics
from arzoo.train.settings import CodebookCare, KarlTraining


class NoTerms(Bottleneck):
    """Stands where a loss of pictures expects a bottleneck: the terms of KARL's are in its passes."""

    def terms(self, weights: TokenizerLossConfig, x: Tensor) -> dict[str, Tensor]:
        """Return no terms."""
        return {}


class RisingLoss(TokenizerLoss):
    """Losses whose adversarial weight changes once more after its start."""

    def __init__(
        self, config: TokenizerLossConfig, perceptual: nn.Module | None, settings: KarlTraining
    ) -> None:
        super().__init__(config, perceptual)
        self.settings = settings

    def adversarial_weight(self, step: int) -> float:
        """Weight of the adversarial terms at a step."""
        weight, start = super().adversarial_weight(step), self.settings.late_start
        return self.settings.late_adversarial if weight and start and step >= start else weight


class KarlPixels(KarlObjective):
    """Trains all of a KARL tokenizer. Arguments as for `KarlObjective`."""

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
        super().__init__(tokenizer, data, loss, policy, care, balance, seed, settings)
        self.criterion = RisingLoss(loss, self.distance, settings)
        if loss.adversarial:
            for i in range(settings.discriminators):
                self.parts[f"discriminator_{i}"] = PatchDiscriminator(
                    loss.discriminator_width, loss.discriminator_layers
                )
        self._fakes: Sequence[Tensor] = ()

    def discriminator(self, slots: int) -> str:
        """Name of the discriminator of pictures of so many slots; the last one has all with more slots."""
        count = self.settings.discriminators
        return f"discriminator_{max(0, min(count, count * slots // self.tokenizer.config.slots) - 1)}"

    def trains(self, step: int) -> tuple[bool, bool]:
        """Whether a step trains the tokenizer, and whether it trains a discriminator."""
        if not self.criterion.adversarial_weight(step):
            return True, False
        every = self.settings.generator_every
        turn = step % every == every - 1
        return turn, every == 1 or not turn

    def loss(
        self, name: str, parts: dict[str, nn.Module], batch: KarlBatch, step: int
    ) -> tuple[Tensor | None, Metrics]:
        """Compute the loss of the tokenizer, or that of a discriminator on the same pictures."""
        generator, adversary = self.trains(step)
        chosen = self.discriminator(batch.slots)
        if name != "model":
            if not adversary or name != chosen:
                return None, {}
            real = parts[name](batch.x)
            losses = [self.criterion.discriminator(real, parts[name](fake), step) for fake in self._fakes]
            return torch.stack(losses).sum(), {}
        with torch.set_grad_enabled(generator):
            passes = parts[name](batch)
            made = {key: 2 * pictures - 1 for key, pictures in passes.made.items()}
            self._fakes = [pictures.detach() for pictures in made.values()]
            critic = parts[chosen] if generator and self.criterion.adversarial_weight(step) else None
            numbers, total = self.numbers(passes), torch.stack([*passes.terms.values()]).sum()
            for key, pictures in made.items():
                loss, terms = self._of_pictures(batch.x, pictures, critic, step)
                total = total + loss
                numbers |= {f"{key}_{term}": value for term, value in terms.items()}
        return (total, numbers) if generator else (None, numbers | {"loss": total})

    def _of_pictures(
        self, x: Tensor, pictures: Tensor, critic: nn.Module | None, step: int
    ) -> tuple[Tensor, Metrics]:
        """Loss of pictures (B, 3, H, W) in [-1, 1], and its terms."""
        decoder: Any = self.tokenizer.base.decoder
        last = decoder.last_layer if self.criterion.config.adaptive else None
        logits = None if critic is None else critic(pictures)
        return self.criterion.generator(x, pictures, NoTerms(), logits, step, last)
