"""Verifiers whose weights or packages may be missing: CLIP, SigLIP, OCR and published rewards."""

import importlib
import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scripted import ROOT

from arzoo.base import registry
from arzoo.base.errors import ArzooError, MissingPackage
from arzoo.generation.verifiers import clip, ocr
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.verifiers.base import Subject


def tiny_pair(folder, kind):
    """A network of random weights with its picture processor and a tokenizer of a few words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "[UNK]", "red", "heart", "house"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 1), ("</s>", 2)]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="[UNK]"
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = {**sizes, **marks, "vocab_size": 7, "max_position_embeddings": 8}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        net = transformers.CLIPModel(config)
        processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    else:
        net = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    net.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return net


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pairs_of_transformers(tmp_path, kind):
    net = tiny_pair(tmp_path, kind)
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    verifier = open_verifier(kind, Subject(prompt="red heart"), source=str(tmp_path))
    scores = verifier.score_images(images)
    assert scores.shape == (3,)
    assert scores.abs().max() <= 1
    assert verifier.networks == {str(tmp_path)}
    mean, deviation = (verifier.processor.image_mean, verifier.processor.image_std)
    pixels = (images / 255 - torch.tensor(mean)) / torch.tensor(deviation)
    ids = torch.tensor([[1, 4, 5, 2, 0, 0, 0, 0]])
    with torch.no_grad():
        output = net(input_ids=ids, pixel_values=pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close(
        scores, torch.cosine_similarity(output.image_embeds, output.text_embeds), rtol=1e-4, atol=1e-5
    )
    longer = open_verifier(kind, Subject(prompt=" ".join(["heart"] * 50)), source=str(tmp_path))
    assert longer.score_images(images[:1]).shape == (1,)
    other = {"clip": "siglip", "siglip": "clip"}[kind]
    with pytest.raises(ArzooError, match=f"holds '{kind}', but verifier '{other}' needs"):
        open_verifier(other, Subject(prompt="red heart"), source=str(tmp_path))


def test_weights_that_are_not_here_are_not_downloaded(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    clip.load_pair.cache_clear()
    with pytest.raises(ArzooError, match=r"hf download nobody/nothing.*image_text"):
        open_verifier("clip", Subject(prompt="red heart"), source="nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArzooError, match=r"'siglip' cannot be read from .*empty"):
        open_verifier("siglip", Subject(prompt="red heart"), source=str(tmp_path / "empty"))


@pytest.mark.parametrize("widths", [(12, 1), (12, 8, 4, 1)])
def test_published_ratings(tmp_path, widths):
    """Linear layers on the picture embedding of CLIP, normalized, under the names of the published files."""
    net = tiny_pair(tmp_path, "clip")
    layers = [torch.nn.Linear(before, after) for before, after in itertools.pairwise(widths)]
    places = [""] if len(layers) == 1 else [f"layers.{2 * i}." for i in range(len(layers))]
    state = {
        f"{place}{name}": value.detach()
        for place, layer in zip(places, layers, strict=True)
        for name, value in layer.named_parameters()
    }
    torch.save(state, tmp_path / "head.pth")
    options = {"head": str(tmp_path / "head.pth"), "source": str(tmp_path)}
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    verifier = open_verifier("aesthetic", Subject(), **options)
    mean, deviation = verifier.processor.image_mean, verifier.processor.image_std
    pixels = (images / 255 - torch.tensor(mean)) / torch.tensor(deviation)
    with torch.no_grad():
        ids = torch.tensor([[1, 4, 2]])
        x = net(input_ids=ids, pixel_values=pixels.permute(0, 3, 1, 2)).image_embeds
        expected = torch.nn.Sequential(*layers)(x)[:, 0]
    torch.testing.assert_close(verifier.score_images(images), expected, rtol=1e-4, atol=1e-5)
    torch.save({**state, "more": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ArzooError, match="does not hold linear layers from 12 numbers to one rating"):
        open_verifier("aesthetic", Subject(), **options | {"head": str(tmp_path / "other.pth")})
    with pytest.raises(ArzooError, match=r"aesthetic:head=FILE.*realism"):
        open_verifier("aesthetic", Subject())


@pytest.fixture
def rewards(monkeypatch):
    """The verifiers of the example package, registered by the names in its entry points."""
    tomllib, folder = pytest.importorskip("tomllib"), ROOT / "examples" / "rewards"
    monkeypatch.syspath_prepend(folder)
    entries = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    registry.names("verifier")
    for name, place in entries["arzoo.verifiers"].items():
        module, _, kind = place.partition(":")
        verifier = getattr(importlib.import_module(module), kind)
        assert verifier.name == name
        assert verifier.needs == {"prompt"}
        assert verifier.networks
        monkeypatch.setitem(registry._entries["verifier"], name, verifier)
    yield
    for module in ("arzoo_rewards", "arzoo_rewards.verifiers"):
        sys.modules.pop(module)


class Rewards:
    """Stand-in for both packages: a score is the red of a picture, and how often letters of the prompt are an r."""

    def __init__(self, seen):
        self.seen = seen

    def load(self, name):
        self.seen.append(name)
        net = torch.nn.Linear(1, 1)
        return SimpleNamespace(
            score=lambda prompt, picture: (self.of(picture, prompt) + 0 * net.bias).detach().item()
        )

    def score(self, pictures, prompt, hps_version="v2.0"):
        self.seen.append(hps_version)
        return [np.float32(self.of(picture, prompt)) for picture in pictures]

    def of(self, picture, prompt):
        assert isinstance(picture, Image.Image)
        assert picture.mode == "RGB"
        return picture.getpixel((0, 0))[0] + prompt.count("r")


def test_published_rewards_with_stand_ins(monkeypatch, rewards):
    seen = []
    for module in ("ImageReward", "hpsv2"):
        monkeypatch.setitem(sys.modules, module, Rewards(seen))
    images = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    images[1, ..., 0] = 7
    for name, options, opened in (
        ("image_reward", {}, "ImageReward-v1.0"),
        ("image_reward", {"source": "weights.pt"}, "weights.pt"),
        ("hpsv2", {}, "v2.1"),
        ("hpsv2", {"version": "v2.0"}, "v2.0"),
    ):
        verifier = open_verifier(name, Subject(prompt="red tree"), **options)
        for count in (3, 1):
            assert verifier.score_images(images[:count]).tolist() == [2, 9, 2][:count]
        assert seen[-1] == opened
    assert seen.count("ImageReward-v1.0") == 1, "the weights are read once"
    assert open_verifier("image_reward", Subject(prompt="a"), source="weights.pt").networks == {"weights.pt"}
    with pytest.raises(ArzooError, match="'hpsv2' needs a prompt"):
        open_verifier("hpsv2", Subject(label="a"))


@pytest.mark.parametrize(("name", "distribution"), [("image_reward", "image-reward"), ("hpsv2", "hpsv2")])
def test_rewards_whose_package_is_not_here(monkeypatch, rewards, name, distribution):
    for module in ("ImageReward", "hpsv2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArzooError, match=f"pip install {distribution}, in an environment of its own"):
        open_verifier(
            name, Subject(prompt="red tree"), **({"source": "none"} if name == "image_reward" else {})
        )


def test_a_preference_is_the_cosine_times_the_temperature(tmp_path, rewards):
    net = tiny_pair(tmp_path, "clip")
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    cosines, scores = (
        open_verifier(name, Subject(prompt="red heart"), source=str(tmp_path)).score_images(images)
        for name in ("clip", "pickscore")
    )
    torch.testing.assert_close(scores, cosines * net.logit_scale.detach().exp())


def test_words_in_quotation_marks():
    assert ocr.quoted('a sign with "open" and “24 h”') == "open 24 h"
    assert ocr.quoted("the cat's sign 'no dogs', it's here") == "no dogs"
    assert ocr.similarity("OP EN", "open") == 1
    assert ocr.similarity("", "open") == 0
    assert ocr.similarity("oven", "open") == 0.75
    with pytest.raises(ArzooError, match="'a sign' quotes none"):
        ocr.quoted("a sign")


def test_reading_is_compared_with_the_prompt(monkeypatch):
    """What is read, from a stand-in for the package; it gets blue, green and red, and says None for nothing."""
    ocr._reader.cache_clear()
    seen = []

    def reader(picture):
        seen.append(picture)
        return ([[None, "Op", 0.9], [None, "en", 0.8]], []) if len(seen) == 1 else (None, None)

    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", SimpleNamespace(RapidOCR=lambda: reader))
    images = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    images[..., 2] = 7
    scores = open_verifier("ocr", Subject(prompt='the word "open"')).score_images(images)
    assert scores.tolist() == [1, 0]
    assert seen[0][0, 0].tolist() == [7, 0, 0]
    ocr._reader.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    with pytest.raises(MissingPackage, match=r"pip install 'arzoo\[ocr\]'"):
        open_verifier("ocr", Subject(prompt='the word "open"'))


def test_words_are_read_in_pictures():
    pytest.importorskip("rapidocr_onnxruntime", reason="the extra ocr is not installed")
    from PIL import ImageDraw, ImageFont

    ocr._reader.cache_clear()
    picture = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(picture).text((20, 45), "STOP", fill="black", font=ImageFont.load_default(size=30))
    images = torch.stack(
        [torch.from_numpy(np.array(picture)), torch.full((128, 128, 3), 255).to(torch.uint8)]
    )
    scores = open_verifier("ocr", Subject(prompt='a sign that says "stop"')).score_images(images)
    assert scores.tolist() == [1, 0]
