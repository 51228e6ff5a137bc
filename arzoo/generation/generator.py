"""Generator: tokenizer, backbone, heads and plan as one object that draws pictures.

Example:
    >>> model = Generator.load("nar_emoji64")                              # doctest: +SKIP
    >>> drawings = model.generate("cat-face", num=4, temperature=0.8)      # doctest: +SKIP
    >>> drawings.images, drawings.tensor, drawings.save("out")             # doctest: +SKIP
    >>> Generator.load("nar_emoji64_text").generate("red heart").images    # doctest: +SKIP
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base import runtime
from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.sharing import Shared
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Head, Tokenizer
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens, require_tokens
from arzoo.generation import checkpoint
from arzoo.generation.build import create as create_generator
from arzoo.generation.canvas import canvas_spec, decoded, encoded, image_size, refuse_given, without_padding
from arzoo.generation.describer import describe as describe_pictures
from arzoo.generation.description import described
from arzoo.generation.drawings import Drawings, DrawingStep
from arzoo.generation.fit import require_fit
from arzoo.generation.gaps import Untrained, same_order
from arzoo.generation.inputs import Mask, Pictures, completion, pictures_of
from arzoo.generation.packed import packed_generator
from arzoo.generation.prompts import PromptReader
from arzoo.generation.request import Classes, batches, control_of, seeds_of
from arzoo.generation.runs import begin, in_batches
from arzoo.generation.score import score as score_pictures
from arzoo.generation.search import search as search_picture
from arzoo.generation.speculation import Speculate, packed, speculation
from arzoo.generation.subjects import Subjects, requested
from arzoo.generation.variants import replanned, resized
from arzoo.samplers.loop import generate
from arzoo.samplers.plans.samples import for_samples
from arzoo.samplers.stopping import Stop, require_count, stop_rule


class Generator(Shared):
    """Draws pictures.

    Args:
        tokenizer: Turns tokens into pictures.
        backbone: Reads committed tokens.
        heads: One per stage of the plan.
        plan_name: A registered plan.
        plan_options: Arguments of the plan except the layout.
        classes: Names of the labels. A text-conditional model that has some draws them by their words.
        control: Default knobs.
        tokenizer_name: Name of the tokenizer's checkpoint, or of a folder beside the generator.
        tokenizer_hash: Hash of the tokenizer's weights.
        text: Reads prompts, for a text-conditional backbone.
        untrained: Conditions that its training did not cover.
        ends: It draws where a picture ends, see `arzoo.core.ends`; by default if the tokenizer itself decides the
            number of tokens.
        fps: Frames per second of the clips it was trained on.

    Attributes:
        trained_plan: Name and options of the plan that the weights were trained with, which `with_plan` leaves.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        backbone: Backbone,
        heads: Sequence[Head],
        plan_name: str,
        plan_options: dict[str, Any] | None = None,
        classes: Sequence[str] = (),
        control: Control | None = None,
        tokenizer_name: str = "",
        tokenizer_hash: str = "",
        text: PromptReader | None = None,
        untrained: Untrained | None = None,
        ends: bool | None = None,
        fps: float = 8.0,
    ) -> None:
        self.tokenizer, self.backbone, self.heads = tokenizer, backbone, list(heads)
        self.plan_name, self.plan_options = plan_name, dict(plan_options or {})
        self.trained_plan = plan_name, dict(plan_options or {})
        self.classes, self.control = tuple(classes), control or Control()
        self.tokenizer_name, self.tokenizer_hash, self.text = tokenizer_name, tokenizer_hash, text
        self.untrained, self.fps = untrained or Untrained(), fps
        self.spec = canvas_spec(tokenizer.spec, ends)
        self._plan: Plan | None = None
        backbone.attach(self.spec)

    create = staticmethod(create_generator)

    @staticmethod
    def load(
        name: str | Path, tokenizer: str | Path | None = None, text: str | Path | None = None
    ) -> Generator:
        """Read a checkpoint and the tokenizer it was trained on.

        Args:
            name: A bundled name, a folder or `hf-hub:org/name`.
            tokenizer: Where the tokenizer is, if not where the checkpoint records it.
            text: The same for the text encoder of a text-conditional model.

        Raises:
            ArzooError: A part is missing, damaged or belongs to something else.
        """
        return Generator(**checkpoint.read(name, tokenizer, text))

    def save(
        self,
        folder: str | Path,
        metrics: dict[str, Any] | None = None,
        record: dict[str, Any] | None = None,
        add: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a checkpoint folder; the tokenizer is named, not copied. See `arzoo.checkpoints.folder.save_parts`.

        Weights are stored as float16; those that were read from 8 bits stay in 8 bits.
        """
        checkpoint.write(self, folder, metrics, record, add)

    def with_weights(self, backbone: Backbone, heads: Sequence[Head]) -> Generator:
        """Return the same generator with other networks."""
        model = copy.copy(self)
        model.backbone, model.heads, model._plan = backbone, list(heads), None
        backbone.attach(self.spec)
        model.plan_options = dict(self.plan_options)
        return model

    @property
    def follows_training(self) -> bool:
        """Whether tokens are drawn in an order that the weights were trained for."""
        return (self.plan_name, self.plan_options) == self.trained_plan or same_order(self)

    def __repr__(self) -> str:
        return described(self)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The trained networks by their names in a checkpoint: the backbone, and a head per stage."""
        heads = {f"head{i or ''}": head for i, head in enumerate(self.heads)}
        return {"backbone": self.backbone, **heads}

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of its pictures in pixels; `with_size` gives the same model for others, if it takes any."""
        return image_size(self.tokenizer, self.spec)

    @property
    def device(self) -> torch.device:
        """Device of the networks, and of the canvas during generation."""
        return next(self.backbone.parameters()).device

    def to(self, device: torch.device | str) -> Generator:
        """Move the tokenizer and all networks to a device; returns itself.

        Args:
            device: "cuda", "cpu", "mps", or "auto" for an accelerator if there is one.

        Raises:
            ArzooError: This machine has no such device.
        """
        if isinstance(device, str):
            device = runtime.choose_device(device)
        for part in (self.tokenizer, self.backbone, *self.heads):
            part.to(device)
        if self.text:
            self.text.to(device)
        return self

    def plan(self, seeds: Sequence[int] = (0,), given: Tensor | None = None) -> Plan:
        """Return the order in which tokens are drawn.

        Args:
            seeds: One per sample; a random order is drawn from them.
            given: (B, N) bool, positions that already have a value.

        Raises:
            ArzooError: The parts do not fit each other.
        """
        if given is not None or self._plan is None or self._plan.rank.dim() == 2:
            plan = for_samples(self.plan_name, self.spec.layout, seeds, given, **self.plan_options)
            require_fit(self.spec, self.backbone, plan, self.heads)
            self._plan = plan
        return self._plan

    def stream(
        self,
        subjects: Subjects | Cond | None = None,
        seeds: Sequence[int] | None = None,
        control: Control | None = None,
        given: Tokens | None = None,
        *,
        num: int | None = None,
        seed: int = 0,
        classes: Classes | None = None,
        prompts: Sequence[str] | None = None,
        tokens: int | Stop | None = None,
        speculate: Speculate | None = None,
        **knobs: Any,
    ) -> Iterator[DrawingStep]:
        """Draw one batch, one group of tokens per step.

        Args:
            subjects: As in `generate`, which draws the same pictures.
            num: As in `generate`.
            classes: As in `generate`.
            prompts: As in `generate`.
            seeds: One per sample, instead of `seed`.
            seed: As in `generate`.
            control: As in `generate`.
            **knobs: As in `generate`.
            given: The tokenizer's tokens or a whole canvas, one row per sample, not modified; tokens marked as given
                stay, except padding. A random order schedules the other positions, as if each sample had only as many
                given tokens as the sample with the fewest. Where all tokens are given, nothing is drawn.
            tokens: As in `generate`.
            speculate: As in `generate`.

        Yields:
            The steps of the loop; `step.preview()` returns the pictures so far, `step.run.tokens` is their canvas.

        Raises:
            UnknownName: As in `generate`.
            ArzooError: The given tokens are of another canvas; also as in `generate`.
        """
        control = control_of(self, control, knobs, self.stream)
        cond, _ = requested(self, subjects, num, classes=classes, prompts=prompts)
        seeds = seeds_of(cond, seed, seeds)
        if tokens is not None:
            require_count(tokens, self.spec, self.plan())
        method = None if speculate is None else packed(speculation(self, speculate))
        model, run = begin(self, cond, seeds, control, given, gumbel=method is not None)
        stop = stop_rule(self.spec, tokens)
        steps = generate(model, run, stop) if method is None else method.draw(model, run, stop)
        for step in steps:
            yield DrawingStep(**vars(step), model=self, most=None if callable(tokens) else tokens)

    def generate(
        self,
        subjects: Subjects | Cond | None = None,
        num: int | None = None,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        init: Pictures | None = None,
        mask: Mask | None = None,
        classes: Classes | None = None,
        prompts: Sequence[str] | None = None,
        cond: Cond | None = None,
        batch: int = 16,
        control: Control | None = None,
        given: Tokens | None = None,
        tokens: int | Stop | None = None,
        speculate: Speculate | None = None,
        progress: Callable[[int, int], None] | None = None,
        watch: Callable[[Tensor, DrawingStep], None] | None = None,
        **knobs: Any,
    ) -> Drawings:
        """Draw pictures.

        A picture depends on its class or prompt and its own seed, not on the batch or its neighbors: on a CPU bit for
        bit, on a GPU up to rounding, which follows the number of rows and may change a code now and then.

        Example:
            >>> model.generate("cat-face", num=4, guidance=3, temperature=0.8, seed=0).images  # doctest: +SKIP
            >>> model.generate("cat-face", init=photo, mask=mask).save("out")  # doctest: +SKIP

        Args:
            subjects: What to draw: the class by its name or number, or the prompt of models that read text; or several.
                Of classes named CLASS/STYLE, CLASS alone means all of them in turn. A number is the index of a class,
                from 0 on, unless classes are named by numbers: then it is a name.
            num: Number of pictures, for which subjects are used in turn; by default one for each. Without subjects,
                pictures of as many classes as possible.
            seed: Seed of the request; picture i uses a hash of it and i.
            seeds: Seeds of the pictures, instead of `seed`.
            init: A picture to complete, one for all or one for each: PIL images, files, or arrays, see `encode`.
            mask: What of `init` to draw anew, a PIL image or an array (H, W): white, 1 or True. What is kept is kept in
                whole tokens, as the tokenizer reproduces it.
            classes: Class of each picture, by its name or a number, instead of `subjects`.
            prompts: What to draw in each picture, instead of `subjects`.
            cond: The condition as labels or features, instead of `subjects`.
            batch: Pictures per batch, at least 1.
            control: Knobs; the checkpoint's own by default.
            given: The tokenizer's tokens, one row per picture, of which some are given, instead of `init` and `mask`; a
                picture whose tokens are all given is only decoded.
            tokens: Stop after so many tokens, for models over ordered tokens, whose first ones are a picture; by
                default after all, or where the model itself ends a picture. Or a rule that ends each, such as
                `Value.load(...).stop()`.
            speculate: Read several steps in one network call, for models of codes that feed every token once: an object
                of `arzoo.samplers.speculative`, such as Jacobi(6), or its text, "jacobi:6" (see `arzoo models --kind
                speculation`); a number stands for the former. With it the pictures are those of Jacobi(1), step by
                step, up to rounding; without, noise of another kind draws others. Of a method that is `lockstep` the
                pictures depend on the batch, though not what they look like on average.
            progress: Called with (steps done, steps to do); a step is a pass of the network without `speculate`.
            watch: Called after every step with the numbers (B,) of the pictures of its batch, and the step.
            **knobs: Single knobs that differ from `control`, such as guidance=3 and temperature=0.8, see
                `arzoo.core.control.Settings`.

        Returns:
            A tensor (n, T, H, W, 3) uint8, with `.images` as PIL images, `.tensor`, `.seeds`, `.subjects`, `.save(...)`
            and `token_counts`, the number of tokens of each picture. Pictures are clips of one frame; `.stills` are the
            pictures as (n, H, W, 3).

        Raises:
            UnknownName: The model does not know a class.
            ArzooError: What to draw is given twice or not at all, the model takes the other kind, a class is out of
                range, a prompt is empty, there is no such knob or it is out of range, the counts of pictures, seeds and
                rows of given tokens differ, the mask and the picture do not belong together, batch is less than 1,
                pictures of this model cannot have so many tokens, or it cannot speculate.

        Warns:
            PromptRemark: A prompt is cut, or has words that the text encoder does not know.
            NeverTrained: The training had no picture of a class, no null condition for guidance, or another plan.
            Unseen: What is kept of a picture is not seen where the drawing begins.
        """
        batch = whole_number(batch, "batch", least=1)
        control = control_of(self, control, knobs, self.generate)
        cond, names = requested(self, subjects, num, classes=classes, prompts=prompts, cond=cond)
        seeds = seeds_of(cond, seed, seeds)
        if speculate is not None:
            speculate = speculation(self, speculate)
        if init is not None or mask is not None:
            if given is not None:
                raise ArzooError("give either a picture with its mask, or given tokens")
            given = completion(self, init, mask, cond.batch)
        if given is not None:
            refuse_given(given, self.spec, self.plan().layout, cond.batch)
            given = without_padding(given)
        chunks = batches(cond.batch, batch, given)
        drawings = in_batches(self, cond, seeds, chunks, control, given, tokens, speculate, progress, watch)
        drawings.subjects = names
        return drawings

    packed = packed_generator
    with_plan = replanned
    with_size = resized
    search = search_picture
    score = score_pictures
    describe = describe_pictures

    def encode(self, images: Pictures) -> Tokens:
        """Encode pictures or clips to a canvas.

        The canvas holds the tokenizer's tokens, or those of all levels of a pyramid; `decode` inverts it.

        Args:
            images: Pictures (B, H, W, 3) or clips (B, T, H, W, 3) uint8 of the tokenizer's size, as arrays or tensors;
                or PIL images or files, which are resized and cropped to it, one or a list. For models of clips a list
                of pictures is one clip.

        Raises:
            ArzooError: Arrays have another shape or type, or a file cannot be read.
        """
        pixels = pictures_of(images, self.image_size, self.tokenizer.frames)
        return encoded(self.tokenizer, self.spec, pixels.to(self.device), self.plan().layout)

    def decode(self, canvas: Tokens, exact: bool | None = None, draws: Draws | None = None) -> Drawings:
        """Decode a canvas, or the tokenizer's tokens, to clips (B, T, H, W, 3) uint8.

        Args:
            canvas: What `encode` returns, or `step.run.tokens`.
            exact: Decode one by one, so that no bit of a picture depends on the batch. The default is True on a CPU
                and False on a GPU.
            draws: Randomness of decoders that start from noise; by default every picture starts from that of seed 0.

        Raises:
            ArzooError: The canvas does not hold tokens of this model.
        """
        require_tokens(canvas)
        exact = self.device.type == "cpu" if exact is None else exact
        canvas = canvas.copy(self.device)
        if self.backbone.config.shift:
            canvas.values.clamp_(min=0)  # special ids that were drawn
        drawings = decoded(self.tokenizer, self.spec, canvas, self.plan().layout, exact, draws)
        drawings.fps = self.fps
        return drawings
