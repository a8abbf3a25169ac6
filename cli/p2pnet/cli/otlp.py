"""Spans sent to a collector by OTLP over HTTP (`--otlp`): by OpenTelemetry's own exporter, imported here alone, when asked.

What its environment variables say is honoured: OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE, _COMPRESSION, _TIMEOUT and so on.
"""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.threads import in_daemon
from p2pnet.model.jobs import RunFile
from p2pnet.present import ArtifactSpan, SpanKind, resource_of

if TYPE_CHECKING:  # an extra
    from opentelemetry.sdk.trace import ReadableSpan
    from requests import Response

SPANS_PER_REQUEST = 512  # what OpenTelemetry's own batches hold
SEND_SECONDS_MAX = 300.0  # for all requests together; one has OTEL_EXPORTER_OTLP_TIMEOUT, 10 s without it
PATH = "/v1/traces"
EXTRA = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk.trace")


def is_installed() -> bool:
    """Whether the exporter is there; it is not imported for that."""
    try:
        return all(find_spec(name) is not None for name in EXTRA)
    except ModuleNotFoundError:
        return False


def check_endpoint(endpoint: str) -> str:
    """The URL to send to: as given, or with OTLP's path where it names a collector alone. CommandError (exit 2).

    Also raised where the exporter is not installed: before anything is waited for.
    """
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise CommandError(
            f"{endpoint!r} is no URL of a collector", where="--otlp",
            next_step="name one like http://localhost:4318",
        )  # fmt: skip
    if not is_installed():
        raise CommandError(
            "sending spans needs OpenTelemetry's exporter, which is not installed", where="--otlp",
            next_step="pip install 'p2pnet[otel]'; or write them to a file, by --otel FILE",
        )  # fmt: skip
    return urlunsplit(parts._replace(path=PATH if parts.path in ("", "/") else parts.path))


async def send(endpoint: str, spans: Iterable[ArtifactSpan], run: RunFile) -> int:
    """Send them in order, some at a time; how many. CommandError (exit 3) where they are not taken, in bounded time.

    `endpoint`: as `check_endpoint` gave it. An interrupt does not wait for a collector that is silent.
    """
    return await in_daemon(_send, endpoint, spans, run)


def _send(endpoint: str, spans: Iterable[ArtifactSpan], run: RunFile) -> int:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    answers, sent, ends = _Answers(), 0, time.monotonic() + SEND_SECONDS_MAX
    with _quietly(), answers.session() as session:
        try:
            exporter = OTLPSpanExporter(endpoint=endpoint, session=session)
        except (ValueError, OSError) as error:
            raise CommandError(
                f"the exporter refuses its settings: {error}", where="OTEL_EXPORTER_OTLP_* in the environment",
                next_step="correct them, or leave them out",
            ) from None  # fmt: skip
        try:
            for some in _some_at_a_time(_readable(spans, run)):
                try:
                    taken = exporter.export(some) is SpanExportResult.SUCCESS
                except OSError as error:  # so do older versions, all of whose failed requests are OSErrors
                    raise _not_taken(endpoint, sent, answers.told or str(error)) from None
                if not taken or answers.refused or time.monotonic() > ends:
                    raise _not_taken(endpoint, sent, answers.told or "the time for sending is over")
                sent += len(some)
        finally:
            exporter.shutdown()  # type: ignore[no-untyped-call] # the exporter's own
    return sent


class _Answers:
    """What the collector answered last, which the exporter only logs."""

    def __init__(self) -> None:
        self.told = ""
        self.refused = False

    def session(self) -> Any:
        """A session of requests that tells it."""
        from requests import RequestException, Session

        answers = self

        class Listening(Session):
            def send(self, request: Any, **how: Any) -> "Response":
                try:
                    response = super().send(request, **how)
                except RequestException as error:
                    answers.told = _cause(error)
                    raise
                answers.hear(response)
                return response

        return Listening()

    def hear(self, response: "Response") -> None:
        """An answer of 200 may still refuse some spans."""
        self.told = f"it answered {response.status_code} {response.reason or ''}".rstrip()
        if response.status_code == 200 and response.content:
            from google.protobuf.message import DecodeError
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

            with contextlib.suppress(DecodeError):
                said = ExportTraceServiceResponse.FromString(response.content).partial_success
                if said.rejected_spans:
                    self.refused = True
                    self.told = f"it refused {said.rejected_spans} spans: {said.error_message}"


def _cause(error: BaseException) -> str:
    """The innermost reason of a failed request: the outer ones repeat it, with the URL and addresses of objects."""
    found: BaseException = error
    while True:
        inner = getattr(found, "reason", None) or found.__cause__ or found.__context__
        inner = next((one for one in found.args if isinstance(one, BaseException)), inner)
        if not isinstance(inner, BaseException) or inner is found:
            break
        found = inner
    return getattr(found, "strerror", None) or str(found) or type(found).__name__


def _not_taken(endpoint: str, sent: int, why: str) -> CommandError:
    before = f" after {sent} spans" if sent else ""
    return CommandError(
        f"the collector took no spans{before}: {why}", where=f"--otlp {endpoint}",
        next_step="see that it listens there; or write them to a file, by --otel FILE", exit_code=ExitCode.NOT_FOUND,
    )  # fmt: skip


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter logs each failure and each retry; what matters of it is told at the end."""
    logger = logging.getLogger("opentelemetry")
    before, logger.disabled = logger.level, False
    handler = logging.NullHandler()
    propagated = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        logger.setLevel(before)


def _some_at_a_time(spans: "Iterator[ReadableSpan]") -> "Iterator[list[ReadableSpan]]":
    for first in spans:
        yield list(chain([first], islice(spans, SPANS_PER_REQUEST - 1)))


def _readable(spans: Iterable[ArtifactSpan], run: RunFile) -> "Iterator[ReadableSpan]":
    """As the exporter takes them."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, TraceFlags
    from opentelemetry.trace import SpanKind as SdkKind
    from opentelemetry.trace.status import Status, StatusCode

    kinds = {
        SpanKind.INTERNAL: SdkKind.INTERNAL,
        SpanKind.PRODUCER: SdkKind.PRODUCER,
        SpanKind.CONSUMER: SdkKind.CONSUMER,
    }
    scope, resources = InstrumentationScope("p2pnet", run.version), dict[str, Resource]()

    def context(span: ArtifactSpan, span_id: str) -> SpanContext:
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))

    for span in spans:
        if span.node not in resources:
            resources[span.node] = Resource(_plain(resource_of(span.node, run)))
        yield ReadableSpan(
            name=_valid(span.name), context=context(span, span.span_id),
            parent=context(span, span.parent_id) if span.parent_id else None, resource=resources[span.node],
            attributes=_plain(span.attributes), kind=kinds[span.kind], instrumentation_scope=scope,
            events=[Event(one.name, _plain(one.attributes), one.t_ns) for one in span.events],
            status=Status(StatusCode.ERROR, _valid(span.error)) if span.error else Status(StatusCode.UNSET),
            start_time=span.start_ns, end_time=span.end_ns,
        )  # fmt: skip


def _plain(attributes: Any) -> dict[str, Any]:
    return {key: _valid(value) if isinstance(value, str) else value for key, value in attributes.items()}


def _valid(text: str) -> str:
    """A file's name may hold what is no UTF-8, which protobuf does not take."""
    return text.encode("utf-8", "replace").decode()
