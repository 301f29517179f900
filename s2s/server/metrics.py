"""What a server tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)


class Metrics:
    """The figures of one server; `kind` is "live" or "file", `model` a name it was started with."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.sessions = Gauge("s2s_sessions", "Live sessions that are open.", ["model"], registry=registry)
        self.opened = Counter("s2s_sessions_opened", "Live sessions since the start.", ["model"], registry=registry)
        self.requests = Counter("s2s_requests", "HTTP answers.", ["path", "status"], registry=registry)
        self.errors = Counter("s2s_errors", "Requests refused and sessions ended early.", ["code"], registry=registry)
        work = ["model", "kind"]
        self.audio = Counter("s2s_audio_seconds", "Audio that was heard.", work, registry=registry)
        self.busy = Counter("s2s_busy_seconds", "Time that the model was at work.", work, registry=registry)
        self.real_time_factor = Gauge(
            "s2s_real_time_factor", "Busy seconds for each second of audio, since the start.", work, registry=registry
        )
        self.queue = Histogram(
            "s2s_queue_seconds", "From when audio came until its turn.", work, registry=registry, buckets=_SECONDS
        )
        self.batch = Histogram(
            "s2s_batch_size",
            "Windows of files or live sessions heard at once.",
            work,
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.latency = Histogram(
            "s2s_latency_seconds",
            "Live: from when the audio came that led to a text until the text was there.",
            ["model", "event"],
            registry=registry,
            buckets=_SECONDS,
        )

    def worked(self, model: str, kind: str, audio: float, busy: float, size: int) -> None:
        """So much audio was heard in so much time, so many at once."""
        self.batch.labels(model, kind).observe(size)
        self.audio.labels(model, kind).inc(audio)
        self.busy.labels(model, kind).inc(busy)
        heard = self.audio.labels(model, kind)._value.get()
        if heard:
            self.real_time_factor.labels(model, kind).set(self.busy.labels(model, kind)._value.get() / heard)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
