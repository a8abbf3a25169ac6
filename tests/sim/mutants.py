"""Faults planted into the core by name, in tests only: each must be caught by some episode.

V1 to V12 are the faults the layer once had, rebuilt in today's core; the rest are mistakes that are easy to make.
`planted(name)` is a context in which every core has the fault.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from p2pnet.broadcast import (
    assembler,
    delivery,
    digest,
    edges,
    manager,
    quota,
    receiver,
    relay,
    scatter,
    sources,
    stripe_intake,
    table,
)
from p2pnet.broadcast.artifact import all_parts
from p2pnet.broadcast.expiry import Expiry
from p2pnet.broadcast.table import UpdateVerdict
from p2pnet.broadcast.wire import UpdateStatus

Fault = Callable[..., Any]
"""A method of the core, sound or faulty."""


def v1_asks_for_parts_nobody_has(original: Fault) -> Fault:
    """Every source is taken to hold everything."""

    def ask_parts(self: Any, task: Any) -> None:
        for source in self._table.holders.get(task.artifact, {}).values():
            source.have = all_parts(task.size)
        original(self, task)

    return ask_parts


def v1_not_here_costs_nothing(original: Fault) -> Fault:
    def failed(self: Any, ask: Any, why: str, **more: Any) -> None:
        original(self, ask, why, **more)
        if why == "has not got it":
            ask.source.failures = ask.supplier.failures = 0
            ask.source.not_before = self._context.now + 100_000_000

    return failed


def v2_holds_for_ever(original: Fault) -> Fault:
    """What is not relayed is compared with nobody."""
    return lambda self, artifact: None


def v3_partial_rows_keep_a_task_alive(original: Fault) -> Fault:
    return lambda self, artifact: None


def v4_charges_whoever_passes_on(original: Fault) -> Fault:
    """The whole artifact, at whoever has a part of it; and nothing gives way."""

    def charge(self: Any, task: Any, source: Any, part: int | None) -> int | None:
        held = self._quota.held(source.peer)
        if (
            held
            and held + source.size > self._quota.limit
            and not self._quota._by_peer[source.peer].firm.get(task.artifact)
        ):
            return None
        self._quota.use(task.artifact, source.peer, source.size)
        return 16 if part is None else 1

    return charge


def v5_unannounces_its_own_product(original: Fault) -> Fault:
    def publish(self: Any, data: bytes) -> Any:
        fetched = set(self._assembler.tasks)
        artifact = original(self, data)
        if artifact in fetched:
            self._sender.withdraw(artifact)
        return artifact

    return publish


def v6_leaves_a_request_unanswered(original: Fault) -> Fault:
    def answer(self: Any, peer: str, token: int, body: bytes) -> None:
        before = self._context.counters["client_raised"]
        original(self, peer, token, body)
        if self._context.counters["client_raised"] > before:
            self._context.effects.pop()

    return answer


def v7_forgets_who_waits_for_room(original: Fault) -> Fault:
    return lambda self, artifact, peer, *, passing=False: None


def v8_looks_at_every_task_each_time(original: Fault) -> Fault:
    def let_in(self: Any, peer: str) -> None:
        for artifact in list(self.tasks):
            self._pump(artifact)
        original(self, peer)

    return let_in


def v9_garbage_evicts_refusals(original: Fault) -> Fault:
    """One budget for all, and few places in it."""

    def refuse(self: Any, artifact: Any, until: float, culprit: str = "") -> None:
        self.refused_max = 3
        original(self, artifact, until, "")

    return refuse


def v10_asks_again_at_once(original: Fault) -> Fault:
    def failed(self: Any, ask: Any, why: str, **more: Any) -> None:
        original(self, ask, why, **more)
        if why in {"has not got it", "gone"}:
            ask.source.not_before, ask.source.failures = 0, 0
            ask.source.have = all_parts(ask.size)

    return failed


def v11_keeps_what_is_withdrawn_in_the_slot_queue(original: Fault) -> Fault:
    def drop(self: Any, artifact: Any, *more: Any) -> None:
        queued = artifact in self._queue
        original(self, artifact, *more)
        if queued:
            self._queue[artifact] = None

    return drop


def v12_silent_liars_pin_tasks(original: Fault) -> Fault:
    return lambda source: source.closed


def drops_on_the_second_hop(original: Fault) -> Fault:
    def validated(self: Any, artifact: Any) -> None:
        if artifact.hop < 2:
            original(self, artifact)

    return validated


def late_push_resurrects(original: Fault) -> Fault:
    """A tombstone keeps nothing off."""

    def judge(self: Any, peer_rows: Any, slot: int, commit: int) -> UpdateVerdict:
        row = peer_rows.rows.get(slot)
        if row is not None and row.artifact is None:
            return UpdateVerdict.REPLACES
        return original(self, peer_rows, slot, commit)

    return judge


def synced_before_the_answers(original: Fault) -> Fault:
    def plan_synced(self: Any, box: Any) -> None:
        box.before_synced = {}

    return plan_synced


def suppressed_by_a_partial_row(original: Fault) -> Fault:
    def holds(self: Any, peer: str, artifact: Any) -> bool:
        source = self.source(peer, artifact)
        return source is not None and source.connection == self.peers[peer].connection

    return holds


def does_not_restart(original: Fault) -> Fault:
    """A task that ended without a path never begins again."""

    def want(self: Any, artifact: Any, *, row: Any = None) -> bool:
        if artifact in self._exhausted and artifact not in self.tasks:
            return False
        return original(self, artifact, row=row)

    return want


def digest_skips_one_id(original: Fault) -> Fault:
    """The latest one."""

    def compute(self: Any) -> bytes:
        held = self._pool.validated
        if len(held) < 2:
            return b"nothing to compare"[:16]
        last = next(reversed(held))
        found = held.pop(last)
        self._digest = None
        made = original(self)
        held[last] = found
        self._digest = None
        return made

    return compute


def stripes_are_never_missed(original: Fault) -> Fault:
    """Whoever waits for stripes waits for ever."""
    return lambda self, artifact: None


def passes_wrong_stripes_on(original: Fault) -> Fault:
    """What the dealer sends is passed on although it is wrong."""

    def take(self: Any, task: Any, peer: str, stripe: Any) -> int:
        status: int = original(self, task, peer, stripe)
        if status == UpdateStatus.MALFORMED and stripe.first_hand and peer == task.dealer:
            self._scatter.pass_on(task.artifact, stripe, peer)
        return status

    return take


def passes_stripes_on_twice(original: Fault) -> Fault:
    def pass_on(self: Any, artifact: Any, stripe: Any, dealer: str) -> None:
        original(self, artifact, stripe, dealer)
        original(self, artifact, stripe, dealer)

    return pass_on


def lazy_for_ever(original: Fault) -> Fault:
    """What a peer lacked changes nothing."""
    return lambda self, origin, peer: None


def waits_for_one_peer_for_ever(original: Fault) -> Fault:
    """A peer that was let to send something is waited for until it does."""

    def half_status(self: Any, peer: Any, half: bytes) -> Any:
        promise = self._promised.get(half)
        if promise is not None:
            self._promised[half] = (promise[0], self._context.now + 1)
        return original(self, peer, half)

    return half_status


def busy_is_taken_for_have(original: Fault) -> Fault:
    return lambda self, peer, message, statuses: self._settled_up_to(peer, message.number)


PLANTED: dict[str, tuple[object, str, Callable[[Fault], Fault]]] = {
    "V1": (assembler.Assembler, "_request_parts", v1_asks_for_parts_nobody_has),
    "V2": (digest.Digests, "add", v2_holds_for_ever),
    "V3": (assembler.Assembler, "end_without_path", v3_partial_rows_keep_a_task_alive),
    "V4": (assembler.Assembler, "_take_quota", v4_charges_whoever_passes_on),
    "V5": (manager.PoolManager, "publish", v5_unannounces_its_own_product),
    "V6": (receiver.Receiver, "_answer", v6_leaves_a_request_unanswered),
    "V7": (quota.Quota, "wait", v7_forgets_who_waits_for_room),
    "V8": (assembler.Assembler, "_resume_waiting", v8_looks_at_every_task_each_time),
    "V9": (Expiry, "refuse", v9_garbage_evicts_refusals),
    "V10": (assembler.Assembler, "_failed", v10_asks_again_at_once),
    "V11": (manager.PoolManager, "_drop", v11_keeps_what_is_withdrawn_in_the_slot_queue),
    "V12": (sources, "is_given_up", v12_silent_liars_pin_tasks),
    "drop-on-the-second-hop": (relay.Relay, "validated", drops_on_the_second_hop),
    "resurrecting-late-push": (table.Table, "judge", late_push_resurrects),
    "synced-before-the-answers": (delivery.Delivery, "plan_synced", synced_before_the_answers),
    "suppressed-by-a-partial-row": (table.Table, "holds", suppressed_by_a_partial_row),
    "no-restart-after-re-advertise": (assembler.Assembler, "want", does_not_restart),
    "lazy-for-ever": (edges.Edges, "graft", lazy_for_ever),
    "waits-for-one-peer-for-ever": (digest.Digests, "_half_status", waits_for_one_peer_for_ever),
    "busy-is-taken-for-have": (digest.Digests, "_settle", busy_is_taken_for_have),
    "digest-skips-one-id": (digest.Digests, "digest", digest_skips_one_id),
    "stripes-never-missed": (stripe_intake.StripeIntake, "check", stripes_are_never_missed),
    "passes-wrong-stripes-on": (stripe_intake.StripeIntake, "_take", passes_wrong_stripes_on),
    "passes-stripes-on-twice": (scatter.Scatter, "pass_on", passes_stripes_on_twice),
}


BESIDES = {"V1": (assembler.Assembler, "_failed", v1_not_here_costs_nothing)}
"""What belongs to a fault besides."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Every core that runs meanwhile has this fault."""
    with ExitStack() as stack:
        for owner, attribute, make in filter(None, (PLANTED[name], BESIDES.get(name))):
            stack.enter_context(patch.object(owner, attribute, make(getattr(owner, attribute))))
        yield
