"""Small PDFs, made object by object, so that any can be made wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")  # ISO 32000-1, 7.6.3.3


def pdf(
    pages: Sequence[str | Sequence[tuple[int, str]]],
    *,
    letters: Mapping[str, str] | None = None,
    streams: Sequence[bytes] = (),
    filters: int = 1,
    catalog: str = "",
    kids: str = "",
    count: int | None = None,
    box: str = "[0 0 612 792]",
    more: Sequence[str] = (),
) -> bytes:
    """A PDF; a page is a text, or lines with their sizes in points. `letters`: what its font's letters stand for.

    `streams` are pages' contents, packed with zlib `filters` times.
    """
    contents = [(_drawn(page), "") for page in pages]
    contents += [(stream, f"/Filter [{'/FlateDecode ' * filters}] ") for stream in streams]
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica" + (" /ToUnicode 4 0 R >>" if letters else " >>")
    objects: list[bytes] = []
    numbers = [5 + 2 * i for i in range(len(contents))]
    listed = kids or f"[{' '.join(f'{number} 0 R' for number in numbers)}]"
    objects.append(f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode())
    objects.append(f"<< /Type /Pages /Kids {listed} /Count {len(contents) if count is None else count} >>".encode())
    objects.append(font.encode())
    objects.append(_stream(_mapping(letters or {"A": "A"})))
    for number, (content, told) in zip(numbers, contents, strict=True):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {number + 1} 0 R "
            "/Resources << /Font << /F1 3 0 R >> "
            f">> >>".encode()
        )
        objects.append(_stream(content, told))
    objects += [text.encode() for text in more]
    return _written(objects)


def locked() -> bytes:
    """A PDF that opens with a password alone: encrypted by the standard handler, revision 2, with RC4 of 40 bits."""
    owner, identity = bytes(range(32)), b"0123456789abcdef"
    key = hashlib.md5(b"secret".ljust(32, b" ")[:32] + owner + b"\xfc\xff\xff\xff" + identity).digest()[:5]
    user = _rc4(key, _PADDING)
    encrypt = f"<< /Filter /Standard /V 1 /R 2 /O <{owner.hex()}> /U <{user.hex()}> /P -4 >>"
    plain = pdf(["secret words"], more=[encrypt])
    number = plain.count(b" 0 obj")
    return plain.replace(b"trailer\n<<", f"trailer\n<< /Encrypt {number} 0 R /ID [<{identity.hex()}> <00>]".encode())


def self_drawing() -> bytes:
    """A page that draws a form that draws itself."""
    form = (
        "<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 7 0 R >> >> /Length 5 >> "
        "stream\n/X Do\nendstream"
    )
    return pdf(["plain words"], more=[form]).replace(b"/Font <<", b"/XObject << /X 7 0 R >> /Font <<")


def _drawn(page: str | Sequence[tuple[int, str]]) -> bytes:
    lines = [(12, line) for line in page.split("\n")] if isinstance(page, str) else page
    drawn, place = [], 740.0
    for size, line in lines:
        escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        if line:
            drawn.append(f"BT /F1 {size} Tf 72 {place:.1f} Td ({escaped}) Tj ET")
        place -= size * 1.3
    return "\n".join(drawn).encode("latin-1")


def _mapping(letters: Mapping[str, str]) -> bytes:
    """A ToUnicode map (ISO 32000-1, 9.10.3)."""
    told = "\n".join(
        f"<{ord(code):02x}> <{text.encode('utf-16-be', 'surrogatepass').hex()}>" for code, text in letters.items()
    )
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def /CMapType 2 def "
        f"1 begincodespacerange <00> <ff> endcodespacerange {len(letters)} beginbfchar\n{told}\n"
        "endbfchar endcmap end end"
    ).encode()


def _stream(data: bytes, told: str = "") -> bytes:
    return f"<< {told}/Length {len(data)} >>\nstream\n".encode() + data + b"\nendstream"


def _written(objects: Sequence[bytes]) -> bytes:
    data = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    start = len(data)
    return (
        data
        + (
            f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
            f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
            f"startxref\n{start}\n%%EOF\n"
        ).encode()
    )


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
