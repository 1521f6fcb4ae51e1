"""A real Prometheus server on a free port, with a folder of its own, that a test can stop, pause and empty.

Prometheus scrapes five seconds after its start, or after a change of its targets, and not before: share one.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.testbed.processes import Process, Startable, StartError, free_port

from support.require import need

Samples = list[tuple[dict[str, str], float]]
START_SECONDS = 60.0
_PORT_TRIES = 3


class PrometheusProcess(Startable):
    """One running Prometheus; use it as a context manager, or call `start` and `stop`.

    Args:
        targets: What to scrape: `host:port`, or the URL of a metrics page. Shorthand for one scrape
            configuration with the job name `camfleet-gateway` for each.
        scrape_configs: Scrape configurations as in Prometheus' own file, beside those of `targets`.
        rule_files: Files with recording and alerting rules.
        scrape_interval: How often the targets are scraped and rules evaluated.
        job: The job's name of `targets`.
        labels: Put on every series of `targets`.
        honor_labels: Whether labels of the page win over those of the target.
        web_config: Content of the web configuration file: TLS and users.
        arguments: More of the command line.
    """

    def __init__(
        self,
        targets: Sequence[str] = (),
        *,
        scrape_configs: Sequence[Mapping[str, Any]] = (),
        rule_files: Sequence[Path] = (),
        scrape_interval: str = "500ms",
        job: str = "camfleet-gateway",
        labels: Mapping[str, str] | None = None,
        honor_labels: bool = True,
        web_config: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        need(shutil.which("prometheus"), "the program prometheus")
        self.folder = Path(tempfile.mkdtemp(prefix="camfleet-prometheus-"))
        self.log = self.folder / "prometheus.log"
        self.port = 0
        self._targets = [(target, dict(labels or {})) for target in targets]
        self._configs = [dict(config) for config in scrape_configs]
        self._rules = [str(Path(path).resolve()) for path in rule_files]
        self._interval = scrape_interval
        self._job = job
        self._honor_labels = honor_labels
        self._web_config = web_config
        self._arguments = tuple(arguments)
        self._process: Process | None = None

    # ── Its life ────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start it, on the port it had before, and wait until it answers."""
        self._configure()
        tries = 1 if self.port else _PORT_TRIES
        for left in reversed(range(tries)):
            self.port = self.port or free_port()
            try:
                self._launch()
                return
            except StartError:
                self.kill()
                if not left:
                    raise
                self.port = 0

    def stop(self) -> None:
        """SIGTERM, and wait; its data stay."""
        if self._process is not None:
            self.resume()
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, and wait; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self, empty: bool = False) -> None:
        """Stop it if it runs, and start it on the same port; `empty` throws its data away.

        It goes on scraping: `scrape(())` before makes it stay empty.
        """
        self.kill()
        if empty:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def pause(self) -> None:
        """SIGSTOP, and wait until it stands still: it accepts connections and does not answer."""
        self._signal(signal.SIGSTOP)
        self.wait(self._stopped, "it stands still")

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def scrape(self, targets: Sequence[str], labels: Mapping[str, str] | None = None) -> None:
        """Scrape these targets from now on; takes effect at once if it runs."""
        self._targets = [(target, dict(labels or {})) for target in targets]
        self._configure()
        if self._process is not None:
            loaded = self._loaded_at()
            self._signal(signal.SIGHUP)
            self.wait(lambda: self._loaded_at() > loaded, "the new configuration is loaded")

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── What it says ────────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Where its API is."""
        scheme = "https" if self._web_config and "tls_server_config" in self._web_config else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def query(self, expression: str, time: float | None = None) -> Samples:
        """Evaluate an instant query, now or at a time (Unix seconds); a scalar has no labels.

        Raises:
            AssertionError: Prometheus refuses it.
        """
        form = {"query": expression} | ({"time": repr(time)} if time is not None else {})
        answer = httpx.post(f"{self.url}/api/v1/query", data=form, timeout=30)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def until(
        self, expression: str, check: Callable[[Samples], object] = bool, seconds: float = 60
    ) -> Samples:
        """Ask until `check` is true of what is answered; an answer that is not empty, if not said."""
        found: Samples = []

        def look() -> object:
            nonlocal found
            found = self.query(expression)
            return check(found)

        self.wait(look, expression, seconds=seconds)
        return found

    def scraped(self, target: str, since: float | None = None, seconds: float = 60) -> None:
        """Wait until a target has been scraped well at or after `since` (Unix seconds; now if not said)."""
        since = time.time() if since is None else since
        instance = target.split("://")[-1].split("/")[0]
        self.until(f'timestamp(up{{instance="{instance}"}} == 1) >= {since!r}', seconds=seconds)

    def wait(self, check: Callable[[], object], what: str, *, seconds: float = START_SECONDS) -> None:
        """Poll until `check` is true.

        Raises:
            StartError: It is not true in time, or Prometheus has ended.
        """
        deadline = time.monotonic() + seconds
        while not check():
            if self._process is None or not self._process.running:
                raise StartError(f"Prometheus has ended while waiting for: {what}\n{self._tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"not within {seconds:g} s: {what}\n{self._tail()}")
            time.sleep(0.02)

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    def _launch(self) -> None:
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._process = Process(
            [
                "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                *([f"--web.config.file={self.folder / 'web.yml'}"] if self._web_config else []),
                *self._arguments,
            ],
            self.log,
        )
        self.wait(self._ready, "it is ready")

    def _ready(self) -> bool:
        if self._web_config:  # users and certificates are the test's own; its log is enough
            return b"Server is ready" in self.log.read_bytes()[self._log_start :]
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def _stopped(self) -> bool:
        if self._process is None:
            return True
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in tasks)

    def _loaded_at(self) -> float:
        name = "prometheus_config_last_reload_success_timestamp_seconds"
        page = httpx.get(f"{self.url}/metrics", timeout=10).text
        return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))

    def _configure(self) -> None:
        configs = [self._config(*target, number) for number, target in enumerate(self._targets)]
        document = {
            "global": {"scrape_interval": self._interval, "evaluation_interval": self._interval},
            "rule_files": self._rules,
            "scrape_configs": [*configs, *self._configs],
        }
        document["global"]["scrape_timeout"] = self._interval
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        if self._web_config:
            (self.folder / "web.yml").write_text(yaml.safe_dump(dict(self._web_config)))

    def _config(self, target: str, labels: dict[str, str], number: int) -> dict[str, Any]:
        scheme, _, rest = target.rpartition("://")
        host, slash, path = rest.partition("/")
        relabel = [{"target_label": "job", "replacement": self._job}]
        return {
            "job_name": f"{self._job}-{number}",  # names must differ; the label is put right below
            "scheme": scheme or "http",
            "metrics_path": f"/{path}" if slash else "/metrics",
            "honor_labels": self._honor_labels,
            "relabel_configs": relabel,
            "static_configs": [{"targets": [host], "labels": labels}],
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.signal(number)

    def _tail(self, size: int = 3000) -> str:
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""
