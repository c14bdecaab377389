"""The gauge that tells of a damaged index."""

from cluster import DatabaseUrls
from knowledged.codecs import set_codecs
from knowledged.connection import connect
from knowledged.database import Database
from knowledged.metrics import Metrics
from knowledged.store import spaces
from knowledged.workers.recall_watch import RecallWatch
from stored import add_chunks, clustered, make_collection, make_document


async def test_the_gauge_falls_when_an_index_loses_vectors(
    database: Database, database_urls: DatabaseUrls
) -> None:
    rows = clustered(600, 16)
    async with database.transaction() as conn:
        collection = await make_collection(conn, "c", dimension=16)
        document = await make_document(conn, collection, "d")
        await add_chunks(conn, collection, document, rows[:300])
    owner = await connect(database_urls.owner_dsn)
    await set_codecs(owner)
    (space,) = await spaces.states(owner)
    await spaces.build_hnsw(owner, space)
    await spaces.set_state(owner, space.space_uid, spaces.INDEXED)
    metrics = Metrics()
    watch = RecallWatch(database, metrics)
    await watch.measure()
    assert gauge(metrics, str(space.space_uid)) > 0.9

    # An index that is not written to any more: what a damaged one is like.
    superuser = await connect(database_urls.superuser_dsn)
    index = f"knowledge.chunk_vector_{space.space_uid.hex}_hnsw"
    await superuser.execute(
        "update pg_index set indisready = false where indexrelid = to_regclass($1::text)", index
    )
    async with database.transaction() as conn:
        other = await make_document(conn, collection, "e")
        await add_chunks(conn, collection, other, rows[300:])
    await watch.measure()
    assert gauge(metrics, str(space.space_uid)) < 0.9
    await owner.close()
    await superuser.close()


def gauge(metrics: Metrics, space_uid: str) -> float:
    labels = {"space_uid": space_uid}
    found = metrics.registry.get_sample_value("knowledged_index_recall", labels)
    assert found is not None
    return found
