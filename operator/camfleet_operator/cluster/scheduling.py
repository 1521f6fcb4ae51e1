"""Why a pod has no node: the scheduler's sentence, boiled down to a reason.

The sentence looks like `0/6 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) had untolerated
taint(s), 1 Too many pods. preemption: …`. What keeps most nodes out is not what a user should hear first: a
missing GPU on the two GPU nodes is, though ten others have a taint.
"""

from __future__ import annotations

import re

_INSUFFICIENT = re.compile(r"Insufficient (\S+)")

_ORDER = ("InsufficientGPU", "InsufficientDevice", "InsufficientMemory", "InsufficientCPU", "NodeFull")


def scheduling_reason(message: str, gpu_resource: str = "") -> str:
    """Turn the scheduler's message into one of the reasons of `Scheduled`.

    Args:
        message: Message of the pod's `PodScheduled` condition.
        gpu_resource: The resource that stands for a GPU with this camera.

    Returns:
        `InsufficientGPU`, `InsufficientDevice`, `InsufficientMemory`, `InsufficientCPU`, `NodeFull`,
        `VolumeNotReady`, `NoMatchingNode`, or `Unschedulable` if nothing is recognised.
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
    if "persistentvolumeclaim" in sentence.lower():
        return "VolumeNotReady"
    if re.search(
        r"didn't match|untolerated taint|no nodes available|were unschedulable|didn't satisfy", sentence
    ):
        return "NoMatchingNode"
    return "Unschedulable"


def _resource_reason(resource: str, gpu_resource: str) -> str:
    if resource == gpu_resource or resource.startswith(("nvidia.com/", "amd.com/gpu", "gpu.intel.com/")):
        return "InsufficientGPU"
    if resource == "cpu":
        return "InsufficientCPU"
    if resource == "memory":
        return "InsufficientMemory"
    if resource == "pods":
        return "NodeFull"
    return "InsufficientDevice" if "/" in resource else "Unschedulable"
