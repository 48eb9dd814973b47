from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import reference
from aasut.engine.common import begin
from aasut.engine.torch import hidden_states, load_model
from aasut.formats import trim_model
from aasut.formats.tokenizer import Tokenizer
from aasut.student import renumbered
from tiny_llama import make_llama

PROMPT, ANSWER = "the battery is great, नमस्ते", " the remote"


@pytest.mark.parametrize("tied", [True, False])
def test_the_teachers_distribution_over_the_tokens_that_stay(tmp_path: Path, tied: bool) -> None:
    source = make_llama(tmp_path / "source", tied=tied, add_bos=True)
    small_folder = Path(shutil.copytree(source, tmp_path / "small"))
    own = Tokenizer.load(source)
    old = trim_model.rewrite(small_folder, own.encode(ANSWER))
    small = Tokenizer.load(small_folder)
    first = renumbered.kept(small, own)
    assert first == old
    model, tokenizer = renumbered.renumber(load_model(source, torch.float32), own, first)
    ids = [*begin(tokenizer, PROMPT), *small.encode(ANSWER)]  # in all its tokens, and in the student's
    with torch.inference_mode():
        hidden = hidden_states(model, torch.tensor([ids]), torch.arange(len(ids))[None], None, None)[0]
        found = model.get_output_embeddings()(hidden)[:, : small.size].log_softmax(-1)
        whole = reference.load(source)(torch.tensor([begin(own, PROMPT + ANSWER)])).logits[0]
    assert begin(own, PROMPT + ANSWER) == [*begin(own, PROMPT), *own.encode(ANSWER)]
    assert torch.allclose(found, whole[:, old].log_softmax(-1), atol=1e-4)
    same = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert same is tied


def test_a_renumbered_tokenizer_says_the_same_by_other_numbers(tmp_path: Path) -> None:
    own = Tokenizer.load(make_llama(tmp_path / "source"))
    first = [7, 3, 1, 280]
    found = renumbered.Renumbered(own, first, own.size + 3)
    assert sorted(found.order) == list(range(own.size + 3))
    for text in (PROMPT, ANSWER, "👩\u200d👧", "<|end|><tag>"):
        assert [found.order[number] for number in found.encode(text)] == own.encode(text)
        assert found.decode(found.encode(text)) == text
    assert (found.order[found.eos_id or 0], found.eos_id, found.end_ids) == (own.eos_id, 2, {2})
    assert [found.token_name(number) for number in range(4)] == [own.token_name(old) for old in first]
    assert all(found.token_id(name) == number for name, number in found.vocabulary().items())
    assert found.vocabulary().keys() == own.vocabulary().keys()
    assert found.written(0) == own.written(7)
    assert found.size == own.size
    with pytest.raises(NotImplementedError):
        found.to_json()


def test_a_tokenizer_that_was_not_trimmed_out_of_the_other_is_a_defect(tmp_path: Path) -> None:
    source = make_llama(tmp_path / "source")
    small = Path(shutil.copytree(source, tmp_path / "small"))
    trim_model.rewrite(small, [])
    with pytest.raises(ValueError, match="lacks"):
        renumbered.kept(Tokenizer.load(source), Tokenizer.load(small))
