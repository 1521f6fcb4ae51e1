"""What the blocks of a Camera are made of: bounded numbers, texts of a form, URLs, and rules.

Every constraint is written once and holds twice: pydantic checks it in each program, and the schemas in
`crds/`, generated from the models, have the API server check it in the same words. Therefore a pattern must
mean the same to Python's `re` and to RE2: no look-around, no back-references, `$` only at its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

RULES = "x-kubernetes-validations"
"""Key of a schema's CEL rules."""

MAX_LABEL = 63
MAX_INT32 = 2**31 - 1
MAX_EXACT = 2**53
"""The largest integer that every reader of JSON keeps exactly."""


class Spec(BaseModel):
    """Base of all user-written blocks: camelCase outside, unknown fields refused, immutable.

    Inputs never appear in validation errors: a refused URL may hold a password.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("$", r"\Z"))  # Python's $ would let a final newline pass


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text, as CEL's `matches` would say."""
    return _compiled(pattern).search(text) is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of a block; the model has a validator that says the same.

    Attributes:
        cel: True if the block is good.
        message: What the user reads otherwise.
        field: The field the message is about, if it is one; the API server then names that, and still shows
            no value, because the rule belongs to the block.
    """

    cel: str
    message: str
    field: str | None = None

    def schema(self) -> dict[str, Any]:
        """The rule as in a CustomResourceDefinition."""
        entry = {"rule": self.cel, "message": self.message}
        if self.field is not None:
            entry["fieldPath"] = f".{self.field}"
        return entry


def rules(*given: Rule) -> dict[str, Any]:
    """The `json_schema_extra` of a block with these rules."""
    return {RULES: [rule.schema() for rule in given]}


@dataclass(frozen=True, slots=True)
class Form:
    """Annotates a text (or, with `keys`, a map) with the form that it (or each key) must have.

    Attributes:
        message: What the user reads if it is not so.
        pattern: What must be found in it.
        never: What must not be found in it.
        only: What must be found in it for this form to apply at all.
        keys: Whether this is about the keys of a map.
    """

    message: str
    pattern: str | None = None
    never: str | None = None
    only: str | None = None
    keys: bool = False

    def cel(self, name: str) -> str:
        """The CEL expression that says it of the text called `name`."""
        parts = []
        if self.pattern is not None:
            parts.append(f"{name}.matches(r'{self.pattern}')")
        if self.never is not None:
            parts.append(f"!{name}.matches(r'{self.never}')")
        said = " && ".join(parts)
        return said if self.only is None else f"!{name}.matches(r'{self.only}') || {said}"

    def check(self, text: str) -> None:
        """Raise ValueError with the message if the text is not so."""
        if self.only is not None and not matches(self.only, text):
            return
        good = self.pattern is None or matches(self.pattern, text)
        if not good or (self.never is not None and matches(self.never, text)):
            raise ValueError(self.message)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after everything else about the field."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the CEL rule to the field's schema."""
        found = handler(schema)
        cel = f"self.all(key, {self.cel('key')})" if self.keys else self.cel("self")
        return {**found, RULES: [*found.get(RULES, ()), Rule(cel, self.message).schema()]}

    def _check(self, value: Any) -> Any:
        for text in value if self.keys else (value,):
            self.check(text)
        return value


# ── Numbers and switches ────────────────────────────────────────────────────────────────────────────────


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""5.0 is the integer 5, as it is to the API server; "5" and true are not."""

Flag = Annotated[bool, Field(strict=True)]
Fps = Annotated[float, Field(ge=0.1, le=120, strict=True, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
Seconds = Annotated[int, Field(ge=1, le=600, strict=True), WHOLE]
SecondsOrOff = Annotated[int, Field(ge=0, le=3600, strict=True), WHOLE]
"""0 switches off whatever waits for so long."""

# ── Texts ───────────────────────────────────────────────────────────────────────────────────────────────

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_MAX_QUANTITY = 10**15
_PARENT_SEGMENT = r"(^|/)\.\.(/|$)"

LABEL_PATTERN = f"^{_LABEL}$"
LABEL_MESSAGE = (
    "must be a DNS label: at most 63 lower-case letters, digits and '-', with a letter or digit at both ends"
)

DnsLabel = Annotated[str, Field(min_length=1, max_length=MAX_LABEL), Form(LABEL_MESSAGE, LABEL_PATTERN)]
DnsSubdomain = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Form(
        "must be a Kubernetes name: lower-case letters, digits, '-' and '.', "
        "with a letter or digit at both ends",
        f"^{_SUBDOMAIN}$",
    ),
]
ModelName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_LABEL),
    Form(
        "must be the name of a model, such as buffalo_l: lower-case letters, digits, '-', '_' and '.'",
        r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$",
    ),
]
"""A file (without .onnx) or folder of the model folder; a part of a path, never a path."""
_QUALIFIED = Form(
    "must be a Kubernetes label key, such as zone or example.com/zone", f"^({_SUBDOMAIN}/)?{_NAME}$"
)
QualifiedName = Annotated[str, Field(min_length=1, max_length=253), _QUALIFIED]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    Form("must be a Kubernetes label value: letters, digits, '-', '_' and '.'", f"^({_NAME})?$"),
]


def _without_nulls(value: object) -> object:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


WITHOUT_NULLS = BeforeValidator(_without_nulls)
"""A key of a map without a value is no key, as to the API server."""
QUALIFIED_KEYS = Form(
    "every key must be a Kubernetes name, such as zone or example.com/zone",
    f"^({_SUBDOMAIN}/)?{_NAME}$",
    keys=True,
)
ResourceName = Annotated[
    str,
    Field(min_length=3, max_length=253),
    Form(
        "must be the name of an extended resource, such as nvidia.com/gpu or nvidia.com/mig-1g.5gb",
        f"^{_SUBDOMAIN}/{_NAME}$",
        r"(^|\.)kubernetes\.io/|^requests\.",
    ),
]
ImageName = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Form(
        "must be the name of a container image, such as registry.example/team/worker:1.2",
        r"^[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?$",
    ),
]
FilePath = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Form("must not have control characters", never=r"[\x00-\x1f\x7f-\x9f]"),
    Form("must not go up with '..'", never=_PARENT_SEGMENT),
]
DevicePath = Annotated[
    str,
    Field(min_length=1, max_length=256),
    Form("must be a path under /dev, such as /dev/video0", r"^/dev/[A-Za-z0-9/_.:-]+$", _PARENT_SEGMENT),
]


def _quantity(value: object) -> object:
    number = _whole(value)
    if isinstance(number, int) and not isinstance(number, bool) and number < _MAX_QUANTITY:
        return str(number)
    return value


Quantity = Annotated[
    str,
    Field(min_length=1, max_length=32),
    Form("must be a quantity, such as 2, 500m or 1.5Gi", _QUANTITY),
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minLength": 1,
            "maxLength": 32,
            "pattern": _QUANTITY,
            "minimum": 0,
            "maximum": _MAX_QUANTITY - 1,
        }
    ),
]
"""As in a pod: a text, or an integer (`cpu: 2`), which becomes its text. A fraction must be in quotes."""

Opaque = Annotated[
    dict[str, Any],
    Field(max_length=64),
    WithJsonSchema({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": True}),
]
"""An object that is passed on as it is; Kubernetes checks it where it is used."""


def _unique_names(value: Any) -> Any:
    names = [entry.name for entry in value]
    if len(set(names)) < len(names):
        raise ValueError("two entries have the same name")
    return value


UNIQUE_NAMES = AfterValidator(_unique_names)
BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
"""A list whose entries have names of their own, for the API server; `UNIQUE_NAMES` says it to pydantic."""

# ── URLs ────────────────────────────────────────────────────────────────────────────────────────────────

_H16 = "[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    [
        f"({_H16}:){{7}}{_H16}",
        f"({_H16}:){{1,7}}:",
        f":(:{_H16}){{1,7}}",
        *(f"({_H16}:){{1,{7 - n}}}(:{_H16}){{1,{n}}}" for n in range(1, 7)),
        "::",
    ]
)
_HOST = rf"([A-Za-z0-9._-]+|\[({_IPV6})\])"
_WITH_HOST = "^[a-z]+://[^/?#:@][^/?#@]*([/?#]|$)"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


@dataclass(frozen=True, slots=True)
class Url:
    """The form of a URL without user and password.

    The API server is told about it by `rules` of the block that holds the URL, never by rules of the field:
    those would show the refused value, password and all.
    """

    schemes: tuple[str, ...]

    def forms(self) -> tuple[Form, ...]:
        """What the URL must be like; what is wrong with it is told once."""
        return (
            Form(
                "the URL has whitespace, control or non-ASCII characters; percent-encode them",
                never="[^!-~]",
            ),
            Form(
                f"the URL must start with {' or '.join(s + '://' for s in self.schemes)}",
                f"^({'|'.join(self.schemes)})://",
            ),
            Form(
                "the URL has a user or password in it; put them into a Secret "
                "and name it in credentialsSecretRef",
                never="^[^/?#]*//[^/?#]*@",
            ),
            Form("the URL has no host", never="^[a-z]+://([/?#:]|$)"),
            Form(
                "the host of the URL is neither a name nor an address",
                f"^[a-z]+://{_HOST}([:/?#]|$)",
                only=_WITH_HOST,
            ),
            Form(
                "the port of the URL is not a number from 1 to 65535",
                rf"^[a-z]+://(\[[^\]/?#]*\]|[^:/?#]*)(:{_PORT})?([/?#]|$)",
                only=_WITH_HOST,
            ),
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after everything else about the field."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def rules(self, field: str, *, optional: bool = False) -> tuple[Rule, ...]:
        """The same as rules of the block that has the URL in `field`."""
        guard = f"!has(self.{field}) || " if optional else ""
        return tuple(Rule(guard + form.cel(f"self.{field}"), form.message, field) for form in self.forms())

    def _check(self, value: str) -> str:
        for form in self.forms():
            form.check(value)
        return value


RTSP_URL = Url(("rtsp", "rtsps"))
HTTP_URL = Url(("http", "https"))
RtspUrl = Annotated[str, Field(min_length=1, max_length=2048), RTSP_URL]
HttpUrl = Annotated[str, Field(min_length=1, max_length=2048), HTTP_URL]
