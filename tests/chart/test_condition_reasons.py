"""docs/troubleshooting.md has every reason that a Camera's conditions may have in a cluster, and no other."""

from __future__ import annotations

import re

import pytest
from helm_chart import CHART

from camfleet_operator.cluster.health import verdicts
from camfleet_operator.cluster.scheduling import scheduling_reason
from camfleet_worker.faults import Fault

ROOT = CHART.parents[1]
_TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
_SECTION = re.search(r"^## In a cluster\n(.*?)^## ", _TEXT, re.MULTILINE | re.DOTALL)
assert _SECTION
DOCUMENTED = re.findall(r"^\| `(\w+)` \|", _SECTION.group(1), re.MULTILINE)

SCHEDULER = {
    "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.": "InsufficientGPU",
    "0/2 nodes are available: 1 Insufficient example.com/cam, 1 node(s) had taints.": "InsufficientDevice",
    "0/2 nodes are available: 2 Insufficient memory.": "InsufficientMemory",
    "0/2 nodes are available: 2 Insufficient cpu.": "InsufficientCPU",
    "0/2 nodes are available: 2 Insufficient ephemeral-storage.": "InsufficientStorage",
    "0/2 nodes are available: 2 Too many pods.": "NodeFull",
    "0/2 nodes are available: 2 node(s) had untolerated taint(s).": "NoMatchingNode",
    '0/2 nodes are available: persistentvolumeclaim "models" not found.': "VolumeNotReady",
    "something new": "Unschedulable",
}


def test_each_reason_is_there_once() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED)) > 30


@pytest.mark.parametrize(("message", "reason"), SCHEDULER.items())
def test_reasons_of_the_scheduler(message: str, reason: str) -> None:
    assert scheduling_reason(message, "nvidia.com/gpu") == reason
    assert reason in DOCUMENTED


def test_reasons_of_the_source() -> None:
    assert {fault.reason for fault in Fault} <= set(DOCUMENTED)


def test_reasons_from_the_gateways_figures() -> None:
    assert set(verdicts.MESSAGES) <= set(DOCUMENTED)


def test_reasons_that_the_operator_writes() -> None:
    """Read from its source: the second argument of every Fact."""
    code = "\n".join(
        path.read_text() for path in (ROOT / "operator" / "camfleet_operator" / "cluster").rglob("*.py")
    )
    written = set(re.findall(r'\bFact\(\s*[\w.]+,\s*"([A-Z]\w+)"', code))
    assert written, "the operator writes its reasons in another way now: look here"
    assert written <= set(DOCUMENTED)
    words = set(re.findall(r'"([A-Z]\w+)"', code)) | {fault.reason for fault in Fault}
    assert set(DOCUMENTED) <= words, "these are documented, and nothing says them"
