"""What `generate(speculate=)` takes, and which generators may draft for which."""

import pytest
import torch
from command import tiny_generator, tiny_tokenizer

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.generation.generator import Generator
from arzoo.samplers.speculative.draft import Draft
from arzoo.samplers.speculative.jacobi import Jacobi
from arzoo.samplers.speculative.sjd import SpeculativeJacobi
from arzoo.samplers.speculative.tree import Tree

REQUEST = {"classes": [0, 1, 2], "seed": 4, "batch": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("tok", "tok2")):
        tiny_tokenizer(where / name, seed=seed)
    tiny_generator(where / "gen", where / "tok")
    tiny_generator(where / "small", where / "tok", seed=1)
    tiny_generator(where / "names", where / "tok", classes=("a", "b", "c"))
    tiny_generator(where / "other", where / "tok2")
    return where


@pytest.fixture(scope="module")
def model(folder):
    return Generator.load(folder / "gen")


def test_a_number_a_text_and_an_object_are_the_same(model, folder):
    small = Generator.load(folder / "small")
    same = [
        [3, "jacobi:3", Jacobi(3)],
        ["sjd:3", SpeculativeJacobi(3)],
        ["coupled:3", SpeculativeJacobi(3, "gumbel")],
        [f"draft:{folder / 'small'}:3", Draft(small, 3)],
        [f"tree:{folder / 'small'}:2x1", Tree(small, (2, 1))],
    ]
    for forms in same:
        first, *others = (model.generate(**REQUEST, speculate=form) for form in forms)
        assert all(torch.equal(first, other) for other in others)


def test_a_drafting_model_makes_calls_of_its_own(model, folder):
    *_, step = model.stream(classes=[0], speculate=Draft(Generator.load(folder / "small"), 2))
    assert 1 < step.run.passes <= step.run.k == 7
    assert step.run.draft_passes > 0
    assert step.preview().shape[0] == 1


@pytest.mark.parametrize(("name", "fact"), [("names", "classes"), ("other", "tokenizer")])
def test_a_model_that_draws_something_else_cannot_draft(model, folder, name, fact):
    with pytest.raises(ArzooError, match=f"must have the same {fact} as the one that draws"):
        model.generate(**REQUEST, speculate=Draft(Generator.load(folder / name)))


def test_a_model_of_another_plan_cannot_draft(model, folder):
    other = Generator.load(folder / "small")
    other.plan_name = "raster"
    with pytest.raises(
        ArzooError, match=r"same plan as the one that draws: raster is not next_neighbor.*with_plan.*--plan"
    ):
        model.generate(**REQUEST, speculate=Draft(other))


@pytest.mark.parametrize(
    ("speculate", "words"),
    [
        (True, "window of Jacobi iteration"),
        (2.5, "window of Jacobi iteration"),
        ("jacobi", "'jacobi': '' must be a number of steps"),
        ([3], "window of Jacobi iteration"),
        ("tree:4x2", "must be a model and the candidates at each step"),
        ("any_subset:8", "backbone llamagen cannot: its inputs do not say which position they predict"),
    ],
)
def test_what_is_no_method_is_refused(model, speculate, words):
    with pytest.raises(ArzooError, match=words):
        model.generate(**REQUEST, speculate=speculate)
    with pytest.raises(UnknownName, match="Did you mean 'jacobi'"):
        model.generate(**REQUEST, speculate="jakobi:3")
