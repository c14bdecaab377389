"""The access file's format: strict, and its errors name the entry and the rule, never a hash."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as validator

Role = Literal["reader", "writer", "auditor", "operator", "recorder", "admin"]
Hex16 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Hex32 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
TokenId = Annotated[str, StringConstraints(pattern="^[a-z0-9]{8}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\p{C}]+$")]
CollectionId = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\p{C}/]+$")]


class AccessFileError(Exception):
    """The access file cannot be used; the message says why, and holds none of its values."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class TokenEntry(_Entry):
    """One token: its public id, and the salted hash by which it is recognised (hex)."""

    id: TokenId
    salt: Hex16
    hash: Hex32


class SubjectEntry(_Entry):
    """One subject: its roles, the collections it may touch ("*": all) and its tokens."""

    subject: Name
    roles: list[Role] = Field(min_length=1)
    collections: Literal["*"] | list[CollectionId]
    tokens: list[TokenEntry]


class AccessFile(_Entry):
    """The whole file."""

    subjects: list[SubjectEntry]

    @validator(mode="after")
    def _names_are_unique(self) -> Self:
        _refuse_twice("subject", (entry.subject for entry in self.subjects))
        _refuse_twice("token id", (token.id for entry in self.subjects for token in entry.tokens))
        return self


def parse(text: str) -> AccessFile:
    """The entries of a file's YAML text; raises AccessFileError."""
    return checked(_yaml(text))


def checked(data: Any) -> AccessFile:
    """The entries from plain dicts and lists; raises AccessFileError."""
    try:
        return AccessFile.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        raise AccessFileError("; ".join(_problem(p["loc"], p["msg"]) for p in problems)) from None


def render(file: AccessFile) -> str:
    """The file as YAML, in the order of its entries."""
    return yaml.safe_dump(file.model_dump(), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, where YAML libraries silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _refuse_twice("key", (str(key.value) for key, _ in node.value))
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        # Only the place: the library's own message quotes the line.
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise AccessFileError(f"is no valid YAML at {where}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AccessFileError(str(error) if type(error) is ValueError else "is no YAML") from None


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"{what} given twice: {', '.join(twice)}")


def _problem(location: tuple[int | str, ...], message: str) -> str:
    """Such as `subjects[2].roles[0]: Input should be 'reader', …`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    message = message.removeprefix("Value error, ")
    return f"{path.lstrip('.')}: {message}" if path else message
