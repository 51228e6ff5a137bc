"""KARL is trained from a recipe: its two passes, its curriculum, and what is saved of them."""

import json
import shutil

import pytest
import torch
import toy
from rich.console import Console

import arzoo
from arzoo.base import registry
from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.models.vision.perceptual import FeatureNet
from arzoo.tokenizers.common.transformer import StackConfig
from arzoo.tokenizers.karl.network import BINS
from arzoo.tokenizers.karl.stage import Curriculum, halting_terms, slot_counts
from arzoo.train import build, objectives
from arzoo.train.recipe import load_recipe

TINY = {
    "image_size": 16, "encoder": {"width": 32, "depth": 1, "heads": 2}, "slots": 16, "table_slots": 23, "vocab": 32,
    "decoder": {"width": 16, "depth": 1, "heads": 2}, "table_side": 2, "channels": 4, "halting_width": 8,
}  # fmt: skip


class Distance(torch.nn.Module):
    """Stands in for the perceptual distance, whose network takes no pictures of 16 pixels."""

    net = FeatureNet()

    def require(self, size, remedy):
        """It takes any size."""

    def forward(self, x, y):
        return (x - y).abs().mean((1, 2, 3))


@pytest.fixture
def base(tmp_path, two_colours, monkeypatch):
    """A KL tokenizer that the recipe names as its base."""
    monkeypatch.setattr("arzoo.train.tokenizer.PerceptualDistance", Distance)
    from arzoo.checkpoints.folder import save_parts
    from arzoo.tokenizers.kl.network import KLTokenizerConfig

    torch.manual_seed(0)
    kl = KLTokenizerConfig(
        image_size=16, widths=(32, 32, 32), encoder_blocks=1, decoder_blocks=1, unshuffle=2, channels=4,
        encoder_attention="none", decoder_attention="none", scale=2.0, shift=0.1,
    ).build()  # fmt: skip
    save_parts(tmp_path / "kl", "tokenizer", {"tokenizer": kl}, bits=16, spec=kl.spec.to_dict(), data="two")
    return tmp_path / "kl"


def recipe(base, *, changes=None, **run):
    pace = {
        "steps": 6,
        "batch": 8,
        "precision": "fp32",
        "log_every": 2,
        "save_every": 100,
        "trackers": [],
    } | run
    return load_recipe(
        "karl_emoji64",
        {
            "data": "two", "base": str(base), "model": {"name": "karl_kl_small", **TINY}, "run": pace,
            "codebook": {"seed_at": 2, "restart_every": 2}, "optim": {"warmup": 1},
            "karl": {"first_targets": 0.1, "single_steps": 0},
            **(changes or {}),
        },
    )  # fmt: skip


def engine(base, out, **run):
    return build.prepared(recipe(base, **run), out, Console(quiet=True), None)


def test_a_short_training_lowers_the_losses_and_the_checkpoint_is_the_average(base, tmp_path):
    result = build.run(recipe(base, steps=20), tmp_path / "run", console=Console(quiet=True))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    for name in ("first_code_mse", "second_code_mse", "first_bce_active"):
        assert lines[-1][name] < lines[0][name]
    assert result["metrics"].keys() >= {
        f"validation_{name}"
        for name in ("psnr", "perceptual", "perplexity", "tokens_at_0.03", "tokens_at_0.05", "error_at_0.09")
    }
    shutil.copytree(base, tmp_path / "run" / "checkpoint" / "base")
    tokenizer = arzoo.load(tmp_path / "run" / "checkpoint").eval()
    assert tokenizer.config.exact_base
    assert tokenizer.config.base.scale == 2.0
    x = torch.rand(2, 3, 1, 16, 16) * 2 - 1
    tokens = tokenizer.encode(x, quality=0.05)
    assert tokenizer.decode(tokens).shape == x.shape
    original = arzoo.load(base)
    for name, weight in original.state_dict().items():
        assert torch.equal(tokenizer.base.state_dict()[name], weight), name
    assert (tmp_path / "run" / "previews" / "reconstructions_0000020.png").is_file()


def test_without_a_network_of_perceptual_distances_their_figure_is_left_out(base, tmp_path, monkeypatch):
    def missing():
        raise MissingPackage("no network is there")

    monkeypatch.setattr("arzoo.train.tokenizer.PerceptualDistance", missing)
    metrics = build.run(recipe(base, steps=2), tmp_path / "run", console=Console(quiet=True))["metrics"]
    assert "validation_psnr" in metrics
    assert "validation_perceptual" not in metrics
    with pytest.raises(MissingPackage):
        objectives.objective_of(recipe(base, changes=pixels()))


def test_a_continued_run_is_the_run_that_was_never_stopped(base, tmp_path):
    def train(folder, end):
        build.run(recipe(base, accumulate=2), folder, end, Console(quiet=True))

    whole, parts = toy.whole_and_in_parts(train, tmp_path, stop=3, steps=6)
    assert toy.same(whole, parts)
    curricula = [value for name, value in whole.items() if name.endswith("curriculum.reached")]
    assert len(curricula) == 2
    assert torch.equal(*curricula), "the average copies it"
    assert int(curricula[0].max()) == 6


def test_a_training_may_begin_with_the_first_pass_alone(base, tmp_path):
    settings = {"first_targets": 0.1, "single_steps": 2}
    build.run(
        recipe(base, changes={"karl": settings}, log_every=1), tmp_path / "run", None, Console(quiet=True)
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    passes = [{name.partition("_")[0] for name in line if name.endswith("code_mse")} for line in lines]
    assert passes[:6] == [{"first"}] * 2 + [{"first", "second"}] * 4
    assert ["error" in line for line in lines[:6]] == [False] * 2 + [True] * 4
    state = toy.tensors(tmp_path / "run" / "state" / "step_0000006")
    reached = [value for name, value in state.items() if name.endswith("curriculum.reached")]
    assert int(reached[0].max()) == 4, "the curriculum begins with the second pass"


def test_the_base_stays_frozen_and_the_rest_learns(base, tmp_path):
    trained = engine(base, tmp_path / "run")
    model = trained.objective.parts["model"]
    before = {name: value.clone() for name, value in model.named_parameters()}
    trained.train_step(trained.batches([0]), trained.wrapped)
    for name, value in model.named_parameters():
        assert (".base." in name) == (value.grad is None), name
        assert torch.equal(value, before[name]) == (".base." in name), name


def test_shards_and_recomputing_change_roundings_only(base, tmp_path):
    pace = {"steps": 1, "batch": 4, "threads": 1, "log_every": 1}

    def train(out, more):
        settings = recipe(base, changes={"codebook": {"restart_until": 0}}, **pace, **more)
        build.run(settings, out, console=Console(quiet=True))

    train(tmp_path / "alone", {})
    toy.together(2, train, tmp_path / "shards", {"sharded": True, "checkpointing": True})
    one, two = (json.loads((tmp_path / name / "log.jsonl").read_text()) for name in ("alone", "shards"))
    for key in ("loss", "model_gradient_norm", "error", "mean_target"):
        assert two[key] == pytest.approx(one[key], rel=1e-3), key


def test_codes_of_a_split_codebook_are_not_replaced(base):
    with pytest.raises(ArzooError, match=r"set codebook\.restart_until=0"):
        objectives.objective_of(recipe(base, sharded=True))


def test_the_first_pass_follows_from_step_and_samples_alone(base, tmp_path):
    objective = engine(base, tmp_path / "run").objective
    batch, half = objective.batch(3, range(8)), objective.batch(3, range(4, 8))
    assert batch.slots == half.slots
    assert torch.equal(batch.uniform[4:], half.uniform)
    assert batch.noise is None
    assert len({objective.batch(step, range(1)).slots for step in range(50)}) > 10


def test_the_published_mask_is_for_the_second_pass_alone(base, monkeypatch):
    objective = objectives.objective_of(
        recipe(base, changes={"karl": {"tiled_mask": True, "single_steps": 0}})
    )
    decoder = objective.tokenizer.decoder
    forward, masks = decoder.forward, []

    def noted(*arguments, tiled=False):
        masks.append(tiled)
        return forward(*arguments, tiled=tiled)

    monkeypatch.setattr(decoder, "forward", noted)
    objective.loss("model", objective.parts, objective.batch(0, range(4)), 0)
    assert masks == [False, True]


def test_the_weight_of_halting_scales_its_terms_alone(base):
    terms = {}
    for weight in (1.0, 0.5):
        objective = objectives.objective_of(
            recipe(base, changes={"karl": {"halting": weight, "single_steps": 0}})
        )
        terms[weight] = objective.loss("model", objective.parts, objective.batch(0, range(4)), 0)[1]
    for name, value in terms[1.0].items():
        torch.testing.assert_close(terms[0.5][name], value * (0.5 if "bce" in name else 1))


def test_noise_of_the_base_is_per_sample(base, tmp_path):
    changed = recipe(base).replace(karl={"posterior_noise": 0.5})
    objective = objectives.objective_of(changed)
    noise, other = objective.batch(0, range(64)).noise, objective.batch(0, range(60, 64)).noise
    assert torch.equal(noise[60:], other)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.2)


def test_weights_of_pictures_and_small_tables_are_refused(base):
    with pytest.raises(ArzooError, match=r"loss\.l1=1 cannot act.*karl\.stage=pixels"):
        objectives.objective_of(recipe(base).replace(loss={"l1": 1.0}))
    settings = {**TINY, "table_slots": 22}
    with pytest.raises(ArzooError, match=r"which is 23.*set model\.table_slots=23"):
        objectives.objective_of(recipe(base).replace(model={"name": "karl_kl_small", **settings}))


def pixels(**settings):
    """Changes of the recipe for full finetuning."""
    loss = {
        "l1": 1.0, "perceptual": 0.1, "adversarial": 0.1, "adversarial_start": 3, "adaptive": True,
        "discriminator_width": 8, "discriminator_layers": 1,
    }  # fmt: skip
    return {"loss": loss, "karl": {"stage": "pixels", "discriminators": 3, **settings}}


def changed(modules, before):
    """Names of the parts whose weights are others than before."""
    return {
        name
        for name, module in modules.items()
        if any(not torch.equal(p, before[name][key]) for key, p in module.named_parameters())
    }


def weights(modules):
    return {
        name: {key: p.detach().clone() for key, p in module.named_parameters()}
        for name, module in modules.items()
    }


@pytest.mark.parametrize("every", [1, 3])
def test_full_finetuning_trains_the_right_part_in_the_right_step(base, tmp_path, every):
    changes = pixels(generator_every=every) | {"codebook": {"restart_until": 0}}
    settings = recipe(base, changes=changes, steps=9)
    trained = build.prepared(settings, tmp_path / "run", Console(quiet=True), None)
    objective = trained.objective
    assert [*objective.parts] == ["model", "discriminator_0", "discriminator_1", "discriminator_2"]
    batches, first = trained.batches(range(9)), weights({"base": objective.tokenizer.base})
    for step in range(9):
        before = weights(objective.parts)
        line = trained.train_step(batches, trained.wrapped)
        trained.step += 1
        chosen = objective.discriminator(objective.batch(step, range(1)).slots)
        both = {"model", chosen}
        expected = {"model"} if step < 3 else both if every == 1 else {"model"} if step % 3 == 2 else {chosen}
        assert changed(objective.parts, before) == expected, step
        assert bool(torch.as_tensor(line["loss"]).isfinite())
    assert changed({"base": objective.tokenizer.base}, first), "the base is trained too"


def test_full_finetuning_lowers_the_error_and_its_base_is_saved(base, tmp_path):
    changes = pixels()
    changes["loss"] |= {"adversarial": 0.0}
    first = build.run(recipe(base, steps=1), tmp_path / "first", console=Console(quiet=True))
    shutil.copytree(base, tmp_path / "first" / "checkpoint" / "base")
    start = {"init": first["checkpoint"], "base": "", **changes}
    build.run(recipe(base, changes=start, steps=15), tmp_path / "run", console=Console(quiet=True))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    for name in ("first_l1", "second_l1", "error"):
        assert lines[-1][name] < lines[0][name]
    tokenizer, original = arzoo.load(tmp_path / "run" / "checkpoint"), arzoo.load(base)
    assert not tokenizer.borrowed
    assert not torch.equal(tokenizer.base.decoder.last_layer, original.decoder.last_layer)


def test_the_number_of_slots_chooses_the_discriminator(base):
    objective = objectives.objective_of(recipe(base, changes=pixels(late_start=5, late_adversarial=0.8)))
    chosen = [int(objective.discriminator(slots)[-1]) for slots in objective.counts]
    assert chosen == [max(0, min(3, 3 * slots // 16) - 1) for slots in range(1, 24)]
    assert sorted({*chosen}) == [0, 1, 2]
    assert [objective.criterion.adversarial_weight(step) for step in (2, 3, 4, 5)] == [0.0, 0.1, 0.1, 0.8]


def test_slots_of_the_first_pass():
    assert slot_counts() == list(range(16, 369, 16))
    assert slot_counts(64) == list(range(4, 93, 4))
    assert slot_counts(8)[0] == 1


def test_the_curriculum_moves_to_targets_that_are_not_reached():
    curriculum = Curriculum(0.04)
    assert curriculum.weights.tolist() == pytest.approx([0.2] * 5 + [0.0] * 14)
    counts = torch.bincount(
        quality_index(curriculum.targets((torch.arange(1000) + 0.5) / 1000)), minlength=19
    )
    assert counts.tolist() == [200] * 5 + [0] * 14
    for _ in range(300):
        curriculum.update(torch.tensor([0.03, 0.2]))
    weights = curriculum.weights
    assert weights[:3].tolist() == pytest.approx([1 / (3 + 2 * 0.99**300)] * 3)
    assert float(weights[4]) == pytest.approx(0.99**300 * float(weights[0]), rel=1e-4)
    curriculum.reached += 10**6
    assert curriculum.weights.tolist() == pytest.approx(weights.tolist()), "all were reached"
    assert int(quality_index(curriculum.targets(torch.tensor([1.0])))[0]) == 4


def quality_index(targets):
    return (targets[:, None] == torch.tensor(BINS)).int().argmax(1)


def test_the_loss_of_halting_keeps_the_first_slots_and_halts_the_others():
    halting = torch.zeros(3, 16, requires_grad=True)
    optimizer = torch.optim.SGD([halting], 100.0)
    for _ in range(20):
        optimizer.zero_grad()
        torch.stack([*halting_terms(halting, 6).values()]).sum().backward()
        optimizer.step()
    assert (halting.sigmoid() <= 0.75).tolist() == [[True] * 10 + [False] * 6] * 3


def test_an_exact_base_gives_the_pictures_of_the_autoencoder_alone():
    config = registry.lookup("tokenizer", "karl_kl_small")()
    stack = StackConfig(width=32, depth=1, heads=2)
    kl = {
        "class": "KLTokenizerConfig",
        **config.base.to_dict(),
        "scale": 3.0,
        "shift": 0.2,
        "widths": [32, 32, 32],
    }
    torch.manual_seed(0)
    model = config.replace(base=kl, encoder=stack, decoder=stack).build().eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        latents = model.base_latents(x)
        tokens = model.base.encode(2 * x[:, :, None] - 1)
        torch.testing.assert_close(latents.flatten(2).transpose(1, 2), tokens.values)
        alone = (model.base.decode(tokens)[:, :, 0] + 1) / 2
        torch.testing.assert_close(model.pictures(tokens.values), alone, atol=1e-5, rtol=1e-5)


def test_an_exact_base_is_for_kl():
    with pytest.raises(ArzooError, match="exact_base is for a KL base"):
        registry.lookup("tokenizer", "karl_tiny")().replace(exact_base=True)
