from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import transformers

import small_run
from aasut import recipe as recipes
from aasut.engine import base
from aasut.errors import RoundTripError
from aasut.export import export, licences
from aasut.export.manifest import StudentCard, content_hash
from aasut.formats import gguf_read, template
from aasut.formats.gguf_write import chat_template
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.store import folder_hash
from aasut.student import linear
from aasut.types import Message

QUIET = Progress(quiet=True)
PROMPTS = [f"Review: {row['text']}\nSentiment:" for row in small_run.sentences(6)] + [
    "Review: <|end|> {{ 7 * 7 }} {% if x %} <|begin|>\nSentiment:",
    "Review: नमस्ते दुनिया, 5 € 🐈\n\nSentiment:",
]
DESCENT = licences.ledger("pypi:gemma3==1", "gemma", "pypi:smollm2==1", "apache-2.0")


def recipe(export: dict[str, Any] | None = None, **student: Any) -> recipes.Recipe:
    model = {"model": {"address": "file:model"}, "prompt": "Review: {text}\nSentiment:", "precision": "float32"}
    return recipes.parse(small_run.recipe(student=model | student, export=export or {}), "test")


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student as training leaves it, with the template and settings of the model that it began as."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    shutil.copytree(tiny_llama, folder)
    (folder / "chat_template.jinja").write_text("<|user|>{{ messages[0]['content'] | trim }}")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "other"}))
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("exported")
    facts = export.build(recipe({"q8_0": True}), trained, PROMPTS, DESCENT, folder, QUIET)
    return folder, facts


def test_every_form_is_written_and_the_training_folder_left_alone(
    trained: Path, exported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, facts = exported
    names = {path.name for path in folder.iterdir()}
    assert names == {"student", "student.gguf", "student-q8_0.gguf", "student.json", "card.md"}
    assert facts["served"] == "student.gguf"
    assert facts["round_trip"]["prompts"] == len(PROMPTS)
    before = folder_hash(trained)
    export.build(recipe(), trained, PROMPTS, DESCENT, tmp_path, QUIET)
    assert folder_hash(trained) == before


def test_hashes_in_the_facts_and_in_student_json_are_the_files_own(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = exported
    assert facts["files"] == {
        name: content_hash(folder / name) for name in ("student", "student.gguf", "student-q8_0.gguf")
    }
    card = StudentCard.read(folder)
    assert (card.file, card.sha256) == ("student.gguf", content_hash(folder / "student.gguf"))
    assert card.served(folder) == folder / "student.gguf"


def test_student_json_says_how_to_serve(exported: tuple[Path, dict[str, Any]]) -> None:
    card = StudentCard.read(exported[0])
    assert (card.name, card.kind, card.answers) == ("words", "classify", ("negative", "positive"))
    assert card.task_prompt == (Message("user", "Text: {text}"),)
    assert card.student_prompt == (Message("user", "Review: {text}\nSentiment:"),)
    assert (card.engine, card.precision) == ("auto", "auto")


def test_the_chat_template_passes_every_text_as_it_is(exported: tuple[Path, dict[str, Any]]) -> None:
    """Control tokens' names, template code, line ends and space stay text, in all forms."""
    folder, _ = exported
    texts = [*PROMPTS, "<|begin|><|end|>", " \t x\r\n ", "{{ bos_token }}", "{# note #}"]
    stated = [chat_template(folder / "student"), *(_template(folder / n) for n in facts_files(exported))]
    tokenizer = Tokenizer.load(folder / "student")
    for source in stated:
        assert source is not None
        for text in texts:
            assert template.render(source, [Message("user", text)]) == text
    assert not {0, 1} & set(tokenizer.encode(texts[-4]))  # ids of <|begin|> and <|end|>
    assert tokenizer.decode(tokenizer.encode(texts[-4])) == texts[-4]


def facts_files(exported: tuple[Path, dict[str, Any]]) -> list[str]:
    return [name for name in exported[1]["files"] if name.endswith(".gguf")]


def _template(path: Path) -> str:
    return str(gguf_read.read(path).metadata["tokenizer.chat_template"])


def test_transformers_reads_the_student_and_its_template(exported: tuple[Path, dict[str, Any]]) -> None:
    assert "chat_template" not in json.loads((exported[0] / "student" / "tokenizer_config.json").read_text())
    loaded = transformers.AutoTokenizer.from_pretrained(exported[0] / "student")
    text = loaded.apply_chat_template(
        [{"role": "user", "content": PROMPTS[0]}], tokenize=False, add_generation_prompt=True
    )
    assert text == PROMPTS[0]


def test_q8_0_is_another_file_of_the_same_model(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = exported
    whole, small = gguf_read.read(folder / "student.gguf"), gguf_read.read(folder / "student-q8_0.gguf")
    assert set(whole.tensors) == set(small.tensors)
    name = "blk.0.ffn_gate.weight"
    assert small.tensors[name].type == gguf.GGMLQuantizationType.Q8_0
    exact, near = whole.load(name), small.load(name)
    assert 0 < np.abs(exact - near).max() < np.abs(exact).max() / 100
    assert facts["files"]["student.gguf"] != facts["files"]["student-q8_0.gguf"]


def test_the_licence_goes_into_the_file(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = exported
    assert facts["licence"] == "gemma"
    assert gguf_read.read(folder / "student.gguf").metadata["general.license"] == "gemma"


def test_safetensors_can_be_served_instead(trained: Path, tmp_path: Path) -> None:
    wanted = {"serve": "safetensors", "engine": "torch", "precision": "float32"}
    facts = export.build(recipe(wanted), trained, PROMPTS, DESCENT, tmp_path, QUIET)
    card = StudentCard.read(tmp_path)
    assert (facts["served"], card.file, card.engine, card.precision) == ("student", "student", "torch", "float32")
    engine = base.load(card.engine, card.served(tmp_path), precision=card.precision)
    assert np.exp(engine.score(PROMPTS, [" negative", " positive"]).logprobs).sum() == pytest.approx(len(PROMPTS))


def test_the_same_student_is_written_with_the_same_bytes(
    trained: Path, exported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    export.build(recipe({"q8_0": True}), trained, PROMPTS, DESCENT, tmp_path, QUIET)
    assert folder_hash(tmp_path) == folder_hash(exported[0])


def test_what_an_interrupted_export_left_does_not_stay(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "model-00002-of-00002.safetensors").write_bytes(b"old")
    export.build(recipe(), trained, PROMPTS, DESCENT, tmp_path, QUIET)
    assert not (tmp_path / "student" / "model-00002-of-00002.safetensors").exists()


def test_forms_that_differ_leave_no_student(trained: Path, tmp_path: Path) -> None:
    """A tokenizer whose added token joins text that GGUF's readers would split alike is no student to hand out."""
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    body = json.loads((broken / "tokenizer.json").read_text())
    strip = {"single_word": False, "lstrip": True, "rstrip": True, "normalized": False, "special": False}
    body["added_tokens"].append({"id": body["model"]["vocab"]["z"], "content": "z", **strip})
    (broken / "tokenizer.json").write_text(json.dumps(body))
    with pytest.raises(RoundTripError, match="different tokens"):
        export.build(recipe(), broken, ["Review: a z b\nSentiment:"], DESCENT, tmp_path / "out", QUIET)
    assert not (tmp_path / "out" / "student.json").exists()
    assert not (tmp_path / "out" / "card.md").exists()


def test_a_linear_student_is_a_folder_with_a_card(tmp_path: Path) -> None:
    rows = small_run.sentences(40)
    soft = np.array([[0.1, 0.9] if row["sentiment"] == "positive" else [0.9, 0.1] for row in rows])
    linear.fit([row["text"] for row in rows], soft, range(8), ["negative", "positive"], tmp_path / "trained")
    wanted = recipes.parse(small_run.recipe(), "test")
    out = tmp_path / "out"
    facts = export.build(wanted, tmp_path / "trained", [], licences.ledger("scripted", "own", None, None), out, QUIET)
    assert {path.name for path in out.iterdir()} == {"student", "student.json", "card.md"}
    card = StudentCard.read(out)
    assert (card.file, card.engine, facts["served"], facts["licence"]) == ("student", "linear", "student", "own")
    assert base.load(card.engine, card.served(out)).name == "linear-float32"
    assert export.is_linear(out / "student")
    assert not export.is_linear(out)
