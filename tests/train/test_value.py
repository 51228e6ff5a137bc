"""Value models: rollouts, training, calibration, checkpoints, and their use in a search."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from command import command, failing, tiny_kl_tokenizer
from continuous import made
from ordered import FLEXTOK, build
from painting import Red, painter, value_recipe
from rich.console import Console

import arzoo
from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.control import Control
from arzoo.generation import rollouts
from arzoo.generation.generator import Generator
from arzoo.generation.rollouts import Rollouts
from arzoo.generation.training_free import training_free
from arzoo.generation.values import OtherKnobs, Value
from arzoo.generation.verifiers.value import TokenValue
from arzoo.models.value.network import ValueConfig
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.search.rescored import Rescored
from arzoo.train.build import prepared, run
from arzoo.train.recipe import load_recipe
from arzoo.train.value import ValueObjective, affine, pooled, prefixes, quality, shared_means


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        registry.names("verifier")
        patch.setitem(registry._entries["verifier"], "red", Red)
        patch.setenv("ARZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="module")
def models(cache, tmp_path_factory):
    """A folder with the generator `gen`, its tokenizer, and the run `value` of a value model."""
    folder = tmp_path_factory.mktemp("models")
    painter(folder)
    run(value_recipe(folder), folder / "value", console=Console(quiet=True))
    return folder


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_explains_unseen_rollouts(models):
    """The last value explains most of the final score, and values explain more the more tokens there are."""
    lines = log(models / "value")
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    figures = open_checkpoint(models / "value").metrics
    explained = figures["explained_variance_by_step"]
    assert len(explained) == 7, "one number per rank"
    assert explained[-1] > 0.4 > explained[0]
    assert figures["explained_variance"] > 0.3
    assert 0 < figures["calibration_error"] < 0.06
    assert len(figures["calibration_error_by_step"]) == 7


def test_a_checkpoint_names_generator_knobs_and_verifier(models):
    checkpoint = open_checkpoint(models / "value", "value")
    generator = open_checkpoint(models / "gen")
    assert checkpoint.index["generator"]["weights"] == {
        part: facts["weights"] for part, facts in generator.parts.items()
    }
    assert checkpoint.index["judge"] == {"verifier": "red", "options": {}, "networks": ["eye"]}
    assert checkpoint.index["controls"]["guidance"] == 1.0
    assert checkpoint.index["training"]["lineage"]["generator"]["weights"]
    assert "value" in (checkpoint.folder / "README.md").read_text()
    assert bool((Value.load(models / "value").network.slope != 1).any()), "it is calibrated"


def test_values_of_whole_pictures_follow_the_score(models):
    """On pictures of other seeds; a value depends on its own row alone."""
    model, value = Generator.load(models / "gen"), Value.load(models / "value")
    *_, step = model.stream(classes=[0, 1, 2] * 16, seed=77)
    values = value(step.run.tokens, step.run.last)
    scores = Red(None).score_images(step.preview().stills)
    assert float(torch.corrcoef(torch.stack([values, scores]))[0, 1]) > 0.6
    rows = torch.tensor([5, 3])
    alone = step.run.select(rows)
    assert torch.allclose(value(alone.tokens, alone.last), values[rows], atol=1e-6)


def test_the_same_seed_gives_the_same_weights(models, tmp_path):
    """Also after a stop; another seed does not."""
    weights = {}
    for name, changes in {"one": {}, "two": {}, "other": {"seed": 1}}.items():
        short = value_recipe(models, run={"steps": 6, "save_every": 2, **changes})
        if name == "two":
            run(short, tmp_path / name, max_steps=3, console=Console(quiet=True))
        run(short, tmp_path / name, console=Console(quiet=True))
        weights[name] = open_checkpoint(tmp_path / name).parts["value"]["weights"]
    assert weights["one"] == weights["two"] != weights["other"]


def test_a_saved_state_is_neither_calibrated_nor_validated(models, tmp_path, monkeypatch):
    validated, validate = [], ValueObjective.validate
    monkeypatch.setattr(ValueObjective, "validate", lambda *args: validated.append(1) or validate(*args))
    monkeypatch.setattr(ValueObjective, "preview", lambda *_: None)
    pace = {"steps": 4, "save_every": 1, "preview_every": 4}
    run(value_recipe(models, run=pace), tmp_path / "run", console=Console(quiet=True))
    assert len(validated) == 2, "after the last step, and for the figures of each step of the plan"
    state = Value.load(tmp_path / "run" / "state" / "step_0000003" / "checkpoint")
    assert bool((state.network.slope == 1).all())
    assert bool((Value.load(tmp_path / "run").network.slope != 1).any())


def test_rollouts_are_kept_and_completed(models, cache, tmp_path, monkeypatch):
    """Shards that are there are not drawn again, those that are missing or damaged are, and come out the same."""
    model = Generator.load(models / "gen")
    subjects, judge = rollouts.subjects_of(model), rollouts.final_score("red", {})
    drawn = []
    draw = rollouts.draw
    monkeypatch.setattr(rollouts, "draw", lambda *args: drawn.append(len(args[1])) or draw(*args))
    monkeypatch.setattr(rollouts, "SHARD", 8)
    folder = tmp_path / "rollouts"
    whole = rollouts.roll_out(model, subjects, judge, 20, 3, folder)
    assert drawn == [8, 8, 4]
    assert whole.subjects.bincount().tolist() == [7, 7, 6]
    (folder / "00001-8.safetensors").write_bytes(b"half")
    again = rollouts.roll_out(model, subjects, judge, 20, 3, folder)
    assert drawn == [8, 8, 4, 8]
    assert all(torch.equal(getattr(whole, name), getattr(again, name)) for name in vars(whole))
    other, seconds = rollouts.sketch(model, subjects, judge, 20, tmp_path / "none")
    assert len(other.worth) == 20
    assert seconds > 0
    assert not (tmp_path / "none").exists()
    assert rollouts.sketch(model, subjects, judge, 20, folder)[1] == 0
    one = rollouts.draw(model, [subjects[0]], torch.tensor([0]), [rollouts.sample_seed(3, 0)], judge)
    assert torch.equal(one.values, whole.values[:1]), "a rollout does not depend on its batch"


def test_rollouts_of_vectors_in_random_orders(tmp_path):
    """Every token is drawn in one step, in the order of its own sample; models without features are refused."""
    tokenizer = tiny_kl_tokenizer(tmp_path / "vectors")
    model = made("mar", tokenizer)
    subjects = rollouts.subjects_of(model)[:2]
    part = rollouts.draw(model, subjects, torch.arange(2), [1, 2], lambda *_: torch.zeros(2))
    plan = model.plan([1, 2])
    assert torch.equal(part.steps.long(), plan.rank)
    assert part.features.shape == (2, 16, model.backbone.width)
    assert bool((part.features != 0).any(-1).all())
    with pytest.raises(ArzooError, match="gives none, as it denoises the tokens itself"):
        rollouts.refuse_without_features(made("xar cells", tokenizer))


@pytest.mark.parametrize("search", [Beam(2, 3), BestOfN(4)])
def test_a_search_steered_by_values_decodes_its_results_alone(models, search):
    model = Generator.load(models / "gen")
    steering = TokenValue(checkpoint=str(models / "value"))
    plain = model.search(search, steering, classes=[1], seed=3)
    assert plain.spent.decodes == 1, "to show the result"
    many = replace(search, results=3)
    result = model.search(Rescored(many, steering), Red(None), classes=[1], seed=3)
    assert result.spent.decodes == 3
    assert result.scores.tolist() == Red(None).score_images(result.pictures.stills).tolist()
    assert float(result.scores) == float(result.history[-1].scores.max())
    assert result.history[-1].parents.tolist() == plain.history[-1].scores.topk(3).indices.tolist()
    steered = sum(len(each.scores) for each in result.history[:-1])
    assert result.spent.verifications == steered + 3


def test_a_budget_pays_for_both_verifiers(models):
    model, steering = Generator.load(models / "gen"), TokenValue(checkpoint=str(models / "value"))
    search = Rescored(BestOfN(6, results=2), steering)
    result = model.search(search, Red(None), classes=[1], budget=Budget(decodes=2, verifications=6))
    assert (result.spent.decodes, result.spent.verifications) == (2, 6)
    assert result.stopped == "verifications"
    for budget in (Budget(decodes=1), Budget(verifications=2)):
        with pytest.raises(ArzooError, match="is too small: scoring the results"):
            model.search(search, Red(None), classes=[1], budget=budget)


def test_values_belong_to_a_generator_and_its_knobs(models, tmp_path):
    steering = TokenValue(checkpoint=str(models / "value"))
    model = Generator.load(models / "gen")
    with pytest.warns(OtherKnobs, match="other settings of guidance"):
        model.search(Beam(2, 3), steering, classes=[1], control=Control(guidance=2.0))
    painter(tmp_path, seed=1)
    other = Generator.load(tmp_path / "gen")
    for search, verifier in ((Beam(2, 3), steering), (Rescored(Beam(2, 3), steering), Red(None))):
        with pytest.raises(
            ArzooError, match="foresees pictures of 'gen' with plan 'next_neighbor', not those"
        ):
            other.search(search, verifier, classes=[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.search(Beam(2, 3), steering, classes=[1])
    with pytest.raises(ArzooError, match="this search draws without it"):
        training_free(build(FLEXTOK), steering)
    with pytest.raises(ArzooError, match="foresees scores, no lengths"):
        Value.load(models / "value").stop()


def test_the_command_trains_and_rehearses(models, capsys, tmp_path):
    path = tmp_path / "value_tiny.yaml"
    path.write_text(value_recipe(models).to_yaml())
    changes = ["verifier.gain=2", "model.hidden=16", "--run.steps", "3"]
    plan = command(capsys, "train", path, *changes, "--dry-run", "--out", tmp_path / "out", "--json").json
    assert plan["config"]["verifier"] == {"name": "red", "gain": 2.0}
    assert plan["rollouts"].startswith("are not made yet")
    assert plan["seconds_to_make_rollouts"] > 0
    assert not (tmp_path / "out").exists()
    done = command(capsys, "train", path, *changes, "--out", tmp_path / "out")
    assert done.status == 0, done
    value = Value.load(tmp_path / "out")
    assert value.judge["options"] == {"gain": 2.0}
    assert value.network.config.hidden == 16
    failing(command(capsys, "generate", tmp_path / "out"), "is a value, a generator is needed", status=2)
    failing(command(capsys, "evaluate", tmp_path / "out"), "is a value model, which draws nothing")
    with pytest.raises(ArzooError, match="is a value model, which draws and encodes nothing"):
        arzoo.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verifier": {"name": ""}}, "names the verifier that gives them"),
        ({"model": {"name": "length_value"}}, "which no verifier gives: leave verifier out"),
        ({"model": {"name": "length_value"}, "verifier": ""}, "need all 16 tokens"),
        ({"verifier": "likelihood"}, "looks at none"),
        ({"value": {"generator": ""}}, "set value.generator"),
        ({"value": {"rollouts": 8}}, "leaves 0 for calibration"),
        ({"verifier": {"name": "red", "gian": 3}}, "'gain'"),
    ],
)
def test_mistakes_are_refused(models, tmp_path, changes, words):
    with pytest.raises(ArzooError) as refusal:
        prepared(value_recipe(models).replace(**changes), tmp_path, Console(quiet=True), None)
    assert words in str(refusal.value)


def test_a_value_verifier_says_what_it_needs(models):
    with pytest.raises(ArzooError, match="needs the checkpoint of a value model"):
        TokenValue(None)
    with pytest.raises(ArzooError, match="is a generator, a value is needed"):
        TokenValue(None, checkpoint=str(models / "gen"))
    steering = TokenValue(None, checkpoint=str(models / "value"))
    assert steering.networks == {"eye"}, "it has learned the taste of that network"


def test_prefixes_are_shared_by_rollouts_of_one_subject():
    values = torch.tensor([[1, 2, 3], [1, 2, 4], [1, 9, 3], [1, 2, 3]])
    steps = torch.tensor([[0, 1, 2]] * 4, dtype=torch.int16)
    data = Rollouts(torch.zeros(4, 3, 1), values, steps, torch.tensor([0, 0, 0, 1]), torch.zeros(4))
    keys = prefixes(data, 3)
    same = [[[bool(keys[i, k] == keys[j, k]) for j in range(4)] for i in range(4)] for k in range(3)]
    assert same[0] == [[True] * 3 + [False]] * 3 + [[False] * 3 + [True]]
    assert same[1][0] == [True, True, False, False]
    assert same[2] == torch.eye(4, dtype=torch.bool).tolist()
    targets = torch.tensor([[1.0], [2.0], [6.0], [5.0]]).expand(-1, 3)
    assert torch.allclose(
        shared_means(targets, keys), torch.tensor([[3, 1.5, 1], [3, 1.5, 2], [3, 6, 6], [5, 5, 5.0]])
    )
    moved = data.select(torch.tensor([0]))
    moved = Rollouts(moved.features, moved.values.flip(1), moved.steps.flip(1), moved.subjects, moved.worth)
    assert not torch.equal(prefixes(moved, 3), keys[:1]), "another order is another prefix"


def test_calibration_is_the_best_rising_line():
    x = torch.linspace(0, 1, 40)
    slope, offset = affine(x, 3 * x - 1)
    assert (float(slope), float(offset)) == pytest.approx((3, -1), abs=1e-5)
    assert float(affine(x, -x)[0]) == 0
    assert [float(v) for v in affine(torch.ones(4), torch.full((4,), 3.0))] == [1, 2]
    explained, error = quality(x, x)
    assert (float(explained), float(error)) == pytest.approx((1, 0), abs=1e-6)
    assert float(quality(x + 0.5, x)[1]) == pytest.approx(0.5)


def test_explained_variance_over_all_steps_survives_a_step_without_variance():
    targets = torch.tensor([[0.0, 1.0, 9.0], [4.0, 1.0, 0.0], [8.0, 1.0, 3.0]])
    predictions = torch.tensor([[2.0, 1.1, 9.0], [4.0, 1.1, 7.0], [8.0, 1.1, 3.0]])
    counts = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    assert float(quality(predictions[:, 1], targets[:, 1])[0]) < -1e6
    # Squared errors 4, 0.03 and 0; squared deviations from the means of the steps 32, 0 and 18.
    assert float(pooled(predictions, targets, counts)) == pytest.approx(1 - 4.03 / 50, abs=1e-5)
    nothing = torch.zeros(0, 3)
    assert float(pooled(nothing, nothing, nothing.bool())) == 0


def test_lengths_and_their_discounts():
    network = ValueConfig(width=4, steps=64, vocab=8, target="length", gamma=0.97).build()
    lengths = torch.tensor([0.0, 1.0, 7.0, 63.0])
    assert torch.allclose(network.of_units(network.in_units(lengths)), lengths, atol=1e-3)
    assert float(network.of_units(torch.tensor(1.0))) == pytest.approx(64, abs=1e-3)
    with pytest.raises(ArzooError, match="discount of a token"):
        ValueConfig(gamma=1.0)


def test_shipped_recipes_of_values_are_valid():
    assert load_recipe("value_raster_emoji64", typed=["verifier.seed=3"]).verifier.settings == {"seed": 3}


def test_the_command_searches_by_values(models, capsys, tmp_path):
    options = (
        "--class",
        "0",
        "--verifier",
        f"value:checkpoint={models / 'value'}",
        "--out",
        tmp_path / "out",
    )
    found = command(capsys, "search", models / "gen", *options, "--judge", "red", "--samples", "3", "--json")
    assert found.status == 0, found
    (entry,) = found.json["pictures"]
    assert (entry["spent"]["verifications"], entry["spent"]["decodes"]) == (3, 1)
    rescored = (
        *options[:-2],
        "--rescore",
        "red",
        "--judge",
        "red:gain=2",
        "--results",
        "2",
        "--samples",
        "4",
    )
    found = command(capsys, "search", models / "gen", *rescored, "--out", tmp_path / "twice", "--json")
    assert found.status == 0, found
    (entry,) = found.json["pictures"]
    assert (entry["spent"]["verifications"], entry["spent"]["decodes"]) == (6, 2)
    (kept,) = json.loads((tmp_path / "twice" / "search.json").read_text())["pictures"]
    assert kept["history"][-1]["candidates"] == 2
    assert entry["results"][0]["verifier"]["red"] == max(kept["history"][-1]["scores"])
    failing(
        command(capsys, "search", models / "gen", *rescored[:-6], "--judge", "red"),
        "is the verifier that steers",
        status=2,
    )
