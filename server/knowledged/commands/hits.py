"""What a search found, for people."""

import re

from rich.console import Console
from rich.text import Text

from knowledge.v1.vector_service_pb2 import Hit, IncompleteReason, SearchResponse
from knowledged.commands.printable import printable, snippet

_SNIPPET_CHARACTERS = 160
_SPACES = re.compile(r"\s+")
_REASONS = {
    IncompleteReason.INCOMPLETE_REASON_COLLECTION_EXHAUSTED: (
        "the collection has no more that can be searched"
    ),
    IncompleteReason.INCOMPLETE_REASON_FILTER_EXHAUSTED: "no more match the filter",
    IncompleteReason.INCOMPLETE_REASON_MIN_SCORE: "all others score below the minimum",
    IncompleteReason.INCOMPLETE_REASON_TEXT_EXHAUSTED: "no more hold the words",
    IncompleteReason.INCOMPLETE_REASON_CANDIDATES_EXHAUSTED: "no more among the best candidates",
}


def show_hits(console: Console, answer: SearchResponse) -> None:
    """Two lines a hit, best first; then why there are not more, if that is so."""
    for hit in answer.hits:
        console.print(_line(hit), soft_wrap=True)
        console.print(Text.assemble("        ", _snippet(hit)), soft_wrap=True)
    if answer.incomplete_reason:
        reason = _REASONS.get(answer.incomplete_reason, "the server gives no known reason")
        number = f"{len(answer.hits):,} hit{'' if len(answer.hits) == 1 else 's'}"
        console.print(Text(f"{number}: {reason}", style="yellow"), soft_wrap=True)


def _line(hit: Hit) -> Text:
    """Score, title and name."""
    return Text.assemble(
        (f"{hit.score:7.4f}", "bold green"),
        " ",
        (printable(hit.document.title), "bold"),
        "  ",
        (printable(hit.document.name), "cyan"),
    )


def _snippet(hit: Hit) -> Text:
    """The beginning of the content or, where it has words that were asked for, around the first of
    them; these stand out."""
    content = hit.chunk.content
    if not hit.highlights:
        return Text(snippet(content, _SNIPPET_CHARACTERS), style="dim")
    first = hit.highlights[0].start
    begin = 0 if first < _SNIPPET_CHARACTERS // 2 else first - _SNIPPET_CHARACTERS // 4
    shown = Text("…" if begin else "", style="dim")
    place = begin
    for each in hit.highlights:
        shown.append(_in_line(content[place : each.start]))
        shown.append(_in_line(content[each.start : each.end]), style="bold yellow not dim")
        place = each.end
    shown.append(_in_line(content[place:][: 2 * _SNIPPET_CHARACTERS]))
    return _short(shown)


def _in_line(text: str) -> str:
    return _SPACES.sub(" ", printable(text))


def _short(text: Text) -> Text:
    """At most as many characters as a snippet has, cut at the end."""
    if len(text) > _SNIPPET_CHARACTERS:
        text = text[: _SNIPPET_CHARACTERS - 1]
        text.rstrip()
        text.append("…")
    return text
