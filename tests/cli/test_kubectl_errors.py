"""What cannot be asked is one line and exit code 2, never a traceback: cluster, rights, names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from kubectl_site import CAMERAS, PluginSite
from tests.testbed.components import find
from tests.testbed.control_plane import ControlPlane

from camfleet.kubectl.main import cli
from support.api_server import api_server
from support.require import need

pytestmark = [pytest.mark.cluster]

READ = {"apiGroups": ["camfleet.io"], "resources": ["cameras", "cameraprofiles"], "verbs": ["get", "list"]}


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(cli, arguments, env={"KUBECONFIG": None, **(environment or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def config(path: Path, **cluster: object) -> Path:
    """A kubeconfig for some address."""
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "canary-token"}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "main",
    }
    path.write_text(json.dumps(document))
    return path


def test_no_kubeconfig_no_context_no_yaml(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    code, said = run("status", environment={"KUBECONFIG": str(missing), "KUBERNETES_SERVICE_HOST": ""})
    assert (code, said.splitlines()[0]) == (2, f"error: there is no kubeconfig at {missing}")
    good = config(tmp_path / "config", server="https://127.0.0.1:1")
    code, said = run("status", f"--kubeconfig={good}", "--context=other")
    assert (code, said) == (2, "error: the kubeconfig has no context other\nhint: it has main\n")
    (tmp_path / "bad").write_text("{")
    code, said = run("status", f"--kubeconfig={tmp_path / 'bad'}")
    assert code == 2
    assert said.startswith(f"error: the kubeconfig {tmp_path / 'bad'} cannot be used: ")
    code, said = run("status", "-A", "-n", "x", f"--kubeconfig={good}")
    assert (code, "exclude each other" in said) == (2, True)


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    code, said = run("status", f"--kubeconfig={config(tmp_path / 'c', server=f'https://127.0.0.1:{port}')}")
    first = said.splitlines()[0]
    assert code == 2
    assert first.startswith(
        f"error: the API server https://127.0.0.1:{port} (context main) cannot be reached: "
    )
    assert "refused" in first
    assert "0x" not in said


def test_wrong_certificate_and_wrong_token(plane: ControlPlane, tmp_path: Path) -> None:
    code, said = run("status", f"--kubeconfig={config(tmp_path / 'a', server=plane.url)}")
    assert (code, "certificate" in said) == (2, True)
    file = config(tmp_path / "b", server=plane.url, **{"insecure-skip-tls-verify": True})
    with pytest.warns(match="Unverified HTTPS"):
        code, said = run("status", f"--kubeconfig={file}")
    assert (code, "does not know you" in said, "canary" in said) == (2, True, False)


def test_forbidden_names_the_right_and_the_way_out(site: PluginSite) -> None:
    nobody, reader = site.user(), site.user(READ)
    result = site.run("status", kubeconfig=nobody)
    assert result.exit_code == 2
    assert (
        'error: not allowed: cameras.camfleet.io is forbidden: User "system:serviceaccount' in result.stderr
    )
    result = site.run("status", "-A", kubeconfig=reader)
    assert "with -n NAMESPACE, it takes a right in one namespace only" in result.stderr
    # Reading cameras is enough for a status without the operator's word.
    site.installed()
    site.camera("good")
    result = site.run("status", kubeconfig=reader)
    assert (result.exit_code, "operator: not asked: not allowed: pods is forbidden" in result.stdout) == (
        0,
        True,
    )
    result = site.run("move", "good", kubeconfig=reader)
    assert (result.exit_code, "cannot patch resource" in result.stderr) == (2, True)


def test_names_are_suggested(site: PluginSite) -> None:
    site.camera("gate-north")
    site.camera("gate-south")
    assert "hint: did you mean gate-north" in site.run("explain", "gate-nort").stderr
    assert f"error: there is no camera {site.name}/hall\nhint: there are gate-north, gate-south\n" == (
        site.run("logs", "hall").stderr
    )
    assert site.run("explain", f"{site.name}/gate-north", "-n", "default").exit_code == 0
    assert site.run("explain", f"{site.name}.gate-north", "-A").exit_code == 0
    assert (
        f"hint: there is {site.name}/gate-north" in site.run("explain", "gate-north", "-n", "default").stderr
    )
    assert "error: 'Gate!' is no name of a camera" in site.run("explain", "Gate!").stderr
    assert "did you mean" in site.run("move", "gate-suth", "-A").stderr
    site.profile("outdoor")
    assert "hint: did you mean outdoor?" in site.run("pause", "--profile=outdor").stderr


def test_a_name_of_several_namespaces_is_ambiguous(site: PluginSite) -> None:
    site.camera("twin")
    body = {"metadata": {"name": "twin"}, "spec": {"source": {"testPattern": {}}}}
    document = {"apiVersion": "camfleet.io/v1alpha1", "kind": "Camera", **body}
    path = f"{CAMERAS}/namespaces/{site.install}/cameras"
    site.plane.post(path, document)
    result = site.run("explain", "twin", "-A")
    both = ", ".join(sorted(f"{n}/twin" for n in (site.name, site.install)))
    assert (result.exit_code, f"hint: say which: {both}" in result.stderr) == (2, True)
    site.plane.delete(path)
    assert site.run("explain", "twin", "-A").exit_code == 0


def test_a_cluster_without_the_crds() -> None:
    with api_server(crds=False) as bare:
        for arguments in (("status",), ("explain", "gate"), ("pause", "gate")):
            code, said = run(*arguments, f"--kubeconfig={bare.kubeconfig}")
            assert (code, "this cluster does not know Cameras: the CRDs" in said) == (2, True), said


def test_kubectl_finds_the_plugin(plane: ControlPlane) -> None:
    """The console script on the PATH, found and run by the real kubectl."""
    folder = Path(sys.executable).parent
    need((folder / "kubectl-camfleet").exists(), "the console script kubectl-camfleet: pip install -e .")
    kubectl = find("kubectl")
    environment = {
        **os.environ,
        "PATH": f"{folder}:{kubectl.parent}:/usr/bin:/bin",
        "KUBECONFIG": str(plane.kubeconfig),
    }
    assert shutil.which("kubectl-camfleet", path=environment["PATH"])

    def kubectl_camfleet(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl, "camfleet", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    helped = kubectl_camfleet("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("Usage: kubectl camfleet [OPTIONS] COMMAND")
    assert kubectl_camfleet().stdout == helped.stdout
    asked = kubectl_camfleet("status", "-n", "nowhere", "--install-namespace=nowhere")
    assert (asked.returncode, "There are no cameras in namespace nowhere." in asked.stdout) == (0, True)
    assert kubectl_camfleet("-n", "nowhere", "explain", "gate").returncode == 2


def test_help_imports_next_to_nothing() -> None:
    script = (
        "import sys, camfleet.kubectl.main as m\n"
        "try: m.main([])\n"
        "except SystemExit: pass\n"
        "print([n for n in sys.modules if n in ('kubernetes', 'pydantic', 'yaml', 'websockets', 'urllib3')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command", ["status", "explain", "move", "pause", "resume", "logs", "watch", "report"]
)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    for option in ("--kubeconfig", "--context", "--namespace", "--all-namespaces"):
        assert option in result.output
