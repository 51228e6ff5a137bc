"""Seconds of a beam search that forks the caches of its prefixes, compared with one that computes every prefix again.

Beam 5 x 10 over ordered tokens at geometric lengths, random weights of the papers' B size, 64,000 codes as FlexTok has.
"Pictures" are the tokens and the verifier adds them up, so that neither costs anything. Without caches, as in the code
published with "(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026, the network reads a whole prefix for every
token; as there, the tokens before the last of a chunk are drawn once per prefix. `overhead` is the time of a search
with caches outside the generator, the decoder and the verifier, as a share of theirs.

    python benchmarks/search.py --threads 1
    python benchmarks/search.py --threads 1 --tokens 32 --width 256 --depth 4 --vocab 1000
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from types import SimpleNamespace
from typing import Any

import torch
from common import table
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.contracts import Backbone, Read
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Ordered
from arzoo.core.plan import Plan
from arzoo.core.state import State
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.loop import start
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.result import Result


class Recomputed(Backbone):
    """A backbone without caches: every step reads all tokens before it.

    Args:
        network: A backbone with caches.
    """

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network, self.config, self.width = network, network.config, network.width

    def start(self, cond: Cond, plan: Plan, branches: int) -> State:
        """Return a state that has only the condition."""
        return State(plan, cond, branches)

    def step(self, state: State, tokens: Tokens, step: int) -> Read:
        """Feed the condition and all tokens before a step."""
        cond = state.cond.select(torch.arange(state.batch))
        return self.network.step(self.network.start(cond, state.plan, state.branches), tokens, step)


def build(tokens: int, arguments: Namespace) -> tuple[Backbone, nn.Module]:
    """Build backbone and head with random weights."""
    torch.manual_seed(0)
    backbone = TransformerConfig(
        width=arguments.width,
        depth=arguments.depth,
        heads=arguments.width // 64,
        vocab=arguments.vocab,
        grid=(1, 1, tokens),
        learned_positions=True,
    ).build()
    head = CategoricalConfig(width=arguments.width, vocab=arguments.vocab).build()
    nn.init.normal_(head.output.weight, std=0.02)
    return backbone.eval(), head.eval()


def decode(tokens: Tokens) -> Tensor:
    """Return the tokens themselves, 0 where there are none."""
    return tokens.values * tokens.known


@torch.inference_mode()
def search(backbone: Backbone, head: nn.Module, tokens: int, arguments: Namespace, seed: int = 0) -> Result:
    """Search for one picture."""
    spec = TokenSpec(Ordered(tokens), vocab=arguments.vocab, prefix_ok=True)
    model, control = SimpleNamespace(backbone=backbone, heads=[head]), Control(guidance=arguments.guidance)
    cond = Cond(1, label=torch.tensor([7]))
    run = start(model, ordered(spec.layout), cond, control, spec.empty(1), Draws([seed]))
    return Beam(5, 10)(model, run, lambda pictures: pictures.sum(1), decode)


def measure(tokens: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table, both searches one after another."""
    backbone, head = build(int(tokens), arguments)
    search(backbone, head, 4, arguments)  # the first pass allocates
    cached = search(backbone, head, int(tokens), arguments)
    parts = sum(cached.parts.values())
    whole = search(Recomputed(backbone), head, int(tokens), arguments)
    return {
        "calls": cached.spent.network_calls,
        "decodes": cached.spent.decodes,
        "seconds": round(cached.spent.seconds, 3),
        "overhead": round((cached.spent.seconds - parts) / parts, 4),
        "recomputed_seconds": round(whole.spent.seconds, 3),
        "ratio": round(cached.spent.seconds / whole.spent.seconds, 4),
        "same_tokens": torch.equal(cached.tokens.values, whole.tokens.values),
    }


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--width", type=int, default=768, help="channels (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=12, help="blocks (default: %(default)s)")
    parser.add_argument("--vocab", type=int, default=64000, help="codes (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=1.0, help="1 is none (default: %(default)s)")


if __name__ == "__main__":
    table(__doc__, {"tokens": ["256"]}, measure, options, free=("tokens",))
