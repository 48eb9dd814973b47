"""Names of DocBook's elements (versions 4 and 5), by what is made of them."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SECTIONS = _names(
    "set book part reference article chapter appendix preface section sect1 sect2 sect3 sect4 sect5 simplesect topic "
    "refentry refsection refsect1 refsect2 refsect3 refsynopsisdiv glossary glossdiv bibliography bibliodiv dedication "
    "colophon partintro acknowledgements legalnotice qandaset qandadiv"
)
ADMONITIONS = _names("note tip warning caution important danger")
LISTS = _names("itemizedlist orderedlist variablelist simplelist procedure substeps glosslist segmentedlist")
ITEMS = _names("listitem step member varlistentry glossentry qandaentry")
VERBATIM = _names("programlisting screen literallayout synopsis funcsynopsisinfo address")
PARAGRAPHS = _names(
    "para simpara formalpara term glossterm glosssee glossseealso question answer refpurpose refname bridgehead "
    "subtitle mathphrase attribution cmdsynopsis funcprototype"
)
CODE = _names(
    "code command filename literal option parameter varname function envar constant classname methodname systemitem "
    "userinput computeroutput replaceable type tag sgmltag prompt"
)
EMPHASIS = frozenset(("emphasis", "firstterm", "citetitle"))
INFOS = _names(
    "info bookinfo articleinfo chapterinfo sectioninfo sect1info sect2info sect3info sect4info sect5info appendixinfo "
    "prefaceinfo setinfo partinfo referenceinfo refentryinfo glossaryinfo objectinfo"
)  # of these, the titles alone are kept
SKIPPED = _names(
    "indexterm remark imageobject videoobject audioobject titleabbrev refmeta beginpage index toc lot colspec"
)
TITLES = frozenset(("title", "subtitle", "abstract"))
TABLES = frozenset(("table", "informaltable"))
ROWS = frozenset(("row", "tr"))
CELLS = frozenset(("entry", "td", "th"))
BLOCKS = ADMONITIONS | ITEMS | PARAGRAPHS | TABLES | TITLES | {"caption", "tgroup", "thead", "tbody", "textobject"}
ELEMENTS = (SECTIONS | LISTS | PARAGRAPHS | VERBATIM) - {
    "set",
    "part",
    "reference",
    "topic",
    "address",
    "answer",
    "term",
}
