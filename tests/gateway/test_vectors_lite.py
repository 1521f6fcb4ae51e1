"""Where milvus-lite keeps its files and its socket."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from camfleet_gateway.vectors.index import Index, IndexUnavailableError, Target
from camfleet_gateway.vectors.lite import Lite


def test_the_socket_is_nobody_elses_and_not_on_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("camfleet_gateway.vectors.lite._MAX_SOCKET_PATH", 2 * len(str(scratch)) + 2)
    data = tmp_path / ("a long name of a volume " * 8) / "milvus"
    lite = Lite(data)
    [folder] = scratch.iterdir()
    assert lite.uri == f"unix:{folder}/milvus.sock"
    assert [path.name for path in folder.iterdir()] == ["milvus.sock"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [path for path in data.rglob("*") if path.is_socket()]
    with pytest.raises(BlockingIOError):
        Lite(data)
    assert list(scratch.iterdir()) == [folder], "nothing is left of one that did not start"
    lite.close()
    assert list(scratch.iterdir()) == []
    Lite(data).close()


def test_a_failing_call_is_told_by_us_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = Index(Target(tmp_path))
    try:
        index.open()
        for name in ("pymilvus", "milvus_lite", "faiss", "grpc"):
            assert logging.getLogger(name).getEffectiveLevel() == logging.CRITICAL
        with pytest.raises(IndexUnavailableError):
            index.count("there_is_none")
        assert caplog.records == []
    finally:
        index.close()
