"""Where the settings say that signals come from."""

from __future__ import annotations

from collections.abc import Mapping

from camfleet_operator.cluster.health.gateways import Gateways
from camfleet_operator.cluster.health.prometheus import Credentials, Prometheus
from camfleet_operator.cluster.health.prometheus_source import PrometheusSource
from camfleet_operator.cluster.health.signals import SignalSource
from camfleet_operator.cluster.settings import OperatorSettings


def prometheus_server(settings: OperatorSettings) -> Prometheus | None:
    """The Prometheus server; None if none is configured."""
    if settings.prometheus_url is None:
        return None
    headers = (header.partition(":") for header in settings.prometheus_header)
    credentials = Credentials(
        bearer_token_file=settings.prometheus_bearer_token_file,
        username=settings.prometheus_username,
        password_file=settings.prometheus_password_file,
        ca_file=settings.prometheus_ca_file,
        cert_file=settings.prometheus_cert_file,
        key_file=settings.prometheus_key_file,
        insecure=settings.prometheus_insecure,
        headers=tuple((name, value.strip()) for name, _, value in headers),
    )
    return Prometheus(settings.prometheus_url, credentials, timeout=settings.prometheus_timeout_seconds)


def signal_source(
    settings: OperatorSettings, server: Prometheus | None, queries: Mapping[str, str]
) -> SignalSource:
    """Prometheus if there is one, else the gateways themselves.

    Args:
        settings: The operator's settings.
        server: What `prometheus_server` has given.
        queries: Those that replace the built-in ones, and the selector.
    """
    gateways = Gateways(settings.gateway_metrics, interval=settings.health_seconds)
    if server is None:
        return gateways
    return PrometheusSource(
        server,
        scrape=settings.scrape_seconds,
        overrides=queries,
        gateways=gateways.count if settings.gateway_metrics else None,
    )
