"""Search of whole generators: pictures, budget and history."""

import io
from dataclasses import replace

import pytest
import torch
from continuous import made
from ordered import TOKENIZERS, build
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.core.ends import first_known
from arzoo.data.transforms import to_uint8
from arzoo.generation.drawings import Drawings
from arzoo.generation.generator import Generator
from arzoo.generation.search import search_cost, subject_of
from arzoo.generation.training_free import training_free
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.budget import Budget
from arzoo.samplers.search.cautious import Cautious
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.rejection import Rejection
from arzoo.samplers.verifiers.likelihood import Likelihood


def red(pictures):
    """How red pictures (n, T, H, W, 3) are."""
    assert pictures.dtype == torch.uint8
    return pictures[..., 0].double().flatten(1).mean(1)


@pytest.fixture(scope="module")
def models(folder, model, masked):
    """Grids of codes and of vectors, a pyramid, ordered codes, and a model that draws where a picture ends."""
    return {
        "codes": model,
        "mar": masked,
        "flowar": made("flowar", folder / "vectors"),
        "flextok": ordered_generator(build(TOKENIZERS["flextok"])),
        "karl": ordered_generator(build(TOKENIZERS["karl"]), ends=True),
    }


def ordered_generator(tokenizer, **options):
    torch.manual_seed(1)
    model = Generator.create(
        "raster_tiny", tokenizer, "ordered", classes=("a", "b", "c"), tokenizer_name="tok", tokenizer_hash="",
        width=32, depth=1, heads=2, **options,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    return model


@pytest.mark.parametrize("name", ["codes", "mar", "flowar", "flextok", "karl"])
def test_search_of_every_kind_of_model(models, name):
    """Results are pictures of the tokenizer, the best that were seen, and no worse than the plain one."""
    model = models[name]
    for algorithm in (
        BestOfN(4, batch=3),
        Beam(2, 3),
        Lookahead(2, 2, ahead=-1),
        Particles(3, temperature=5.0, lengths=(1, 2), complete=name == "flextok"),
        Rejection(255.0, most=2, lengths=(1,)),
        Cautious(2),
    ):
        result = model.search(algorithm, red, classes=[1], seed=3)
        assert result.pictures.shape == (1, 1, 16, 16, 3)
        assert result.pictures.stills.shape == (1, 16, 16, 3)
        assert (
            float(result.scores[0]) == float(result.history[-1].scores.max()) == float(red(result.pictures))
        )
        assert result.spent.decodes <= sum(len(each.scores) for each in result.history)
        assert result.pictures.token_counts.shape == (1,)
    plain = model.generate([1], seed=3)
    best = model.search(BestOfN(4), red, classes=[1], seed=3)
    assert float(best.history[0].scores[0]) == pytest.approx(float(red(plain)), abs=0.5), "decoded in a batch"
    assert best.scores[0] >= best.history[0].scores[0]


def test_pictures_of_first_tokens(models):
    """Ordered tokens may end early and say how many they are; pictures that need all tokens are completed."""
    ends = Beam(2, 3, lengths=(1, 2))
    result = models["flextok"].search(ends, red, classes=[0], budget=Budget(decodes=9))
    assert result.pictures.token_counts.tolist() == [2]
    assert result.spent.decodes == 9
    whole = models["codes"].search(ends, red, classes=[0])
    assert whole.pictures.token_counts.tolist() == [16]
    assert bool(whole.tokens.known.all())
    assert [each.steps for each in whole.history] == [1, 2, len(models["codes"].plan())]


def test_likelihood_steers_without_decoding(models):
    result = models["flextok"].search(Beam(2, 3, results=2), Likelihood(), classes=[0])
    assert result.spent.decodes == len(result.pictures) == 2
    with pytest.raises(ArzooError, match="only heads with one code per position"):  # before anything is drawn
        search_cost(models["mar"], BestOfN(2), Likelihood(), Cond(1, label=torch.tensor([1])))


def test_seed_progress_and_cost_before(models):
    """The seed of a picture stands for that of a request, progress ends at what is spent, the cost is known before."""
    model, cond, told = models["flextok"], Cond(1, label=torch.tensor([1])), []
    result = model.search(Beam(2, 3), red, cond=cond, seeds=[sample_seed(3, 0)], progress=told.append)
    assert torch.equal(result.pictures, model.search(Beam(2, 3), red, classes=[1], seed=3).pictures)
    assert [each.network_calls for each in told] == sorted(each.network_calls for each in told)
    assert replace(told[-1], seconds=0) == replace(result.spent, seconds=0)
    assert search_cost(model, Beam(2, 3), red, cond) == replace(result.spent, seconds=0)


def test_methods_and_verifiers_by_name(models):
    """A name stands for the method with its defaults, and for the verifier of what is drawn."""
    model = models["codes"]
    by_name = model.search(
        "best_of_n", "likelihood", classes=["animal/round"], budget=Budget(network_calls=21)
    )
    same = model.search(BestOfN(3), Likelihood(), classes=[1])
    assert torch.equal(by_name.pictures, same.pictures)
    with pytest.raises(ArzooError, match="'image_text' needs a prompt"):
        model.search("beam", "image_text", classes=[1])
    with pytest.raises(ArzooError, match="'beem'"):
        model.search("beem", "likelihood", classes=[1])
    assert subject_of(model, classes=[1]).label == "animal/round"


def decoded_from(model, tokens, seeds):
    """Pictures of the first tokens from noise that torch draws with these seeds."""
    tokenizer = model.tokenizer
    shape = tokenizer.noise(Draws([0])).shape[1:]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    vectors = tokenizer.quantizer.lookup(tokens.values)
    latents = tokenizer.draw(vectors, tokens.known.sum(1), torch.stack(noise))
    return to_uint8(tokenizer.pictures(latents)[:, :, None])


def near(first, second):
    """Whether pictures are the same up to rounding, which follows those that are decoded together."""
    return int((first.int() - second.int()).abs().max()) <= 1


def test_noise_of_the_decoder(models):
    """As published it follows the number of the prompt, for best of N also that of the sample; the default has one."""
    model = models["flextok"]
    for algorithm in (
        Beam(2, 3, lengths=(1, 3), results=2),
        Lookahead(2, 3, lengths=(1,), ahead=2, results=2),
    ):
        usual = [model.search(algorithm, red, classes=[1], number=number).pictures for number in (0, 3)]
        assert torch.equal(*usual)
        for number in (0, 3):
            published = model.search(replace(algorithm, published=True), red, classes=[1], number=number)
            assert near(published.pictures, decoded_from(model, published.tokens, [number] * 2))
            assert not near(published.pictures, model.decode(first_known(published.tokens)))
    usual = model.search(BestOfN(3, results=3), red, classes=[1], number=3)
    assert near(usual.pictures, model.decode(usual.tokens))
    published = model.search(BestOfN(3, results=3, published=True), red, classes=[1], number=3)
    for row, sample in enumerate(published.history[0].kept.tolist()):
        tokens = published.tokens.select(torch.tensor([row]))
        assert near(published.pictures[row : row + 1], decoded_from(model, tokens, [sample_seed(3, sample)]))
    free = [
        training_free(model.tokenizer, red, Beam(1, 3, lengths=(1,), published=True), number=number)
        for number in (0, 3)
    ]
    for number, result in zip((0, 3), free, strict=True):
        assert near(result.pictures, decoded_from(model, result.tokens, [number]))


def test_decoders_without_noise_draw_the_same(models):
    usual, published = (
        models["codes"].search(BestOfN(3, published=published), red, classes=[1], number=3)
        for published in (False, True)
    )
    assert torch.equal(usual.pictures, published.pictures)


def test_drawings_in_a_notebook(models):
    pictures = models["codes"].generate([0, 1])
    shown = Image.open(io.BytesIO(pictures._repr_png_()))
    assert shown.size == (2 * 98 + 2, 98 + 2), "small pictures are enlarged"
    clips = Drawings.of(torch.zeros(3, 5, 8, 8, 3, dtype=torch.uint8), torch.ones(3))
    assert Image.open(io.BytesIO(clips._repr_png_())).size == (5 * 98 + 2, 3 * 98 + 2), "a row per clip"
    assert Drawings.of(torch.zeros(0, 5, 8, 8, 3, dtype=torch.uint8), torch.ones(0))._repr_png_() is None


def test_one_picture_is_requested(models):
    with pytest.raises(ArzooError, match="got 2 classes or prompts; call search once"):
        models["codes"].search(Beam(), red, classes=[0, 1])
    with pytest.raises(ArzooError, match="give classes"):
        models["codes"].search(Beam(), red)
    with pytest.raises(ArzooError, match="decodes=2 is too small for one result, which needs"):
        models["codes"].search(Beam(2, 3), red, classes=[0], budget=Budget(decodes=2))
