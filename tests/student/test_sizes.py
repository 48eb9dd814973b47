from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aasut.errors import RecipeError
from aasut.recipe import Shape
from aasut.student.sizes import Sizes, head_counts, resolve

SMOL = Sizes(layers=30, heads=9, kv_heads=3, head_dim=64, neurons=1536, channels=576)
PLAIN = Sizes(layers=4, heads=8, kv_heads=8, head_dim=8, neurons=64, channels=64)  # a group is one head
ONE = Sizes(layers=18, heads=4, kv_heads=1, head_dim=256, neurons=2048, channels=640)  # Gemma 3 270M


def wanted(whole: Sizes, *, fewer: bool = True, **shape: Any) -> Sizes:
    return resolve(Shape.model_validate(shape), whole, fewer=fewer)


def test_what_is_not_given_stays() -> None:
    assert wanted(SMOL, layers=12) == Sizes(12, 9, 3, 64, 1536, 576)
    assert wanted(SMOL, neurons=8, channels=288) == Sizes(30, 9, 3, 64, 8, 288)


@pytest.mark.parametrize(
    ("whole", "heads", "kv_heads"),
    [(SMOL, 6, 3), (SMOL, 3, 3), (PLAIN, 4, 4), (PLAIN, 1, 1), (ONE, 2, 1), (ONE, 1, 1),
     (Sizes(2, 12, 4, 8, 8, 96), 8, 4), (Sizes(2, 12, 4, 8, 8, 96), 6, 2), (Sizes(2, 12, 4, 8, 8, 96), 3, 1)],
)  # fmt: skip
def test_heads_go_from_every_group_or_in_whole_groups(whole: Sizes, heads: int, kv_heads: int) -> None:
    found = wanted(whole, heads=heads)
    assert (found.heads, found.kv_heads, found.head_dim) == (heads, kv_heads, whole.head_dim)
    assert found.heads % found.kv_heads == 0


def test_possible_numbers_of_heads_are_named() -> None:
    with pytest.raises(RecipeError, match=r"9 heads in 3 key-value groups, .* groups of 3 do") as caught:
        wanted(SMOL, heads=4)
    assert caught.value.remedy == "Take 3 or 6."
    assert head_counts(SMOL) == [3, 6, 9]
    assert head_counts(PLAIN) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert head_counts(Sizes(2, 12, 4, 8, 8, 96)) == [3, 4, 6, 8, 9, 12]
    for count in range(1, 9):
        if count in head_counts(SMOL):
            wanted(SMOL, heads=count)
        else:
            with pytest.raises(RecipeError):
                wanted(SMOL, heads=count)


@pytest.mark.parametrize(("name", "there"), [("layers", 30), ("heads", 9), ("neurons", 1536), ("channels", 576)])
def test_as_many_as_there_are_or_more_is_no_pruning(name: str, there: int) -> None:
    for value in (there, there + 9):
        with pytest.raises(RecipeError, match=f"student.shape.{name} is {value}, and the model has {there} {name}"):
            wanted(SMOL, **{name: value})


def test_random_weights_may_be_more() -> None:
    assert wanted(SMOL, fewer=False, layers=40, heads=12, neurons=4096, channels=768) == Sizes(40, 12, 3, 64, 4096, 768)
    with pytest.raises(RecipeError) as caught:
        wanted(SMOL, fewer=False, heads=10)
    assert caught.value.remedy == "Take 3 or 6, or another multiple of 3."


def test_channels_are_a_multiple_of_the_heads() -> None:
    with pytest.raises(RecipeError, match="448 channels are no multiple of 6 heads") as caught:
        wanted(SMOL, heads=6, channels=448)
    assert caught.value.remedy == "Take channels: 444 or 450."
    assert wanted(SMOL, heads=6, channels=450).channels == 450
    with pytest.raises(RecipeError) as caught:
        wanted(SMOL, channels=5)
    assert caught.value.remedy == "Take channels: 9."
    with pytest.raises(RecipeError) as caught:
        wanted(SMOL, channels=575)
    assert caught.value.remedy == "Take channels: 567."  # 576 are there already


def test_sizes_are_read_of_a_configuration() -> None:
    config = SimpleNamespace(
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=5,
        hidden_size=64,
    )  # fmt: skip
    assert Sizes.of(config) == Sizes(2, 4, 2, 8, 5, 64)
    config.head_dim = config.num_key_value_heads = None
    assert Sizes.of(config) == Sizes(2, 4, 4, 16, 5, 64)


def test_sizes_are_written_as_model_classes_name_them() -> None:
    plain = {"hidden_size": 1, "rope_theta": 3.0, "layer_types": ["b"]}
    assert PLAIN.written(plain, ["a"] * 4) == {
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 8,
        "intermediate_size": 64, "hidden_size": 64, "rope_theta": 3.0, "layer_types": ["a"] * 4,
    }  # fmt: skip
    assert PLAIN.written(plain, None)["layer_types"] == ["b"]
