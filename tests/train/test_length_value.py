"""Length values: how many tokens a picture still needs, and stopping by them, row by row."""

from dataclasses import dataclass

import pytest
import torch
from painting import Paint
from rich.console import Console

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.layout import Ordered
from arzoo.core.tokens import TokenSpec
from arzoo.generation import rollouts
from arzoo.generation.generator import Generator
from arzoo.generation.values import Value
from arzoo.generation.verifiers.value import TokenValue
from arzoo.train.build import run
from arzoo.train.recipe import Recipe, load_recipe

QUALITY = 0.1
COUNT = 8


@dataclass(frozen=True, kw_only=True)
class StripesConfig(Config):
    """A tokenizer of 16 x 16 pictures without an encoder: code i is the brightness of rows 2 i and 2 i + 1."""

    frames: int = 1

    def build(self):
        return Stripes(self)


class Stripes(Paint):
    def __init__(self, config):
        super().__init__(config)
        self.spec = TokenSpec(Ordered(COUNT), vocab=16, prefix_ok=True)

    def decode(self, tokens, **options):
        rows = self.black + torch.where(tokens.present, tokens.values, 0) * (2 / 15)
        return rows[:, None, None, :, None].repeat_interleave(2, 3).expand(-1, 3, -1, -1, 16)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a generator `gen` whose pictures stay dark from some row on, and the run of its value."""
    folder = tmp_path_factory.mktemp("lengths")
    tokenizer = Stripes(StripesConfig())
    save_parts(folder / "tok", "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
    torch.manual_seed(0)
    model = Generator.create(
        "raster_tiny", tokenizer, "ordered", classes=("short", "long"), tokenizer_name="tok",
        tokenizer_hash=open_checkpoint(folder / "tok").parts["tokenizer"]["weights"], width=32, depth=1, heads=2,
        learned_positions=True,
    )  # fmt: skip
    with torch.no_grad():
        model.backbone.place.weight.copy_(3 * torch.eye(32)[:COUNT])
        model.backbone.token.weight[0] = 4 * torch.eye(32)[20]
        model.heads[0].output.weight[0, :COUNT] = 0.2
        model.heads[0].output.weight[0, 20] = 2
    model.save(folder / "gen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        run(recipe(folder), folder / "value", console=Console(quiet=True))
        yield folder


def recipe(folder, **changes):
    return Recipe.from_dict(
        {
            "task": "value", "model": {"name": "length_value", "hidden": 32, "depth": 1, "dropout": 0.0, "gamma": 0.9},
            "value": {"generator": str(folder / "gen"), "rollouts": 200, "quality": QUALITY},
            "optim": {"warmup": 5, "ema": 0.9, "lr": 1e-2},
            "run": {"steps": 80, "batch": 32, "log_every": 20, "preview_every": 1000, "save_every": 80, "trackers": []},
        }
    ).replace(**changes)  # fmt: skip


def needed(model, tokens):
    """The first number of tokens whose picture is near that of all."""
    whole = model.decode(tokens).float()
    for count in range(1, COUNT + 1):
        error = (model.decode(tokens.first(count)).float() - whole).abs().flatten(1).mean(1) / 255
        yield count, error <= QUALITY


def test_the_number_of_tokens_needed_is_found_by_bisection(models):
    """Here the error never rises, so bisection finds the first number that is enough."""
    model = Generator.load(models / "gen")
    *_, step = model.stream(classes=[0, 1] * 20, seed=5)
    tokens = step.run.tokens
    first = torch.full((40,), COUNT)
    for count, enough in needed(model, tokens):
        first = torch.where(enough, first.clamp(max=count), first)
    judge = rollouts.tokens_needed(model, QUALITY)
    assert judge(tokens, step.preview(), []).tolist() == first.tolist()
    assert len(first.unique()) > 2


def test_a_length_is_foreseen_on_unseen_rollouts(models):
    figures = open_checkpoint(models / "value").metrics
    assert figures["explained_variance"] > 0.1
    value = Value.load(models / "value")
    assert value.judge == {"quality": QUALITY}
    model = Generator.load(models / "gen")
    for step in model.stream(classes=[0, 1] * 10, seed=9):
        lengths = value(step.run.tokens, step.run.last)
        assert lengths.shape == (20,)
        assert bool(((lengths >= 0) & (lengths <= COUNT)).all())


def test_stopping_ends_each_picture_by_itself(models):
    """A stopped picture is that of its first tokens, in any batch; the rule decides how many they are."""
    model, value = Generator.load(models / "gen"), Value.load(models / "value")
    *_, whole = model.stream(classes=[0, 1] * 8, seed=7)
    stopped = model.generate([0, 1] * 8, seed=7, tokens=value.stop(0.5))
    counts = stopped.token_counts
    assert 1 < len(counts.unique())
    assert int(counts.max()) <= COUNT
    for i, count in enumerate(counts.tolist()):
        row = whole.run.tokens.select(torch.tensor([i])).first(count)
        assert torch.equal(model.decode(row), stopped[i : i + 1])
    alone = model.generate([0, 1] * 8, seed=7, tokens=value.stop(0.5), batch=3)
    assert torch.equal(alone, stopped)
    assert alone.token_counts.tolist() == counts.tolist()
    earlier = model.generate([0, 1] * 8, seed=7, tokens=value.stop(3.0)).token_counts
    assert bool((earlier <= counts).all())
    assert bool((earlier < counts).any())
    assert set(model.generate([0], seed=7, tokens=value.stop(0.0)).token_counts.tolist()) == {COUNT}


def test_lengths_are_no_scores(models):
    with pytest.raises(ArzooError, match="foresees lengths, which are no scores"):
        TokenValue(checkpoint=str(models / "value"))


def test_grids_cannot_stop():
    with pytest.raises(ArzooError, match="tokens=a rule: pictures of this model need all 64 tokens"):
        Generator.load("raster_emoji64").generate([0], tokens=lambda run: None)


def test_the_shipped_recipe_is_valid():
    assert load_recipe("length_karl_emoji64").verifier.name == ""
