"""The command line: help that helps, settings from flags and environment, mistakes named at once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field

from camfleet.main import cli
from camfleet.options import settings_command
from camfleet_protocol import __version__


class Sample(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(description="A name.", json_schema_extra={"env": ["OLD_NAME"]})
    rate: float = Field(5, gt=0, description="A rate.")
    root: tuple[Path, ...] = Field((), description="Folders.")
    words: tuple[str, ...] = Field((), description="Words.")
    dry: bool = Field(False, description="Dry run.")
    token: str | None = Field(
        None, description="A secret.", json_schema_extra={"flag": False, "env": ["OLD_KEY"]}
    )


def invoke(arguments: list[str], environment: dict[str, str] | None = None) -> tuple[int, str, list[Sample]]:
    got: list[Sample] = []

    def run(settings: Sample) -> int:
        got.append(settings)
        return 0

    result = CliRunner().invoke(settings_command("sample", Sample, run), arguments, env=environment or {})
    return result.exit_code, result.output, got


def test_flags_win_over_environment_and_old_names_count() -> None:
    _, _, (settings,) = invoke(
        ["--rate=7", "--root=a", "--root=b", "--dry"],
        {"OLD_NAME": "old", "CAMFLEET_RATE": "3", "OLD_KEY": "s3cret"},
    )
    assert settings == Sample(name="old", rate=7, root=(Path("a"), Path("b")), dry=True, token="s3cret")


def test_a_list_of_paths_in_the_environment_is_split_as_path_is() -> None:
    _, _, (settings,) = invoke(["--name=x"], {"CAMFLEET_ROOT": os.pathsep.join(("a", "b"))})
    assert settings.root == (Path("a"), Path("b"))


def test_a_list_of_words_in_the_environment_is_split_at_commas_and_spaces() -> None:
    _, _, (settings,) = invoke(["--name=x"], {"CAMFLEET_WORDS": "a,b c"})
    assert settings.words == ("a", "b", "c")


def test_every_mistake_is_named_and_no_value_shown() -> None:
    code, output, got = invoke(["--rate=-4"], {"CAMFLEET_TOKEN": "s3cret"})
    assert (code, got) == (2, [])
    assert "name: is missing" in output
    assert "rate: Input should be greater than 0" in output
    assert "s3cret" not in output


def test_a_secret_has_no_flag_and_help_names_its_variable() -> None:
    code, output, _ = invoke(["--help"])
    assert code == 0
    assert "--token" not in output
    assert "CAMFLEET_TOKEN" in output


@pytest.mark.parametrize("command", ["local", "demo", "gateway", "worker", "validate", "models", "token"])
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) > 5


def test_version() -> None:
    assert __version__ in CliRunner().invoke(cli, ["--version"]).output


def test_help_imports_no_program() -> None:
    script = (
        "import sys, camfleet.main as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in sys.modules if n in ('cv2', 'fastapi', 'av', 'yaml', 'watchfiles', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_worker_imports_neither_gateway_nor_operator() -> None:
    script = (
        "import sys, camfleet.programs as p\n"
        "p.worker\n"
        "print([n for n in sys.modules if n.split('.')[0] in "
        "('fastapi', 'uvicorn', 'yaml', 'insightface', 'camfleet_gateway', 'camfleet_operator')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_token_is_shown_once_and_only_its_hash_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    run = CliRunner()
    token = run.invoke(
        cli, ["token", "create", "ops", "--role", "operator", "--file", str(file)]
    ).output.strip()
    assert token.startswith("cft_")
    (entry,) = yaml.safe_load(file.read_text())["tokens"]
    assert entry == {"name": "ops", "role": "operator", "sha256": hashlib.sha256(token.encode()).hexdigest()}
    assert file.stat().st_mode & 0o077 == 0
    again = run.invoke(cli, ["token", "create", "ops", "--file", str(file)])
    assert again.exit_code == 1
    assert "already" in again.output
    assert run.invoke(cli, ["token", "list", "--file", str(file)]).output == "ops\toperator\n"
    assert run.invoke(cli, ["token", "remove", "ops", "--file", str(file)]).exit_code == 0
    assert yaml.safe_load(file.read_text()) == {"tokens": []}


@pytest.mark.parametrize("name", ["", "x" * 65, "two words", "new\nline"])
def test_a_token_name_that_the_gateway_would_refuse_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    result = CliRunner().invoke(cli, ["token", "create", name, "--file", str(file)])
    assert result.exit_code == 1
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["local", ".", "--log-level", "loud"], "log-level"),
        (["demo", "--log-level", "loud"], "log-level"),
        (["demo", "--dir", "/proc/demo"], "cannot be used"),
        (["local", "/nonexistent"], "is not a folder"),
        (["token", "create", "x", "--file", "/nonexistent/tokens.yaml"], "cannot be written"),
        (["worker", "--camera", "No Such"], "camera"),
        (["gateway", "--port", "70000"], "port"),
        (["local"], "FOLDER"),
    ],
)
def test_a_mistake_is_a_message_and_no_traceback(arguments: list[str], told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "camfleet", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_names_mistakes_and_exits_with_one(tmp_path: Path) -> None:
    (tmp_path / "cam.yaml").write_text("kind: Camera\n")
    result = CliRunner().invoke(cli, ["validate", str(tmp_path)])
    assert result.exit_code == 1
    assert "cam.yaml: ?: apiVersion is missing" in result.output
