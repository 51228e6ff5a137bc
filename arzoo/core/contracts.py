"""The contracts of the networks: backbone (with Read), head and tokenizer.

Shapes: B samples, R rows (B, or 2B = [conditional; null] under guidance), N positions, m positions of a group,
S slots, H readouts, D width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from arzoo.base.config import Config
from arzoo.base.estimate import parameters_in_words
from arzoo.base.registry import called
from arzoo.base.sharing import OfImages, Shared
from arzoo.core.canvas import BackboneConfig, CanvasConfig
from arzoo.core.clips import sizes_in_words
from arzoo.core.condition import Cond
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.sizes import Sizes
from arzoo.core.state import State
from arzoo.core.tokens import Mixed, Tokens, TokenSpec


@dataclass
class Read:
    """The output of a backbone and input of a head, in training (all positions) and in sampling (one group).

    Attributes:
        positions: (1 or B, m) positions to draw, a superset of the group.
        features: (R, m, H, D).
        available: (1 or B, m, H) bool, readouts that can predict a position; None means all.
        query: `(x_t (r, m, C), t) -> (r, m, C)` if the backbone itself is the denoiser; r is B (the conditional rows)
            or R.
        known: (B, m) bool, tokens among `positions` that exist already; joint heads clamp them.
        values: (B, m, C) values of the `known` tokens.
        span: (h, w) grid of a group that is drawn jointly.
        parts: In training only, the Reads of the groups that a joint head denoises together.
        stages: In training only, the Reads of the stages of a plan, for the head of each.
        full: All positions of the stage, with those that are `known`, for heads that draw them together.
        prepared: (R, ...) result of `Head.prepare`, computed once per group.
        table: (V, C) vectors of the codes, if the backbone can be fed mixtures of them.
    """

    positions: Tensor
    features: Tensor | None = None
    available: Tensor | None = None
    query: Callable[[Tensor, Tensor | float], Tensor] | None = None
    known: Tensor | None = None
    values: Tensor | None = None
    span: tuple[int, int] | None = None
    parts: list[Read] | None = None
    stages: list[Read] | None = None
    full: Read | None = None
    prepared: Tensor | None = None
    table: Tensor | None = None

    def conditional(self, batch: int) -> Read:
        """Keep the conditional rows only."""
        if self.features is None:
            return self
        prepared = None if self.prepared is None else self.prepared[:batch]
        return replace(self, features=self.features[:batch], prepared=prepared)


class Backbone(nn.Module):
    """A network that turns committed tokens into features for the next group.

    Attributes:
        readouts: Readouts of plans that it supports.
        width: Channels of its features.
        axes: Number of readouts per position.
        extras: Number of learned extra inputs.
        recurrent: Its state is a summary (SSM), so the order of feeding acts as its mask.
        bidirectional: It attends to all known tokens and ignores the plan's mask.
        windowed: It has `window`, and its state can be rewound.
        any_order: Its inputs say which position they predict, so each position can be the next after the same tokens.
        copies: It can be fed the copies of tokens of a plan, see `Plan.copies`.
        hides: `features` feeds tokens that are not known as their position alone, so training can hide tokens from it.
        reads_canvas: Its inputs are computed by `TokenSpec.canvas`, which `attach` gives it; mixtures of codes can be
            fed too.
        stages: Stages of the plans that it draws; 0 means any number.
        gives: Fields of `Read` that it sets, out of {"features", "query", "full"}.
        code_head: Name of the head it is published with for codes, one per position.
        vector_head: Name of the head it is published with for continuous tokens.
        later_vector_heads: Names of those of the later stages.
        stage_weights: For training, weight of the loss of each stage, beside the share of its tokens.
        config: Settings it was built from.
    """

    config: BackboneConfig
    readouts: frozenset[str] = frozenset({"shifted"})
    width: int = 0
    axes: int = 1
    extras: int = 0
    recurrent: bool = False
    bidirectional: bool = False
    windowed: bool = False
    any_order: bool = False
    copies: bool = False
    hides: bool = False
    reads_canvas: bool = False
    stages: int = 0
    gives: frozenset[str] = frozenset({"features"})
    code_head: str = "categorical"
    vector_head: str = "diffusion_mlp"
    later_vector_heads: tuple[str, ...] = ()
    stage_weights: tuple[float, ...] = (1.0,)

    def repeated_blocks(self) -> list[nn.Module]:
        """See `blocks.Repeats`; without blocks, training with activation checkpointing or sharding is refused."""
        return []

    @property
    def words(self) -> Head | None:
        """Head over the ids of texts, of networks that also read a picture (`Cond.prefix`) and draw a text; else None.

        The canvas is then an `Ordered` of `config.text_length` ids, of which the last one means the end.
        """
        return None

    def attach(self, spec: TokenSpec) -> None:
        """Take from a tokenizer what inputs are computed with; by default nothing. Generators call it."""

    def features(self, tokens: Tokens, cond: Cond, plan: Plan) -> Read:
        """Compute the features of all positions in parallel, for training. Masked backbones use `tokens.known`."""
        raise NotImplementedError

    def staged(self, tokens: Tokens, conds: Sequence[Cond], hidden: Tensor | None = None) -> Read:
        """Compute the features of all stages of a plan for training, those that have `stages`.

        Args:
            tokens: The canvas; `known` positions are those that the stage they belong to sees.
            conds: The condition of each stage.
            hidden: (B,) bool, samples of which later stages see nothing of the earlier ones.
        """
        raise NotImplementedError

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """Create the state of a run, with the condition already fed."""
        return State(plan, cond, branches)

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the pending slots and read the group of a step. A second call for the same step gives the same."""
        raise NotImplementedError

    def window(self, state: State, tokens: Tokens, first: int, last: int) -> list[Read]:
        """Feed the pending slots up to step last - 1 in one pass, and read the groups of steps first..last-1.

        The canvas holds values at the groups first..last-2 too, known or not: each group is read as if all earlier
        ones were right. `State.rewind` takes back those that were not.
        """
        raise NotImplementedError


Predict = Callable[..., Tensor]


class Head(nn.Module):
    """A distribution over tokens, given a Read.

    Attributes:
        joint: It draws all tokens of a group together (the positions of the Read are one sample).
        discrete: It draws codes rather than vectors.
        needs: Fields of `Read` that it uses, out of {"features", "query", "full"}.
        scored: It has `sample_scored`.
        enumerates: It has `log_probs`: a token is one code, and the head knows the probability of each.
        mixes: It can mix the vectors of codes, see `Settings.more_smooth`.
        knobs: Fields of `Settings` that it uses; guidance works with any head, and its `interval` with those that
            have a solver.
        config: Settings it was built from.
    """

    config: CanvasConfig
    joint: bool = False
    discrete: bool = True
    scored: bool = False
    enumerates: bool = False
    mixes: bool = False
    needs: frozenset[str] = frozenset({"features"})
    knobs: frozenset[str] = frozenset({"temperature", "top_k", "top_p", "greedy"})

    def repeated_blocks(self) -> list[nn.Module]:
        """See `blocks.Repeats`."""
        return []

    @property
    def solves(self) -> bool:
        """Whether it draws with a solver, in steps from noise to clean tokens."""
        return "head_steps" in self.knobs

    def active_knobs(self, solver: str | None) -> frozenset[str]:
        """Knobs that have an effect with a solver; None is the head's own solver."""
        return self.knobs

    def noise_share(self, t: float) -> float:
        """Share of noise at a time of the head's solvers, from 0 (clean) to 1 (pure noise)."""
        return t

    def prepare(self, read: Read) -> Read:
        """Compute once what all predictions for a group share; `predict` must also accept a Read without it."""
        return read

    def evaluations(self, settings: Settings) -> int:
        """Number of predictions for one group with the settings; called for every step before a run starts.

        Raises:
            ArzooError: The head cannot draw with these settings.
        """
        return 1

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Predict logits, noise (and variance) or velocity for every row of the Read.

        Args:
            read: Output of the backbone.
            x: Noisy tokens, or the codes drawn so far at each position.
            t: Time of the solver.
        """
        raise NotImplementedError

    def guide(self, conditional: Tensor, null: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance ("Classifier-Free Diffusion Guidance", 2022, section 3) on predictions."""
        return null + scale * (conditional - null)

    def predict_guided(
        self, read: Read, scale: float, x: Tensor | None = None, t: Tensor | float | None = None
    ) -> Tensor:
        """Guided prediction for B rows, from a Read of 2B rows [conditional; null]; x has B rows.

        A head whose last layers are linear may mix the branches before them instead of after the prediction.
        """
        conditional, null = self.predict(read, None if x is None else torch.cat([x, x]), t).chunk(2)
        return self.guide(conditional, null, scale)

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor | Mixed:
        """Draw tokens (B, m, ...) at the positions of the Read; `predict` is already guided.

        Mixtures of codes are drawn only if the settings say so, and the head `mixes`.
        """
        raise NotImplementedError

    def sample_scored(
        self, predict: Predict, read: Read, settings: Settings, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Draw the tokens of `sample`, and score (B, m), in units of logits, how sure the head is of each of them."""
        raise NotImplementedError

    def log_probs(self, predict: Predict, settings: Settings) -> Tensor:
        """Log-probabilities (B, m, V), in nats, of the codes that `sample` draws from.

        Greedy settings have none of their own: then those of the plain softmax.
        """
        raise NotImplementedError

    def loss(self, read: Read, targets: Tensor, draws: Draws | None = None) -> Tensor:
        """Loss (B, m) of every token; the objective weights and reduces it."""
        raise NotImplementedError


class Tokenizer(Shared, OfImages, nn.Module):
    """A network that maps pictures and clips to tokens and back.

    `encode` and `decode` are for networks and training, `encode_images`, `decode_images` and `reconstruct` for users.

    Attributes:
        config: Settings it was built from.
        spec: Kind and layout of its tokens.
        image_size: (H, W) of the pictures it was made for.
        frames: Frames of the clips it was made for, 1 for still pictures.
        sizes: Sizes of pictures that it is made for, also unlike ones in a pass; None if all have `image_size`.
        strictly_causal: Tokens of a frame do not depend on later frames, so the first frames of a clip can be encoded
            alone, and a clip while it arrives.
        borrowed: {"name", "sha256"} of the checkpoint whose weights its submodule `base` has; empty if it has its own.
        qualities: Smallest and largest `quality` that `encode` accepts; None if it takes no target.
        noisy: Its pictures start from noise, and `decode` also takes `draws`, the randomness of it.
    """

    config: Config
    spec: TokenSpec
    image_size: tuple[int, int]
    frames: int = 1
    sizes: Sizes | None = None
    strictly_causal: bool = False
    borrowed: Mapping[str, str] = {}
    qualities: tuple[float, float] | None = None
    noisy: bool = False

    def __repr__(self) -> str:
        pictures = sizes_in_words(self.image_size, self.frames)
        return f"Tokenizer {called(self)} of {pictures}, {parameters_in_words(self)}\n  tokens: {self.spec}"

    def encode(self, x: Tensor) -> Tokens:
        """Encode clips (B, 3, T, H, W) in [-1, 1]; a still picture is a clip of one frame (`arzoo.core.clips`).

        Tokenizers with `qualities` also take `quality`, the acceptable mean absolute error of pixels in [0, 1], which
        the number of tokens follows; None is their own default.

        Raises:
            ArzooError: The clips have another number of channels, or sizes that the tokenizer does not support.
        """
        raise NotImplementedError

    def distribution(self, x: Tensor) -> tuple[Tokens, Tensor | None]:
        """Tokens, and their standard deviation (B, N, C) if generators are trained on samples around them."""
        return self.encode(x), None

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode tokens to clips (B, 3, T, H, W) in about [-1, 1]; clamping is left to the caller.

        Padding, from `Tokens.length` on, has no effect; `TokenSpec.require` refuses it for tokenizers that need all
        tokens. Before it, positions that are not known have the mean vector of the codebook, if they have codes, or
        their own value, if they have vectors. The last bits may depend on the batch size; decode clip by clip where
        they matter.

        Raises:
            ArzooError: They are not tokens of this tokenizer.
        """
        raise NotImplementedError

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Return a reconstruction (B, 3, T, H, W) and the bottleneck of the pass; used by training only.

        The reconstruction is None if a training pass draws no picture, as in flows. Tokenizers with `sizes` also take a
        sequence of pictures (1, 3, 1, H, W) of unlike sizes, each of which has the same share in the losses.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be trained")

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure statistics of the tokens after training and store them in the config; by default does nothing.

        Args:
            batches: Clean training clips (B, 3, T, H, W) in [-1, 1].
        """
