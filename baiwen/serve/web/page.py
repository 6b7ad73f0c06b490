"""The chat page and the headers under which a browser opens it.

    body, headers = page.read()          # once, when the server starts
    Response(body, headers=headers)      # at `/`, without the API key: the page holds no secret

The policy names the page's script and style by their SHA-256 (CSP level 3, W3C), so nothing else
can run or paint: no attribute, no injected node, no address but the server's own. Trusted Types
make a browser refuse `innerHTML` and its kin even from the page's own script.
"""

import base64
import hashlib
import re
from pathlib import Path

FILE = Path(__file__).with_name("index.html")


def read() -> tuple[bytes, dict[str, str]]:
    """The page's bytes, and its headers."""
    body = FILE.read_bytes()
    return body, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy(body.decode()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-cache",
    }


def policy(html: str) -> str:
    """The Content-Security-Policy of a page with inline scripts and styles."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(html, 'script')}",
            f"style-src {_hashes(html, 'style')}",
            "connect-src 'self'",
            "img-src data:",  # the tab's icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hashes(html: str, tag: str) -> str:
    """The sources that allow what stands between the file's own <tag>s, and nothing else."""
    found = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    digests = (hashlib.sha256(text.encode()).digest() for text in found)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
