"""The page of the service: one file that loads nothing from elsewhere."""

import base64
import hashlib
import re
from importlib import resources

PAGE = resources.files("convax.inference.serve").joinpath("page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the digests of the page's own scripts or styles, as a policy names them."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


POLICY = (
    f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
