from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

import reference
from aasut.engine.base import Prompt, write
from aasut.engine.common import begin
from aasut.engine.decode import NARROW
from aasut.engine.torch import TorchEngine, choose_precision, load, load_model
from aasut.errors import EngineError, ModelError
from aasut.formats import gguf, safetensors
from aasut.formats.tokenizer import Tokenizer

PREFIX = "Review: the battery is great\nSentiment: positive\n\n"
PROMPTS = [
    "Review: ok\nSentiment:",
    "Review: it broke after two days, and nobody answered my letters; never again\nSentiment:",
    "a",
    "Review: नमस्ते दुनिया, 5 € 🐈\nSentiment:",
]
ONE_TOKEN = ["a", "b", "z"]
SEVERAL = [" billing_refund", " billing_dispute", " billing", " shipping_late", " shipping_lost", " bill"]
RANDOM_MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gemma3": (
        transformers.Gemma3TextConfig,
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
        },
    ),
    "mistral": (transformers.MistralConfig, {"head_dim": 16}),  # its window holds for all layers
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16}),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def models(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random models with one tokenizer; those of RANDOM_MODELS look 8 tokens back, and put a begin token first."""
    folders = {"llama": tiny_llama}
    inner = tokenizers.Tokenizer.from_file(str(tiny_llama / "tokenizer.json"))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    for name, (kind, more) in RANDOM_MODELS.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        config = kind(
            vocab_size=inner.get_vocab_size(), hidden_size=64, intermediate_size=96, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, sliding_window=8,
            tie_word_embeddings=name == "gemma3", bos_token_id=0, eos_token_id=1, pad_token_id=1, **more,
        )  # fmt: skip
        torch.manual_seed(2)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        inner.save(str(folder / "tokenizer.json"))
        shutil.copy(tiny_llama / "tokenizer_config.json", folder)
    return folders


def naive(folder: Path, prompts: list[str], answers: list[str], prefix: str = "") -> np.ndarray:
    """By transformers alone. Prefix and rest are split into tokens apart, as the engine's contract says."""
    model, tokenizer = reference.load(folder), Tokenizer.load(folder)
    keys = reference.answer_keys(tokenizer, answers)
    with torch.inference_mode():
        return np.array(
            [
                reference.bound_logprobs(model, begin(tokenizer, prefix) + tokenizer.encode(prompt), keys).numpy()
                for prompt in prompts
            ]
        )


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["no prefix", "prefix"])
@pytest.mark.parametrize("answers", [ONE_TOKEN, SEVERAL], ids=["one token", "several tokens"])
@pytest.mark.parametrize("name", ["llama", *RANDOM_MODELS])
def test_scores_equal_one_whole_sequence_for_each_answer(
    models: dict[str, Path], name: str, answers: list[str], prefix: str
) -> None:
    expected = naive(models[name], PROMPTS, answers, prefix)
    assert np.ptp(expected, axis=0).max() > 0.5  # prompts of different length stand in one batch, and matter
    for prefix_cache in (True, False):
        engine = load(models[name], precision="float32", prefix_cache=prefix_cache)
        found = engine.score([prefix + prompt for prompt in PROMPTS], answers, prefix=prefix)
        assert found.logprobs == pytest.approx(expected, abs=1e-4)
        assert np.exp(found.logprobs).sum(axis=1) == pytest.approx(np.ones(len(PROMPTS)))
        assert (found.usage.cached_tokens > 0) is (prefix_cache and bool(begin(engine.tokenizer, prefix)))


def test_a_prefix_is_computed_once_and_its_state_does_not_wear_off(models: dict[str, Path]) -> None:
    engine = load(models["llama"], precision="float32")
    computed: list[int] = []

    def note(_module: Any, _positional: Any, named: Any, _output: Any) -> None:
        computed.append(named["input_ids"].numel())

    engine.model.model.register_forward_hook(note, with_kwargs=True)
    prompts = [PREFIX + prompt for prompt in PROMPTS]
    tokens, results = [], []
    for _ in range(3):
        results.append(engine.score(prompts, SEVERAL, prefix=PREFIX).logprobs)
        tokens.append(sum(computed))
        computed.clear()
    assert tokens[0] - tokens[1] == len(begin(engine.tokenizer, PREFIX))
    assert tokens[1] == tokens[2]
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


def test_states_of_few_prefixes_are_held(models: dict[str, Path]) -> None:
    engine = load(models["llama"], precision="float32")
    expected = engine.score(["p0 x"], ONE_TOKEN, prefix="p0 ").logprobs
    for i in range(20):
        engine.score([f"p{i} x"], ONE_TOKEN, prefix=f"p{i} ")
    assert len(engine._prefixes) == 8
    assert engine.score(["p0 x"], ONE_TOKEN, prefix="p0 ").logprobs == pytest.approx(expected, abs=1e-6)


def test_scores_do_not_depend_on_neighbours(models: dict[str, Path]) -> None:
    """More prompts than a batch holds, asked together and one by one."""
    engine = load(models["gemma3"], precision="float32")
    prompts = [f"{PROMPTS[i % 4]} {i}" for i in range(60)]
    together = engine.score(prompts, SEVERAL).logprobs
    alone = np.concatenate([engine.score([prompt], SEVERAL).logprobs for prompt in prompts[:12]])
    assert together[:12] == pytest.approx(alone, abs=1e-4)
    assert engine.score(prompts[::-1], SEVERAL).logprobs[::-1] == pytest.approx(together, abs=1e-4)


def test_the_order_of_the_answers_is_kept(models: dict[str, Path]) -> None:
    engine = load(models["llama"], precision="float32")
    forward = engine.score(PROMPTS, SEVERAL).logprobs
    assert engine.score(PROMPTS, SEVERAL[::-1]).logprobs[:, ::-1] == pytest.approx(forward, abs=1e-5)


@pytest.mark.parametrize("name", ["llama", *RANDOM_MODELS])
def test_greedy_text_equals_transformers_generate(models: dict[str, Path], name: str) -> None:
    engine, model = load(models[name], precision="float32"), reference.load(models[name])
    for prompt in PROMPTS:
        ids = begin(engine.tokenizer, prompt)
        whole = model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=24, pad_token_id=1, eos_token_id=1
        )[0, len(ids) :].tolist()  # fmt: skip
        expected = engine.tokenizer.decode(whole[: whole.index(1)] if 1 in whole else whole)
        assert write(engine, [Prompt(prompt, 24)])[0].text == expected
        assert len(expected) > 3


@pytest.mark.parametrize("name", ["llama", *RANDOM_MODELS])
def test_many_answers_at_once_are_those_of_one_at_a_time(models: dict[str, Path], name: str) -> None:
    engine = load(models[name], precision="float32")
    prefix = "Review: a long beginning that all share. "
    prompts = [Prompt(prefix + text, 4 + 5 * number) for number, text in enumerate(PROMPTS)]
    alone = [write(engine, [prompt])[0] for prompt in prompts]
    assert write(engine, prompts) == alone
    assert len({answer.text for answer in alone}) > 1
    shared = write(engine, prompts, prefix=prefix)
    engine.prefix_cache = False
    assert write(engine, prompts, prefix=prefix) == shared


@pytest.mark.parametrize("name", ["llama", *RANDOM_MODELS])
def test_what_a_schema_forces_changes_no_answer_whether_read_at_once_or_one_by_one(
    models: dict[str, Path], name: str
) -> None:
    engine = load(models[name], precision="float32")
    kinds = [{"enum": ["a window", "the front door", "no"]}, {"type": "boolean"}, {"enum": ["rain", "rainbow"]}]
    schemas = [
        json.dumps({"type": "object", "properties": {"what": kind, "sure": {"enum": [1, 2, 30]}},
                    "required": ["what", "sure"], "additionalProperties": False})
        for kind in kinds
    ]  # fmt: skip
    prompts = [Prompt(f"{text}{n}", 60, schema=schemas[n]) for text in PROMPTS for n in range(len(kinds))]
    assert len(prompts) > NARROW
    alone = [write(engine, [prompt])[0] for prompt in prompts]
    assert write(engine, prompts) == alone
    assert write(engine, prompts[: NARROW - 1]) == alone[: NARROW - 1]
    assert len({answer.text for answer in alone}) > 3
    assert all(json.loads(answer.text) for answer in alone)


def test_a_gguf_file_answers_as_its_folder(tiny_llama: Path, tmp_path: Path) -> None:
    gguf.write(tiny_llama, tmp_path / "m.gguf", "bf16")
    prompts = [Prompt(text, 12) for text in PROMPTS]
    assert write(load(tmp_path / "m.gguf", precision="float32"), prompts) == write(
        load(tiny_llama, precision="float32"), prompts
    )
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        load(tmp_path / "broken.gguf")


def test_stop_texts_end_a_generation(models: dict[str, Path]) -> None:
    engine = load(models["llama"], precision="float32")
    whole = write(engine, [Prompt("a", 12)])[0].text
    stop = next(c for c in whole[2:] if c.isascii())
    assert write(engine, [Prompt("a", 12, stop=(stop,))])[0].text == whole[: whole.index(stop)]


def test_more_than_the_context_is_refused(models: dict[str, Path]) -> None:
    engine = load(models["llama"], precision="float32")
    assert engine.context == 512
    with pytest.raises(ModelError, match="context has 512"):
        engine.score(["zq" * 255 + "zq"], ["a", "b", "ab"])  # "a" begins "ab": one token more
    with pytest.raises(ModelError, match="context of 512"):
        write(engine, [Prompt("zq" * 250, 13)])


def test_bfloat16_answers_nearly_as_float32(models: dict[str, Path]) -> None:
    exact = load(models["llama"], precision="float32").score(PROMPTS, SEVERAL).logprobs
    engine = load(models["llama"], precision="bfloat16")
    assert engine.name == "torch-bfloat16"
    found = engine.score(PROMPTS, SEVERAL).logprobs
    assert 0 < np.abs(found - exact).max() < 0.5


def test_parameters_count_tied_ones_once(models: dict[str, Path]) -> None:
    for name in ("llama", "qwen3"):
        assert load(models[name]).parameters == safetensors.parameters(models[name])


def test_an_unknown_precision_is_refused(models: dict[str, Path]) -> None:
    assert choose_precision("float32") == torch.float32
    with pytest.raises(EngineError, match="float8"):
        load(models["llama"], precision="float8")


def test_closing_gives_the_model_back(models: dict[str, Path]) -> None:
    engine = load(models["llama"])
    assert isinstance(engine, TorchEngine)
    engine.close()
    assert not hasattr(engine, "model")


def copy_with(source: Path, out: Path, weights: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    shutil.copytree(source, out)
    if weights is not None:
        safetensors.save(weights, out / "model.safetensors")
    plain = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(plain | config))
    return out


def test_missing_weights_are_refused_and_not_made_up(models: dict[str, Path], tmp_path: Path) -> None:
    weights = safetensors.load(models["llama"])
    name = "model.layers.1.mlp.up_proj.weight"
    without = {key: value for key, value in weights.items() if key != name}
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        load(copy_with(models["llama"], tmp_path / "without", without))
    other = weights | {name: weights[name][:-1].contiguous()}
    with pytest.raises(ModelError, match="another shape"):
        load(copy_with(models["llama"], tmp_path / "other", other))


def test_a_damaged_folder_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    cut = copy_with(models["llama"], tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(cut)
    (cut / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        load(cut)
    (cut / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load(cut)
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "nothing")


def test_architectures_whose_logits_are_scaled_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    """Scores multiply hidden states with the output matrix; a model that does more would be scored wrong."""
    with pytest.raises(ModelError, match="final_logit_softcapping"):
        load(copy_with(models["gemma3"], tmp_path / "capped", final_logit_softcapping=30.0))


def test_architectures_built_otherwise_are_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="GPT2LMHeadModel is of an architecture that is not known"):
        load_model(tmp_path, torch.float32)


def test_attention_with_sinks_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    config = transformers.GptOssConfig(
        vocab_size=Tokenizer.load(tiny_llama).size, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    transformers.GptOssForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_llama / name, tmp_path)
    with pytest.raises(ModelError, match="sinks"):
        load(tmp_path, precision="float32").score(["a"], ONE_TOKEN)
