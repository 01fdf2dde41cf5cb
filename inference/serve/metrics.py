"""What the service measures of itself, in the text format of Prometheus."""

from typing import Any

ROUTES = ("/", "/predict", "/heatmap", "/health", "/metrics")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters and histograms of one service, in a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        own: Any = dict(registry=self.registry)
        self.requests = Counter(
            "convax_requests", "Requests by route and HTTP status.", ["route", "status"], **own
        )
        self.seconds = Histogram(
            "convax_request_seconds",
            "From a request's headers to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            **own,
        )
        self.queue = Gauge("convax_queue_length", "Images that wait for the network.", **own)
        self.inside = Gauge("convax_images_inside", "Images admitted, not yet answered.", **own)
        self.batches = Histogram(
            "convax_batch_size",
            "Images in one call of the network.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            **own,
        )
        self.network = Histogram(
            "convax_network_seconds", "One call of the network.", buckets=SECONDS, **own
        )

    def observe_batch(self, size: int, seconds: float) -> None:
        """Record one call of the network."""
        self.batches.observe(size)
        self.network.observe(seconds)

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Record a request; paths that do not exist are one route, for anybody can make them up."""
        route = path if path in ROUTES else "other"
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
