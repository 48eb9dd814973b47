from __future__ import annotations

from pathlib import Path

import pytest

from aasut.engine import base
from aasut.engine.vllm import STORE, check, fits, store_of
from aasut.errors import EngineError

CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}


@pytest.mark.parametrize("name", ["folder", "student.gguf"])
def test_it_is_an_extra_and_auto_leaves_it_where_it_is_not(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.touch()
    with pytest.raises(EngineError) as error:
        base.load("vllm", path)
    assert str(error.value) == "The engine vllm is not installed. Run: pip install 'aasut[vllm]'"
    assert not fits()
    assert base.load("auto", tiny_llama).name.startswith("torch-")


def test_a_folder_that_vllm_would_misread_is_refused() -> None:
    """It leaves biases that are not in the file as they lie in memory."""
    config = {"architectures": ["Qwen2MoeForCausalLM"], "qkv_bias": False}
    with pytest.raises(EngineError, match="does not heed the qkv_bias: false of student"):
        check(config, Path("student"))
    check(config | {"qkv_bias": True}, Path("student"))
    check(config | {"architectures": ["MixtralForCausalLM"]}, Path("student"))


def test_keys_and_values_have_room_for_all_rows_or_what_may_be_used() -> None:
    token = 2 * 2 * 2 * 16 * 2  # both, layers, heads, their size, bytes
    assert store_of(CONFIG, 1000, 2) == 64 * 1256 * token
    assert store_of(CONFIG | {"head_dim": 32}, 1000, 2) == 64 * 1256 * 2 * token
    assert store_of(CONFIG | {"num_key_value_heads": None}, 1000, 4) == 64 * 1256 * 4 * token
    assert store_of(CONFIG, 1 << 20, 2) == STORE
    assert store_of(CONFIG, 1 << 28, 2) == ((1 << 28) + 256) * token > STORE
