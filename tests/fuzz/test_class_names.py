"""Messages name what users know: no class of the library stands in one, whatever does not fit."""

from __future__ import annotations

import itertools
import re

import pytest
from contracts.cases import cases

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.base.registry import called, lookup, names
from arzoo.core.contracts import Backbone, Head, Tokenizer
from arzoo.generation import fit
from arzoo.samplers.speculative.base import cannot_draw_ahead


def classes() -> set[str]:
    """Names of classes of two words or more, such as KLTokenizer; MAR and Flow are names of methods, too."""
    found, todo = set(), [Backbone, Head, Tokenizer, Config]
    while todo:
        cls = todo.pop()
        found.add(cls.__name__)
        todo += cls.__subclasses__()
    return {name for name in found if re.search("[a-z][A-Z]|[A-Z]{2}[a-z]", name)}


def test_misfits_of_all_parts_name_no_class():
    parts = [(case.spec, case.model.backbone, case.plan(1), case.model.heads) for case in cases().values()]
    texts = set()
    for (spec, backbone, _, _), (_, _, plan, heads) in itertools.product(parts[::3], parts[::4]):
        texts |= {str(misfit) for misfit in fit.check(spec, backbone, plan, heads)}
        texts.add(cannot_draw_ahead(backbone, plan, heads, True))
    words = set(re.findall(r"\w+", " ".join(texts)))
    assert len(texts) > 20
    assert words & classes() == set()


def test_what_users_call_the_parts():
    assert [called(lookup("head", name)()) for name in names("head", "*mlp*")][:1] == ["diffusion_mlp"]
    assert called(lookup("backbone", "nar_tiny")()) == "llamagen"
    assert called(lookup("tokenizer", "kl_8_small")()) == "kl"


@pytest.mark.parametrize("kind", ["tokenizer", "backbone", "head"])
def test_settings_that_do_not_exist_name_no_class(kind):
    for name in names(kind)[::5]:
        config = type(lookup(kind, name)())
        with pytest.raises(ArzooError, match="has no setting 'no_such'") as refused:
            config.from_dict({"no_such": 1})
        assert config.__name__ not in str(refused.value)
