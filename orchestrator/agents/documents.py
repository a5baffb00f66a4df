"""The text of a declaration, YAML or JSON, as JSON values.

A number is what JSON would read, and any other spelling of one is refused: `012`, `1:30` and
`1_000` are numbers in one version of YAML and others, or texts, in the next. A date is a text.
"""

import re
from typing import Any

import yaml

from orchestrator.domain.json import UnreadableJson, read_json, read_number, storable

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_EXPONENT = re.compile(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][-+]?[0-9]+$")
_INT, _FLOAT, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


class UnreadableDocument(ValueError):
    """What is wrong with the text, and where."""


def read_document(text: str, *, is_json: bool = False) -> Any:
    """The document's value. What is no JSON value (a set, a binary) is left for who checks it.

    Raises:
        UnreadableDocument: it is neither YAML nor JSON, or a number of it would be changed.
    """
    text = text.removeprefix("\ufeff")
    try:
        if is_json:
            return read_json(text)
        return storable(yaml.load(text, Loader=_Loader))  # noqa: S506 - a SafeLoader
    except UnreadableDocument:
        raise
    except UnreadableJson as error:
        raise UnreadableDocument(f"is {error}" if not error.is_number else str(error)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        one_line = " ".join(str(error).split())
        raise UnreadableDocument(f"is not valid YAML: {one_line}") from error


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are JSON's, and whose mappings have each key once."""

    def number(self, node: yaml.ScalarNode) -> int | float:
        text = str(self.construct_scalar(node))
        line = node.start_mark.line + 1
        if not _JSON_NUMBER.fullmatch(text):
            raise UnreadableDocument(
                f"line {line}: {text} is no number in JSON, and versions of YAML read it "
                "differently: write it like 90 or 0.5, or put it in quotes as a text"
            )
        try:
            return read_number(text)
        except UnreadableJson as error:
            raise UnreadableDocument(f"line {line}: {error}") from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the library's signature
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise UnreadableDocument(f"line {line}: {key.value!r} is there twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(_INT, _Loader.number)
_Loader.add_constructor(_FLOAT, _Loader.number)
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-0123456789"))
