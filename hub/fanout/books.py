"""What outlets did, gathered for one write; what could not be written is kept for the next."""

import time
from collections.abc import Collection, Iterable

from hub.fanout.lane import Changes
from hub.fanout.lanes import Lanes
from hub.fanout.outlet import Outlet, Report
from hub.fanout.receivers import Receiver
from hub.store.deliveries import CursorRow, DeadRow, ParkedRow, Progress, ReplayRow


class Books:
    """Of one dispatcher's life. `checkpoint_at`: when all cursors are due to be written."""

    def __init__(self) -> None:
        self.report = Report()
        self.checkpoint_at = 0.0
        self._unwritten = Progress()

    def gather(self, outlets: Iterable[Outlet], checkpoint: list[int] | None) -> Progress:
        """All that is not written yet; with a checkpoint of these shards, all of their cursors."""
        progress, self._unwritten = self._unwritten, Progress()
        progress.checkpoint = checkpoint
        progress.delivered += self.report.delivered
        progress.attempts += self.report.attempts
        self.report.delivered, self.report.attempts = [], []
        now = time.monotonic()
        for outlet in outlets:
            lanes, receiver = outlet.lanes, outlet.receiver
            changes, lanes.changes = lanes.changes, Changes()
            _add_changes(progress, changes, receiver, now)
            _add_cursors(progress, lanes, receiver, is_checkpoint=checkpoint is not None)
        return progress

    def put_back(self, progress: Progress) -> None:
        """It could not be written: next time."""
        self._unwritten = progress

    def forget(self, shards: Collection[int]) -> None:
        """Somebody else has these shards."""
        self._unwritten = self._unwritten.without(shards)
        kept = self.report.without(shards)
        self.report.delivered, self.report.attempts = kept.delivered, kept.attempts


def _add_changes(progress: Progress, changes: Changes, receiver: Receiver, now: float) -> None:
    for key, shard in changes.freed.items():
        progress.parked.pop((receiver.id, key), None)
        progress.freed[receiver.id, key] = shard
    for key, lane in changes.parked.items():
        parked = lane.parked
        if parked is None:
            continue
        progress.freed.pop((receiver.id, key), None)
        progress.parked[receiver.id, key] = ParkedRow(
            receiver.id, receiver.run, key, lane.shard, parked.first_id, parked.attempts, parked.wait(now), parked.error
        )
    for d in changes.dead:
        progress.revived.pop((receiver.id, d.event_id), None)
        progress.dead[receiver.id, d.event_id] = DeadRow(receiver.id, d.shard, d.event_id, d.attempts, d.error)
    for event_id, shard in changes.revived.items():
        if (receiver.id, event_id) not in progress.dead:
            progress.revived[receiver.id, event_id] = shard
    for part, run in changes.replays.items():
        before = progress.replays.get(part)
        delivered, failed = (before.delivered, before.failed) if before else (0, 0)
        progress.replays[part] = ReplayRow(
            run.id, run.shard, run.position, delivered + run.delivered, failed + run.failed, run.is_finished
        )
        run.delivered = run.failed = 0


def _add_cursors(progress: Progress, lanes: Lanes, receiver: Receiver, *, is_checkpoint: bool) -> None:
    for shard in lanes.moved(is_checkpoint=is_checkpoint):
        front = lanes.fronts[shard]
        progress.cursors[receiver.id, shard] = CursorRow(receiver.id, shard, front.position, front.done_above())
        front.moved = 0
