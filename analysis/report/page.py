"""The page: what it shows as JSON, Plotly packed, our style and script, and a policy that lets it
load nothing and run these scripts alone."""

import base64
import gzip
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

HERE = Path(__file__).parent
PARTS = ("report", "charts", "robustness", "classes", "tuning", "learning", "start")
"""Of the script, in this order, in one scope."""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<noscript><p>This report is drawn by a script in this file; scripts are switched off here.</p>
</noscript>
<script type="application/json" id="data">{data}</script>
<script type="text/plain" id="plotly">{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def page(data: dict[str, Any]) -> str:
    """One HTML file with all that it needs. Texts in `data` stay texts, whatever they hold."""
    plotly = get_plotlyjs()
    script = "".join((HERE / f"{name}.js").read_text() for name in PARTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    return PAGE.format(
        policy=_policy(script, plotly),
        title=html.escape(f"{data['title']}: report"),
        style=(HERE / "report.css").read_text(),
        data=_embedded(data),
        plotly=_packed(plotly),
        script=script,
    )


@cache
def _packed(script: str) -> str:
    """Without a time in it: equal runs give equal files."""
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()


def _embedded(data: dict[str, Any]) -> str:
    """JSON that no text in it can end: `</script>` and `<!--` begin with the same sign."""
    found = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return found.replace("<", "\\u003c")


def _policy(*scripts: str) -> str:
    """These scripts alone, by their hashes, and no address of the network. Plotly sets its style as
    it draws, and hands pictures over as data."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    sources = " ".join(f"'sha256-{own}'" for own in hashes)
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
