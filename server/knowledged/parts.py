"""What the server is made of, opened by whoever starts it."""

from dataclasses import dataclass

from knowledged.access import Access
from knowledged.database import Database
from knowledged.embedding.catalogue import Catalogue
from knowledged.embedding.key_check import KeyCheck
from knowledged.ledger.keys import KeyRing
from knowledged.metrics import Metrics
from knowledged.secret import RootSecret
from knowledged.services.providers import Providers
from knowledged.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """All of it, each open until the server has ended."""

    settings: Settings
    database: Database
    maintenance_dsn: str
    catalogue: Catalogue
    providers: Providers
    key_check: KeyCheck
    secret: RootSecret
    access: Access | None
    metrics: Metrics
    keys: KeyRing
