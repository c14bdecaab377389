"""What the RPCs on providers' keys work with."""

from dataclasses import dataclass

from knowledged.credentials.key_file import KeyFile
from knowledged.credentials.keys import Keys
from knowledged.credentials.stored_key import StoredKey
from knowledged.notices import Notices


@dataclass(frozen=True, slots=True)
class Providers:
    """The one provider's keys on this replica, where they come from, and who hears of them."""

    keys: Keys
    stored: StoredKey
    notices: Notices
    key_file: KeyFile | None = None
