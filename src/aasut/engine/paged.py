"""OpenVINO's graph over paged attention: many rows, each at its own place, in one run without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.engine.blocks import SIZE, Blocks
from aasut.engine.decode import Logits
from aasut.engine.session import Span
from aasut.errors import EngineError

TOKENS_HELD = 32 * 512  # at least, by all rows together


class PagedModel:
    """See `engine.session.Paged`."""

    def __init__(self, network: Any, settings: dict[str, str], context: int) -> None:
        """`network` is the graph as OpenVINO GenAI saved it, and is changed here; `settings` are for compiling it."""
        import openvino
        from openvino._offline_transformations import paged_attention_transformation

        _join_matrices(network)
        paged_attention_transformation(network)
        _choose_rows(network)
        compiled = openvino.Core().compile_model(network, "CPU", settings)
        self.blocks = Blocks(-(-max(context, TOKENS_HELD) // SIZE))
        self._request = compiled.create_infer_request()
        for port in compiled.inputs:
            if "cache." in port.get_any_name():
                sizes = [size.get_length() for size in list(port.get_partial_shape())[1:]]
                if sizes[1] != SIZE:
                    raise EngineError(f"OpenVINO has blocks of {sizes[1]} tokens here.", "Take the engine torch.")
                shape = openvino.Shape([self.blocks.count, *sizes])
                self._request.set_tensor(port, openvino.Tensor(port.get_element_type(), shape))
        self._flight: _Flight | None = None

    def start(self, spans: Sequence[Span]) -> _Flight:
        if self._flight is not None:
            self._flight.keep()
        counts = np.array([len(span.ids) for span in spans])
        past = np.array([span.past for span in spans])
        ends = np.cumsum(counts)
        inputs = {
            "input_ids": np.concatenate([np.array(span.ids, np.int64) for span in spans]),
            "position_ids": np.concatenate([np.arange(p, p + n) for p, n in zip(past, counts, strict=True)]),
            "max_context_len": np.array((past + counts).max(), np.int32),
            "past_lens": past.astype(np.int32),
            "subsequence_begins": np.concatenate([[0], ends]).astype(np.int32),
            "block_indices": np.concatenate([np.array(span.blocks, np.int32) for span in spans]),
            "block_indices_begins": np.cumsum([0, *(len(span.blocks) for span in spans)]).astype(np.int32),
            "rows": np.array([end - 1 for end, span in zip(ends, spans, strict=True) if span.ends], np.int64),
        }
        self._request.start_async(inputs)
        self._flight = _Flight(self._request)
        return self._flight

    def close(self) -> None:
        if self._flight is not None:
            self._request.wait()
        del self._request


class _Flight:
    """See `engine.session.Flight`."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._kept: Logits | None = None
        self._read = False

    def logits(self) -> Logits:
        if self._kept is not None:
            return self._kept
        self._request.wait()
        self._read = True
        found: Logits = self._request.get_output_tensor(0).data
        return found.reshape(-1, found.shape[-1])

    def keep(self) -> None:
        """Save what has not been read yet from the run that another session starts."""
        if not self._read and self._kept is None:
            self._kept = self.logits().copy()


def _join_matrices(network: Any) -> None:
    """Multiply what goes into several matrices by all of them at once: queries, keys and values; gate and up."""
    from openvino import opset13

    alike: dict[tuple[str, int], list[tuple[Any, NDArray[Any]]]] = {}
    for node in network.get_ordered_ops():
        weight = _weight(node) if node.get_type_name() == "MatMul" else None
        if weight is not None:
            source = node.input_value(0)
            alike.setdefault((source.get_node().get_friendly_name(), source.get_index()), []).append((node, weight))
    for products in alike.values():
        nodes, weights = [node for node, _ in products], [weight for _, weight in products]
        if len(nodes) == 1 or len({weight.dtype for weight in weights}) > 1:
            continue
        joined = opset13.convert(opset13.constant(np.concatenate(weights)), "f32")
        product = opset13.matmul(nodes[0].input_value(0), joined, False, True)
        sizes = opset13.constant(np.array([len(weight) for weight in weights], np.int64))
        parts = opset13.variadic_split(product, opset13.constant(np.int64(-1)), sizes)
        for place, node in enumerate(nodes):
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(parts.output(place))
    network.validate_nodes_and_infer_types()


def _weight(node: Any) -> NDArray[Any] | None:
    """The matrix [out, in] that a product is with, where it is a constant that is widened."""
    given = node.input_value(1).get_node()
    settings = node.get_attributes()
    if settings["transpose_a"] or not settings["transpose_b"] or given.get_type_name() != "Convert":
        return None
    constant = given.input_value(0).get_node()
    if constant.get_type_name() != "Constant":
        return None
    found: NDArray[Any] = constant.data
    return found


def _choose_rows(network: Any) -> None:
    """Bring out the logits of the flat places of a new input, `rows`, only."""
    from openvino import opset13

    projection = network.get_results()[0].input_value(0).get_node()
    rows = opset13.parameter([-1], np.int64, name="rows")
    rows.output(0).get_tensor().set_names({"rows"})
    chosen = opset13.gather(projection.input_value(0), rows, opset13.constant(np.int64(0)))
    projection.input(0).replace_source_output(chosen.output(0))
    network.add_parameters([rows])
    network.validate_nodes_and_infer_types()
