"""Prints the table primitives × formats in Markdown, from the tables that the exporters use."""

from espalike.export import table

head, *rows = table()
for row in (head, ["---"] * len(head), *rows):
    print(f"| {' | '.join(row)} |")
