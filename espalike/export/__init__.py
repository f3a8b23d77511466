"""Export of parametrized molecules: `to_openmm` makes a system in memory, `write` writes files."""

from typing import TYPE_CHECKING, Any

from espalike.export.formats import (
    FORMATS,
    Format,
    check_options,
    format_of,
    formats_of,
    refusal,
    refusals,
    table,
    texts,
    to_openmm,
    to_topology,
    write,
)

if TYPE_CHECKING:
    from espalike.export.template import EspalikeTemplateGenerator

__all__ = [
    "FORMATS", "EspalikeTemplateGenerator", "Format", "check_options", "format_of", "formats_of", "refusal", "refusals",
    "table", "texts", "to_openmm", "to_topology", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """`EspalikeTemplateGenerator`, imported when it is asked for: it needs torch and RDKit."""
    if name == "EspalikeTemplateGenerator":
        from espalike.export.template import EspalikeTemplateGenerator

        return EspalikeTemplateGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
