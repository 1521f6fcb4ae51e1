"""The scheduler's sentences, as reasons."""

from __future__ import annotations

import pytest

from camfleet_operator.cluster.scheduling import scheduling_reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 …", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.5gb.", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient example.com/slice.", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient example.com/other.", "InsufficientDevice"),
        (
            "0/9 nodes are available: 2 Insufficient nvidia.com/gpu, 7 node(s) had untolerated taint(s).",
            "InsufficientGPU",
        ),
        ("0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.", "InsufficientMemory"),
        ("0/3 nodes are available: 3 Insufficient cpu.", "InsufficientCPU"),
        ("0/3 nodes are available: 3 Insufficient ephemeral-storage.", "InsufficientStorage"),
        (
            "0/3 nodes are available: 1 Insufficient ephemeral-storage, 2 node(s) had untolerated taint(s).",
            "InsufficientStorage",
        ),
        ("0/1 nodes are available: 1 Too many pods.", "NodeFull"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "NoMatchingNode"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {a: b}.", "NoMatchingNode"),
        ("no nodes available to schedule pods", "NoMatchingNode"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "VolumeNotReady"),
        ('persistentvolumeclaim "media" not found', "VolumeNotReady"),
        (
            "0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 node(s) had volume node "
            "affinity conflict. preemption: 0/3 nodes are available: 3 Preemption is not helpful.",
            "VolumeNotReady",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
            "VolumeNotReady",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
            "NoMatchingNode",
        ),
        ("something new", "Unschedulable"),
        ("", "Unschedulable"),
    ],
)
def test_the_schedulers_sentence_becomes_a_reason(message: str, reason: str) -> None:
    assert scheduling_reason(message, "example.com/slice") == reason
