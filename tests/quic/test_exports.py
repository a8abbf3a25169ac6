"""`p2pnet.quic` is whole: whatever its public face takes, returns or raises can be imported from it."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from p2pnet import model, quic, trust
from p2pnet.model import errors

MADE_BY_US = {"Connection", "Endpoint", "Exchange", "Message", "ReceiveStream", "SendStream", "Sending", "UdpSocket"}
"""Nobody else calls their constructors."""
FOR_US = re.compile(r"    # (For its parts|For transports|For streams|From |What the endpoint calls|Private)")
"""Begins the part of a class that only p2pnet.quic itself uses, up to its end."""
INTERNAL = {"start"}
"""Named as if for users, but an Outbox calls it."""
WORD = re.compile(r"[A-Za-z_]\w*")


def modules() -> Iterator[ModuleType]:
    for package in (quic, trust, model):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith("p2pnet.subnet.document"):  # what people write needs pydantic
                yield importlib.import_module(found.name)


def defined(module: ModuleType) -> Iterator[str]:
    """Its own classes, and the aliases of types: capitalized names that are no constants."""
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            made = getattr(getattr(statement.value, "func", None), "id", "")
            if made not in {"TypeVar", "TypeVarTuple", "ParamSpec"}:
                yield statement.targets[0].id


TYPES = {name for module in modules() for name in defined(module) if re.fullmatch(r"[A-Z]+[a-z]\w*", name)}
ERRORS = {
    name
    for module in modules()
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, errors.P2pnetError) and name != "SpecError"
}


def lines_for_users(kind: type) -> Iterator[ast.stmt]:
    """The statements of a class up to the part that is for p2pnet.quic itself."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    end = next((number for number, line in enumerate(lines, 1) if FOR_US.match(line)), len(lines) + 1)
    [body] = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    for statement in body.body:
        name = getattr(statement, "name", getattr(getattr(statement, "target", None), "id", ""))
        if statement.lineno < end and name not in INTERNAL and (not name.startswith("_") or name == "__init__"):
            yield statement


def said_by(statement: ast.stmt, *, constructed: bool) -> Iterator[str]:
    """What a method or attribute says of its types; of a constructor, also those of public attributes."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if statement.name != "__init__" or constructed:
                given = statement.args
                for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                    if argument.annotation is not None:
                        yield ast.unparse(argument.annotation)
                if statement.returns is not None:
                    yield ast.unparse(statement.returns)
            for inner in ast.walk(statement):
                target = inner.target if isinstance(inner, ast.AnnAssign) else None
                if isinstance(inner, ast.AnnAssign) and not getattr(target, "attr", "_").startswith("_"):
                    yield ast.unparse(inner.annotation)
        case ast.AnnAssign():
            yield ast.unparse(statement.annotation)


def named_by(name: str) -> set[str]:
    """The types of ours that an exported name shows to its users."""
    value = getattr(quic, name)
    if not isinstance(value, type):
        if not inspect.isfunction(value):  # an alias
            return set()
        parameters = inspect.signature(value)
        texts = [str(one.annotation) for one in parameters.parameters.values()] + [str(parameters.return_annotation)]
    else:
        bases = [kind for kind in value.__mro__ if kind.__module__.startswith("p2pnet.quic")]
        texts = [
            text
            for kind in bases
            for statement in lines_for_users(kind)
            for text in said_by(statement, constructed=name not in MADE_BY_US)
        ]
    return {word for text in texts for word in WORD.findall(text)} & TYPES


def documented(value: Any) -> Iterator[str]:
    """Its docstring, and those of its public methods."""
    yield inspect.getdoc(value) or ""
    for name, member in vars(value).items() if isinstance(value, type) else ():
        if not name.startswith("_"):
            yield inspect.getdoc(member) or ""


@pytest.mark.parametrize("name", quic.__all__)
def test_the_types_that_it_takes_and_returns_are_exported_too(name: str) -> None:
    assert named_by(name) - set(quic.__all__) == set()


@pytest.mark.parametrize("name", quic.__all__)
def test_the_errors_that_it_says_it_raises_are_exported_too(name: str) -> None:
    said = {word for text in documented(getattr(quic, name)) for word in WORD.findall(text)}
    assert (said & ERRORS) - set(quic.__all__) == set()


def test_every_error_of_the_peer_layer_is_exported_with_those_it_derives_from() -> None:
    raised = {
        kind for kind in map(vars(quic).get, quic.__all__) if isinstance(kind, type) and issubclass(kind, Exception)
    }
    families = {base.__name__ for kind in raised for base in kind.__mro__ if issubclass(base, errors.P2pnetError)}
    own = {name for module in modules() if module.__name__.startswith("p2pnet.quic") for name in defined(module)}
    assert families | (own & ERRORS) <= set(quic.__all__)


def test_what_a_method_names_is_found() -> None:
    assert named_by("Trust") >= {"Bundle", "IdentitySource"}
    assert named_by("Connection") >= {"CloseReason", "Exchange", "Message", "ReceiveStream", "Sending", "SendStream"}
    assert named_by("FixedIdentity") >= {"Identity"}
