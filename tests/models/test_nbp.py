"""NBP: the converter, conditions as ids, special ids, and generators of both published kinds on the command line."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
from command import command, failing, picture, tiny_tokenizer

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.condition import Cond
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.models.common.convert import convert_file, convert_state, split
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.nbp.convert import nbp_table
from arzoo.models.nbp.network import NBPConfig
from arzoo.models.text.encoders import open_text_encoder
from arzoo.samplers.plans.shifted import next_block

SIZES = {"width": 32, "depth": 2, "heads": 2, "vocab": 16, "grid": (1, 4, 4), "positions": 40}
TEXT = {"text_vocab": 9, "text_length": 5, "extras": 3}
CONFIGS = {"frames": NBPConfig(**SIZES), "texts": NBPConfig(**SIZES, **TEXT)}
ARGUMENTS = {"heads": 2, "grid": (1, 4, 4), "block": 4, "vocab": 16, "text_vocab": 9}


def published(kind, seed=0):
    """Random weights in the published layout."""
    config = CONFIGS[kind]
    head = CategoricalConfig(width=32, vocab=16, layer_norm=True, shift=config.shift).build()
    rng = torch.Generator().manual_seed(seed)
    weights = {
        f"{part}.{name}": torch.randn(w.shape, generator=rng) * 0.3
        for part, module in (("backbone", config.build()), ("head", head))
        for name, w in module.state_dict().items()
    }
    return split(weights, nbp_table(config))


@pytest.fixture
def ids_file(tmp_path):
    """A tokenizer.json with the marks of LLaMA's and a few words."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<unk>", "<s>", "</s>", "apply", "eye", "makeup", "archery", "a", "b"]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_converter_is_its_own_inverse_and_reads_what_lightning_writes(kind, tmp_path):
    state = published(kind)
    around = {f"module.{name}": w for name, w in state.items()}
    around |= {"module.first_stage_model.encoder_layers.0.conv.bias": torch.ones(3)}
    around |= {"module.transformer.blocks.0.attn.mask": torch.ones(1, 1, 4, 4)}
    arguments = {"args": argparse.Namespace(n_layer=2)}
    path = tmp_path / "epoch.ckpt"
    torch.save({"state_dict": around, "epoch": 3, "global_step": 5, "hyper_parameters": arguments}, path)
    found = convert_file(path, **ARGUMENTS)
    assert found.source == "nbp"
    assert found.parts["backbone"].config == CONFIGS[kind]
    assert found.plan == {"name": "next_block", "options": {"size": 4, "hybrid": kind == "texts"}}
    assert (found.control.top_k, found.control.top_p, found.control.guidance) == (16000, 0.9, 1.0)
    weights = {f"{part}.{name}": w for part, m in found.parts.items() for name, w in m.state_dict().items()}
    back = split(weights, nbp_table(CONFIGS[kind]))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("kind", CONFIGS)
def test_nothing_is_lost_and_sizes_must_agree(kind):
    state = published(kind)
    with pytest.raises(ArzooError, match=r"unknown: transformer\.extra"):
        convert_state({**state, "transformer.extra": torch.zeros(1)}, **ARGUMENTS)
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({key: w for key, w in state.items() if key != name}, "nbp", **ARGUMENTS)
    with pytest.raises(ArzooError, match="do not divide a grid of 15"):
        convert_state(state, **{**ARGUMENTS, "grid": (1, 3, 5)})
    with pytest.raises(ArzooError, match="attention heads"):
        convert_state(state, **{k: v for k, v in ARGUMENTS.items() if k != "heads"})
    if kind == "texts":
        with pytest.raises(ArzooError, match="29 ids are those of a text"):
            convert_state(state, **{**ARGUMENTS, "vocab": 64})


def test_a_condition_is_one_of_three():
    with pytest.raises(ArzooError, match="set the others to 0"):
        NBPConfig(**SIZES, **TEXT, classes=3)
    with pytest.raises(ArzooError, match="text_length=0"):
        NBPConfig(**SIZES, text_vocab=3)
    with pytest.raises(ArzooError, match="extras=2 needs classes or texts"):
        NBPConfig(**SIZES, extras=2)
    backbone, plan = CONFIGS["texts"].build().eval(), next_block(Grid(1, 4, 4), 4, hybrid=True)
    tokens = Tokens.of(torch.zeros(1, 16, dtype=torch.long))
    for cond, message in (
        (Cond(1), "give their ids"),
        (Cond(1, text=torch.zeros(1, 4, dtype=torch.long)), "5 ids of type int64"),
        (Cond(1, text=torch.zeros(1, 5)), "float32"),
        (Cond(1, text=torch.full((1, 5), 9)), "0 to 8, got 9 to 9: they are of another tokenizer"),
    ):
        with pytest.raises(ArzooError, match=message):
            backbone.features(tokens, cond, plan)
    short = CONFIGS["texts"].replace(positions=20).build()
    with pytest.raises(ArzooError, match="feeds 21 inputs, the model has 20 positions"):
        short.features(tokens, Cond(1, text=torch.zeros(1, 5, dtype=torch.long)), plan)


def test_a_new_model_of_classes(tmp_path):
    """Classes are in the place of texts; the head counts the special ids, which are decoded as code 0."""
    checkpoint = open_checkpoint(tiny_tokenizer(tmp_path / "tok"))
    small = {"width": 32, "depth": 1, "heads": 2}
    model = Generator.create(
        "nbp_k600_base", checkpoint.load("tokenizer"), "next_block", classes=("a", "b", "c"),
        tokenizer_name="tok", tokenizer_hash="", plan_options={"size": 4, "hybrid": True}, **small,
    )  # fmt: skip
    config, head = model.backbone.config, model.heads[0]
    assert (config.classes, config.extras, config.shift) == (3, 3, 7)
    assert (head.config.vocab, head.config.shift, head.output.out_features) == (16, 7, 23)
    torch.nn.init.normal_(head.output.weight)
    drawn = model.generate(classes=["a", "b", "c"] * 3, seed=0)
    assert drawn.stills.shape == (9, 16, 16, 3)
    last = [step for step in model.stream(classes=["a"] * 16)][-1]
    assert int(last.run.tokens.values.min()) < 0, "special ids are drawn"
    clamped = Tokens.of(last.run.tokens.values.clamp(min=0))
    assert torch.equal(model.decode(last.run.tokens).stills, model.decode(clamped).stills)
    assert not head.enumerates


def test_texts_are_ids_with_their_end_as_padding(ids_file):
    encoder = open_text_encoder(str(ids_file))
    ids, mask = encoder(["ApplyEyeMakeup", "archery"], 5)
    assert ids.tolist() == [[1, 3, 4, 5, 2], [1, 6, 2, 2, 2]]
    assert bool(mask.all())
    assert encoder(["a b a b a b"], 3)[0].tolist() == [[1, 7, 8]]
    assert "7 tokens" in encoder.remarks(["a b a b a b"], 3)[0]
    with pytest.raises(ArzooError, match="prompt is empty"):
        encoder([" "], 3)
    with pytest.raises(ArzooError, match=r"tokenizer\.json, for example with: hf download"):
        open_text_encoder("llama2_ids")
    with pytest.raises(UnknownName):
        open_text_encoder(str(ids_file) + "x")
    ids_file.write_text("{}")
    with pytest.raises(ArzooError, match=r"cannot be read as a tokenizer\.json"):
        open_text_encoder(str(ids_file))


def convert(capsys, folder, kind):
    """Convert weights of a kind beside a tokenizer, as a user does; return the folder of the generator."""
    torch.save({"state_dict": published(kind)}, folder / f"{kind}.ckpt")
    settings = [f"{key}={json.dumps(value)}" for key, value in ARGUMENTS.items()]
    options = [word for text in settings for word in ("--set", text)]
    tokenizer = tiny_tokenizer(folder / "tok")
    path = folder / f"{kind}.ckpt"
    done = command(capsys, "convert", path, folder / kind, "--tokenizer", tokenizer, *options)
    assert done.status == 0, done
    return folder / kind


def test_texts_on_the_command_line(capsys, tmp_path, ids_file):
    model = convert(capsys, tmp_path, "texts")
    prompt = [
        "generate",
        model,
        "--prompt",
        "ApplyEyeMakeup",
        "--num",
        "2",
        "--top-k",
        "0",
        "--out",
        tmp_path / "v",
    ]
    failing(command(capsys, *prompt), "LLaMA-2", "--text-encoder FILE")
    done = command(capsys, *prompt, "--text-encoder", ids_file, "--json")
    assert done.status == 0, done
    assert len(list((tmp_path / "v").glob("*_*.png"))) == 2


def test_frame_prediction_on_the_command_line(capsys, tmp_path):
    model = convert(capsys, tmp_path, "frames")
    draw = ["generate", model, "--num", "2", "--json", "--out"]
    failing(command(capsys, *draw, tmp_path / "a"), "4 of its 16 positions (0 to 3) from nothing", status=2)
    first = picture(tmp_path / "first.png")
    done = command(capsys, *draw, tmp_path / "b", "--init", first, "--keep", "top")
    assert done.status == 0, done


def test_the_encoder_is_listed_without_its_file():
    assert "llama2_ids" in registry.names("text_encoder")
