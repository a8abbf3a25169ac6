"""What stands under a field in the source describes it, in JSON Schemas and for `kubectl explain`.

Read from the source when somebody asks for a schema: pydantic's own reading does it in every process that checks a document,
for a tenth of the time that a lab needs to start.
"""

import ast
import inspect
import sys
from functools import cache


@cache
def descriptions_of(model: type) -> dict[str, str]:
    """By name: the string under each annotated name in the bodies of a class and its bases."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if one.__module__.startswith("pydantic."):
            continue
        found |= _documented(one.__module__).get(one.__qualname__, {})
    return found


@cache
def _documented(module: str) -> dict[str, dict[str, str]]:
    """By class of a module, at its top level."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, TypeError, OSError):  # built in, or nowhere to be read
        return {}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(filter(None, map(_described, node.body, node.body[1:]))) for node in classes}


def _described(statement: ast.stmt, following: ast.stmt) -> tuple[str, str] | None:
    """(name, what stands under it) of an annotated name; None of anything else."""
    match statement, following:
        case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
            return name, inspect.cleandoc(text)
    return None
