"""Configuration files: TOML into frozen structs or dataclasses, unknown keys refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from trunkline.errors import Reason, Refusal

T = TypeVar("T")


def load(path: Path, kind: type[T]) -> T:
    """Read the TOML file at `path` as a `kind` (msgspec.Struct or dataclass, nested as tables).

    Raises CONFIG_INVALID naming the file and the key for a file that cannot be read or parsed, an unknown key (with
    the keys that are known there), a missing key or a value of the wrong type. Fields of type Path are taken as
    written; a leading "~" is the home directory.
    """
    return convert(parse(path), kind, str(path))


def parse(path: Path) -> dict[str, Any]:
    """The tables of the TOML file at `path`; raises CONFIG_INVALID when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refusal(
            str(path), f"cannot be read: {error.strerror}", "name a file that exists and is readable"
        ) from None
    except UnicodeDecodeError:
        raise _refusal(str(path), "is not UTF-8 text", "TOML is UTF-8; save the file so") from None
    except tomllib.TOMLDecodeError as error:
        raise _refusal(str(path), f"is not TOML: {error}", "mend the line named") from None


def convert(tables: dict[str, Any], kind: type[T], source: str) -> T:
    """Turn parsed tables into a `kind`; `source` is the name that errors carry. Raises as `load` does."""
    _refuse_unknown(tables, inspect.type_info(kind), "", source)
    try:
        return msgspec.convert(tables, kind, dec_hook=_special)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        key = where.strip("`").removeprefix("$").removeprefix(".")
        at = f"key {key}: " if key else ""
        raise _refusal(source, f"{at}{_lower(what)}".replace("`", ""), "mend that key") from None


def _special(kind: type, value: object) -> object:
    if issubclass(kind, Path) and isinstance(value, str):
        return Path(value).expanduser()
    # msgspec adds the key to a TypeError of a hook, and passes a ValidationError on as it is.
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _refuse_unknown(value: Any, kind: inspect.Type, at: str, source: str) -> None:
    match kind, value:
        case (inspect.StructType() | inspect.DataclassType(), dict()):
            known = {field.encode_name: field.type for field in kind.fields}
            for key, inner in value.items():
                if key not in known:
                    place = f"table [{at}]" if at else "this file"
                    raise _refusal(
                        source, f"unknown key {_join(at, key)}", f"{place} takes: {', '.join(sorted(known))}"
                    )
                _refuse_unknown(inner, known[key], _join(at, key), source)
        case (inspect.DictType(), dict()):
            for key, inner in value.items():
                _refuse_unknown(inner, kind.value_type, _join(at, key), source)
        case (inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType(), list()):
            for position, inner in enumerate(value):
                _refuse_unknown(inner, kind.item_type, f"{at}[{position}]", source)
        case (inspect.UnionType(), dict() | list()):
            # msgspec allows one table-like member in a union, so that one is meant.
            for member in kind.types:
                if not isinstance(member, inspect.NoneType):
                    _refuse_unknown(value, member, at, source)


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _refusal(source: str, what: str, remedy: str) -> Refusal:
    return Refusal(Reason.CONFIG_INVALID, f"{source}: {what}", remedy, file=source)
