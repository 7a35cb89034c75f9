"""Document: what makes an HTML page safe to open and to show in a notebook."""

from __future__ import annotations

import base64
import hashlib
from html import escape

__all__ = ["framed", "policy_of"]


def policy_of(style: str, script: str) -> str:
    """A Content-Security-Policy: nothing is loaded, and nothing runs or styles but these two texts."""
    digests = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; "
        f"script-src 'sha256-{digests[1]}'; base-uri 'none'; form-action 'none'"
    )


def framed(document: str, title: str, height: int) -> str:
    """A page inside another one, such as a notebook, in a frame `height` pixels high.

    It has no rights in the page around it. It is ASCII: a single character that is misread would make another
    script than the one that the policy names.

    >>> framed("<p>é</p>", "a", 90)  # doctest: +ELLIPSIS
    '<iframe sandbox="allow-scripts" title="a" ... srcdoc="&lt;p&gt;&#233;&lt;/p&gt;"></iframe>'
    """
    frame = (
        f'<iframe sandbox="allow-scripts" title="{escape(title)}" '
        f'style="width: 100%; height: {height}px; border: 0" srcdoc="{escape(document)}"></iframe>'
    )
    return frame.encode("ascii", "xmlcharrefreplace").decode()
