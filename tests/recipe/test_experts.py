"""What of a recipe's experts goes together; what does not is refused in tests/test_recipe.py."""

from __future__ import annotations

from aasut.recipe import Experts


def test_one_active_expert_is_possible_beside_a_shared_one() -> None:
    assert Experts(active=1, shared=True).active == 1


def test_what_the_start_depends_on_is_not_what_training_does() -> None:
    assert Experts().start_settings() == Experts(bias_rate=0.5, z_loss=1).start_settings()
    assert Experts().start_settings() != Experts(start="drop").start_settings()
