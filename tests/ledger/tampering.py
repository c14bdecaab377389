"""What somebody with every right in the database may do to the log, by how well it is done.

Each kind is a function of a superuser's connection. The log they meet has `SIZE` leaves and
checkpoints of a third, two thirds and all of them; see `log_of_a_clinic`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from knowledged.connection import Connection
from tampering_acts import (
    SIZE,
    THIRD,
    another_event_id,
    by,
    cut_off,
    event_and_hash,
    event_hash_and_tree,
    event_without_place,
    everything_with_another_key,
    everything_with_the_stolen_key,
    first_with_its_leaf,
    gone_before_its_leaf,
    gone_with_its_place,
    gone_with_its_place_but_for_its_receipt,
    insert_one,
    last_with_its_leaf,
    leaf_bytes,
    middle_with_its_leaf,
    named_anew,
    of_event,
    one_event_twice,
    one_more_leaf,
    partition,
    payload_and_its_columns,
    renumber,
    swap_two,
    whole_event,
)

ROOTS = ("roots", "kept checkpoints")
TREE = ("tiles", "state", *ROOTS)


@dataclass(frozen=True, slots=True)
class Kind:
    """What is done, which checks find it, and the first bad index they name."""

    done: Callable[[Connection], Awaitable[None]]
    found_by: Sequence[str]
    first_bad_index: int | None


KINDS: dict[str, Kind] = {
    "the leaf's bytes": Kind(leaf_bytes, ("leaf hash", "columns", "payload"), 100),
    "an event as a whole": Kind(whole_event, ("leaf hash",), 100),
    "an event and its leaf hash": Kind(event_and_hash, TREE, 100),
    "an event, its leaf hash and the tree": Kind(event_hash_and_tree, ROOTS, THIRD),
    "all of it, signed with another key": Kind(
        everything_with_another_key, ("signatures", "kept checkpoints"), 0
    ),
    "all of it, signed with the stolen key": Kind(
        everything_with_the_stolen_key, ("kept checkpoints",), THIRD
    ),
    "a typed column": Kind(
        of_event(3, "update knowledge.audit_event set action = 'x' where event_id = $1"),
        ("columns",),
        3,
    ),
    "the outcome's column": Kind(
        of_event(SIZE - 1, "update knowledge.audit_event set outcome = 2 where event_id = $1"),
        ("columns",),
        SIZE - 1,
    ),
    "a payload's column": Kind(
        of_event(5, "update knowledge.audit_payload set actor = 'x' where event_id = $1"),
        ("payload columns",),
        5,
    ),
    "a payload with its columns": Kind(payload_and_its_columns, ("payload",), 7),
    "a payload's salt": Kind(
        of_event(8, "update knowledge.audit_payload set salt = '' where event_id = $1"),
        ("payload",),
        8,
    ),
    "the first event deleted": Kind(
        of_event(0, "delete from knowledge.audit_event where event_id = $1"),
        ("presence", "payloads"),
        0,
    ),
    "the first deleted with its leaf": Kind(first_with_its_leaf, ("indices", *TREE), 0),
    "one in the middle deleted with its leaf": Kind(middle_with_its_leaf, ("indices", *TREE), 400),
    "the last deleted with its leaf": Kind(last_with_its_leaf, ("state", *ROOTS[1:]), SIZE - 1),
    "the end cut off": Kind(cut_off, ("kept checkpoints",), SIZE - 20),
    "two swapped": Kind(swap_two, TREE, 200),
    "one inserted": Kind(insert_one, TREE, 300),
    "indices renumbered": Kind(renumber, ("indices", "state", "places", "kept checkpoints"), 500),
    "an event under another id": Kind(another_event_id, ("leaf", "columns"), 50),
    "one more leaf": Kind(one_more_leaf, ("state",), SIZE),
    "an event twice": Kind(one_event_twice, ("indices", "columns", *TREE), 1),
    "an event without a place": Kind(event_without_place, ("places",), None),
    "deleted while it waited": Kind(gone_before_its_leaf, ("waiting events",), None),
    "deleted with its place in the queue": Kind(
        gone_with_its_place, ("revisions", "receipts"), None
    ),
    "deleted with its place and its document": Kind(
        gone_with_its_place_but_for_its_receipt, ("receipts",), None
    ),
    "sequenced and waiting again": Kind(
        of_event(9, "insert into knowledge.audit_pending (event_id) values ($1)"),
        ("waiting once",),
        None,
    ),
    "a tile": Kind(
        by(
            "update knowledge.audit_tile set hashes = set_byte(hashes, 64, 0)"
            " where level = 0 and n = 1"
        ),
        ("tiles",),
        258,
    ),
    "a tile deleted": Kind(by("delete from knowledge.audit_tile where level = 1"), ("tiles",), 0),
    "the state's size": Kind(
        by("update knowledge.audit_state set tree_size = tree_size - 1"),
        ("state", "kept checkpoints"),
        SIZE - 1,
    ),
    "the state's hashes": Kind(
        by("update knowledge.audit_state set compact_range = set_byte(compact_range, 0, 0)"),
        ("state",),
        None,
    ),
    "the state's signed size": Kind(
        by("update knowledge.audit_state set signed_size = 1"), ("state",), 1
    ),
    "the state deleted": Kind(
        by("delete from knowledge.audit_state"), ("state", "kept checkpoints"), None
    ),
    "a checkpoint's root": Kind(
        by("update knowledge.audit_checkpoint set root = sha256('') where tree_size = 600"),
        ("signatures", "roots"),
        THIRD,
    ),
    "a checkpoint's note": Kind(
        by("update knowledge.audit_checkpoint set note = 'x' where tree_size = 600"),
        ("signatures",),
        THIRD,
    ),
    "the last checkpoint deleted": Kind(
        by("delete from knowledge.audit_checkpoint where tree_size = 900"), ("state",), 600
    ),
    "another origin without an event": Kind(named_anew, ("origins",), 600),
    "a partition of events dropped": Kind(
        by(f"drop table {partition('audit_event')}"), ("presence", "payloads", "partitions"), 0
    ),
    "a partition of payloads dropped": Kind(
        by(f"drop table {partition('audit_payload')}"), ("partitions",), None
    ),
    "a partition detached": Kind(
        by(
            "alter table knowledge.audit_payload_read detach partition"
            f" {partition('audit_payload')}"
        ),
        ("partitions",),
        None,
    ),
}
