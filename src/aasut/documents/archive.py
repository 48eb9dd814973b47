"""Office files are ZIP archives: what is looked at before anything in them is unpacked."""

from __future__ import annotations

import re
import stat
import xml.parsers.expat
import zipfile
import zlib

from aasut.documents.fault import UNPACKED, Fault
from aasut.documents.opened import Opened

MEMBERS = 20_000  # an office file has some dozens, and a few for each sheet, slide or picture
_ESCAPES = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x00")
_XML = (".xml", ".rels", ".vml")


class _Rooted(Exception):
    """The root element has begun."""


def checked(file: Opened) -> zipfile.ZipFile:
    """The archive, if nothing in it can do harm.

    Raises Fault where it is broken or encrypted, has members that lie outside of it, are links, or come twice,
    would unpack to too much (members cannot unpack to more than they declare: zipfile stops there), or where a
    part has a DTD, which office files may not have.
    """
    file.stream.seek(0)
    try:
        archive = zipfile.ZipFile(file.stream)
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise Fault("an archive of too many members", f"{len(members):,}")
        for member in members:
            _check(member)
        if len({member.filename for member in members}) < len(members):
            raise Fault("an archive with two members of one name")
        if sum(member.file_size for member in members) > file.unpacked:
            raise Fault(UNPACKED)
        for member in members:
            if member.filename.lower().endswith(_XML):
                _check_part(archive, member)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, zlib.error) as error:
        raise Fault("a broken ZIP archive", str(error)[:200]) from None
    return archive


def _check(member: zipfile.ZipInfo) -> None:
    if _ESCAPES.search(member.orig_filename):
        raise Fault("an archive with paths that lead out of it", ascii(member.orig_filename)[:200])
    if stat.S_ISLNK(member.external_attr >> 16):
        raise Fault("an archive with links", ascii(member.filename)[:200])
    if member.flag_bits & 0x1:
        raise Fault("an encrypted archive")


def _check_part(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise Fault if a DTD stands before the root element. A part that does not parse is its reader's concern."""
    parser = xml.parsers.expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise Fault("an office file with a DTD", ascii(member.filename)[:200])

    def stop(*_: object) -> None:
        raise _Rooted

    parser.StartDoctypeDeclHandler, parser.StartElementHandler = refuse, stop
    with archive.open(member) as part:
        try:
            while piece := part.read(4096):
                parser.Parse(piece, False)
        except (_Rooted, xml.parsers.expat.ExpatError):
            return
