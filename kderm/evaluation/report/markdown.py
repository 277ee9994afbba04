"""A report's document as Markdown, with its pictures beside it."""

from collections.abc import Sequence
from pathlib import Path

from kderm.evaluation.report.document import (
    Beside,
    Block,
    Bullets,
    Code,
    Document,
    Figure,
    Gallery,
    Heading,
    Note,
    Still,
    Table,
    Text,
    Tiles,
    Value,
)
from kderm.evaluation.report.wording import said


def to_markdown(document: Document, directory: Path) -> str:
    """The file's text.

    Args:
        document: what to say.
        directory: the report's folder, which pictures are told relative to.
    """
    parts = [f"# {document.title}", *(block_text(block, directory) for block in document.lead)]
    for section in document.sections:
        parts.append(f"## {section.heading}")
        parts += [block_text(block, directory) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def block_text(block: Block, directory: Path) -> str:
    """One block; empty where Markdown has nothing to show."""
    match block:
        case Text():
            return block.words
        case Heading():
            return f"### {block.words}"
        case Bullets():
            return "\n".join(f"- {item}" for item in block.items)
        case Note():
            return f"> {block.words}"
        case Tiles():
            return table(["metric", "value"], [[name, value] for value, name in block.items])
        case Table():
            return table(block.header, block.rows)
        case Figure():
            return f"![{block.caption}](figures/{block.name}.png)"
        case Beside():
            return "\n\n".join(block_text(figure, directory) for figure in block.items)
        case Still():
            return f"![{block.caption}]({block.path.relative_to(directory).as_posix()})"
        case Gallery():
            return "\n".join(f"- {shown.caption}" for shown in block.items)
        case Code():
            return f"{block.summary}:\n\n```{block.language}\n{block.words.rstrip()}\n```"
    raise TypeError(f"no such block: {block!r}")


def table(header: Sequence[str], rows: Sequence[Sequence[Value]]) -> str:
    """A Markdown table."""
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Value) -> str:
    return said(value).replace("|", "\\|").replace("\n", " ")
