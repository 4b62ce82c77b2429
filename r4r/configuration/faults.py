"""What pydantic finds wrong with settings, as sentences."""

import difflib
import inspect
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from r4r.configuration.targets import close_names

UNION_MEMBER = re.compile(r"str|int|float|bool|(list|dict|literal|constrained|function)[\[-].*")  # in pydantic's places


def sentences(error: ValidationError, model: type[BaseModel], prefix: str) -> list[tuple[str, str]]:
    """(dotted key, sentence) for each of pydantic's findings."""
    found: list[tuple[str, str]] = []
    for item in error.errors(include_url=False):
        loc = item["loc"]
        if len(loc) > 1 and UNION_MEMBER.fullmatch(str(loc[-1])):  # one of the types that a setting may have
            loc = loc[:-1]
            if found and found[-1][0] == ".".join([*([prefix] if prefix else []), *map(str, loc)]):
                continue
        path, group = _at(model, loc)
        if item["type"].startswith("union_tag"):  # which kind of group it is
            path = [*path, item["ctx"]["discriminator"].strip("'")]
        key = ".".join([*([prefix] if prefix else []), *map(str, path)])
        value, kind = item.get("input"), item["type"]
        if kind == "extra_forbidden":
            _, parent = _at(model, loc[:-1])
            known = list(parent.model_fields) if parent else []
            text = f"{key}: there is no such setting; {close_names(str(loc[-1]), known)}"
        elif kind in ("missing", "union_tag_not_found"):
            text = f"{key}: has no value; set {key}=..."
        elif kind in ("literal_error", "union_tag_invalid"):
            told = item.get("ctx", {})
            value = told.get("tag", value)
            allowed = re.findall(r"'([^']*)'", told.get("expected_tags", told.get("expected", "")))
            text = f"{key}={value}: must be one of {', '.join(allowed)}"
            near = difflib.get_close_matches(str(value), allowed, n=1)
            text += f"; did you mean {near[0]}?" if near else ""
        elif kind in ("model_type", "dict_type"):
            inside = f": {', '.join(group.model_fields)}" if group else ""
            text = f"{key}={value}: must be a group of settings{inside}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:].replace("Input should", "should")
            secret = key.endswith(".key_env") or (key.endswith(".base_url") and "@" in str(value))
            shown = key if secret else f"{key}={value!r}"  # somebody may have typed the key or a password itself
            text = f"{shown}: {message.replace('input should', 'should')}"
        found.append((key, text))
    return found


def _at(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[int | str], type[BaseModel] | None]:
    """A location without the names of the kinds that pydantic puts into it, and the schema of the group there, if it
    has one."""
    path: list[int | str] = []
    kinds, tag = [model], ""
    for part in loc:
        if tag:
            named = [kind for kind in kinds if part in get_args(kind.model_fields[tag].annotation)]
            kinds, tag = named or kinds, ""
            if named:
                continue
        if "[" in str(part) and UNION_MEMBER.fullmatch(str(part)):
            continue
        path.append(part)
        field = next((kind.model_fields[str(part)] for kind in kinds if part in kind.model_fields), None)
        kinds = models(field.annotation) if field else []
        tag = str(field.discriminator or "") if field else ""
    return path, kinds[0] if kinds else None


def models(annotation: Any) -> list[type[BaseModel]]:
    """The groups of settings that a type names."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) if not isinstance(inner, str) for found in models(inner)]
