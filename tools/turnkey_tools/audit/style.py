"""How the audit's pages look: one style sheet, in the page itself. Light and dark, and on paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #5b6470; --line: #d9dee4; --ground: #ffffff;
  --raised: #f5f7f9;
  --proven: #1d7a46; --late: #b06f00; --unknown: #8a8f98; --violation: #b3261e; --running: #2f6fb5;
  --stopped: #3a4350; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a2abb6; --line: #343b44; --ground: #14171b;
  --raised: #1d2126; --proven: #4cb87c; --late: #e0a83e; --unknown: #7d848e; --violation: #f2736a; --running: #6aa6e8;
  --stopped: #8d97a5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 66rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.05rem; font-weight: 600; color: var(--soft); margin: 0 0 .75rem; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .75rem; }
p { max-width: 46rem; margin: .5rem 0; } p.verdict { max-width: none; text-wrap: balance; }
.verdict { font-size: 2rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; margin: 0 0 .6rem; }
.verdict.PROVEN, td.PROVEN { color: var(--proven); } .verdict.LATE-ATTESTED, td.LATE-ATTESTED { color: var(--late); }
.verdict.UNKNOWN, td.UNKNOWN { color: var(--soft); } .verdict.VIOLATION, td.VIOLATION { color: var(--violation); }
td.WARNING { color: var(--late); } td.NOTE { color: var(--soft); }
td.PROVEN, td.LATE-ATTESTED, td.UNKNOWN, td.VIOLATION, td.WARNING { font-weight: 600; white-space: nowrap; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1px;
  background: var(--line);
  border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; margin: 1.5rem 0 0; }
.facts div { background: var(--raised); padding: .75rem 1rem; }
.facts dt, .facts span { display: block; font-size: .8rem; color: var(--soft); }
.facts strong { font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line);
  padding: .4rem .75rem .4rem 0; }
td { vertical-align: top; border-bottom: 1px solid var(--line); padding: .45rem .75rem .45rem 0; }
td.number, th.number { text-align: right; }
.scroll { overflow-x: auto; }
code { font: .85em ui-monospace, "Cascadia Mono", Menlo, monospace; overflow-wrap: anywhere; }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem;
  overflow-x: auto; }
svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.s-RUNNING { fill: var(--running); } .s-STOPPED { fill: var(--stopped); } .s-UNKNOWN { fill: var(--line); }
.v-PROVEN { fill: var(--proven); } .v-LATE-ATTESTED { fill: var(--late); } .v-UNKNOWN { fill: url(#dots); }
.v-VIOLATION { fill: url(#hatch); } .grid { stroke: var(--line); }
.key { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; font-size: .85rem; color: var(--soft);
  margin: .25rem 0 1rem; padding: 0;
  list-style: none; } .key svg { width: 1.5rem; height: .7rem; display: inline-block; margin-right: .45rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media print { body { padding: 0; max-width: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
""".strip()

PATTERNS: Final = (
    '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>'
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" style="fill:var(--violation)"/><rect width="1.6" height="6" fill="#fff"/></pattern>'
    '<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect width="5" height="5" style="fill:var(--line)"/><circle cx="2.5" cy="2.5" r="1" '
    'style="fill:var(--unknown)"/></pattern></defs></svg>'
)


def document(title: str, body: str) -> str:
    """A whole page around `body`: nothing in it is fetched, and nothing runs."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>{PATTERNS}\n{body}\n</body></html>\n"
    )
