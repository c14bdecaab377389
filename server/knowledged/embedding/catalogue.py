"""The embedding models of this server, by id: local ones, and those that a provider serves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowledged.embedding.breaker import Condition
from knowledged.embedding.chunker import Chunker
from knowledged.embedding.embedder import Embedder
from knowledged.embedding.remote import RemoteEmbedder

LOCAL, HUGGING_FACE = "local", "huggingface"


@dataclass(frozen=True, slots=True)
class Offered:
    """A model, with the chunker that cuts for it."""

    embedder: Embedder
    chunker: Chunker

    @property
    def model_id(self) -> str:
        return self.embedder.model_id

    @property
    def remote(self) -> RemoteEmbedder | None:
        """The embedder if its texts leave this machine."""
        return self.embedder if isinstance(self.embedder, RemoteEmbedder) else None

    @property
    def provider(self) -> str:
        return HUGGING_FACE if self.remote else LOCAL

    @property
    def condition(self) -> Condition | None:
        """How a remote model is; a local one has no condition: it is there."""
        return self.remote.breaker.condition if self.remote else None

    @property
    def seconds_away(self) -> float:
        """How long it need not be asked; 0 when it can be tried."""
        return self.remote.seconds_away if self.remote else 0.0


class Catalogue:
    """What a collection can name as its model. `default` is for those that name none."""

    def __init__(self, offered: Sequence[Offered], default: str | None = None) -> None:
        """The first is the default unless another's id is given. Raises ValueError for a bad id."""
        self._by_id = {each.model_id: each for each in offered}
        if len(self._by_id) < len(offered):
            raise ValueError("two models have the same id")
        if default is not None and default not in self._by_id:
            raise ValueError("the default model is none of the models")
        self.default = self._by_id[default] if default else offered[0]

    def find(self, model_id: str) -> Offered | None:
        return self._by_id.get(model_id)

    def __iter__(self) -> Iterator[Offered]:
        return iter(self._by_id.values())

    @property
    def remote(self) -> list[RemoteEmbedder]:
        return [offered.remote for offered in self if offered.remote]
