"""What runs beside the server for as long as it serves."""

from typing import Any

import structlog

from knowledged import migrate
from knowledged.call import AuditClass
from knowledged.ledger.backlog import Backlog
from knowledged.ledger.ledger_metrics import LedgerMetrics
from knowledged.parts import Parts
from knowledged.services.health import Health
from knowledged.services.supplies import Supplies
from knowledged.workers import readiness
from knowledged.workers.audit_retention import AuditRetention
from knowledged.workers.ef_tuning import Wanted
from knowledged.workers.housekeeping import Housekeeping
from knowledged.workers.key_keeper import KeyKeeper
from knowledged.workers.notice_recorder import NoticeRecorder
from knowledged.workers.publisher import Publisher
from knowledged.workers.purger import Purger
from knowledged.workers.recall_watch import RecallWatch
from knowledged.workers.sequencer import Sequencer
from knowledged.workers.space_keeper import SpaceKeeper
from knowledged.workers.text_worker import TextWorkers


def beside(parts: Parts, supplies: Supplies, workers: TextWorkers, health: Health) -> list[Any]:
    """All of it, as coroutines that end by being cancelled."""
    keeper = SpaceKeeper(parts.database, parts.maintenance_dsn, supplies.directory)
    running = [
        readiness.watch(parts.database, migrate.latest_version(), health.set_ready),
        Housekeeping(parts.database).run(),
        Purger(parts.database).run(),
        keeper.run(),
        _retention(parts).run(),
        _recall_watch(parts).run(),
        *_text_lanes(parts, workers),
        NoticeRecorder(parts.database, parts.providers.notices).run(),
        _key_keeper(parts).run(),
        *_ledger(parts, supplies.backlog),
    ]
    return [*running, parts.access.follow()] if parts.access else running


def _text_lanes(parts: Parts, workers: TextWorkers) -> list[Any]:
    """One lane for each remote model, which holds several requests at once; all or none."""
    several = parts.settings.text_workers
    lanes = [(model, min(several, 1) if model.remote else several) for model in parts.catalogue]
    return [workers.run(model) for model, times in lanes for _ in range(times)]


def _retention(parts: Parts) -> AuditRetention:
    s = parts.settings
    days: dict[int, int] = {
        AuditClass.READ: s.audit_read_retention_days,
        AuditClass.WRITE: s.audit_write_retention_days,
        AuditClass.ADMIN: s.audit_admin_retention_days,
    }
    return AuditRetention(parts.maintenance_dsn, days)


def _recall_watch(parts: Parts) -> RecallWatch:
    s = parts.settings
    wanted = Wanted(s.wanted_recall, s.largest_ef)
    return RecallWatch(parts.database, parts.metrics, wanted)


def _key_keeper(parts: Parts) -> KeyKeeper:
    of = parts.providers
    return KeyKeeper(parts.database, of.keys, of.stored, parts.key_check, of.key_file)


def _ledger(parts: Parts, backlog: Backlog) -> list[Any]:
    """What makes the audit log a tree that others can verify. Without a key nothing is signed."""
    s, metrics = parts.settings, LedgerMetrics(parts.metrics.registry)
    sequencer = Sequencer(
        parts.database,
        metrics,
        backlog,
        batch_events=s.audit_sequence_batch_events,
        interval_seconds=s.audit_sequence_interval_seconds,
    )
    if not parts.keys.seeds:
        structlog.get_logger().warning("audit_checkpoints_unsigned", missing="AUDIT_KEY_FILE")
        return [sequencer.run()]
    publisher = Publisher(
        parts.database,
        metrics,
        parts.keys,
        origin=s.audit_origin,
        folder=s.audit_checkpoint_folder,
        url=s.audit_checkpoint_url,
        interval_seconds=s.audit_checkpoint_interval_seconds,
    )
    return [sequencer.run(), publisher.run()]
