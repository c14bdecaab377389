"""KnowledgeService: collections and the documents in them."""

from knowledged.services.collections import Collections
from knowledged.services.documents import Documents


class Knowledge(Collections, Documents):
    """All RPCs of knowledge.v1.KnowledgeService."""
