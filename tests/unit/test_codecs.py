"""jsonb and vectors on their way to PostgreSQL and back."""

from typing import Any

import asyncpg
import numpy as np
import pgvector
import pytest

from knowledged import codecs
from knowledged.database import Database

FLOAT32_LIMITS = np.array([3.4e38, -3.4e38, 1e-45, -0.0, 1.1754944e-38, 1 / 3], "<f4")


def random_vector(dimension: int, seed: int = 7) -> bytes:
    return np.random.default_rng(seed).standard_normal(dimension).astype("<f4").tobytes()


@pytest.mark.parametrize("dimension", [1, 384, 1536, 16000])
async def test_a_vector_comes_back_bit_for_bit(bare_database: Database, dimension: int) -> None:
    given = random_vector(dimension)
    async with bare_database.read() as conn:
        row = await conn.fetchrow(
            "select $1::vector as same, vector_dims($1::vector) as dimension", given
        )
    assert row is not None
    assert (row["same"], row["dimension"]) == (given, dimension)


async def test_the_limits_of_float32_come_back_bit_for_bit(bare_database: Database) -> None:
    async with bare_database.read() as conn:
        assert await conn.fetchval("select $1::vector", FLOAT32_LIMITS) == FLOAT32_LIMITS.tobytes()


async def test_postgres_reads_the_numbers_that_were_meant(bare_database: Database) -> None:
    given = np.array([1.5, -2, 0.25], "<f4")
    async with bare_database.read() as conn:
        assert await conn.fetchval("select $1::vector::text", given.tobytes()) == "[1.5,-2,0.25]"
        assert await conn.fetchval("select '[1.5,-2,0.25]'::vector") == given.tobytes()


async def test_an_array_of_vectors_is_a_list_of_bytes(bare_database: Database) -> None:
    given = [random_vector(384, seed) for seed in range(50)]
    async with bare_database.read() as conn:
        rows = await conn.fetch(
            "select v, n from unnest($1::vector[]) with ordinality as t (v, n) order by n", given
        )
        assert await conn.fetchval("select $1::vector[]", [given[0], None]) == [given[0], None]
    assert [row["v"] for row in rows] == given


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
async def test_pgvector_refuses_what_is_not_finite(bare_database: Database, bad: float) -> None:
    async with bare_database.read() as conn:
        with pytest.raises(asyncpg.DataError, match="not allowed in vector"):
            await conn.fetchval("select $1::vector", np.array([1, bad], "<f4").tobytes())


async def test_bytes_that_are_no_floats_are_refused_before_they_are_sent(
    bare_database: Database,
) -> None:
    async with bare_database.read() as conn:
        with pytest.raises(asyncpg.DataError, match="buffer size"):
            await conn.fetchval("select $1::vector", b"12345")
        assert await conn.fetchval("select 1") == 1


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, None, True, "é🙂"], "c": {"d": []}},
        [],
        "text",
        0,
        2**53,
        -(2**63),
        1e300,
        False,
    ],
)
async def test_json_comes_back_as_it_was(bare_database: Database, value: Any) -> None:
    async with bare_database.read() as conn:
        back = await conn.fetchval("select $1::jsonb", value)
    assert (back, type(back)) == (value, type(value))


async def test_an_array_of_json_is_a_list_of_objects(bare_database: Database) -> None:
    given = [{"a": 1}, {}, {"b": [2]}]
    async with bare_database.read() as conn:
        assert await conn.fetchval("select $1::jsonb[]", given) == given


async def test_nul_in_json_is_refused(bare_database: Database) -> None:
    async with bare_database.read() as conn:
        with pytest.raises(asyncpg.UntranslatableCharacterError):
            await conn.fetchval("select $1::jsonb", {"a": "\0"})


def test_pgvector_s_own_package_reads_and_writes_the_same_bytes() -> None:
    floats = np.array([0.1, -0.0, 1e-30, 65504.0], "<f4")
    assert codecs.encode_vector(floats.tobytes()) == pgvector.Vector(floats).to_binary()
    assert codecs.decode_vector(pgvector.Vector(floats).to_binary()) == floats.tobytes()
