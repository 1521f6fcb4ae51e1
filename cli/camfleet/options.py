"""Click options from the fields of a program's settings class.

A program describes each setting once, in its pydantic model. Here a field becomes an option
`--field-name` with the environment variable `CAMFLEET_FIELD_NAME` and the aliases that the field names under
`json_schema_extra={"env": […]}`; with `"flag": False` it can be set by the environment only, as secrets must.
A flag of a list may be repeated; its variable is split like PATH if it holds paths, else at white space
and commas.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from click.core import ParameterSource
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from camfleet_protocol.camera import problem_lines

Model = TypeVar("Model", bound=BaseModel)
_PREFIX = "CAMFLEET_"


def settings_command(
    name: str,
    model: type[Model],
    run: Callable[[Model], int],
    *,
    arguments: Iterable[str] = (),
    prepare: Callable[[dict[str, Any]], None] | None = None,
    help: str = "",
) -> click.Command:
    """Make a command that fills `model` from flags and environment and hands it to `run`.

    Args:
        name: Name of the command.
        model: The settings class.
        run: Gets the settings and returns the exit code.
        arguments: Fields that are positional.
        prepare: May complete the given values before they are validated.
        help: Text of `--help`.
    """
    positional = set(arguments)
    parameters: list[click.Parameter] = []
    secrets: dict[str, tuple[str, ...]] = {}
    for field_name, field in model.model_fields.items():
        if field_name in positional:
            parameters.append(click.Argument([field_name], metavar=field_name.upper()))
        elif _extra(field).get("flag", True):
            parameters.append(_option(field_name, field))
        else:
            secrets[field_name] = _environment(field_name, field)

    def callback(**values: Any) -> None:
        context = click.get_current_context()
        given = {
            key: value
            for key, value in values.items()
            if context.get_parameter_source(key) is not ParameterSource.DEFAULT
        }
        for key, names in secrets.items():
            if value := next((os.environ[n] for n in names if os.environ.get(n)), None):
                given[key] = value
        if prepare is not None:
            prepare(given)
        try:
            settings = model.model_validate(given)
        except ValidationError as error:
            lines = (
                f"  {line.replace('_', '-', line.split(':')[0].count('_'))}" for line in problem_lines(error)
            )
            raise click.UsageError("these settings are wrong:\n" + "\n".join(lines)) from None
        context.exit(run(settings))

    notes = "".join(
        f"\n\n{' or '.join(names)} (environment only): {model.model_fields[key].description}"
        for key, names in secrets.items()
    )
    return click.Command(name, params=parameters, callback=callback, help=help + notes)


class _Words(click.ParamType):  # type: ignore[type-arg]
    """Text whose variable may hold several, separated by white space or commas."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        return rv.replace(",", " ").split()


def _option(name: str, field: FieldInfo) -> click.Option:
    kind, multiple = _kind(field.annotation)
    environment = _environment(name, field)
    flag = f"--{name.replace('_', '-')}"
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    # Click shows what the model will apply; it applies no default itself.
    shown = f"  [default: {default}]" if default not in (None, (), "", False) else ""
    declaration = f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag
    options: dict[str, Any] = {
        "envvar": list(environment),
        "help": f"{field.description or ''}{shown}  [env: {', '.join(environment)}]",
    }
    if kind is bool:
        return click.Option([declaration, name], is_flag=True, default=bool(default), **options)
    if kind is Path:
        kind = click.Path(path_type=Path)
    elif kind is str and multiple:
        kind = _Words()
    if isinstance(kind, click.ParamType):
        options["type"] = kind
    if multiple:
        options["multiple"] = True
    else:
        options["default"] = None
    options["metavar"] = _metavar(kind, name) if not isinstance(kind, click.Choice) else None
    return click.Option([declaration, name], **options)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type a value has on the command line, and whether the option may be repeated."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return _kind(next(part for part in inner if part is not NoneType))
    if origin in (tuple, list):
        return _kind(inner[0])[0], True
    if origin is Literal:
        return click.Choice([str(value) for value in inner]), False
    return annotation, False


def _metavar(kind: Any, name: str) -> str:
    if isinstance(kind, click.Path):
        return "PATH"
    return "NUMBER" if kind in (int, float) else name.rpartition("_")[2].upper()


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _environment(name: str, field: FieldInfo) -> tuple[str, ...]:
    own = f"{_PREFIX}{name.upper()}"
    return tuple(dict.fromkeys((own, *_extra(field).get("env", ()))))
