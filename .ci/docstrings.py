"""Griffe extension: shows on the site what docstrings here write for a reader of the source.

Read as plain Markdown, lines of "name: what it is" would run together as one paragraph, a console example would
become a quotation, the product <b, s> a tag of HTML, and the asterisks of two (batch, *shape) emphasis.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

SYMBOL = re.compile(r"(?!Sources?:)(\w+(?:, \w+)*): +(\S.*)")
TAG = re.compile(r"<(?=[A-Za-z/!?])")
STAR = re.compile(r"(?<=[(, ])\*(?=\w)")


def markdown(docstring: str) -> str:
    """The docstring with all that is meant in Markdown's own form.

    >>> print(markdown("What it is.\\n\\nbeta:  strength\\n       of -<f, s>.\\nx, y:  `(*n)`, (*n)."))
    What it is.
    <BLANKLINE>
    - `beta`: strength
           of -&lt;f, s>.
    - `x, y`: `(*n)`, (\\*n).
    """
    first, *rest = docstring.split("\n\n")
    return "\n\n".join([_plain(first), *map(_block, rest)])


def _block(block: str) -> str:
    if block.startswith(">>> "):
        return f"```python\n{block}\n```"
    if block.startswith("    "):
        return block
    listed = "\n".join(SYMBOL.sub(r"- `\1`: \2", line) if SYMBOL.match(line) else line for line in block.split("\n"))
    return _plain(listed if SYMBOL.match(block) else block)


def _plain(text: str) -> str:
    parts = text.split("`")
    parts[::2] = [STAR.sub(r"\\*", TAG.sub("&lt;", text)) for text in parts[::2]]
    return "`".join(parts)


class PlainDocstrings(Extension):
    """Rewrites every docstring by `markdown`, once."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by Griffe for each module, class, function and attribute."""
        if obj.docstring and not obj.is_alias:
            obj.docstring.value = markdown(obj.docstring.value)
