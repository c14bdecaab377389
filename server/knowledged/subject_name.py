"""How the audit log names a subject that it must not name in the clear."""

import hashlib
import hmac


def subject_name(key: bytes, subject_id: str) -> str:
    """`subjects/{32 hex digits}`: HMAC-SHA256, cut to 128 bits. Who has not the key cannot guess.

    Equal for equal ids as long as the key is the same.
    """
    # Apart from the hashes of queries, which the same key makes.
    digest = hmac.digest(key, b"subject\0" + subject_id.encode(), hashlib.sha256)
    return f"subjects/{digest[:16].hex()}"
