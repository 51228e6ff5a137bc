"""Settings of a training: optimizer, length and pace, losses of generators, rollouts, and upkeep of codebooks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from arzoo.base.config import Config, refuse_outside
from arzoo.base.errors import ArzooError
from arzoo.core.control import check_knob
from arzoo.train.curriculum import Mixture

LOWEST = 0.7
"""The published smallest share of tokens that are hidden from masked models in training."""
LOOSE = frozenset(
    {"log_every", "preview_every", "save_every", "keep", "threads", "workers", "trackers", "checkpointing"}
)
"""Settings of `RunConfig` that a continued run may change, as they do not change the trained weights."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Config):
    """Optimizer and schedule.

    Attributes:
        name: "adamw", or "muon" for the model's matrices (with AdamW for all other parameters and parts).
        lr: Learning rate after the warm-up.
        matrix_lr: Learning rate of the matrices under Muon. Its updates are scaled to the size of AdamW's, so 0, the
            default, means `lr`.
        matrices: Patterns of the names of matrices and convolution kernels for Muon ("*" matches anything); if empty,
            the matrices inside repeated blocks.
        momentum: Momentum of Muon.
        betas: Decay of AdamW's moment estimates.
        weight_decay: Decoupled decay of matrices; vectors (norms, biases) have none.
        no_decay: Patterns of the names of parameters without decay, such as "*diffloss*" (MAR, 2024).
        warmup: Steps of linear warm-up.
        schedule: "constant", "cosine" (to zero at the last step) or "wsd" (warm-up, stable, decay: constant, then
            linear to zero over the last `decay` of the steps; "MiniCPM", 2024, section 4).
        decay: Share of the steps over which "wsd" decays, in (0, 1].
        clip: Largest gradient norm.
        ema: Decay of the averaged weights, which are saved as the model, in [0, 1).
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    matrix_lr: float = 0.0
    matrices: tuple[str, ...] = ()
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    no_decay: tuple[str, ...] = ()
    warmup: int = 100
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    decay: float = 0.2
    clip: float = 1.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ArzooError(f"optim.decay is a share of the steps, in (0, 1], got {self.decay}")
        if not 0 <= self.ema < 1:
            raise ArzooError(f"optim.ema must be in [0, 1), got {self.ema}; 0 means no averaging")
        at_least_0 = ("lr", "matrix_lr", "weight_decay", "warmup", "clip")
        refuse_outside(self, "optim.", {name: (0, math.inf) for name in at_least_0})
        if not all(0 <= decay < 1 for decay in (*self.betas, self.momentum)):
            raise ArzooError(
                f"optim.betas and optim.momentum must be in [0, 1), got betas={list(self.betas)}, "
                f"momentum={self.momentum}"
            )
        if self.lr == 0 or self.clip == 0:
            raise ArzooError(
                f"optim.lr and optim.clip must be positive, got lr={self.lr}, clip={self.clip}; a clip of 1e9 clips "
                "nothing"
            )

    def factor(self, step: int, steps: int) -> float:
        """Compute the multiplier of the learning rate in a step, from 0, of a schedule of `steps`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "wsd":
            return min(1.0, (steps - step) / max(self.decay * steps, 1.0))
        progress = (step - self.warmup) / max(steps - self.warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def build(self) -> OptimConfig:
        """Return the settings themselves; `optim.optimizer` creates an optimizer per module."""
        return self


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Length, pace and bookkeeping of a run.

    Attributes:
        steps: Optimizer steps of the schedule; 0, where `visits` is given, follows the number of pictures.
        visits: How often each picture is seen if `steps` is 0, which is then its number of steps, but 45 at least for
            tokenizers, 180 for other models, and 20000 at most.
        batch: Samples per step, over all processes.
        accumulate: Micro-batches per step and process.
        seed: Seed of everything random.
        precision: "fp32" or "bf16" (autocast), which processors without instructions for it compute as "fp32".
        compile: Compile the modules with torch.compile.
        checkpointing: Keep only the inputs of blocks and recompute the rest in the backward pass: less memory, about a
            third more time.
        sharded: Split weights, gradients and optimizer over the processes (FSDP2) instead of copying them (DDP).
        threads: CPU threads; 0 leaves the number as it is.
        workers: Processes that prepare data ahead of time; 0 prepares it in two threads of the training process.
        trackers: Trackers of accelerate that receive the numbers of log.jsonl too; TensorBoard only if installed.
        log_every: Steps between log lines.
        preview_every: Steps between pictures and validation.
        save_every: Steps between saved states.
        keep: Saved states that stay on disk.
    """

    steps: int = 1000
    visits: float = 0.0
    batch: int = 64
    accumulate: int = 1
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    checkpointing: bool = False
    sharded: bool = False
    threads: int = 0
    workers: int = 0
    trackers: tuple[str, ...] = ("tensorboard",)
    log_every: int = 50
    preview_every: int = 500
    save_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        refuse_outside(self, "run.", {"visits": (0, math.inf)})
        if (
            self.steps < (0 if self.visits else 1)
            or self.batch < 1
            or self.accumulate < 1
            or self.batch % self.accumulate
        ):
            raise ArzooError(
                f"a run needs at least one step and sample, and a batch divisible by its accumulation; got "
                f"steps={self.steps}, batch={self.batch}, accumulate={self.accumulate}"
            )
        for name in ("log_every", "preview_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ArzooError(f"run.{name} must be at least 1, got {getattr(self, name)}")
        if self.threads < 0 or self.workers < 0:
            raise ArzooError(
                f"run.threads and run.workers must be 0 or more, got {self.threads} and {self.workers}"
            )

    def build(self) -> RunConfig:
        """Return the settings themselves."""
        return self


@dataclass(frozen=True, kw_only=True)
class CodebookCare(Config):
    """Upkeep of a codebook.

    Attributes:
        seed_at: Step after which all codes are replaced by encoder outputs.
        restart_every: Steps between replacements of unused codes.
        restart_until: First step after which no codes are replaced.
        trained: What becomes of the codes that `init` brings: "keep" replaces none of them, "restart" those that the
            data does not use, "reseed" treats them like fresh ones. "freeze" trains only the decoder, so that pictures
            keep exactly their codes, and generators of these codes draw with the new decoder as they are.
    """

    seed_at: int = 100
    restart_every: int = 100
    restart_until: int = 3000
    trained: Literal["keep", "restart", "reseed", "freeze"] = "keep"

    def __post_init__(self) -> None:
        refuse_outside(self, "codebook.", {"restart_every": (1, math.inf)})

    def build(self) -> CodebookCare:
        """Return the settings themselves."""
        return self

    def due(self, step: int, trained: bool = False) -> Literal["", "seed", "restart"]:
        """Return what is due after a step: nothing, to seed all codes, or to restart unused ones.

        Args:
            step: Number of the step, from 0.
            trained: Whether the codes came from a checkpoint.
        """
        if step >= self.restart_until or (trained and self.trained in ("keep", "freeze")):
            return ""
        seeds = not trained or self.trained == "reseed"
        if seeds and step == self.seed_at:
            return "seed"
        return "restart" if step > (self.seed_at if seeds else 0) and step % self.restart_every == 0 else ""


@dataclass(frozen=True, kw_only=True)
class KarlTraining(Config):
    """Training of a KARL tokenizer, in two passes per step.

    Attributes:
        stage: "latents": a frozen base, whose latents or codes are the targets. "pixels", full finetuning: the base is
            trained too, and the loss compares pictures, with the weights of `loss` for either pass.
        first_targets: Largest target error of the first pass at the beginning; then the targets that are not reached
            become more likely.
        single_steps: Steps at the beginning of the first stage with the first pass alone, which take less than half the
            time; 0 as published.
        posterior_noise: Factor of the deviation of a KL base's latents: 1 as published, 0 for their means.
        halting: Weight of the terms of halting; 1 as published. Their gradient in the encoder begins a hundred times as
            large as that of reconstruction, which a short training cannot wait out.
        tiled_mask: Repeat the mistake of the published training, in which attention heads of the decoder see the masks
            of other pictures of the batch.
        discriminators: In full finetuning, discriminators of which the number of slots chooses one.
        late_start: In full finetuning, step from which the adversarial weight is `late_adversarial`; 0 means never.
        late_adversarial: See `late_start`.
        generator_every: In full finetuning, with 1 every step trains the tokenizer and a discriminator. With n above 1,
            from `loss.adversarial_start` on, every n-th step trains the tokenizer alone and the others a discriminator
            alone; 9 in the published code.
    """

    stage: Literal["latents", "pixels"] = "latents"
    first_targets: float = 0.04
    single_steps: int = 0
    posterior_noise: float = 1.0
    halting: float = 1.0
    tiled_mask: bool = False
    discriminators: int = 8
    late_start: int = 0
    late_adversarial: float = 0.8
    generator_every: int = 1

    def __post_init__(self) -> None:
        refuse_outside(self, "karl.", {"first_targets": (0.005, math.inf), "posterior_noise": (0, 1)})
        refuse_outside(self, "karl.", dict.fromkeys(("discriminators", "generator_every"), (1, math.inf)))
        refuse_outside(
            self,
            "karl.",
            dict.fromkeys(("single_steps", "halting", "late_start", "late_adversarial"), (0, math.inf)),
        )

    def build(self) -> KarlTraining:
        """Return the settings themselves."""
        return self


@dataclass(frozen=True, kw_only=True)
class ValueTraining(Config):
    """What a value model is trained on.

    Attributes:
        generator: Checkpoint of the generator whose pictures it foresees; it draws with its own knobs.
        rollouts: Pictures that are drawn, equally many of each class or caption; they stay in the user's cache.
        held_out: Share of them that is not trained on: one half fits the calibration, the other one gives the figures.
        quality: For lengths: a picture has enough tokens when the mean absolute error, of pixels in [0, 1], to that of
            all its tokens is at most this.
    """

    generator: str = ""
    rollouts: int = 2000
    held_out: float = 0.2
    quality: float = 0.02

    def __post_init__(self) -> None:
        refuse_outside(self, "value.", {"rollouts": (1, math.inf), "held_out": (0, 1), "quality": (0, 1)})
        half = int(self.rollouts * self.held_out) // 2
        if half < 2 or self.rollouts - 2 * half < 1:
            raise ArzooError(
                f"value.held_out={self.held_out} of value.rollouts={self.rollouts} leaves {half} for calibration, as "
                f"many for figures, and {self.rollouts - 2 * half} for training; give at least 2, 2 and 1, for example "
                "value.rollouts=2000 value.held_out=0.2"
            )

    def build(self) -> ValueTraining:
        """Return the settings themselves."""
        return self


@dataclass(frozen=True, kw_only=True)
class GeneratorLoss(Config):
    """Loss of a generator, and the control of its previews and checkpoint.

    Attributes:
        label_dropout: Share of samples that see the null condition (classifier-free guidance).
        style_words: With captions, share of the samples whose text also names the style of the drawing.
        class_words: With captions, share of the samples whose text is the words of their class and its style, such as
            "cat face, openmoji". If positive, the model has classes as well and draws them by these words.
        token_noise: Share of input tokens replaced by random codes, which makes sampling robust to its own errors.
        posterior_noise: For tokenizers with distributions over tokens, factor of their deviation in training samples: 1
            as published, 0 for their means.
        guidance: Guidance scale of the previews, and the default of the checkpoint.
        guidance_over: Schedule of the guidance: "constant", or rising from 1 with the completed "steps" (xAR, FlowAR)
            or "tokens" (MAR).
        top_k: Top-k of previews and checkpoint.
        temperature: Temperature of previews and checkpoint.
        temperature_over: Schedule of the temperature: "constant", or falling to 0 with the completed "steps" (TiTok),
            for plans that commit the most confident tokens.
        head_steps: Solver steps of a diffusion or flow head in previews and checkpoint; 0 means the head's own number.
        max_timestep: Largest timestep of a diffusion head in previews and checkpoint; 0 means all 1000. After a short
            training the largest timesteps are learned poorly, and few solver steps from them diverge.
        least_masked: For masked models, the smallest share of hidden tokens in training. Published models hide at least
            0.7 and rely on generalization in later steps.
        random_orders: Two steps: until the first, every training sample has a random order instead of that of the plan,
            then with a probability that falls linearly to 0 at the second (RAR, 2024); empty means none.
        shown: For plans of several stages, share of the samples whose later stages see the earlier ones; those of other
            samples see nothing of them. Sampling always shows them (Hi-MAR, 2025: 0.25).
        shown_warmup: Steps over which this share rises from 0.
        context: For models that denoise in place, whether groups see earlier ones with the noise they were denoised
            from ("noisy") or clean ("true").
        mixture: For models that draw one token after another, weights of further losses beside that of the next token.
        describe: For models of captions that can also put pictures into words (LongCat-Next, 2026), share of the
            samples of which the caption is predicted from the picture; of the others, the picture from the caption.
    """

    label_dropout: float = 0.1
    style_words: float = 0.5
    class_words: float = 0.0
    token_noise: float = 0.0
    posterior_noise: float = 1.0
    guidance: float = 3.0
    guidance_over: Literal["constant", "steps", "tokens"] = "constant"
    top_k: int = 50
    temperature: float = 1.0
    temperature_over: Literal["constant", "steps"] = "constant"
    head_steps: int = 0
    max_timestep: int = 0
    least_masked: float = LOWEST
    random_orders: tuple[int, ...] = ()
    shown: float = 0.25
    shown_warmup: int = 0
    context: Literal["noisy", "true"] = "noisy"
    mixture: Mixture = field(default_factory=Mixture)
    describe: float = 0.0

    def __post_init__(self) -> None:
        shares = (
            "label_dropout",
            "style_words",
            "class_words",
            "token_noise",
            "posterior_noise",
            "least_masked",
            "shown",
            "describe",
        )
        refuse_outside(self, "generator.", dict.fromkeys(shares, (0, 1)))
        refuse_outside(self, "generator.", {"shown_warmup": (0, math.inf)})
        for name in ("guidance", "top_k", "temperature", "head_steps", "max_timestep"):
            if name != "max_timestep" or self.max_timestep:
                check_knob(name, getattr(self, name), f"generator.{name} {getattr(self, name)!r}")
        if self.random_orders and not (
            len(self.random_orders) == 2 and 0 <= self.random_orders[0] <= self.random_orders[1]
        ):
            raise ArzooError(
                f"generator.random_orders are two steps in ascending order, such as [1000, 1500], got "
                f"{list(self.random_orders)}"
            )
        if self.least_masked == 1:
            raise ArzooError(
                "generator.least_masked must be less than 1: some tokens must be visible in some step"
            )

        if self.describe == 1:
            raise ArzooError("generator.describe must be less than 1: some samples must be drawn, too")

    def random_share(self, step: int) -> float:
        """Compute the probability that a training sample of a step has a random order."""
        if not self.random_orders:
            return 0.0
        first, last = self.random_orders
        return min(max((last - step) / (last - first), 0.0), 1.0) if step > first else 1.0

    def share_shown(self, step: int) -> float:
        """Compute the share of samples of a step whose later stages see the earlier ones."""
        return self.shown * min(1.0, step / self.shown_warmup) if self.shown_warmup else self.shown

    def build(self) -> GeneratorLoss:
        """Return the settings themselves."""
        return self
