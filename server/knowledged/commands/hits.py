"""What a search found, for people."""

from rich.console import Console
from rich.text import Text

from knowledge.v1.vector_service_pb2 import Hit, IncompleteReason, SearchResponse
from knowledged.commands.printable import printable, snippet

_SNIPPET_CHARACTERS = 160
_REASONS = {
    IncompleteReason.INCOMPLETE_REASON_COLLECTION_EXHAUSTED: (
        "the collection has no more that can be searched"
    ),
    IncompleteReason.INCOMPLETE_REASON_FILTER_EXHAUSTED: "no more match the filter",
    IncompleteReason.INCOMPLETE_REASON_MIN_SCORE: "all others score below the minimum",
}


def show_hits(console: Console, answer: SearchResponse) -> None:
    """Two lines a hit, best first; then why there are not more, if that is so."""
    for hit in answer.hits:
        console.print(_line(hit), soft_wrap=True)
        console.print(Text(f"        {_snippet(hit)}", style="dim"), soft_wrap=True)
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


def _snippet(hit: Hit) -> str:
    return snippet(hit.chunk.content, _SNIPPET_CHARACTERS)
