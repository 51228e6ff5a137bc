"""Pictures in words: the networks of a generator, used the other way round.

"LongCat-Next: Lexicalizing Modalities as Discrete Tokens", 2026: one network reads a text and draws the codes of a
picture, or reads the codes and draws the text. The text is a canvas of ids like any other, drawn by the sampling loop
in the order `ordered`, and ends with a symbol of its own (`arzoo.core.ends`).

Shapes: B pictures, L ids of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Head
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.ends import end_of
from arzoo.core.layout import Grid, Ordered
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.generation.inputs import Pictures, pictures_of
from arzoo.generation.packed import drawing
from arzoo.generation.request import control_of, reader_of, seeds_of
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.stopping import stop_rule

if TYPE_CHECKING:
    from arzoo.generation.generator import Generator


class Describer:
    """The parts that draw texts, as the sampling loop takes them.

    Args:
        backbone: A network with `words`.

    Attributes:
        heads: Its head over ids.
        spec: Contract of a text: so many ids, of which the last one of the vocabulary says that the text has ended.
        plan: The order, one id after another.

    Raises:
        ArzooError: The network draws no texts.
    """

    def __init__(self, backbone: Backbone) -> None:
        if backbone.words is None:
            raise ArzooError(
                f"backbone {called(backbone)} of this model draws pictures and was not trained to describe them: train "
                "one of the family longcat with generator.describe=0.5"
            )
        self.backbone, self.heads = backbone, [backbone.words]
        layout = Ordered(backbone.config.text_length)
        self.spec = TokenSpec(layout, vocab=backbone.words.config.vocab, prefix_ok=True, ends=True)
        self.plan: Plan = ordered(layout)

    @property
    def head(self) -> Head:
        """The head over ids."""
        return self.heads[0]

    def canvas(self, text: Tensor, mask: Tensor) -> Tensor:
        """Return texts (B, L) as they are drawn: from the first position on, and the end in the place of padding.

        Args:
            text: (B, L) ids, with padding anywhere.
            mask: (B, L) bool, False at padding.
        """
        first = (~mask).long().argsort(stable=True)
        return torch.where(mask, text, end_of(self.spec)).gather(1, first)

    def ids(self, tokens: Tokens) -> list[list[int]]:
        """Return the ids of texts before their ends."""
        rows, end = tokens.values.tolist(), end_of(self.spec)
        kept = [row[:length] for row, length in zip(rows, tokens.length.tolist(), strict=True)]
        return [row[: row.index(end)] if end in row else row for row in kept]

    def draw(self, picture: Tensor, grid: Grid, seeds: Sequence[int], control: Control) -> Tokens:
        """Draw the texts of pictures (B, N) or (B, N, Q) of codes on a grid, each from its own seed."""
        cond = Cond(len(picture), prefix=picture, grid=grid)
        canvas = self.spec.empty(len(picture), picture.device)
        run = start(self, self.plan, cond, control, canvas, Draws(seeds))
        for _ in generate(self, run, stop_rule(self.spec)):
            pass
        return run.tokens


@torch.no_grad()
def describe(
    model: Generator,
    images: Pictures,
    *,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    batch: int = 16,
    control: Control | None = None,
    **knobs: Any,
) -> list[str]:
    """Describe pictures in words, by the network that draws them.

    Without knobs each next letter is the likeliest one; with a temperature, top_k or top_p letters are drawn. A text
    depends on its picture and its own seed. There is no guidance, as training has no null picture.

    Example:
        >>> model.describe(["cat.png", "dog.png"])                # doctest: +SKIP
        >>> model.describe(photo, temperature=0.8, seed=1)        # doctest: +SKIP

    Args:
        model: A generator whose training also described pictures (`generator.describe` of its recipe).
        images: PIL images, files, arrays or tensors, see `Generator.encode`. Those of another size are resized and
            cropped; `with_size` reads them in a size that suits them better.
        seed: Seed of the request; text i uses a hash of it and i.
        seeds: Seeds of the texts, instead of `seed`.
        batch: Pictures per batch, at least 1.
        control: Knobs, instead of the likeliest letters.
        **knobs: temperature, top_k, top_p or greedy, see `arzoo.core.control.Settings`.

    Returns:
        One text per picture. Bytes that are no UTF-8, which a network may draw, are shown as U+FFFD.

    Raises:
        ArzooError: The model was not trained to describe, or its text encoder is not known; there is no such knob, it
            has no effect on texts or is out of range; batch is less than 1; also as `Generator.encode`.
    """
    backbone = drawing(model.backbone) if model.device.type == "cpu" else model.backbone
    describer, encoder = Describer(backbone), reader_of(model).encoder
    batch = whole_number(batch, "batch", least=1)
    control = (
        control_of(model, control or Control(), knobs, model.describe) if knobs else control
    ) or Control(greedy=True)
    _refuse_idle(control)
    pictures = pictures_of(images, model.image_size, model.tokenizer.frames)
    seeds = seeds_of(Cond(len(pictures)), seed, seeds)
    texts = list[str]()
    for rows in torch.arange(len(pictures)).split(batch):
        canvas = model.encode(pictures[rows])
        grid = canvas.layout or model.spec.layout
        assert isinstance(grid, Grid), "a network that describes draws pictures on a grid"
        tokens = describer.draw(canvas.values, grid, [seeds[i] for i in rows.tolist()], control)
        texts += [encoder.text(ids) for ids in describer.ids(tokens)]
    return texts


def _refuse_idle(control: Control) -> None:
    """Refuse knobs that act on pictures only, rather than leave them out."""
    acting = ("temperature", "top_k", "top_p", "greedy")
    plain = replace(Control(), **{name: getattr(control, name) for name in acting})
    idle = [name for name, value in vars(control).items() if value != getattr(plain, name)]
    if idle:
        raise ArzooError(
            f"{', '.join(idle)}: no effect on texts, which have {', '.join(acting)}. Leave it out"
        )
