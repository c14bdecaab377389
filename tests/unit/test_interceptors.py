"""Each interceptor round a real handler, composed as the server composes it."""

import asyncio
import time
from collections.abc import Callable

import pytest

from auditing import auditing
from knowledged.access import PERMISSIONS
from knowledged.call import AuditClass, Call, Method, Principal, Receipt
from knowledged.errors import (
    Code,
    DeadlineExceeded,
    Denied,
    DomainError,
    Invalid,
    NotFound,
    Overloaded,
    Unauthenticated,
)
from knowledged.interceptors import Handler, compose
from knowledged.interceptors.audit import Auditing, MissingReceipt
from knowledged.interceptors.auth import ANONYMOUS, Auth
from knowledged.interceptors.errors import Refusal, errors
from knowledged.interceptors.quota import Quota
from knowledged.interceptors.shed import Shed

READ = Method("/knowledge.v1.KnowledgeService/GetDocument", "documents.read", AuditClass.READ)
WRITE = Method("/knowledge.v1.KnowledgeService/CreateDocument", "documents.write", AuditClass.WRITE)
RECEIPT = Receipt("0192d3c8-0000-7000-8000-000000000000", bytes(32))


def call_of(method: Method = READ, deadline: float | None = None, **metadata: str) -> Call:
    headers = {key.replace("_", "-"): value for key, value in metadata.items()}
    return Call(method, "call-1", "ipv4:127.0.0.1:1", headers, deadline)


async def echo(call: Call, request: bytes) -> bytes:
    return request


class Gate:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, call: Call, request: bytes) -> bytes:
        await self.open.wait()
        return request


def failing(error: BaseException) -> Handler:
    async def handle(call: Call, request: bytes) -> bytes:
        raise error

    return handle


async def test_the_first_interceptor_is_outermost() -> None:
    seen: list[str] = []

    def named(name: str) -> Callable[[Method, Handler], Handler]:
        def interceptor(method: Method, handler: Handler) -> Handler:
            async def handle(call: Call, request: bytes) -> bytes:
                seen.append(name)
                return await handler(call, request)

            return handle

        return interceptor

    handler = compose(READ, echo, [named("outer"), named("inner")])
    assert await handler(call_of(), b"x") == b"x"
    assert seen == ["outer", "inner"]


# errors


async def test_a_domain_error_becomes_its_public_status() -> None:
    with pytest.raises(Refusal) as refusal:
        await errors(READ, failing(NotFound("no such document")))(call_of(), b"")
    assert refusal.value.status.reason == "RESOURCE_NOT_FOUND"
    assert refusal.value.__cause__ is None


async def test_an_unknown_error_tells_the_caller_nothing() -> None:
    with pytest.raises(Refusal) as refusal:
        await errors(READ, failing(RuntimeError("patient Smith")))(call_of(), b"")
    assert refusal.value.status.message == "internal error"
    assert "Smith" not in str(refusal.value)


async def test_a_cancelled_call_passes_as_it_is() -> None:
    task = asyncio.ensure_future(errors(READ, Gate())(call_of(), b""))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_cancelled_inside_a_call_still_answers_it() -> None:
    with pytest.raises(Refusal) as refusal:
        await errors(READ, failing(asyncio.CancelledError()))(call_of(), b"")
    assert refusal.value.status.code is Code.CANCELLED


# audit


async def test_a_mutation_without_a_receipt_is_our_own_bug() -> None:
    with pytest.raises(Refusal) as refusal:
        await compose(WRITE, echo, [errors, auditing()])(call_of(WRITE), b"")
    assert not refusal.value.status.known
    with pytest.raises(MissingReceipt):
        await auditing()(WRITE, echo)(call_of(WRITE), b"")


async def test_a_mutation_with_a_receipt_is_answered() -> None:
    call, audit = call_of(WRITE), auditing()
    call.receipt = RECEIPT
    assert await audit(WRITE, echo)(call, b"x") == b"x"
    assert waiting(audit) == 0


async def test_a_dry_run_says_that_it_is_unaudited_and_is_recorded_as_a_read() -> None:
    call, audit = call_of(WRITE), auditing()
    call.unaudited = True
    assert await audit(WRITE, echo)(call, b"x") == b"x"
    assert waiting(audit) == 1


async def test_what_tells_nothing_is_not_wrapped() -> None:
    free = Method("/knowledge.v1.ConfigService/GetServerInfo", "info.read", AuditClass.NONE)
    assert auditing()(free, echo) is echo


async def test_a_refusal_that_cannot_be_recorded_leaves_before_the_deadline() -> None:
    audit, began = auditing(durable=True), time.monotonic()
    call = call_of(deadline=began + 0.9)
    call.principal = ANONYMOUS
    with pytest.raises(NotFound):
        await audit(READ, failing(NotFound("no such document")))(call, b"")
    assert time.monotonic() < began + 0.9
    assert waiting(audit) == 1


def waiting(audit: Auditing) -> float:
    return audit.recorder.metrics.waiting._value.get()


# shed


async def test_calls_over_the_limit_are_shed_over_all_methods_together() -> None:
    shed, gate = Shed(2), Gate()
    waiting = [asyncio.create_task(shed(m, gate)(call_of(m), b"")) for m in (READ, WRITE)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as overload:
        await shed(READ, echo)(call_of(), b"")
    assert overload.value.reason == "SERVER_OVERLOADED"
    assert overload.value.retry_after_seconds
    gate.open.set()
    await asyncio.gather(*waiting)
    assert await shed(READ, echo)(call_of(), b"x") == b"x"


@pytest.mark.parametrize("error", [NotFound("gone"), asyncio.CancelledError()])
async def test_a_failed_call_frees_its_place(error: BaseException) -> None:
    shed, quota = Shed(1), Quota(1)
    handler = compose(READ, failing(error), [shed, quota])
    for _ in range(3):
        with pytest.raises(type(error)):
            await handler(call_of(), b"")


async def test_a_call_whose_deadline_has_passed_does_no_work() -> None:
    worked: list[bytes] = []

    async def work(call: Call, request: bytes) -> bytes:
        worked.append(request)
        return request

    with pytest.raises(DeadlineExceeded):
        await Shed(1)(READ, work)(call_of(deadline=time.monotonic() - 1), b"")
    assert await Shed(1)(READ, work)(call_of(deadline=time.monotonic() + 9), b"y") == b"y"
    assert worked == [b"y"]


# auth

READER = Principal("reader", frozenset({"documents.read"}), frozenset({"leaflets"}))


def authenticate(token: str) -> Principal | None:
    return READER if token == "good" else None


async def test_without_authentication_everybody_is_anonymous_and_may_everything() -> None:
    call = call_of(WRITE)
    await Auth(None)(WRITE, echo)(call, b"")
    assert call.principal.subject == "anonymous"
    assert call.principal.permissions == PERMISSIONS
    assert call.principal.may_see("any")


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "BEARER  good "])
async def test_a_good_token_names_the_principal(header: str) -> None:
    call = call_of(authorization=header)
    await Auth(authenticate)(READ, echo)(call, b"")
    assert call.principal is READER


@pytest.mark.parametrize("sent", [authenticate, None])
async def test_the_token_does_not_stay_in_the_metadata(
    sent: Callable[[str], Principal | None] | None,
) -> None:
    call = call_of(authorization="Bearer good")
    await Auth(sent)(READ, echo)(call, b"")
    assert "good" not in repr(call)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "CREDENTIALS_MISSING"),
        ({"authorization": "Bearer bad"}, "CREDENTIALS_INVALID"),
        ({"authorization": "Basic good"}, "CREDENTIALS_INVALID"),
        ({"authorization": ""}, "CREDENTIALS_INVALID"),
    ],
)
async def test_no_or_bad_credentials_are_refused(metadata: dict[str, str], reason: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        await Auth(authenticate)(READ, echo)(call_of(**metadata), b"")
    assert refusal.value.reason == reason
    assert "bad" not in refusal.value.message


async def test_a_missing_permission_is_named_but_not_the_subject() -> None:
    with pytest.raises(Denied) as refusal:
        await Auth(authenticate)(WRITE, echo)(call_of(WRITE, authorization="Bearer good"), b"")
    assert "documents.write" in refusal.value.message
    assert "CreateDocument" in refusal.value.message
    assert "reader" not in refusal.value.message


async def test_a_permission_that_no_role_grants_cannot_be_served() -> None:
    with pytest.raises(ValueError, match="no role grants"):
        Auth(None)(Method("/a.B/C", "documents.raed", AuditClass.READ), echo)


async def test_every_bad_declaration_is_named_at_once() -> None:
    call = call_of(x_on_behalf_of="a" * 257, x_purpose="a\u200bb")
    with pytest.raises(Invalid) as refusal:
        await Auth(None)(READ, echo)(call, b"")
    assert [v.field for v in refusal.value.violations] == ["x-on-behalf-of", "x-purpose"]


async def test_good_declarations_pass() -> None:
    call = call_of(x_on_behalf_of="Dr. Müller", x_purpose="a" * 256)
    assert await Auth(None)(READ, echo)(call, b"x") == b"x"
    assert call.on_behalf_of == "Dr. Müller"


# quota


def of_subject(subject: str) -> Call:
    call = call_of()
    call.principal = Principal(subject, PERMISSIONS)
    return call


async def test_one_subject_cannot_take_all_places() -> None:
    quota, gate = Quota(2), Gate()
    handler = quota(READ, gate)
    waiting = [asyncio.create_task(handler(of_subject("greedy"), b"")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await quota(WRITE, echo)(of_subject("greedy"), b"")
    assert refusal.value.reason == "QUOTA_EXHAUSTED"
    assert await quota(READ, echo)(of_subject("modest"), b"x") == b"x"
    gate.open.set()
    await asyncio.gather(*waiting)
    assert await quota(READ, echo)(of_subject("greedy"), b"x") == b"x"


async def test_the_rate_refills_with_time() -> None:
    now = [0.0]
    handler = Quota(9, calls_per_second=2, clock=lambda: now[0])(READ, echo)
    await handler(of_subject("s"), b"")
    await handler(of_subject("s"), b"")
    with pytest.raises(DomainError) as refusal:
        await handler(of_subject("s"), b"")
    assert refusal.value.reason == "QUOTA_EXHAUSTED"
    assert refusal.value.retry_after_seconds == pytest.approx(0.5)
    now[0] = 0.5
    assert await handler(of_subject("s"), b"x") == b"x"


async def test_a_rate_below_one_a_second_still_lets_calls_through() -> None:
    now = [0.0]
    handler = Quota(9, calls_per_second=0.1, clock=lambda: now[0])(READ, echo)
    await handler(of_subject("s"), b"")
    with pytest.raises(Overloaded) as refusal:
        await handler(of_subject("s"), b"")
    assert refusal.value.retry_after_seconds == pytest.approx(10)


@pytest.mark.parametrize("rate", [0.0, 100.0])
async def test_subjects_are_not_remembered_without_bound(rate: float) -> None:
    now = [0.0]
    quota = Quota(9, calls_per_second=rate, clock=lambda: now[0])
    handler = quota(READ, echo)
    for number in range(12_000):
        now[0] += 0.001
        await handler(of_subject(str(number)), b"")
    assert len(quota._usages) <= (10_000 if rate else 0)
