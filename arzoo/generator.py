"""Generator: tokenizer, backbone, heads and plan as one thing that draws pictures.

Example:
    >>> model = Generator.load("nar_emoji64")            # doctest: +SKIP
    >>> images = model.generate(labels=[0, 5], seed=0)   # (2, 64, 64, 3) uint8
    >>> model = Generator.load("nar_emoji64_text")       # doctest: +SKIP
    >>> images = model.generate(prompts=["red heart"])   # (1, 64, 64, 3) uint8
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo import registry
from arzoo.checkpoint import open_checkpoint, save_parts, tokenizer_of
from arzoo.cond import Cond
from arzoo.control import Control
from arzoo.data.transforms import to_uint8
from arzoo.draws import Draws
from arzoo.errors import ArzooError
from arzoo.models.base import Backbone, Head
from arzoo.models.packed import Storage, pack
from arzoo.plan import Plan
from arzoo.prompts import PromptCut, PromptReader, takes_text
from arzoo.runtime import sample_seed
from arzoo.samplers.loop import Step, generate, start
from arzoo.tokenizers.base import Tokenizer
from arzoo.tokens import Tokens


class Generator:
    """Draws pictures.

    Args:
        tokenizer: Turns tokens into pictures.
        backbone: Reads committed tokens.
        heads: One a stage of the plan.
        plan_name: A registered plan.
        plan_options: Its arguments beside the layout.
        classes: Names of the labels.
        control: Default knobs.
        tokenizer_name: Name under which the tokenizer is found again.
        tokenizer_hash: Hash of the tokenizer's weights.
        text: Reads prompts, for a text-conditional backbone.
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
    ) -> None:
        self.tokenizer, self.backbone, self.heads = tokenizer, backbone, list(heads)
        self.plan_name, self.plan_options = plan_name, dict(plan_options or {})
        self.classes, self.control = tuple(classes), control or Control()
        self.tokenizer_name, self.tokenizer_hash, self.text = tokenizer_name, tokenizer_hash, text
        self._plan: Plan | None = None

    @staticmethod
    def create(
        name: str,
        tokenizer: Tokenizer,
        plan: str,
        *,
        classes: Sequence[str],
        tokenizer_name: str,
        tokenizer_hash: str,
        text: str = "",
        **changes: Any,
    ) -> Generator:
        """A generator with fresh weights over a tokenizer's codes.

        Args:
            name: A registered backbone.
            tokenizer: Frozen.
            plan: A registered plan of the shifted readout.
            classes: Names of the labels.
            tokenizer_name: Where the tokenizer is found again.
            tokenizer_hash: Hash of its weights.
            text: A text encoder whose features of captions are the condition, instead of classes.
            **changes: Settings of the backbone that differ from the registered ones.
        """
        spec = tokenizer.spec
        made = registry.create("plan", plan, layout=spec.layout)
        shape = getattr(spec.layout, "shape", (1, 1, spec.layout.size))
        fitting = {
            "vocab": spec.vocab,
            "grid": shape,
            "classes": len(classes),
            "axes": made.axes,
            "extras": made.extras,
        }
        reader = PromptReader(text) if text else None
        if reader:
            fitting |= {"classes": 0, "text_width": reader.encoder.width}
        backbone = registry.create("backbone", name, **(fitting | changes))
        if reader:
            reader.length = backbone.config.text_length
        head = registry.create("head", "categorical", width=backbone.width, vocab=spec.vocab, axes=made.axes)
        return Generator(
            tokenizer, backbone, [head], plan, {}, classes, None, tokenizer_name, tokenizer_hash, reader
        )

    @staticmethod
    def load(
        name: str | Path, tokenizer: str | Path | None = None, text: str | Path | None = None
    ) -> Generator:
        """Read a checkpoint and the tokenizer it was trained on.

        Args:
            name: A bundled name, a folder or `hf-hub:org/name`.
            tokenizer: Where the tokenizer is, if not where the checkpoint says.
            text: The same for the text encoder of a text-conditional model.

        Raises:
            ArzooError: A part is missing, damaged or belongs to something else.
        """
        checkpoint = open_checkpoint(name, "generator")
        found = tokenizer_of(checkpoint, tokenizer)
        index, parts = checkpoint.index, sorted(checkpoint.parts)
        frozen = found.load("tokenizer").requires_grad_(False)
        assert isinstance(frozen, Tokenizer)
        backbone = checkpoint.load("backbone")
        return Generator(
            tokenizer=frozen,
            backbone=backbone,  # type: ignore[arg-type]
            heads=[checkpoint.load(part) for part in parts if part.startswith("head")],  # type: ignore[misc]
            plan_name=index["plan"]["name"],
            plan_options=index["plan"]["options"],
            classes=index["classes"],
            control=Control(**index["controls"]),
            tokenizer_name=index["tokenizer"]["name"],
            tokenizer_hash=index["tokenizer"]["sha256"],
            text=PromptReader.of(backbone, index.get("text"), str(text or "")),
        )

    def save(
        self, folder: str | Path, metrics: dict[str, Any] | None = None, record: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint folder, weights in float16; the tokenizer is named, not copied."""
        heads = {"head" if i == 0 else f"head{i}": head for i, head in enumerate(self.heads)}
        controls = {k: v for k, v in vars(self.control).items() if not callable(v)}
        text = {"text": {"name": self.text.name, "sha256": self.text.sha256}} if self.text else {}
        save_parts(
            folder,
            "generator",
            {"backbone": self.backbone, **heads},
            half=True,
            overwrite=True,
            metrics=metrics,
            record=record,
            spec=self.tokenizer.spec.to_dict(),
            plan={"name": self.plan_name, "options": self.plan_options},
            controls=controls,
            classes=list(self.classes),
            tokenizer={"name": self.tokenizer_name, "sha256": self.tokenizer_hash},
            **text,
        )

    def with_weights(self, backbone: Backbone, heads: Sequence[Head]) -> Generator:
        """The same generator around other networks."""
        return Generator(
            self.tokenizer, backbone, heads, self.plan_name, self.plan_options, self.classes, self.control,
            self.tokenizer_name, self.tokenizer_hash, self.text,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        """Where the network is, and the canvas while it draws."""
        return next(self.backbone.parameters()).device

    def to(self, device: torch.device | str) -> Generator:
        """Move tokenizer and network; returns itself."""
        for part in (self.tokenizer, self.backbone, *self.heads):
            part.to(device)
        if self.text:
            self.text.to(device)
        return self

    def packed(self, storage: Storage = "fp32") -> Generator:
        """The same generator with its linear layers packed for fast sampling on a CPU; it cannot be trained or saved.

        Args:
            storage: How their weights are kept: "fp32", or in 16 bits as "fp16" or "bf16"; see `arzoo.models.packed`.
        """
        return self.with_weights(pack(self.backbone, storage), [pack(head, storage) for head in self.heads])

    def plan(self) -> Plan:
        """The order in which tokens are drawn."""
        if self._plan is None:
            self._plan = registry.create(
                "plan", self.plan_name, layout=self.tokenizer.spec.layout, **self.plan_options
            )
        return self._plan

    def stream(
        self, cond: Cond, seeds: Sequence[int], control: Control | None = None, tokens: Tokens | None = None
    ) -> Iterator[Step]:
        """Draw one batch, group after group.

        Args:
            cond: What to show, B rows.
            seeds: One a sample.
            control: Knobs; the checkpoint's own by default.
            tokens: A canvas with given tokens, which stay.

        Yields:
            The steps of the loop; `step.run.tokens` is the canvas so far.
        """
        tokens = tokens or self.tokenizer.spec.empty(cond.batch, self.device)
        yield from generate(
            self, start(self, self.plan(), cond, control or self.control, tokens, Draws(seeds))
        )

    def generate(
        self,
        labels: Sequence[int] | Tensor | None = None,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        batch: int = 16,
        control: Control | None = None,
        given: Tokens | None = None,
        progress: Callable[[int, int], None] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Tensor:
        """Draw pictures.

        A picture depends on its label or prompt and its own seed, not on the batch or its neighbours.

        Args:
            labels: Class of each picture, for class-conditional models.
            seed: Seed of the request; picture i uses a hash of it and i.
            seeds: Seeds of the pictures, instead of `seed`.
            batch: Pictures at once.
            control: Knobs; the checkpoint's own by default.
            given: A canvas of all pictures with given tokens.
            progress: Called with (network calls done, network calls to do).
            prompts: What to draw in each picture, for text-conditional models.

        Returns:
            (n, H, W, 3) uint8.

        Raises:
            ArzooError: The model takes the other kind of condition, a label is out of range, a prompt is empty, or the
                counts of conditions and seeds differ.

        Warns:
            PromptCut: A prompt is longer than the model reads.
        """
        cond = self.condition(labels, prompts)
        for remark in self.text.remarks(prompts) if self.text and prompts else ():
            warnings.warn(remark, PromptCut, stacklevel=2)
        seeds = list(seeds) if seeds is not None else [sample_seed(seed, i) for i in range(cond.batch)]
        if len(seeds) != cond.batch:
            raise ArzooError(f"{cond.batch} labels or prompts but {len(seeds)} seeds")
        pictures, steps = [], len(self.plan())
        chunks = list(torch.arange(cond.batch).split(batch))
        for number, index in enumerate(chunks):
            tokens = None if given is None else given.select(index)
            rows = cond.select(index).to(self.device)
            step = None
            for step in self.stream(rows, [seeds[i] for i in index.tolist()], control, tokens):
                if progress:
                    progress(number * steps + step.k + 1, len(chunks) * steps)
            assert step is not None
            pictures.append(self.decode(step.run.tokens.values))
        return torch.cat(pictures)

    def condition(
        self, labels: Sequence[int] | Tensor | None = None, prompts: Sequence[str] | None = None
    ) -> Cond:
        """The condition of pictures, from labels or from prompts; arguments and errors as those of `generate`."""
        wants_text = takes_text(self.backbone)
        if wants_text and (prompts is None or labels is not None or isinstance(prompts, str)):
            raise ArzooError(
                "this model draws what a text says: give prompts=['red heart', ...] and no labels"
            )
        if not wants_text and (labels is None or prompts is not None):
            raise ArzooError(
                "this model draws classes: give labels (their names are in `classes`) and no prompts"
            )
        if prompts is not None:
            if self.text is None:
                raise ArzooError(
                    "the model does not say which text encoder it was trained with. Name it with --text-encoder (in "
                    "Python: Generator.load(..., text=)); see `arzoo models --kind text_encoder`."
                )
            return self.text.cond(prompts)
        rows = torch.as_tensor(labels, dtype=torch.long)
        if self.classes and len(rows) and not bool(((rows >= 0) & (rows < len(self.classes))).all()):
            raise ArzooError(f"labels must be 0 to {len(self.classes) - 1}, got {rows.tolist()}")
        return Cond(len(rows), label=rows)

    @torch.inference_mode()
    def decode(self, values: Tensor) -> Tensor:
        """Pictures (B, H, W, 3) uint8 of tokens, one by one so that they do not depend on the batch."""
        return torch.cat([to_uint8(self.tokenizer.decode(row[None])).cpu() for row in values])
