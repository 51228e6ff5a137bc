"""Converters of published generators: strict, safe, and their own inverse."""

from __future__ import annotations

import argparse
import json
import pickle

import pytest
import torch
from command import command, failing
from safetensors.torch import save_file

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import load_parts, save_parts
from arzoo.core.control import Control, Progress
from arzoo.models.common import sampling as knobs
from arzoo.models.common.convert import convert_file, convert_state, split
from arzoo.models.llamagen.convert import transformer_table
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.samplers.schedules import control_from_data, control_to_data

SIZES = {"width": 32, "depth": 2, "heads": 2, "vocab": 40, "hidden_width": 48}
CONFIGS = {
    "llamagen": TransformerConfig(**SIZES, classes=5, grid=(1, 4, 4)),
    "nar": TransformerConfig(**SIZES, classes=0, text_width=24, text_length=6, axes=2, grid=(1, 4, 4)),
    "nar_video": TransformerConfig(**SIZES, classes=5, axes=3, absolute_positions=True, grid=(2, 3, 4)),
    "par": TransformerConfig(**SIZES, classes=5, extras=3, grid=(1, 4, 4)),
}
ARGUMENTS = {"heads": 2, "grid": (4, 4)}


def arguments(source: str) -> dict[str, object]:
    """What the weights of a source do not say."""
    return {**ARGUMENTS, "grid": (2, 3, 4)} if source == "nar_video" else ARGUMENTS


def published(source: str) -> dict[str, torch.Tensor]:
    """Random weights in the published layout."""
    config = CONFIGS[source]
    backbone = config.build()
    weights = {f"backbone.{name}": w for name, w in backbone.state_dict().items()}
    weights |= {f"head.norms.{i}.weight": torch.rand(config.width) for i in range(config.axes)}
    weights["head.output.weight"] = torch.randn(config.vocab, config.axes * config.width)
    return split(weights, transformer_table(config))


@pytest.mark.parametrize("source", CONFIGS)
def test_sizes_are_read_from_shapes_and_the_inverse_gives_the_file_back(source):
    state = published(source)
    found = convert_state(state, **arguments(source))
    assert (found.source, found.parts["backbone"].config) == (source, CONFIGS[source])
    plans = {"llamagen": "raster", "nar": "next_neighbor", "nar_video": "next_neighbor", "par": "parallel"}
    assert found.plan["name"] == plans[source]
    weights = {f"{part}.{name}": w for part, m in found.parts.items() for name, w in m.state_dict().items()}
    back = split(weights, transformer_table(CONFIGS[source]))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("source", CONFIGS)
def test_nothing_is_lost_and_nothing_unused(source):
    state = published(source)
    convert_state({**state, "freqs_cis": torch.zeros(1)}, source, **arguments(source))
    with pytest.raises(ArzooError, match=r"unknown: layers\.0\.attention\.bias"):
        convert_state({**state, "layers.0.attention.bias": torch.zeros(1)}, source, **arguments(source))
    for name in state:
        with pytest.raises(ArzooError):
            convert_state({key: w for key, w in state.items() if key != name}, source, **arguments(source))
    with pytest.raises(ArzooError, match="do not fit the sizes"):
        convert_state({**state, "layers.1.ffn_norm.weight": torch.zeros(31)}, source, **arguments(source))


@pytest.mark.parametrize("source", CONFIGS)
def test_sources_are_not_mixed_up(source):
    for other in CONFIGS.keys() - {source}:
        with pytest.raises(ArzooError):
            convert_state(published(source), other, **arguments(other))


def test_errors_say_what_to_do():
    with pytest.raises(UnknownName, match="Did you mean 'llamagen'"):
        convert_state({}, "lamagen")
    with pytest.raises(ArzooError, match="not recognized"):
        convert_state({"encoder.weight": torch.zeros(1)})
    with pytest.raises(ArzooError, match="does not take these settings"):
        convert_state(published("par"), window=3)


@pytest.mark.parametrize("container", ["model", "module", "state_dict", None])
def test_files(tmp_path, container):
    state, path = published("par"), tmp_path / "weights.pt"
    torch.save({container: state, "steps": 3} if container else state, path)
    found = convert_file(path, **ARGUMENTS)
    save_file({name: w.contiguous() for name, w in state.items()}, tmp_path / "weights.safetensors")
    again = convert_file(tmp_path / "weights.safetensors", "par", **ARGUMENTS)
    for part, module in found.parts.items():
        for name, weight in module.state_dict().items():
            assert torch.equal(weight, again.parts[part].state_dict()[name])
    save_parts(tmp_path / "ours", "generator", found.parts, plan=found.plan)
    assert set(load_parts(tmp_path / "ours", "generator")[1]) == {"backbone", "head"}


def test_the_file_of_a_model_of_clips(tmp_path):
    """Published: the name and arguments of the model lie beside its weights."""
    state, path = published("nar_video"), tmp_path / "weights.pth"
    config = {"dim": 32, "n_layer": 2, "frame_prediction": False, "token_dropout_p": 0.1}
    torch.save({"model": {"name": "llama-abs-S", "args": config, "sd": state}, "epoch": 3}, path)
    found = convert_file(path, **arguments("nar_video"))
    assert (found.source, found.taken) == ("nar_video", "weights under 'model.sd'")
    assert torch.equal(found.parts["backbone"].places, state["abs_pe"])
    config |= {"n_head": 2, "latent_shape": [2, 3, 4]}
    torch.save({"model": {"name": "llama-abs-S", "args": config, "sd": state}}, path)
    assert convert_file(path).parts["backbone"].config == CONFIGS["nar_video"]
    torch.save({"model": state}, path)
    with pytest.raises(
        ArzooError, match=r"positions \(1, 1 \+ 1024, 32\).*abs_pe is \(1, 25, 32\).*Set grid"
    ):
        convert_file(path, heads=2)
    with pytest.raises(ArzooError, match=r"lack output_R.*--layout nar"):
        convert_state(published("nar"), "nar_video")


def wrapped(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: weight for name, weight in state.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "model.module.",
        "net.",
        "_fsdp_wrapped_module.",
    ],
)
def test_weights_of_wrapped_models(tmp_path, prefix):
    state, path = published("llamagen"), tmp_path / "weights.pt"
    torch.save({"model": wrapped(prefix, state)}, path)
    save_file(
        {n: w.contiguous() for n, w in wrapped(prefix, state).items()}, tmp_path / "weights.safetensors"
    )
    for file in (path, tmp_path / "weights.safetensors"):
        found = convert_file(file, **ARGUMENTS).parts["backbone"].state_dict()
        assert torch.equal(found["token.weight"], state["tok_embeddings.weight"])


def test_weights_whose_blocks_are_compiled(tmp_path):
    state, path = published("llamagen"), tmp_path / "weights.pt"
    torch.save({name.replace("layers.1.", "layers.1._orig_mod."): w for name, w in state.items()}, path)
    assert convert_file(path, **ARGUMENTS).source == "llamagen"
    torch.save({**state, **wrapped("module.", state)}, path)
    with pytest.raises(ArzooError, match="twice"):
        convert_file(path, **ARGUMENTS)


def test_checkpoints_with_arguments_and_other_plain_things(tmp_path):
    state, path = published("llamagen"), tmp_path / "run.pt"
    args = argparse.Namespace(lr=1e-4, betas=[0.9], inner=argparse.Namespace(a=None))
    torch.save({"model": state, "args": args, "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}}}, path)
    found = convert_file(path, **ARGUMENTS)
    assert (found.taken, found.remark) == ("weights under 'model'", "")
    torch.save({"model": state, "args": argparse.Namespace(hook=Harmful())}, path)
    with pytest.raises(ArzooError, match="plain weights"):
        convert_file(path, **ARGUMENTS)


def average(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight + 1 for name, weight in state.items()}


def without_dots(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace(".", ""): weight for name, weight in state.items()}


@pytest.mark.parametrize(
    "layout",
    ["ema", "model_ema", "ema.module", "state_dict_ema", "prefix", "in model", "no dots", "no dots, wrapped"],
)
def test_averaged_weights_beside_raw_ones(tmp_path, layout):
    state, path = published("llamagen"), tmp_path / "run.pt"
    content = {
        "ema": {"model": state, "ema": average(state)},
        "model_ema": {"model": wrapped("module.", state), "model_ema": wrapped("module.", average(state))},
        "ema.module": {"model": state, "ema": {"decay": 0.99, "module": average(state)}},
        "state_dict_ema": {"state_dict": state, "state_dict_ema": average(state)},
        "prefix": {
            **wrapped("online_model.", state),
            **wrapped("ema_model.", average(state)),
            "step": torch.tensor(3),
        },
        "no dots": {
            **state,
            **wrapped("model_ema.", without_dots(average(state))),
            "model_ema.decay": torch.tensor(0.99),
            "model_ema.num_updates": torch.tensor(7),
        },
        "no dots, wrapped": {
            "state_dict": {
                **wrapped("model.", state),
                **wrapped("model_ema.", without_dots(average(state))),
                "model_ema.decay": torch.tensor(0.99),
            }
        },
        "in model": {"state_dict": {**wrapped("model.", state), **wrapped("ema.", average(state))}},
    }[layout]
    torch.save(content, path)
    raw = state["tok_embeddings.weight"]
    for weights, expected in ((None, raw), ("raw", raw), ("ema", raw + 1)):
        found = convert_file(path, weights=weights, **ARGUMENTS)
        assert torch.equal(found.parts["backbone"].token.weight, expected)
        assert "ema" in found.remark, "which were taken, and that there are others, is said"
        assert ("averaged" in found.taken) == (weights == "ema")


@pytest.mark.parametrize("key", ["ema", "averaged"])
def test_averaged_weights_alone(tmp_path, key):
    state, path = published("llamagen"), tmp_path / "run.pt"
    torch.save(
        {key: state} if key == "ema" else {**wrapped("module.", state), "n_averaged": torch.tensor(7)}, path
    )
    found = convert_file(path, **ARGUMENTS)
    assert found.taken.startswith("averaged (ema) weights")
    assert torch.equal(found.parts["backbone"].token.weight, state["tok_embeddings.weight"])
    assert convert_file(path, weights="ema", **ARGUMENTS).taken == found.taken
    with pytest.raises(ArzooError, match="no raw weights, only averaged"):
        convert_file(path, weights="raw", **ARGUMENTS)


def test_weights_that_are_no_numbers_are_refused_with_their_names():
    for value in (float("nan"), float("inf")):
        state = published("llamagen")
        state["layers.1.attention.wo.weight"][3, 2] = value
        with pytest.raises(ArzooError, match=r"not finite .*backbone\.blocks\.1\.attention\.proj\.weight"):
            convert_state(state, **ARGUMENTS)


@pytest.mark.parametrize(
    "settings", [{"heads": 0}, {"grid": (4, 0)}, {"norm_eps": float("nan")}, {"heads": 2.5}, {"grid": 4}]
)
def test_settings_of_a_source_are_checked(settings):
    with pytest.raises(ArzooError, match=next(iter(settings))):
        convert_state(published("llamagen"), **{**ARGUMENTS, **settings})


def test_the_command_says_which_weights_it_takes_and_heeds_every_setting(capsys, tmp_path):
    state, path = published("llamagen"), tmp_path / "run.pt"
    torch.save({"model": state, "ema": average(state)}, path)
    settings = ["--set", "grid=[4,4]", "--set", "heads=2"]
    done = command(capsys, "convert", path, tmp_path / "a", *settings)
    assert (done.status, "left out: 'ema'" in done.err, "under 'model'" in done.out) == (0, True, True), done
    done = command(capsys, "convert", path, tmp_path / "b", *settings, "--weights", "ema", "--json")
    assert (done.json["weights"], "left out: 'model'" in done.err) == (
        "averaged (ema) weights under 'ema'",
        True,
    )
    for folder, name in (("a", "weights under 'model'"), ("b", done.json["weights"])):
        index = json.loads((tmp_path / folder / "model_index.json").read_text())
        assert index["training"]["weights"] == name
        config = json.loads((tmp_path / folder / "backbone/config.json").read_text())["config"]
        assert (config["grid"], config["heads"]) == ([1, 4, 4], 2)
    again = command(capsys, "convert", path, tmp_path / "c", *settings, "--set", "heads=4")
    failing(again, "heads is set twice", "'2'", "'4'", status=2)
    failing(command(capsys, "convert", path, tmp_path / "c", "--set", "grid=4,4"), "grid", status=2)
    failing(
        command(capsys, "convert", path, tmp_path / "c", "--set", "head=4"), "Did you mean 'heads'", status=2
    )


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_files_that_are_refused(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "code.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harmful()))
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    for name in ("code.pt", "bare.pt", "text.pt", "text.safetensors", "empty.pt", "missing.pt"):
        with pytest.raises(ArzooError, match=name):
            convert_file(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_half_precision_files_become_float32():
    state = {name: w.to(torch.bfloat16) for name, w in published("nar").items()}
    found = convert_state(state, **ARGUMENTS)
    assert {w.dtype for m in found.parts.values() for w in m.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("family", ["mar", "xar", "flowar"])
def test_every_published_size_has_its_sampling_settings(family):
    made = getattr(knobs, family)
    presets = [name for name in registry.names("backbone", f"{family}_*") if not name.endswith("tiny")]
    assert len(presets) == 3
    for name in presets:
        control = made(registry.lookup("backbone", name)().width)
        first, last = (
            control.at(Progress(*ends)).guidance for ends in ((0, 4, 0, 1, 256), (3, 4, 192, 256, 256))
        )
        assert 1 <= first < 1.1 < 2 < last <= 4.3, name
        assert control.head_steps in (25, 40, 50, 100)
        assert control_from_data(control_to_data(control)) == control
    assert made(32) == Control()


@pytest.mark.parametrize(("source", "most"), [("llamagen", 2.0), ("nar", 2.0), ("par", 1.6)])
def test_codes_of_published_sizes_are_drawn_with_guidance(source, most):
    found = [
        knobs.codes(source, registry.lookup("backbone", f"llamagen_{size}")().width, False).guidance
        for size in ("l", "xl")
    ]
    assert found[0] == most >= found[1] > 1
    assert knobs.codes(source, 32, False) == Control()
    assert knobs.codes("nar_video", 1024, False).guidance == 1.25
    assert knobs.codes(source, 1280, True).guidance == (1.0 if source == "par" else 7.5)
