"""What the audit of reads costs: one server that waits for each read's event to be committed, one
that does not, on the same database, in turn."""

import statistics
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from benchmarks import raw_jobs
from benchmarks.load import Load, Measured, run
from benchmarks.raw import connections
from benchmarks.report import Row, row
from benchmarks.rounds import Bench, Round, timed
from benchmarks.rows import search
from benchmarks.service import beside
from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.store import audit_events

_HITS = 10


def audit_rows(bench: Bench) -> list[Row]:
    with durable(bench) as waiting:
        many = [(search(waiting), search(bench)) for _ in range(bench.rounds)]
        one = [
            (search(waiting, 1), search(bench, 1), timed(bench, commit, bench.raw(1)))
            for _ in range(bench.rounds)
        ]
        return [_many_row(many), _one_row(one)]


@contextmanager
def durable(bench: Bench) -> Generator[Bench]:
    """The bench of a second server, which waits for the events of what is read."""
    with beside(bench.service, KNOWLEDGED_AUDIT_READS="durable") as second:
        yield replace(bench, service=second)


def _many_row(measured: Sequence[tuple[Round, Round]]) -> Row:
    ratios = [durable.measured.qps / eventual.measured.qps for durable, eventual in measured]
    durable, eventual = (
        statistics.median(each.measured.qps for each in side)
        for side in zip(*measured, strict=True)
    )
    details = f"{durable:.0f}/s, eventual {eventual:.0f}/s"
    return row("Search, QPS at 16 callers, durable ÷ eventual", ratios, "≥ 0.80", details)


def _one_row(measured: Sequence[tuple[Round, Round, Round]]) -> Row:
    p50s = [tuple(1e3 * each.measured.p50 for each in one) for one in measured]
    ratios = [(durable - eventual) / alone for durable, eventual, alone in p50s]
    durable, eventual, alone = (statistics.median(side) for side in zip(*p50s, strict=True))
    details = f"{durable:.2f} ms, eventual {eventual:.2f} ms, a commit {alone:.2f} ms"
    name = "Search, p50 at 1 caller, (durable − eventual) ÷ one commit of the event"
    return row(name, ratios, "≤ 1.3", details)


async def commit(target: raw_jobs.Target) -> Measured:
    """The same event as a search leaves, by the same statement, and nothing else."""

    async with connections(target.dsn, target.place.ef, target.connections) as opened:
        conn = opened[0]

        async def ask(turn: int) -> None:
            entry, _ = audit_events.entry(_event(turn))
            await audit_events.append(conn, [entry])

        return await run(Load([ask], target.seconds))


def _event(turn: int) -> Event:
    payload = Payload(
        actor="bench",
        on_behalf_of="",
        purpose="",
        peer="ipv4:127.0.0.1:1",
        call_id=str(uuid7()),
        resources=("collections/bench", f"queries/{turn:032x}/1539"),
        returned_uids=tuple(uuid7() for _ in range(_HITS)),
    )
    return Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=2,
        outcome=1,
        grpc_code=0,
        collection_uid=uuid7(),
        result_count=_HITS,
        rpc="/knowledge.v1.VectorService/Search",
        action="search",
        payload=payload,
        salt=new_salt(),
    )
