"""Objective of tokenizers: reconstruct pictures or clips, with a discriminator or an alignment head as second part.

Shapes: B pictures or clips, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.errors import MissingPackage, some
from arzoo.checkpoints.folder import save_parts
from arzoo.core.clips import as_clips, as_pictures, fold_frames, require_side
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import sample_draws, step_rng
from arzoo.core.layout import Pyramid
from arzoo.data.augmentation import Augment
from arzoo.data.base import ImageSet
from arzoo.data.transforms import augment, composite, to_model, to_uint8
from arzoo.metrics.scores.reconstruction import EQUAL
from arzoo.tokenizers.common.bottleneck import Bottleneck
from arzoo.tokenizers.common.discriminator import PatchDiscriminator
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.tokenizers.common.losses import TokenizerLoss
from arzoo.tokenizers.common.perceptual import PerceptualDistance
from arzoo.tokenizers.larp.tokenizer import LARP
from arzoo.tokenizers.longcat.tokenizer import LongCatTokenizer
from arzoo.tokenizers.msvq.network import MultiScaleTokenizer
from arzoo.tokenizers.omnitok.tokenizer import OmniTokenizer
from arzoo.tokenizers.quantizers.base import EMPTY
from arzoo.tokenizers.quantizers.residual import ResidualVQ
from arzoo.tokenizers.quantizers.vq import VectorQuantizer
from arzoo.tokenizers.vq.network import VQTokenizer
from arzoo.train.alignment import aligned_features, alignment_of, misalignment
from arzoo.train.clips import LEVELS_OF, SHOWN, channels_last, in_channel_order, noun, one_frame, sheet
from arzoo.train.objective import DATA, Metrics, Objective, Sampler, balanced_weights
from arzoo.train.settings import CodebookCare

CLIP_FRAMES = 128
"""Frames of a batch of clips in validation."""
SHOWN_CODES = 50
"""Largest number of replaced codes that a message names."""
LARGER = "on larger pictures (model.image_size)"
"""What to do, for messages about pictures that are too small."""
CALIBRATION = 4096
"""Largest number of training pictures, or frames of clips, on which the scale of latents is measured."""


class TokenizerObjective(Objective):
    """Trains a tokenizer.

    Args:
        tokenizer: The tokenizer; its `forward` returns a reconstruction and its bottleneck.
        data: All pictures or clips.
        loss: Weights of the loss.
        policy: Settings of the augmentation.
        care: Upkeep of the codebook, if the tokenizer has one.
        balance: Classes are drawn with frequency to the power 1 - balance.
        seed: Seed of the order of the data.

    Raises:
        MissingPackage: The perceptual distance has a weight, and no network for it is installed.
        ArzooError: The pictures are too small for a network of the loss.
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
        self.distance = _distance(loss, self.compared_size(data))
        self.frozen = () if self.distance is None else (self.distance,)
        self.criterion = TokenizerLoss(loss, self.distance)
        self.parts: dict[str, nn.Module] = {"model": channels_last(tokenizer)}
        if loss.adversarial:
            discriminator = PatchDiscriminator(loss.discriminator_width, loss.discriminator_layers)
            remedy = (
                f"Train with fewer loss.discriminator_layers, without it (loss.adversarial=0), or {LARGER}."
            )
            require_side(data.size, discriminator.least_side, "the discriminator", remedy)
            self.parts["discriminator"] = discriminator
        if loss.align:
            self.parts["alignment"], self.targets = alignment_of(tokenizer)
            self.frozen += (self.targets,)
        weights = balanced_weights(self.train.labels, balance) if balance else None
        self.sampler = Sampler(len(self.train), seed, weights)
        self.trained_codes = ""
        """Name of the checkpoint that the codes came from; empty for fresh ones."""
        self._pair: tuple[Tensor, Tensor] | None = None
        self._aligned: tuple[Tensor, Tensor] | None = None
        self._replaced = 0
        self._messages = list[str]()

    def compared_size(self, data: ImageSet) -> tuple[int, int]:
        """(H, W) of the smallest pictures that the perceptual network compares."""
        return data.size

    def compared(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) as the perceptual network compares them."""
        return x

    @property
    def units(self) -> str:
        """What the samples of a step are called, in the plural."""
        return f"{noun(self.train.frames)}s"

    @property
    def codebook(self) -> VectorQuantizer | ResidualVQ | None:
        """The codes whose unused ones are replaced, if there are any."""
        kinds = (VQTokenizer, LARP, OmniTokenizer, MultiScaleTokenizer, LongCatTokenizer)
        return self.tokenizer.quantizer if isinstance(self.tokenizer, kinds) else None

    @property
    def _codes(self) -> int:
        """Number of codes, of all codebooks together."""
        assert self.codebook is not None
        return self.codebook.stored_codes.numel() // self.codebook.channels

    def vectors(self, x: Tensor) -> Tensor:
        """Vectors (..., C) that the codebook quantizes, of clips (B, 3, T, H, W) in [-1, 1]."""
        if isinstance(self.tokenizer, (LARP, OmniTokenizer, LongCatTokenizer)):
            return self.tokenizer.latents(x)
        if isinstance(self.tokenizer, MultiScaleTokenizer):
            return self.tokenizer.residuals(x)
        assert isinstance(self.tokenizer, VQTokenizer)
        return self.tokenizer.latents(fold_frames(x))

    def batch(self, step: int, numbers: Sequence[int]) -> Any:
        """Return the augmented data of some samples, see `pictures`."""
        return self.pictures(numbers)

    def pictures(self, numbers: Sequence[int]) -> Any:
        """Return augmented pictures (B, 3, H, W) or clips (B, 3, T, H, W) in [-1, 1]."""
        rows = self.sampler.rows(numbers)
        uniform = sample_draws(self.seed, numbers, DATA).uniform((len(rows), 9), torch.float32)
        x = augment(self.train.pixels(rows), self.train.mirrorable[rows], uniform, self.policy)
        return in_channel_order(x)

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
            assert self._aligned is not None
            features, targets = self._aligned
            return misalignment(parts[name](features), targets), {}
        clips, bottleneck = parts[name](as_clips(batch))
        if clips is None:
            loss, terms = self.criterion.generator(batch, None, bottleneck, None, step)
            return self._with_alignment(loss, terms, parts, bottleneck, batch)
        reconstruction = clips if batch.dim() == 5 else as_pictures(clips)
        real, rebuilt = frames = one_frame(batch, reconstruction)
        logits = None if warm or "discriminator" not in parts else parts["discriminator"](rebuilt)
        decoder: Any = self.tokenizer.decoder
        last = decoder.last_layer if self.criterion.config.adaptive else None
        loss, terms = self.criterion.generator(batch, reconstruction, bottleneck, logits, step, last, frames)
        self._pair = real, rebuilt.detach()
        return self._with_alignment(loss, terms, parts, bottleneck, batch)

    def _with_alignment(
        self,
        loss: Tensor,
        terms: dict[str, Tensor],
        parts: dict[str, nn.Module],
        bottleneck: Bottleneck,
        batch: Tensor,
    ) -> tuple[Tensor, Metrics]:
        """Add the alignment with features of a network to the loss, if it has a weight."""
        if "alignment" not in parts:
            return loss, terms
        features, targets = aligned_features(bottleneck), self.targets(batch)
        align = misalignment(parts["alignment"](features), targets)
        self._aligned = features.detach(), targets
        return loss + self.criterion.config.align * align, terms | {"align": align}

    @torch.no_grad()
    def after_step(self, step: int, numbers: Sequence[int]) -> Metrics:
        """Update codes that are running averages, and seed or restart codes from all pictures of the step."""
        codebook = self.codebook
        if isinstance(codebook, ResidualVQ) and self.care.trained != "freeze":
            codebook.end_step()
        due = self.care.due(step, bool(self.trained_codes))
        if codebook is not None and due:
            moved = codebook.restart(
                self.vectors_of(numbers, codebook.stored_codes.device),
                step_rng(self.seed, step),
                everything=due == "seed",
            )
            self._replaced += len(moved)
            if moved and self.trained_codes:
                self._messages.append(self._moved(step, moved, due))
        return {}

    def vectors_of(self, numbers: Sequence[int], device: torch.device) -> Tensor:
        """Vectors (..., C) that the codebook quantizes, of the augmented pictures or clips of some samples."""
        x = as_clips(self.pictures(numbers)).to(device)
        return torch.cat([self.vectors(part) for part in x.split(max(32 // x.shape[2], 1))])

    def _moved(self, step: int, moved: Sequence[int], due: str) -> str:
        """Say which codes of a checkpoint were replaced, and why."""
        assert self.codebook is not None
        reason = (
            f"codebook.seed_at={self.care.seed_at} seeds all of them"
            if due == "seed"
            else f"the last {int((self.codebook.recent != EMPTY).sum())} vectors did not use them"
        )
        which = some([str(code) for code in moved], SHOWN_CODES)
        return (
            f"after step {step + 1}: {len(moved)} of {self._codes} codes of {self.trained_codes} were replaced "
            f"by encoder outputs, as {reason} (codebook.trained={self.care.trained}): {which}"
        )

    def messages(self) -> list[str]:
        """Return what was replaced since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def health(self) -> Metrics:
        """Return the use of the codebook, if there is one, and the number of codes replaced since the last call."""
        codebook = self.codebook
        if codebook is None:
            return {}
        replaced, self._replaced = self._replaced, 0
        return {**codebook.health(), "codes_replaced": replaced}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Metrics:
        """Compute PSNR and perceptual distance of held-out pictures or frames, and the figures of the bottleneck.

        Without a network for it, or of pictures too small for it, there is no perceptual distance.
        """
        of_frames: dict[str, list[float]] = {"psnr": []}
        if self.distance is not None:
            of_frames["perceptual"] = []
        bottlenecks = self._reconstructed(model, of_frames)
        first = next(bottlenecks)
        of_bottlenecks = first.figures(chain([first], bottlenecks))  # which reconstructs everything
        figures = {name: float(torch.tensor(values).mean()) for name, values in of_frames.items()}
        return {f"validation_{name}": value for name, value in (figures | of_bottlenecks).items()}

    def _reconstructed(self, model: nn.Module, of_frames: dict[str, list[float]]) -> Iterator[Bottleneck]:
        """Reconstruct the held-out data, add the figures of its frames to lists, and yield the bottlenecks.

        Nothing else is kept of a batch: small tensors that stay between large ones would scatter the memory.
        """
        for batch in clean(self.validation, model):
            clips, bottleneck = model(as_clips(batch))
            if clips is None:
                clips = model.decode(model.encode(as_clips(batch)))  # type: ignore[operator]
            x, y = fold_frames(as_clips(batch)), fold_frames(clips).clamp(-1, 1)
            psnr = -10 * ((x - y) / 2).square().mean((1, 2, 3)).log10()
            of_frames["psnr"] += psnr.clamp(max=EQUAL).tolist()
            if self.distance is not None:
                of_frames["perceptual"] += self.distance(self.compared(y), self.compared(x)).tolist()
            yield bottleneck

    @torch.inference_mode()
    def preview(self, model: nn.Module, folder: Path, step: int) -> None:
        """Save a sheet of held-out pictures or clips, each row above its reconstructions."""
        assert isinstance(model, Tokenizer)
        count, columns = (32, 16) if self.validation.frames == 1 else (SHOWN, 1)
        rows = torch.linspace(0, len(self.validation) - 1, count).long()
        x = as_clips(to_model(composite(self.validation.pixels(rows))))
        rebuilt = model.decode(model.encode(x.to(next(model.parameters()).device))).cpu()
        rows_of_both = zip(*(to_uint8(clips).split(columns) for clips in (x, rebuilt)), strict=True)
        pairs = torch.cat([row for both in rows_of_both for row in both])
        sheet(pairs, columns).save(folder / f"reconstructions_{step:07d}.png")
        if isinstance(model.spec.layout, Pyramid):
            self._levels(model, x[:: count // LEVELS_OF], folder / f"levels_{step:07d}.png")

    def _levels(self, model: Tokenizer, x: Tensor, file: Path) -> None:
        """Save pictures x (B, 3, 1, H, W), each beside what its first level, its first two, and so on show."""
        layout = model.spec.layout
        assert isinstance(layout, Pyramid)
        tokens = model.encode(x.to(next(model.parameters()).device))
        counts = [layout.span(level).stop for level in range(len(layout.levels))]
        shown = [x, *(model.decode(tokens.first(count)).cpu() for count in counts)]
        sheet(to_uint8(torch.stack(shown, 1).flatten(0, 1)), len(shown)).save(file)

    def calibrate(self, model: nn.Module) -> None:
        """Calibrate the tokenizer on training data."""
        assert isinstance(model, Tokenizer)
        count = min(len(self.train), max(CALIBRATION // self.train.frames, 1))
        some = self.train.select(torch.linspace(0, len(self.train) - 1, count).long())
        model.calibrate(map(as_clips, clean(some, model)))

    def export(
        self,
        model: nn.Module,
        folder: Path,
        metrics: Metrics,
        record: dict[str, Any],
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the tokenizer as a checkpoint folder."""
        assert isinstance(model, Tokenizer)
        save_parts(
            folder, "tokenizer", {"tokenizer": model}, bits=16, overwrite=True, metrics=metrics, record=record,
            add=add, spec=model.spec.to_dict(), data=self.train.name,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return facts about data and size."""
        sizes = {
            f"{name} parameters": sum(p.numel() for p in part.parameters())
            for name, part in self.parts.items()
        }
        kind = noun(self.train.frames)
        counts = {f"{kind}s": len(self.train), "held out": len(self.validation)}
        codes = {"codebook": self._upkeep()} if self.codebook is not None and self.trained_codes else {}
        return {**counts, f"tokens per {kind}": self.tokens_each(), **sizes, **codes}

    def tokens_each(self) -> int | str:
        """Number of tokens of a picture or clip."""
        return self.tokenizer.spec.layout.size

    def _upkeep(self) -> str:
        """Say what becomes of the codes of a checkpoint."""
        codes = f"the {self._codes} codes of {self.trained_codes}"
        return {
            "keep": f"{codes} are kept, none is replaced (codebook.trained=restart replaces unused ones)",
            "restart": f"those of {codes} that the data does not use are replaced (codebook.trained=keep keeps them)",
            "reseed": f"{codes} are replaced by encoder outputs (codebook.trained=keep keeps them)",
            "freeze": f"{codes} and the encoder are frozen, only the decoder is trained",
        }[self.care.trained]


def _distance(loss: TokenizerLossConfig, size: tuple[int, int]) -> PerceptualDistance | None:
    """The perceptual distance; None if it has no weight, and no network is installed or pictures are too small."""
    try:
        distance = PerceptualDistance()
    except MissingPackage:
        if loss.perceptual:
            raise
        return None
    if not loss.perceptual and min(size) < distance.net.least_side:
        return None
    distance.require(size, f"Train without it (loss.perceptual=0), or {LARGER}.")
    return distance


def clean(data: ImageSet, model: nn.Module) -> Iterator[Tensor]:
    """Batches of pictures (B, 3, H, W) or clips (B, 3, T, H, W) in [-1, 1], on the model's device, not augmented.

    Those of a batch have one size.
    """
    device = next(model.parameters()).device
    batches = torch.arange(len(data)).split(32 if data.frames == 1 else max(CLIP_FRAMES // data.frames, 1))
    of_size = (rows[places] for rows in batches for places in data.by_size(rows))
    return (to_model(composite(data.pixels(rows))).to(device) for rows in of_size)
