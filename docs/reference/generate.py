"""Writes this folder's pages from the program itself: `python docs/reference/generate.py`.

commands.md from click, options.md from pydantic, python.md from the public names' own words.
tests/docs/test_reference.py fails while a page differs from what would be written now.
"""

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MADE = "*Written by `docs/reference/generate.py`; do not edit.*\n\n"


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name -> what it should hold."""
    return {
        "commands.md": commands_page(),
        "options.md": options_page(),
        "python.md": python_page(),
    }


# === Commands, from click ===


def commands_page() -> str:
    """Every verb with its help, arguments and options."""
    from kderm.cli import main as group

    parts = [
        "# Commands\n\n",
        MADE,
        "`python run.py VERB`, or `kderm VERB` once it is installed. `SECTION.KEY=VALUE` stands "
        "for any of the [options of a config](options.md).\n",
    ]
    for name, command in _verbs(group):
        parts.append(f"\n## {name}\n\n{_paragraphs(command.help)}\n")
        usage = command.collect_usage_pieces(click.Context(command))
        parts.append(f"\n```\npython run.py {' '.join([name, *usage])}\n```\n")
        rows = [_option_row(each) for each in command.params if isinstance(each, click.Option)]
        if rows:
            parts.append("\n| option | value | default | what it does |\n|---|---|---|---|\n")
            parts += [f"| {' | '.join(map(_cell, row))} |\n" for row in rows]
    return "".join(parts)


def _verbs(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """(name, command) of every verb, with those of its groups behind it."""
    for name, command in group.commands.items():
        yield f"{above}{name}", command
        if isinstance(command, click.Group):
            yield from _verbs(command, f"{above}{name} ")


def _option_row(option: click.Option) -> list[str]:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else option.metavar or _kind(option.type)
    required = "required" if option.required else ""
    default = "" if option.is_flag or not _has_default(option) else f"`{option.default}`"
    return [names, f"`{value}`" if value else "", required or default, option.help or ""]


def _has_default(option: click.Option) -> bool:
    """Whether click gives a value where the user gives none."""
    return isinstance(option.default, str | int | float)


def _kind(kind: click.ParamType) -> str:
    if isinstance(kind, click.Choice):
        return " or ".join(map(str, kind.choices))
    if isinstance(kind, click.IntRange | click.FloatRange):
        least = "" if kind.min is None else f">= {kind.min}"
        most = "" if kind.max is None else f"<= {kind.max}"
        return " ".join(filter(None, [kind.name.split()[0], least, most]))
    return kind.name


# === Options, from pydantic ===


def options_page() -> str:
    """Every field of the config: type, default, range, description."""
    from kderm.config.schema import Config, SourceConfig

    parts = [
        "# Options of a config\n\n",
        MADE,
        "A YAML file (`--config FILE`) states what differs from the defaults; on the command line "
        'an option is `section.key=value`, in Python `settings={"section.key": value}`.\n',
    ]
    own = {name: field for name, field in Config.model_fields.items() if not _section(field)}
    parts += ["\n## (top)\n\n", _fields_table(own, "")]
    for name, field in Config.model_fields.items():
        if section := _section(field):
            parts.append(f"\n## {name}\n\n{_paragraphs(section.__doc__)}\n\n")
            parts.append(_fields_table(section.model_fields, f"{name}."))
    parts.append(f"\n## data.sources, each\n\n{_paragraphs(SourceConfig.__doc__)}\n\n")
    parts.append(_fields_table(SourceConfig.model_fields, ""))
    return "".join(parts)


def _section(field: FieldInfo) -> type | None:
    from pydantic import BaseModel

    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _fields_table(fields: dict[str, FieldInfo], prefix: str) -> str:
    rows = ["| option | type | default | range | what it is |\n|---|---|---|---|---|\n"]
    for name, field in fields.items():
        required = field.default is PydanticUndefined
        default = "required" if required else f"`{_plain(field.default)}`"
        cells = [f"`{prefix}{name}`", _type(field.annotation), default, _range(field)]
        rows.append(f"| {' | '.join(map(_cell, [*cells, field.description or '']))} |\n")
    return "".join(rows)


def _plain(value: object) -> str:
    """A default as it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return "{}" if value == {} else str(value)


def _type(kind: object) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(each) for each in arguments if each is not type(None)) + " or null"
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"map of {_type(arguments[0])} to {_type(arguments[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return names.get(kind, "source")


def _range(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return ", ".join(found)


# === Python, from the public names ===


def python_page() -> str:
    """Every public name: what it takes and what it says of itself."""
    import kderm

    parts = [
        "# Python\n\n",
        MADE,
        "`import kderm` is instant: each name is loaded when it is first used. The "
        "[tutorial](../tutorial.md) shows them at work.\n",
    ]
    for name in kderm.__all__:
        value = getattr(kderm, name)
        parts.append(f"\n## kderm.{name}\n\n")
        if inspect.isclass(value):
            parts.append(_class_text(name, value))
        else:
            parts.append(_callable_text(f"kderm.{name}", value))
    return "".join(parts)


def _class_text(name: str, kind: type) -> str:
    has_init = "__init__" in vars(kind) and not dataclasses.is_dataclass(kind)
    parts = [f"```\n{inspect.cleandoc(kind.__doc__ or '')}\n```\n"]
    if has_init:
        parts.append("\n" + _callable_text(f"kderm.{name}", kind.__init__))
    for member, value in vars(kind).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            first = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0]
            parts.append(f"\n- `.{member}`: {' '.join(first.split())}\n")
        elif inspect.isfunction(value) or isinstance(value, classmethod):
            function = value.__func__ if isinstance(value, classmethod) else value
            parts.append(f"\n### .{member}\n\n{_callable_text(member, function)}")
    return "".join(parts)


def _callable_text(name: str, function: typing.Callable) -> str:
    words = inspect.cleandoc(function.__doc__ or "")
    return f"```python\n{_signature(name, function)}\n```\n\n```\n{words}\n```\n"


def _signature(name: str, function: typing.Callable) -> str:
    """`name(a, *, b=1)`, without the types: the words tell them."""
    found, starred = [], False
    for each in inspect.signature(function).parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and not starred:
            found, starred = [*found, "*"], True
        sign = {each.VAR_KEYWORD: "**", each.VAR_POSITIONAL: "*"}.get(each.kind, "")
        default = "" if each.default is each.empty else f"={each.default!r}"
        found.append(f"{sign}{each.name}{default}")
    line = f"{name}({', '.join(found)})"
    return line if len(line) <= 96 else f"{name}(\n    " + ",\n    ".join(found) + ",\n)"


def _paragraphs(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text or "")).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
