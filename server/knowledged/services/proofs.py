"""Checkpoints and proofs: what lets others check the audit log against what they keep."""

from typing import cast
from uuid import UUID

from knowledge.v1 import audit_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.connection import Connection
from knowledged.errors import NotFound, WrongState
from knowledged.ledger import proofs
from knowledged.ledger.checkpoint import origin_of
from knowledged.names import audit_event_of
from knowledged.page_token import binding
from knowledged.services import pack
from knowledged.services.supplies import Supplies, granted
from knowledged.store import audit, ledger, ledger_entries
from knowledged.store.ledger import KeptCheckpoint, State

SHAPE = '"auditEvents/{event_id}" with a UUID'


class Proofs:
    """The RPCs of knowledge.v1.AuditService about the tree and its signed heads."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, call: Call
    ) -> pb.GetCheckpointResponse:
        checks = Checks()
        checks.number("tree_size", request.tree_size, 0, LARGEST_SIZE)
        checks.done()
        async with self._supplies.database.read(call.left) as conn:
            kept = await checkpoint_of(conn, request.tree_size)
        keys = self._supplies.keys.trusted(origin_of(kept.note))
        return pb.GetCheckpointResponse(
            checkpoint=pack.checkpoint(kept), verifier_keys=[key.encode() for key in keys]
        )

    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, call: Call
    ) -> pb.ListCheckpointsResponse:
        checks, lists = Checks(), self._supplies.lists
        size = lists.size(checks, request.page_size)
        checks.done()
        bound = binding(call.method.path, call.principal.collections)
        token = request.page_token
        after = cast("int", lists.tokens.open(token, bound)[0]) if token else -1
        async with self._supplies.database.read(call.left) as conn:
            rows = await ledger.checkpoints(conn, after, size + 1)
        more = lists.tokens.seal((rows[size - 1].tree_size,), bound) if len(rows) > size else ""
        page = [pack.checkpoint(row) for row in rows[:size]]
        return pb.ListCheckpointsResponse(checkpoints=page, next_page_token=more)

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, call: Call
    ) -> pb.GetInclusionProofResponse:
        event_id = _checked_leaf(request)
        async with self._supplies.database.read(call.left) as conn:
            state = await _state(conn)
            index = await _index(conn, request.log_index, event_id, granted(call))
            size, kept = await _tree(conn, state, request.tree_size, "tree_size")
            _check_covered(request, index, size)
            hashes = await proofs.inclusion(conn, index, size)
            leaf = await ledger.leaf_at(conn, index)
        if event_id is not None:
            call.reads([(event_id, ())])
        return pb.GetInclusionProofResponse(
            log_index=index,
            tree_size=size,
            leaf_hash=leaf,
            hashes=hashes,
            checkpoint=pack.checkpoint(kept) if kept else None,
        )

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, call: Call
    ) -> pb.GetConsistencyProofResponse:
        checks, old, new = Checks(), request.old_tree_size, request.new_tree_size
        checks.number("old_tree_size", old, 1, LARGEST_SIZE)
        checks.number("new_tree_size", new, 0, LARGEST_SIZE)
        checks.done()
        async with self._supplies.database.read(call.left) as conn:
            size, kept = await _tree(conn, await _state(conn), new, "new_tree_size")
            checks.number("old_tree_size", old, 1, max(1, size))
            checks.done()
            hashes = await proofs.consistency(conn, old, size)
        return pb.GetConsistencyProofResponse(
            old_tree_size=old,
            new_tree_size=size,
            hashes=hashes,
            checkpoint=pack.checkpoint(kept) if kept else None,
        )


LARGEST_SIZE = 2**62


async def checkpoint_of(conn: Connection, tree_size: int) -> KeptCheckpoint:
    """That of so many leaves, the latest for 0; raises NotFound."""
    if tree_size:
        kept = await ledger.checkpoint(conn, tree_size)
    else:
        kept = await ledger.latest_checkpoint(conn)
    if kept is None:
        raise NotFound("checkpoint: none was signed at that size" if tree_size else UNSIGNED)
    return kept


UNSIGNED = "checkpoint: none is signed yet"


async def _state(conn: Connection) -> State:
    state = await ledger.state(conn)
    if state is None:
        raise WrongState("the audit log has lost its state")
    return state


async def _tree(
    conn: Connection, state: State, asked: int, field: str
) -> tuple[int, KeptCheckpoint | None]:
    """The size of the tree that is asked for, and its checkpoint where there is one."""
    if not asked:
        latest = await ledger.latest_checkpoint(conn)
        if latest is None:
            raise WrongState(UNSIGNED, reason="NOT_SIGNED_YET")
        return latest.tree_size, latest
    checks = Checks()
    checks.number(field, asked, 1, state.tree_size)
    checks.done()
    return asked, await ledger.checkpoint(conn, asked)


def _checked_leaf(request: pb.GetInclusionProofRequest) -> UUID | None:
    """The event's id where it is asked for by name."""
    checks = Checks()
    checks.number("tree_size", request.tree_size, 0, LARGEST_SIZE)
    if request.WhichOneof("leaf") == "log_index":
        checks.number("log_index", request.log_index, 0, LARGEST_SIZE)
        checks.done()
        return None
    return checks.name("name", request.name, audit_event_of, SHAPE)


async def _index(
    conn: Connection, log_index: int, event_id: UUID | None, grants: list[str] | None
) -> int:
    """The event's place; NotFound also when its collection is not granted."""
    if event_id is not None:
        index = (await audit.get(conn, event_id, grants)).log_index
        if index is None:
            why = "audit event: waits for its place in the log; ask again in some seconds"
            raise WrongState(why, reason="NOT_SEQUENCED_YET")
        return index
    rows = await ledger_entries.entries(conn, grants, log_index, log_index + 1)
    if grants is not None and not (rows and rows[0]["found"]):
        raise NotFound("audit event: not found")
    return log_index


def _check_covered(request: pb.GetInclusionProofRequest, index: int, size: int) -> None:
    if index < size:
        return
    if not request.tree_size and request.WhichOneof("leaf") == "name":
        why = "audit event: no checkpoint covers it yet; ask again in some seconds"
        raise WrongState(why, reason="NOT_SIGNED_YET")
    checks = Checks()
    field = "log_index" if request.WhichOneof("leaf") == "log_index" else "tree_size"
    checks.fault(field, f"the event's index must be below the tree's {size} leaves")
    checks.done()
