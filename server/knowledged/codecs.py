"""How jsonb and pgvector's vector cross the wire: in binary, without lists of Python floats.

jsonb: a version byte 1, then the JSON text (PostgreSQL `jsonb_send`).
vector: int16 dimension, int16 zero, then big-endian float32 (pgvector `vector_send`). On our side a
vector is `bytes` of little-endian float32, as it came from and goes to the caller, bit for bit.
Arrays of both work as lists: `$1::vector[]` takes a list of bytes.
"""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledged.connection import Connection
from knowledged.errors import Unavailable

_JSONB_VERSION = b"\x01"
_VECTOR_HEADER_BYTES = 4


async def set_codecs(conn: Connection) -> None:
    """Teaches a new connection both types; pgvector may be installed in any schema."""
    schema = await conn.fetchval(
        """
        select n.nspname
        from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where t.typname = 'vector' and t.typtype = 'b'
        """
    )
    if schema is None:
        raise Unavailable("the database has no pgvector: run the migrations")
    await conn.set_type_codec(
        "vector", schema=schema, encoder=encode_vector, decoder=decode_vector, format="binary"
    )
    await conn.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=encode_jsonb, decoder=decode_jsonb, format="binary"
    )


def encode_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value)


def decode_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])


def encode_vector(value: bytes | NDArray[np.float32]) -> bytes:
    """Little-endian float32 bytes, or a float32 array, to pgvector's binary form."""
    # As integers: a float's way through a register may change the bits of a NaN.
    words = np.frombuffer(value, "<u4")
    return words.size.to_bytes(2, "big") + b"\0\0" + words.astype(">u4").tobytes()


def decode_vector(data: bytes) -> bytes:
    """pgvector's binary form to little-endian float32 bytes."""
    return np.frombuffer(data, ">u4", offset=_VECTOR_HEADER_BYTES).astype("<u4").tobytes()
