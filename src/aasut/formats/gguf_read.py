"""Reading GGUF files: the header by hand, tensors through `gguf.quants`.

The gguf package's own reader makes an array object of every string, which takes ten seconds for a
vocabulary of 262,144 tokens; the format is plain enough to walk through once.
Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES
from numpy.typing import NDArray

from aasut.errors import ModelError

REMEDY = "Fetch it again, or take another file of this model."
STRING, ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's place: `shape` with rows first, as numpy has it; `offset` in bytes from the file's start."""

    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Gguf:
    """An open GGUF file. `types` holds the format's value types of each metadata key, arrays with their items' type."""

    path: Path
    metadata: dict[str, Any]
    types: dict[str, tuple[int, ...]]
    tensors: dict[str, TensorInfo]
    data: NDArray[np.uint8]  # the whole file, mapped

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Number of weights; an output matrix tied to the embedding is not in the file, so it counts once."""
        return sum(int(np.prod(t.shape)) for t in self.tensors.values())

    def get(self, key: str, default: Any = None) -> Any:
        """Metadata `<architecture>.<key>`; raises ModelError where it is missing and there is no default."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise ModelError(f"{self.path} lacks the metadata {self.architecture}.{key}.", REMEDY)
        return value

    def load(self, name: str) -> NDArray[np.float32]:
        """A tensor in float32, rows first. Raises ModelError for unknown names and quantisations."""
        info = self.tensors.get(name)
        if info is None:
            raise ModelError(f"{self.path} has no tensor {name}.", REMEDY)
        try:
            values = quants.dequantize(self.raw(name), info.type)
        except NotImplementedError:
            raise ModelError(f"{self.path}: {name} is {info.type.name}, which cannot be read.", REMEDY) from None
        return np.asarray(values, np.float32).reshape(info.shape)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes as they are in the file, [..., bytes of a row]."""
        info = self.tensors[name]
        block, size = GGML_QUANT_SIZES[info.type]
        rows = (*info.shape[:-1], info.shape[-1] // block * size)
        return self.data[info.offset : info.offset + info.nbytes].reshape(rows)


def read(path: Path) -> Gguf:
    """Read the header of a GGUF file, version 2 or 3, little-endian.

    Raises ModelError where the file is missing, truncated or no GGUF file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            metadata, types, tensors = _Header(content).read()
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}.", "Check the path.") from None
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder, not a GGUF file.", "Give the file.") from None
    except (struct.error, ValueError, IndexError, LookupError, OverflowError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no whole GGUF file: {' '.join(str(error).split())}.", REMEDY) from error
    return Gguf(path, metadata, types, tensors, np.memmap(path, np.uint8, "r"))


def is_bf16(path: Path) -> bool:
    """Does the file hold bfloat16 tensors?"""
    return any(t.type == GGMLQuantizationType.BF16 for t in read(path).tensors.values())


class _Header:
    """Walks through the bytes before the tensors."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.at = 0

    def read(self) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], dict[str, TensorInfo]]:
        if self.content[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self.at = 4
        version = self.scalar("<I")
        if version not in (2, 3):
            raise ValueError(f"version {version} is not known (big-endian files are not either)")
        tensor_count, pair_count = self.scalar("<Q"), self.scalar("<Q")
        metadata: dict[str, Any] = {}
        types: dict[str, tuple[int, ...]] = {}
        for _ in range(pair_count):
            key = self.string()
            kind = self.scalar("<I")
            metadata[key], types[key] = self.value(kind)
        places = [self.place() for _ in range(tensor_count)]
        alignment = int(metadata.get("general.alignment", 32))
        start = -(-self.at // alignment) * alignment
        tensors = {}
        for name, shape, kind, offset in places:
            block, size = GGML_QUANT_SIZES[kind]
            nbytes = int(np.prod(shape, dtype=np.int64)) // block * size
            if shape[-1] % block or start + offset + nbytes > len(self.content):
                raise ValueError(f"the tensor {name} is cut off")
            tensors[name] = TensorInfo(shape, kind, start + offset, nbytes)
        return metadata, types, tensors

    def place(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self.string()
        dimensions = self.scalar("<I")
        if not 1 <= dimensions <= 4:
            raise ValueError(f"the tensor {name} has {dimensions} dimensions")
        shape = tuple(self.scalar("<Q") for _ in range(dimensions))[::-1]
        return name, shape, GGMLQuantizationType(self.scalar("<I")), self.scalar("<Q")

    def value(self, kind: int) -> tuple[Any, tuple[int, ...]]:
        if kind == STRING:
            return self.string(), (STRING,)
        if kind != ARRAY:
            return self.scalar(_SCALARS[kind]), (kind,)
        item, count = self.scalar("<I"), self.scalar("<Q")
        if item == STRING:
            if count > len(self.content) - self.at:
                raise ValueError("an array is longer than the file")
            return [self.string() for _ in range(count)], (ARRAY, STRING)
        if item == ARRAY:
            raise ValueError("arrays of arrays are not known")
        code = np.dtype(_SCALARS[item])
        block = self.take(count * code.itemsize)
        return np.frombuffer(block, code).tolist(), (ARRAY, item)

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack(code, self.take(struct.calcsize(code)))
        return value

    def string(self) -> str:
        (size,) = struct.unpack("<Q", self.take(8))
        return self.take(size).decode("utf-8")

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.content):
            raise ValueError("it ends in the middle of its header")
        block = self.content[self.at : end]
        self.at = end
        return block
