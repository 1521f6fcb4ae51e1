"""Which cluster, namespace and installation is meant: the options that every command has.

They may stand before or behind the command's name; behind it they win.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import click

_META = "camfleet.kubectl.target"


@dataclass(frozen=True, slots=True)
class Target:
    """What was said on the command line; None is unsaid."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    all_namespaces: bool = False
    install_namespace: str | None = None

    def over(self, outer: Target) -> Target:
        """These options, and those of `outer` where these are unsaid."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(outer, **{name: value for name, value in said.items() if value})


_OPTIONS = (
    click.option("--kubeconfig", metavar="FILE", help="Kubeconfig file; else $KUBECONFIG, ~/.kube/config."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig; else its current one."),
    click.option("-n", "--namespace", metavar="NAME", help="Namespace; else that of the context."),
    click.option("-A", "--all-namespaces", is_flag=True, help="Cameras of all namespaces."),
    click.option(
        "--install-namespace",
        metavar="NAME",
        help="Namespace that Camfleet is installed in; else it is looked for.",
    ),
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of what is printed."
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options above, as its argument `target`."""

    @functools.wraps(command)
    def with_target(*arguments: Any, **options: Any) -> Any:
        own = Target(**{field.name: options.pop(field.name) for field in fields(Target)})
        meta = click.get_current_context().meta
        target = own.over(meta.get(_META, Target()))
        if target.namespace and target.all_namespaces:
            raise click.UsageError("--namespace and --all-namespaces exclude each other")
        meta[_META] = target
        return command(*arguments, target=target, **options)

    for option in reversed(_OPTIONS):
        with_target = option(with_target)
    return with_target
