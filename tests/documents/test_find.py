"""The files of a corpus: patterns, links, pipes, odd names, two sources; nothing is opened."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from aasut.documents.find import Found, find, pattern, printable
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe.documents import Documents

QUIET = Progress(quiet=True)


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def look(*sections: dict[str, object], base: Path) -> Found:
    return find([Documents.model_validate(section) for section in sections], base, QUIET)


def names(found: Found) -> list[str]:
    return [file.name for file in found.files]


def reasons(found: Found) -> dict[str, str]:
    return {out.name: out.reason for out in (*found.dropped, *found.failed)}


def test_all_files_below_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    put(tmp_path, "b.txt", "a/z.md", "a/a.md", "a/b/c.md", "B.txt", "हिन्दी.md")
    assert names(look({"source": "."}, base=tmp_path)) == [
        "B.txt", "a/a.md", "a/b/c.md", "a/z.md", "b.txt", "हिन्दी.md",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "taken", "left"),
    [
        ("*.md", ["a.md", ".md"], ["b/a.md", "a.md.gz", "amd"]),
        ("**.md", ["a.md", "b/c/a.md"], ["a.mdx"]),
        ("**/*.md", ["a.md", "b/c/a.md"], ["a.txt"]),
        ("en/**", ["en/a", "en/b/c"], ["xen/a", "en"]),
        ("a+(b)[c]?.txt", ["a+(b)[c]?.txt"], ["aab[c]x.txt"]),
        ("**", ["a", "a/b\nc"], []),
    ],
)
def test_patterns(text: str, taken: list[str], left: list[str]) -> None:
    assert all(pattern(text).fullmatch(name) for name in taken)
    assert not any(pattern(text).fullmatch(name) for name in left)


def test_what_the_patterns_do_not_take_is_no_row(tmp_path: Path) -> None:
    put(tmp_path, "a.md", "b.txt", "drafts/c.md", "drafts/.d.md")
    found = look({"source": ".", "include": ["**/*.md"], "exclude": ["drafts/**"]}, base=tmp_path)
    assert names(found) == ["a.md"]
    assert reasons(found) == {}


def test_hidden_files_are_left_out_and_listed_a_hidden_folder_as_one(tmp_path: Path) -> None:
    put(tmp_path, "a.md", ".b.md", ".git/config", ".git/objects/1", "c/.d/e.md")
    found = look({"source": "."}, base=tmp_path)
    assert names(found) == ["a.md"]
    assert reasons(found) == {".b.md": "hidden", ".git/": "hidden", "c/.d/": "hidden"}


def test_links(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "secret.txt")
    root = put(tmp_path / "root", "b.md", "sub/c.txt", ".hidden/x.md")
    for name, target in {
        "a-link.md": "b.md", "out.md": outside / "secret.txt", "gone.md": "nothing", "loop.md": "loop.md",
        "sub/up": "..", "outfolder": outside, "to-hidden.md": ".hidden/x.md", "escape.md": "../outside/secret.txt",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    found = look({"source": "root"}, base=tmp_path)
    assert names(found) == ["b.md", "sub/c.txt"]
    assert reasons(found) == {
        "a-link.md": "another name of a file that is read",
        "out.md": "a link that leaves its folder",
        "escape.md": "a link that leaves its folder",
        "outfolder": "a link that leaves its folder",
        "gone.md": "a link to nothing",
        "loop.md": "a link to nothing",
        "sub/up": "a link to a folder",
        "to-hidden.md": "hidden",
        ".hidden/": "hidden",
    }
    assert {out.told for out in found.dropped if out.name == "a-link.md"} == {"b.md"}


def test_a_link_stands_for_a_file_that_its_own_name_does_not_bring(tmp_path: Path) -> None:
    put(tmp_path, "stock/a.txt")
    (tmp_path / "a.md").symlink_to("stock/a.txt")
    (tmp_path / "b.md").symlink_to("stock/a.txt")
    found = look({"source": ".", "include": ["*.md"]}, base=tmp_path)
    assert [(file.name, file.path) for file in found.files] == [("a.md", tmp_path / "stock" / "a.txt")]
    assert reasons(found) == {"b.md": "another name of a file that is read"}


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path) -> None:
    put(tmp_path, "a.md")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        (tmp_path / "device").symlink_to("/dev/zero")
        found = look({"source": "."}, base=tmp_path)
    assert names(found) == ["a.md"]
    assert reasons(found) == {
        "pipe": "a pipe", "socket": "a socket", "device": "a link that leaves its folder",
    }  # fmt: skip
    with pytest.raises(DataError, match="are a device"):
        look({"source": "/dev/zero"}, base=tmp_path)
    with pytest.raises(DataError, match="are a pipe"):
        look({"source": "pipe"}, base=tmp_path)


def test_the_same_file_counts_once_in_all_sources(tmp_path: Path) -> None:
    put(tmp_path, "one/a.md", "one/b.md")
    os.link(tmp_path / "one" / "a.md", tmp_path / "one" / "z.md")
    found = look(
        {"source": "one"}, {"source": "one/b.md"}, {"source": "one", "include": ["b.md", "z.md"]}, base=tmp_path
    )
    assert [(file.name.rpartition("/")[2], file.source) for file in found.files] == [("a.md", 0), ("b.md", 0)]
    assert [out.reason for out in found.dropped] == ["another name of a file that is read"] * 4


def test_names_are_unique_where_two_sources_have_the_same_path(tmp_path: Path) -> None:
    put(tmp_path, "en/guide/a.md", "de/guide/a.md", "de/guide/b.md", "de/guide/guide-1/a.md", "x/readme.md")
    found = look({"source": "en/guide"}, {"source": "de/guide"}, {"source": "x"}, base=tmp_path)
    assert [file.source for file in found.files] == [0, 1, 1, 1, 2]
    assert names(found) == ["guide-1/a.md", "guide-2/a.md", "b.md", "guide-2/guide-1/a.md", "readme.md"]
    assert names(found) == names(look({"source": "en/guide"}, {"source": "de/guide"}, {"source": "x"}, base=tmp_path))


def test_names_are_printable_and_lead_back_to_one_file_each(tmp_path: Path) -> None:
    odd = [b"caf\xe9.md", b"new\nline.md", b"\x1b[31m.md", b"a#1.md", b"a%231.md", "a\u202eb.md".encode(), b"a b%.md"]
    for name in odd:
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text("x")
    found = look({"source": "."}, base=tmp_path)
    assert sorted(names(found)) == sorted(
        ["caf%E9.md", "new%0Aline.md", "%1B[31m.md", "a%231.md", "a%25231.md", "a%E2%80%AEb.md", "a b%.md"]
    )
    assert all(file.path.read_text() == "x" for file in found.files)
    assert printable("क्‍ष.md") == "क्‍ष.md"


def test_a_file_is_a_source_and_what_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    put(tmp_path, "a.md", "empty/.x")
    assert names(look({"source": "a.md"}, base=tmp_path)) == ["a.md"]
    with pytest.raises(DataError, match="cannot be found: No such file or directory"):
        look({"source": "b.md"}, base=tmp_path)
    with pytest.raises(DataError, match=r"empty holds no file that its patterns take .*1 were left out"):
        look({"source": "empty"}, base=tmp_path)


def test_what_may_not_be_read_is_listed() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = put(Path(scratch), "a.md", "b.md", "closed/c.md")
        (folder / "b.md").chmod(0)
        (folder / "closed").chmod(0)
        folder.chmod(0o755)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read anything
            found = look({"source": "."}, base=folder)
        finally:
            os.seteuid(user)
            (folder / "closed").chmod(0o755)
    assert names(found) == ["a.md"]
    assert [(out.name, out.reason, out.told) for out in found.failed] == [
        ("b.md", "may not be read", "Permission denied"),
        ("closed/", "may not be looked into", "Permission denied"),
    ]


def test_a_deep_tree_ends(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(900):
        deep = deep / "d"
        deep.mkdir()
    put(tmp_path, "a.md")
    assert names(look({"source": "."}, base=tmp_path)) == ["a.md"]
