"""The engine on OpenVINO: GGUF files of Llama and Qwen models on a CPU.

OpenVINO GenAI builds its graph from the GGUF file. For scoring, the graph's output projection is cut off
here, so that only the hidden states that decide are brought out, and only the columns that matter are
multiplied, in float32. For writing, see `paged` and `session`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.engine.base import Piece, Prompt, Scores
from aasut.engine.common import PREFIXES_KEPT, begin, plan
from aasut.engine.decode import ALTERNATIVES, ROWS
from aasut.engine.layout import batches
from aasut.engine.paged import PagedModel
from aasut.engine.session import Session, write_all
from aasut.engine.tree import TokenTree
from aasut.errors import EngineError
from aasut.formats import experts, gguf_read, gguf_write, safetensors
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.lock import alone
from aasut.sources.models import cache_root
from aasut.store import digest, disk_errors, file_hash

ARCHITECTURES = ("llama", "qwen2", "qwen3")
SCORE_TOKENS = 1024  # tokens of a batch, padding counted
PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}


def reads(path: Path) -> bool:
    """Does this engine read the model at `path`? It wants a GGUF file of an architecture that it knows, and a CPU."""
    return path.is_file() and _known(gguf_read.read(path))


def _known(source: gguf_read.Gguf) -> bool:
    return source.architecture in ARCHITECTURES and not source.get("expert_count", 0)


def packs(folder: Path) -> bool:
    """Can the safetensors folder be loaded, by way of a GGUF file?"""
    written = {name: kind for name, kind in gguf_write.WRITTEN.items() if experts.of(name) is None}
    known = [[name] for name, architecture in written.items() if architecture in ARCHITECTURES]
    return read_json(folder / "config.json").get("architectures") in known


def load(path: Path, *, precision: str = "auto", prefix_cache: bool = True, kept: Path | None = None) -> OpenVinoEngine:
    """Load a GGUF file, or a safetensors folder of a Llama model. Raises EngineError for what OpenVINO cannot read.

    kept: where what OpenVINO makes of it is kept, in aasut's cache unless said.
    """
    kept = cache_root() / "openvino" if kept is None else kept
    if path.is_dir():
        path = _packed(path, kept)
    source = gguf_read.read(path)
    if not _known(source):
        kind = f"{source.architecture!r} with experts" if source.get("expert_count", 0) else repr(source.architecture)
        raise EngineError(
            f"OpenVINO's GGUF reader does not know the architecture {kind} of {path}.",
            "Take the engine torch, or auto.",
        )
    import openvino

    core = openvino.Core()
    if precision == "auto":
        precision = "bfloat16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "float32"
    if precision not in PRECISIONS:
        raise EngineError(f"There is no precision {precision!r}.", "Choose auto, bfloat16 or float32.")
    graph = _graph(path, kept)
    _projection(core.read_model(graph))
    return OpenVinoEngine(graph, source, precision, prefix_cache=prefix_cache)


def _packed(folder: Path, kept: Path) -> Path:
    """The GGUF file of a folder, written once for its weights and tokenizer, and kept by their hash."""
    if not packs(folder):
        kinds = read_json(folder / "config.json").get("architectures") or ["an unknown architecture"]
        raise EngineError(f"OpenVINO reads no folder of {', '.join(kinds)}.", "Take the engine torch, or a GGUF file.")
    names = [file.name for file in safetensors.files(folder)]
    content = digest([[name, file_hash(folder / name)] for name in (*names, "config.json", "tokenizer.json")])
    file = kept / f"{content}.gguf"
    with alone(file.with_suffix(".lock")):
        if not file.exists():
            work = file.with_suffix(".partial")
            gguf_write.write(folder, work, "bf16")
            work.replace(file)
    return file


def _graph(path: Path, kept: Path) -> Path:
    """OpenVINO's graph of a GGUF file, built once a file and kept by its hash."""
    import openvino_genai

    folder = kept / f"{file_hash(path)}-{openvino_genai.get_version().split('-')[0]}"
    graph = folder / "openvino_model.xml"
    if graph.exists():
        return graph
    work = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        # GenAI's reader lacks bfloat16; float16 holds every bfloat16 weight above 2^-17 exactly.
        if gguf_read.is_bf16(path):
            gguf_write.recode(path, work / "model.gguf", "f16")
        else:
            shutil.copyfile(path, work / "model.gguf")
        try:
            openvino_genai.LLMPipeline(str(work / "model.gguf"), "CPU", enable_save_ov_model=True)
        except RuntimeError as error:
            shutil.rmtree(work)
            reason = " ".join(str(error).split())[-200:]
            raise EngineError(f"OpenVINO cannot read {path}: {reason}", "Take the engine torch.") from error
        (work / "model.gguf").unlink()
        if not graph.exists():  # another process may have been faster
            work.rename(folder)
        else:
            shutil.rmtree(work)
    return graph


def _projection(network: Any) -> Any:
    """The node that makes logits of hidden states, which is the last one."""
    projection = network.get_results()[0].input_value(0).get_node()
    if projection.get_type_name() != "MatMul":
        raise EngineError("OpenVINO built a graph without a plain output projection.", "Take the engine torch.")
    return projection


def _cut(network: Any) -> Any:
    """Replace the logits output by the hidden states at the flat indices of a new input, `rows`: [R, d]."""
    from openvino import opset13

    result = network.get_results()[0]
    hidden = _projection(network).input_value(0)
    size = hidden.get_partial_shape()[2].get_length()
    rows = opset13.parameter([-1], np.int64, name="rows")
    rows.output(0).get_tensor().set_names({"rows"})
    flat = opset13.reshape(hidden, opset13.constant(np.array([-1, size], np.int64)), False)
    result.input(0).replace_source_output(opset13.gather(flat, rows, opset13.constant(np.int64(0))).output(0))
    network.add_parameters([rows])
    network.validate_nodes_and_infer_types()
    return network


class OpenVinoEngine:
    """See `engine.base.Engine`. Scoring and writing have a compiled graph each, made when it is first needed."""

    alternatives = ALTERNATIVES

    def __init__(self, graph: Path, source: gguf_read.Gguf, precision: str, *, prefix_cache: bool) -> None:
        self._graph, self._source, self._precision = graph, source, precision
        self.tokenizer = Tokenizer.from_gguf(source)
        self.prefix_cache = prefix_cache
        self.name = f"openvino-{precision}"
        self.parameters = source.parameters
        self.context = int(source.get("context_length"))
        self._states: dict[tuple[int, ...], list[NDArray[Any]]] = {}

    @cached_property
    def request(self) -> Any:
        """The graph that scores: batches with padding, hidden states out."""
        import openvino

        core = openvino.Core()
        return core.compile_model(_cut(core.read_model(self._graph)), "CPU", self._settings).create_infer_request()

    @cached_property
    def projection(self) -> NDArray[np.float32]:
        """The output matrix, [V, d]."""
        names = self._source.tensors
        return self._source.load("output.weight" if "output.weight" in names else "token_embd.weight")

    @cached_property
    def paged(self) -> PagedModel:
        """The graph that writes."""
        import openvino

        return PagedModel(openvino.Core().read_model(self._graph), self._settings, self.context)

    @property
    def _settings(self) -> dict[str, str]:
        hint = PRECISIONS[self._precision]
        return {"INFERENCE_PRECISION_HINT": hint, "KV_CACHE_PRECISION": hint, "PERFORMANCE_HINT": "LATENCY"}

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        call = plan(self.tokenizer, prompts, answers, prefix, reuse=self.prefix_cache, context=self.context)
        tree, before = call.tree, len(call.prefix)
        weight = self.projection[list(tree.columns)].T  # [d, columns]
        result = np.zeros((len(prompts), len(answers)))
        rootless = TokenTree(tree.answers, (), (), (), ())  # inner nodes follow in a call of their own
        for batch in batches(call.rows, rootless, prefix=before, max_tokens=SCORE_TOKENS):
            size, width = batch.ids.shape
            ends = batch.decide[:, 0]
            seen = np.ones((size, before + width), np.int64)
            seen[:, before:] = np.arange(width) <= ends[:, None]
            self._restore(call.prefix)
            beams = np.zeros(size, np.int32) if call.prefix else np.arange(size, dtype=np.int32)
            hidden = np.zeros((size, 1 + len(tree.nodes), weight.shape[0]), np.float32)
            hidden[:, 0] = self._infer(batch.ids, seen, batch.positions, beams, np.arange(size) * width + ends)
            if tree.nodes:
                self._follow(tree, seen, before + ends + 1, hidden)
            result[batch.rows] = tree.logprobs((hidden @ weight).astype(np.float64))
        return Scores(result, call.usage)

    def _follow(
        self,
        tree: TokenTree,
        seen: NDArray[np.int64],
        starts: NDArray[np.int64],
        hidden: NDArray[np.float32],
    ) -> None:
        """Run every chain of the tree behind every row, whose state is in the request, and fill in `hidden`."""
        chains = tree.chains()
        count, longest = len(chains), max(len(chain) for chain in chains)
        ids = np.zeros((count, longest), np.int64)
        for k, chain in enumerate(chains):
            ids[k, : len(chain)] = [tree.nodes[node - 1] for node in chain]
        batch = len(starts)
        beams = np.repeat(np.arange(batch, dtype=np.int32), count)
        mask = np.concatenate([np.repeat(seen, count, 0), np.ones((batch * count, longest), np.int64)], 1)
        positions = np.repeat(starts, count)[:, None] + np.arange(longest)[None]
        everything = np.arange(batch * count * longest)
        states = self._infer(np.tile(ids, (batch, 1)), mask, positions, beams, everything)
        states = states.reshape(batch, count, longest, -1)
        for k, chain in enumerate(chains):
            for step, node in enumerate(chain):
                hidden[:, node] = states[:, k, step]

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        return write_all(self.session(ROWS), prompts, prefix)

    def session(self, rows: int) -> Session:
        """See `engine.base.Session`."""
        return Session(self.paged, self.tokenizer, self.context, rows=rows, share=self.prefix_cache)

    def _infer_one(self, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        """The last hidden state, [d], after further tokens of one row that has `past` tokens already."""
        total = past + len(tokens)
        ids, positions = np.array([tokens], np.int64), np.arange(past, total, dtype=np.int64)[None]
        last = np.array([len(tokens) - 1], np.int64)
        hidden = self._infer(ids, np.ones((1, total), np.int64), positions, np.zeros(1, np.int32), last)
        return np.asarray(hidden[0])

    def _infer(
        self,
        ids: NDArray[np.int64],
        mask: NDArray[np.int64],
        positions: NDArray[np.int64],
        beams: NDArray[np.int32],
        rows: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Hidden states [R, d] at the flat `rows` of ids [B, S]; row b goes on from the state of row beams[b]."""
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "beam_idx": beams, "rows": rows}
        outputs = self.request.infer(inputs)
        return np.array(next(iter(outputs.values())), np.float32)

    def _restore(self, prefix: tuple[int, ...]) -> None:
        """Put the request into the state after `prefix`, batch 1."""
        import openvino

        self.request.reset_state()
        if not prefix:
            return
        if prefix not in self._states:
            self._infer_one(prefix, 0)
            while len(self._states) >= PREFIXES_KEPT:
                self._states.pop(next(iter(self._states)))
            self._states[prefix] = [np.array(state.state.data) for state in self.request.query_state()]
        for state, kept in zip(self.request.query_state(), self._states[prefix], strict=True):
            state.state = openvino.Tensor(kept)

    def count_tokens(self, text: str) -> int:
        return len(begin(self.tokenizer, text))

    def close(self) -> None:
        self._states.clear()
        for name in ("request", "projection", "paged"):
            self.__dict__.pop(name, None)
