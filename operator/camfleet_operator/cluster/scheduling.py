"""Why a pod has no node: the scheduler's sentence, boiled down to a reason.

The sentence looks like `0/6 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) had untolerated
taint(s), 1 Too many pods. preemption: …`. What keeps most nodes out is not what a user should hear first: a
missing GPU on the two GPU nodes is, though ten others have a taint.
"""

from __future__ import annotations

import re

_INSUFFICIENT = re.compile(r"Insufficient (\S+)")

_ORDER = (
    "InsufficientGPU", "InsufficientDevice", "InsufficientMemory", "InsufficientCPU", "InsufficientStorage",
    "NodeFull",
)  # fmt: skip
_VOLUME = re.compile(
    r"persistentvolumeclaim|volume node affinity conflict|persistentvolume's node affinity", re.IGNORECASE
)
"""The last two are one thing in two wordings: the volume's nodes are not those that would do."""
_NODES = re.compile(
    r"didn't match|didn't satisfy|didn't have free ports|untolerated taint|no nodes available|"
    r"were unschedulable"
)


def scheduling_reason(message: str, gpu_resource: str = "") -> str:
    """Turn the scheduler's message into one of the reasons of `Scheduled`.

    Args:
        message: Message of the pod's `PodScheduled` condition.
        gpu_resource: The resource that stands for a GPU with this camera.

    Returns:
        `InsufficientGPU`, `InsufficientDevice`, `InsufficientMemory`, `InsufficientCPU`,
        `InsufficientStorage`, `NodeFull`, `VolumeNotReady`, `NoMatchingNode`, or
        `Unschedulable` if nothing is recognised.
    """
    sentence = message.partition(" preemption:")[0]
    found = {
        _resource_reason(resource.rstrip(".,"), gpu_resource) for resource in _INSUFFICIENT.findall(sentence)
    }
    if "Too many pods" in sentence:
        found.add("NodeFull")
    for reason in _ORDER:
        if reason in found:
            return reason
    if _VOLUME.search(sentence):
        return "VolumeNotReady"
    if _NODES.search(sentence):
        return "NoMatchingNode"
    return "Unschedulable"


def _resource_reason(resource: str, gpu_resource: str) -> str:
    if resource == gpu_resource or resource.startswith(("nvidia.com/", "amd.com/gpu", "gpu.intel.com/")):
        return "InsufficientGPU"
    if resource == "cpu":
        return "InsufficientCPU"
    if resource == "memory":
        return "InsufficientMemory"
    if resource == "ephemeral-storage":
        return "InsufficientStorage"
    if resource == "pods":
        return "NodeFull"
    return "InsufficientDevice" if "/" in resource else "Unschedulable"
