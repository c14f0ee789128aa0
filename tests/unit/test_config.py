import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config import decode, encode, nearest, override
from headrace.errors import ConfigError


class Kind(enum.Enum):
    ADAM = "adam"
    SGD = "sgd"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    weight: float
    objective: Literal["causal", "ul2", "prefix"] = "causal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    kind: Kind = Kind.ADAM
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int | None = None
    bits: Literal[8, 16] = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    steps: int
    name: str = "demo"
    fused: bool = False
    optimizer: Optimizer = field(default_factory=Optimizer)
    sources: dict[str, Source] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    layers: list[int] = field(default_factory=list)
    parent: Source | None = None
    seed: int | str = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


finite = st.floats(allow_nan=False, allow_infinity=False)
sources = st.builds(Source, weight=finite, objective=st.sampled_from(["causal", "ul2", "prefix"]))
optimizers = st.builds(
    Optimizer,
    kind=st.sampled_from(Kind),
    betas=st.tuples(finite, finite),
    warmup_steps=st.none() | st.integers(),
    bits=st.sampled_from([8, 16]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
recipes = st.builds(
    Recipe,
    steps=st.integers(),
    name=st.text(),
    fused=st.booleans(),
    optimizer=optimizers,
    sources=st.dictionaries(st.text(), sources, max_size=3),
    stops=st.lists(st.text(), max_size=3).map(tuple),
    layers=st.lists(st.integers(), max_size=3),
    parent=st.none() | sources,
    seed=st.integers() | st.text(),
    extra=st.dictionaries(st.text(), values, max_size=3),
)


@given(recipes)
def test_a_configuration_survives_the_way_through_json(recipe: Recipe) -> None:
    assert decode(Recipe, json.loads(json.dumps(encode(recipe)))) == recipe


def test_encoded_values_are_those_of_json() -> None:
    recipe = Recipe(steps=3, sources={"pile": Source(weight=0.5)}, stops=("a", "b"))
    assert encode(recipe) == {
        "steps": 3,
        "name": "demo",
        "fused": False,
        "optimizer": {"kind": "adam", "betas": [0.9, 0.999], "warmup_steps": None, "bits": 16},
        "sources": {"pile": {"weight": 0.5, "objective": "causal"}},
        "stops": ["a", "b"],
        "layers": [],
        "parent": None,
        "seed": 0,
        "extra": {},
    }


def refused(given: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        decode(Recipe, {"steps": 1} | given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_key_is_answered_with_the_nearest_and_the_section_it_stands_in() -> None:
    assert refused({"optimzer": {}}) == "Recipe has no key 'optimzer'. Did you mean 'optimizer'?"
    assert refused({"optimizer": {"beta": 1}}) == "optimizer has no key 'beta'. Did you mean 'betas'?"
    told = refused({"sources": {"pile": {"weight": 1, "x": 2}}})
    assert told == "sources.pile has no key 'x'. Known: objective, weight."
    assert "5" in refused({5: 1})  # type: ignore[dict-item]


def test_missing_key_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"^Recipe needs 'steps', which has no default"):
        decode(Recipe, {"name": "x"})
    assert refused({"parent": {}}) == "parent needs 'weight', which has no default. Set parent.weight."


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"steps": "3"}, "steps='3' is str, not int"),
        ({"steps": 3.5}, "steps=3.5 is float, not int"),
        ({"steps": True}, "steps=True is bool, not int"),
        ({"steps": None}, "steps=None is NoneType, not int"),
        ({"fused": 1}, "fused=1 is int, not bool"),
        ({"name": 7}, "name=7 is int, not str"),
        ({"optimizer": 3}, "optimizer=3 is not a section"),
        ({"optimizer": {"betas": [0.9]}}, "optimizer.betas has 1 items and takes 2"),
        ({"optimizer": {"betas": [0.9, "x"]}}, "optimizer.betas[1]='x' is str, not float"),
        ({"optimizer": {"betas": [0.9, True]}}, "optimizer.betas[1]=True is bool, not float"),
        ({"optimizer": {"betas": 0.9}}, "optimizer.betas=0.9 is not a list"),
        ({"optimizer": {"kind": "adem"}}, "optimizer.kind='adem' is not a choice. Did you mean 'adam'?"),
        ({"optimizer": {"warmup_steps": "x"}}, "optimizer.warmup_steps='x' is str, not int"),
        ({"optimizer": {"bits": 4}}, "optimizer.bits=4 is not a choice. Known: 16, 8."),
        ({"sources": ["pile"]}, "sources=['pile'] is not a mapping"),
        ({"sources": {"pile": {"weight": 1, "objective": "ul3"}}}, "sources.pile.objective='ul3' is not a choice."),
        ({"stops": "ab"}, "stops='ab' is not a list"),
        ({"layers": [1, 2.5]}, "layers[1]=2.5 is float, not int"),
        ({"name": "", "sources": {"a\nb": 3}}, "sources.a b=3 is not a section"),
    ],
)
def test_value_of_another_type_is_refused_by_its_path(given: dict[str, Any], told: str) -> None:
    assert refused(given).startswith(told)


def test_whole_floats_become_integers_as_kfp_hands_them_over() -> None:
    made = decode(Recipe, {"steps": 3.0, "layers": [1.0], "seed": 7.0, "optimizer": {"bits": 8.0, "betas": [0, 1]}})
    assert made == Recipe(steps=3, layers=[1], seed=7, optimizer=Optimizer(bits=8, betas=(0.0, 1.0)))
    assert [type(value) for value in (made.steps, made.layers[0], made.seed, made.optimizer.bits)] == [int] * 4
    assert [type(value) for value in made.optimizer.betas] == [float] * 2


def test_true_is_not_the_number_one_among_choices() -> None:
    @dataclass(frozen=True)
    class Level:
        level: Literal[1, 2]

    with pytest.raises(ConfigError, match="level=True is not a choice"):
        decode(Level, {"level": True})


@pytest.mark.parametrize(
    ("assignment", "changed"),
    [
        ("steps=100", {"steps": 100}),
        ("steps=1e3", {"steps": 1000}),
        (" steps =7", {"steps": 7}),
        ("fused=true", {"fused": True}),
        ("name=gs://bucket/a=b", {"name": "gs://bucket/a=b"}),
        ("name=2024", {"name": "2024"}),
        ("name=null", {"name": "null"}),
        ('name="2024"', {"name": "2024"}),
        ("name=", {"name": ""}),
        ("seed=5", {"seed": 5}),
        ('stops=["\\n"]', {"stops": ("\n",)}),
        ("optimizer.betas=[0.5, 1]", {"optimizer": Optimizer(betas=(0.5, 1.0))}),
        ("optimizer.kind=sgd", {"optimizer": Optimizer(kind=Kind.SGD)}),
        ('sources={"p3": {"weight": 2}}', {"sources": {"p3": Source(weight=2)}}),
        ("sources.pile.weight=0.25", {"sources": {"pile": Source(weight=0.25)}}),
        ('parent={"weight": 1}', {"parent": Source(weight=1)}),
        ("extra.anything=[1]", {"extra": {"anything": [1]}}),
    ],
)
def test_override_sets_one_key_and_leaves_the_rest(assignment: str, changed: dict[str, Any]) -> None:
    before = {"steps": 1, "optimizer": Optimizer(), "sources": {"pile": Source(weight=1.0)}}
    config = Recipe(**before)
    assert override(config, assignment) == Recipe(**(before | changed))
    assert config == Recipe(**before)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("steps", "'steps' is no assignment. Write section.key=value."),
        ("optimizr=3", "Recipe has no key 'optimizr'. Did you mean 'optimizer'?"),
        ("=3", "Recipe has no key ''. Known: extra, "),
        ("optimiser.betas=3", "There is no section 'optimiser'. Did you mean 'optimizer'?"),
        ("optimizer.kind.x=3", "'optimizer.kind' holds a value, not a section. Set it whole."),
        ("optimizer.kind.x.y=3", "There is no section 'optimizer.kind.x'. Known: none."),
        ("parent.weight=3", "'parent' holds a value, not a section. Set it whole."),
        ("optimizer.beta=3", "optimizer has no key 'beta'. Did you mean 'betas'?"),
        ("steps=many", "steps='many' is str, not int."),
        ("steps=[1]", "steps=[1] is list, not int."),
        ("sources.pile.weight=x", "sources.pile.weight='x' is str, not float."),
        ("sources.new.objective=ul2", "There is no section 'sources.new'. Known: pile."),
        ("steps=1\n2", "steps='1\\n2' is str, not int."),
    ],
)
def test_override_refuses_in_one_line_what_means_nothing(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(Recipe(steps=1, sources={"pile": Source(weight=1.0)}), assignment)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@given(st.text(), st.lists(st.text(), max_size=4))
def test_nearest_answers_whatever_it_is_asked(name: str, known: list[str]) -> None:
    assert nearest(name, known).startswith(("Did you mean ", "Known: "))
    for choice in known:
        if choice:
            assert nearest(choice, known) == f"Did you mean {choice!r}?"
