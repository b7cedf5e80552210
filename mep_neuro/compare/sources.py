"""Sources with their DOIs and addresses as links; everything else in them stays text."""

from __future__ import annotations

import re
from html import escape

ADDRESS = re.compile(r"\bhttps?://[^\s<>\"']+|\bdoi:10\.\d{4,9}/[^\s<>\"']+", re.IGNORECASE)


def linked(text: str) -> str:
    """HTML: the text escaped, with links to its DOIs and to its http and https addresses.

    >>> linked("Yik, doi:10.1038/s41467-025-56739-4, figure <1>")
    'Yik, <a href="https://doi.org/10.1038/s41467-025-56739-4">doi:10.1038/s41467-025-56739-4</a>, figure &lt;1&gt;'
    """
    parts, end = [], 0
    for found in ADDRESS.finditer(text):
        address = _trimmed(found[0])
        target = f"https://doi.org/{address[4:]}" if address.lower().startswith("doi:") else address
        parts += [escape(text[end : found.start()]), f'<a href="{escape(target)}">{escape(address)}</a>']
        end = found.start() + len(address)
    return "".join([*parts, escape(text[end:])])


def _trimmed(address: str) -> str:
    """Without the stop or the bracket that belongs to the sentence around it."""
    while address[-1] in ".,;:!?" or any(
        address[-1] == close and address.count(close) > address.count(opening) for opening, close in ("()", "[]")
    ):
        address = address[:-1]
    return address
