"""`schema`: the JSON Schemas of what p2pnet prints and reads, made from the shapes themselves."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import KINDS, SHAPES, JsonSchema
from p2pnet.cli.options import VerbOptions
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session

EXAMPLE = "p2pnet schema report"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class SchemaOptions(VerbOptions):
    """Print a JSON Schema.

    Of a document that p2pnet prints or reads.
    """

    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="report, status, subnet, trace, ...",
            show_default=False,
            autocompletion=shell_completion.kinds,
        ),
    ]


async def run(options: SchemaOptions, session: Session) -> Outcome:
    """The schema as a document; `session` has no say in it."""
    del session
    return Outcome(JsonSchema(options.kind, schema_of(options.kind)))


def schema_of(kind: str) -> dict[str, Any]:
    """JSON Schema 2020-12. CommandError (exit 2) for a kind there is not."""
    if kind == "subnet":
        from p2pnet.subnet.document import subnet_json_schema

        return subnet_json_schema()
    if kind == "scenario":
        from p2pnet.scenario.document import scenario_json_schema

        return scenario_json_schema()
    if kind == "injection":
        from p2pnet.subnet.injection import injection_json_schema

        return injection_json_schema()
    shape = SHAPES.get(kind)
    if shape is None:
        near = get_close_matches(kind, KINDS, n=1)
        guess = f", did you mean {near[0]}?" if near else ""
        raise CommandError(
            f"no schema is named {kind!r}{guess}", where=f"KIND {kind}", next_step=f"choose one of {', '.join(KINDS)}"
        )
    body = msgspec.json.schema(shape, schema_hook=_anything)
    name = body.pop("$ref").rpartition("/")[2]
    main = body["$defs"].pop(name)
    main["properties"]["schema"] = {"const": _default(shape, "schema")}
    main["required"] = list(main["properties"])  # nothing is left out when it is printed
    rest = {"$defs": body["$defs"]} if body["$defs"] else {}
    return {"$schema": DIALECT, "$id": f"https://p2pnet.io/schemas/{kind}.v1.json", **main, **rest}


def _anything(kind: type) -> dict[str, Any]:
    if kind is not object:
        raise TypeError(f"no schema for {kind}")
    return {"description": "any value"}


def _default(shape: type[msgspec.Struct], name: str) -> Any:
    return next(field.default for field in msgspec.structs.fields(shape) if field.name == name)
