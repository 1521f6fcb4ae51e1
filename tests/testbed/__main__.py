"""`make cluster` and `make cluster-down`: a cluster with Camfleet that stays until it is told to go.

With kind where there is a Docker engine; otherwise (or with CAMFLEET_CLUSTER=processes) as processes of this
machine. It is kept in the user's cache folder (or in CAMFLEET_CLUSTER_DIR), as is what has been built for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.testbed import cluster as processes
from tests.testbed import kind
from tests.testbed.cluster import CHART, ROOT, Cluster, chart_values
from tests.testbed.components import ComponentMissingError, cache_folder, find
from tests.testbed.images import ImageError
from tests.testbed.processes import StartError, free_port

EXAMPLE = ROOT / "examples" / "test-pattern.yaml"
CAMERA = "pattern"
PORT = 8080
_ANSWER = "answer.json"  # what `status` repeats


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description="A cluster with Camfleet.")
    parser.add_argument("command", choices=["up", "down", "status"])
    commands: dict[str, Callable[[], int]] = {"up": up, "down": down, "status": status}
    try:
        sys.exit(commands[parser.parse_args().command]())
    except (ComponentMissingError, ImageError, StartError, RuntimeError) as error:
        sys.exit(f"make cluster: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"make cluster: {' '.join(error.cmd)} ended with {error.returncode}")


def up() -> int:
    """Start it, unless it runs."""
    if (_folder() / _ANSWER).exists() and (_uses_kind() or processes.running(_folder())):
        print("The cluster runs already.")
        return status()
    if _folder().exists():  # cut off, or from before a restart of this machine
        down()
    started = time.monotonic()
    (_up_kind if _wants_kind() else _up_processes)()
    print(f"Ready after {time.monotonic() - started:.0f} s.\n")
    return status()


def down() -> int:
    """End it, and remove whatever it has made, except for what is cached."""
    folder = _folder()
    if _uses_kind():
        kind.run(kind.command_down(folder / "kubeconfig"))
        shutil.rmtree(folder)
    elif (folder / processes.RECORD).exists():
        processes.end(folder)
    elif folder.exists():
        shutil.rmtree(folder)
    else:
        print("There is no cluster.")
        return 0
    print("The cluster is gone.")
    return 0


def status() -> int:
    """Say how to use it."""
    try:
        answer = json.loads((_folder() / _ANSWER).read_text())
    except FileNotFoundError:
        print("There is no cluster; `make cluster` starts one.")
        return 1
    lines = [f"export KUBECONFIG={answer['kubeconfig']}"]
    if shutil.which("kubectl") is None:
        lines.append(f"export PATH={Path(answer['kubectl']).parent}:$PATH")
    print("\n".join(lines))
    print(f"\nThe page: {answer['gateway']}  It asks for a token; this prints it:")
    secret = "kubectl -n camfleet get secret camfleet-viewer-tokens -o jsonpath='{.data.admin-token}'"
    print(f"  {secret} | base64 -d; echo")
    print("\nThen try:  kubectl get cameras --all-namespaces -o wide")
    print("The end:   make cluster-down")
    return 0


def _up_processes() -> None:
    if why := processes.missing():
        raise ComponentMissingError(
            f"{why}\n(with a Docker engine and kind neither root nor these are needed)"
        )
    print(
        "A cluster of processes on this machine. The first time its programs are built, which takes minutes."
    )
    cluster = Cluster(_folder(), die_with_parent=False, report=lambda line: print(line, flush=True))
    try:
        cluster.start()
        print("Installing the chart …", flush=True)
        cluster.install()
        _example(str(cluster.plane.kubeconfig), str(find("kubectl")))
        port = cluster.forward_service("camfleet", "camfleet-gateway", 8080, local=_gateway_port())
        cluster.save_record()
        _remember(cluster.plane.kubeconfig, str(find("kubectl")), port)
    except BaseException:
        cluster.stop()
        raise


def _up_kind() -> None:
    folder = _folder()
    folder.mkdir(parents=True)
    kubeconfig, values, port = folder / "kubeconfig", folder / "values.json", _gateway_port()
    (folder / "kind.json").write_text(kind.configuration(port))
    content = chart_values(kind.references())
    content["gateway"]["service"] = {"type": "NodePort", "nodePort": kind.NODE_PORT}
    values.write_text(json.dumps(content))
    try:
        for command in kind.commands_up(folder, kubeconfig):
            kind.run(command)
        kind.run(kind.command_install(values, kubeconfig, CHART))
        _example(str(kubeconfig), kind.tool("kubectl"))
        _remember(kubeconfig, kind.tool("kubectl"), port)
    except BaseException:
        down()
        raise


def _example(kubeconfig: str, kubectl: str) -> None:
    print("Applying a camera, and waiting for its picture …", flush=True)
    run = [kubectl, f"--kubeconfig={kubeconfig}"]
    subprocess.run([*run, "apply", f"--filename={EXAMPLE}"], check=True)
    wait = [*run, "wait", "--for=condition=Ready", "--timeout=120s", f"camera/{CAMERA}"]
    if subprocess.run(wait, check=False).returncode != 0:
        subprocess.run([*run, "describe", f"camera/{CAMERA}"], check=False)
        raise StartError("the camera did not become ready")


def _remember(kubeconfig: Path, kubectl: str, port: int) -> None:
    answer = {"kubeconfig": str(kubeconfig), "kubectl": kubectl, "gateway": f"http://127.0.0.1:{port}/"}
    (_folder() / _ANSWER).write_text(json.dumps(answer))


def _folder() -> Path:
    return Path(os.environ.get("CAMFLEET_CLUSTER_DIR") or cache_folder() / "cluster")


def _uses_kind() -> bool:
    return (_folder() / "kind.json").exists()


def _wants_kind() -> bool:
    """Kind if it can be used, unless CAMFLEET_CLUSTER says `kind` or `processes`."""
    wanted = os.environ.get("CAMFLEET_CLUSTER", "")
    if wanted not in ("", "kind", "processes"):
        raise RuntimeError("CAMFLEET_CLUSTER is kind or processes")
    if wanted == "processes":
        return False
    why = kind.missing()
    if wanted == "kind" and why:
        raise RuntimeError(why)
    return why is None


def _gateway_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return free_port()
    return PORT


if __name__ == "__main__":
    main()
