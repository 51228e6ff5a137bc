"""The benchmarks run, with small networks, and count the calls of the papers' sizes."""

import functools
from argparse import Namespace

import pytest
from scripted import scripts


@pytest.fixture
def script():
    with scripts("benchmarks") as load:
        yield load


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(("plan", "calls"), [("raster", 256), ("next_neighbor", 31)])
def test_sampling(script, monkeypatch, plan, calls, precision):
    sampling = script("sampling")
    small = {"width": 64, "depth": 1, "heads": 2}
    monkeypatch.setattr(sampling, "TransformerConfig", functools.partial(sampling.TransformerConfig, **small))
    monkeypatch.setattr(
        sampling, "CategoricalConfig", functools.partial(sampling.CategoricalConfig, width=64)
    )
    row = sampling.measure(plan, precision, Namespace(repeat=1, reference=None, other=None))
    assert row["calls"] == calls
    assert row["seconds"] > 0
    assert row["bound_seconds"] > 0
    assert "ratio_to_reference_fp32" not in row


@pytest.mark.parametrize(
    ("model", "head_steps", "calls", "head_calls"),
    [("xar", "4", 4, 16), ("mar", "5:3", 3, 12), ("flowar", "50", 5, 250)],
)
def test_continuous(script, monkeypatch, model, head_steps, calls, head_calls):
    continuous = script("continuous")
    backbone, head = continuous.MODELS[model]
    depth = {"depth": 1} if model == "mar" else {"encoder_depth": 1, "decoder_depth": 1}
    backbone = backbone.replace(width=64, heads=2, **depth)
    if model != "xar":
        head = head.replace(width=64, hidden=64, depth=1)
    monkeypatch.setitem(continuous.MODELS, model, (backbone, head))
    row = continuous.measure(model, head_steps, "int8", Namespace(steps=3))
    assert (row["calls"], row["head_calls"]) == (calls, head_calls)


@pytest.mark.parametrize(("head_steps", "dense"), [("7", 21), ("6:4", 15)])
def test_continuous_in_two_stages(script, monkeypatch, head_steps, dense):
    continuous = script("continuous")
    backbone, head, dit = continuous.MODELS["himar"]
    assert (backbone.levels, head.hidden, dit.hidden) == ((8, 16), 1024, 512), "Hi-MAR-B at its real size"
    small = {"width": 64, "hidden": 64, "depth": 1}
    backbone = backbone.replace(width=64, depth=1, heads=2)
    monkeypatch.setitem(continuous.MODELS, "himar", (backbone, head.replace(**small), dit.replace(**small)))
    monkeypatch.setattr(continuous, "PIVOTS", (32, 5))
    row = continuous.measure("himar", head_steps, "fp32", Namespace(steps=3))
    assert (row["calls"], row["head_calls"]) == (6, 3 * 5 + dense)
    assert row["bound_seconds"] > 0
    assert 0 < row["dense_seconds"] < row["seconds"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scales(script, monkeypatch, precision):
    scales = script("scales")
    published = scales.CONFIG
    assert (published.width, published.depth, len(published.levels), published.layout.size) == (
        1024,
        16,
        10,
        680,
    )
    monkeypatch.setattr(scales, "CONFIG", published.replace(width=64, depth=1, heads=2))
    row = scales.measure(precision, Namespace(repeat=1))
    assert row["calls"] == 10
    assert row["static_caches"]
    assert 0 < row["share_of_bound"]


@pytest.mark.parametrize("part", ["encode", "decode"])
def test_any_size(script, monkeypatch, part):
    any_size = script("any_size")
    published = any_size.CONFIG
    assert (published.encoder.width, published.decoder.width) == (1280, 1024)
    stack = {"width": 48, "heads": 2, "hidden": 96}
    encoder, decoder = published.encoder.replace(**stack), published.decoder.replace(**stack)
    small = published.replace(encoder=encoder, decoder=decoder, bridge=48, code_channels=8)
    monkeypatch.setattr(any_size, "CONFIG", small)
    monkeypatch.setattr(any_size, "SIZES", ((56, 112), (112, 56)))
    row = any_size.measure(part, Namespace(blocks=1, repeat=1))
    assert 0 < row["products_seconds"] < row["seconds"]
    assert {"times_products", "times_one_by_one", "times_padded"} <= set(row)


@pytest.mark.parametrize("model", ["raster", "vq"])
def test_training(script, monkeypatch, model):
    training = script("training")
    small = {"width": 64, "depth": 1, "heads": 2}
    parts = (training.TransformerConfig(**small), training.CategoricalConfig(width=64))
    monkeypatch.setitem(training.MODELS, "raster", parts)
    tiny = {"widths": (8, 8, 8), "encoder_blocks": 1, "decoder_blocks": 1, "attention": False, "vocab": 16}
    monkeypatch.setattr(training, "VQTokenizerConfig", functools.partial(training.VQTokenizerConfig, **tiny))
    row = training.measure(model, Namespace(batch=1, repeat=1, other=None))
    assert row["seconds"] > 0
    assert row["peak_mib"] > 0


def test_search(script):
    search = script("search")
    row = search.measure("16", Namespace(width=64, depth=1, vocab=50, guidance=1.5))
    assert row["calls"] == 1 + 15 * 5
    assert row["decodes"] == 10 + 4 * 50
    assert row["same_tokens"], "caches change nothing"
    assert 0 < row["seconds"]
    assert 0 < row["recomputed_seconds"]
    assert row["overhead"] > 0


def test_next_block(script, monkeypatch):
    next_block = script("next_block")
    monkeypatch.setitem(next_block.SIZES, "small", {"width": 64, "depth": 1, "heads": 2})
    monkeypatch.setattr(next_block, "VOCAB", 9000)
    monkeypatch.setattr(next_block, "TOP_K", 2000)
    monkeypatch.setattr(next_block, "GRID", next_block.Grid(2, 4, 4))
    row = next_block.measure("small", "fp32", Namespace(repeat=1))
    assert row["calls"] == 7
    assert 0 < row["filter_and_draw_seconds"] < row["seconds"]
    assert row["literal_filter_and_draw_seconds"] > 0
    assert row["bound_seconds"] > 0


@pytest.mark.parametrize("model", ["attention", "mamba1", "mamba2"])
def test_length(script, model):
    length, small = script("length"), Namespace(repeat=1, tokens=3, width=64, depth=1)
    rows = [length.measure(model, n, small) for n in ("16", "64")]
    for row in rows:
        assert row["token_ms"] > 0
        assert row["token_cpu_ms"] > 0
        assert row["training_seconds"] > 0
        assert row["training_cpu_seconds"] > 0
        assert row["training_peak_mib"] >= row["drawing_peak_mib"] >= 0
    states = [row["state_mib"] for row in rows]
    assert (states[0] == states[1]) == model.startswith("mamba"), "the state of Mamba does not grow"


def test_reading(script, monkeypatch):
    reading = script("reading")
    monkeypatch.setattr(reading, "TOKENIZER", "vq_4_micro")
    monkeypatch.setattr(reading, "BATCH", 2)
    row = reading.measure("in_turn", Namespace(steps=2, times=2.0))
    assert row["seconds"] > 2 * row["alone_seconds"] > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("half", ["encode", "decode"])
def test_video_tokenizers(script, monkeypatch, half, precision):
    benchmark = script("video_tokenizers")
    sizes = {"image_size": 16, "frames": 5, "widths": (4, 4, 8, 8), "blocks": 1, "middle": 0}
    config = benchmark.nbp_clip().replace(**sizes)
    monkeypatch.setattr(benchmark, "nbp_clip", lambda: config)
    row = benchmark.measure(half, precision, Namespace(repeat=1))
    assert 0 < row["share_of_bound"]
    # The shapes are those of the whole clip, padded: the first convolution of the encoder and the last of the decoder.
    shapes = benchmark.convolutions(config, half)
    assert ((1, 3, 7, 18, 18), (4, 3, 3, 3, 3), (1, 1, 1)) in shapes or half == "decode"
    assert ((1, 4, 7, 18, 18), (3, 4, 3, 3, 3), (1, 1, 1)) in shapes or half == "encode"
    assert sum(shapes.values()) == 14
