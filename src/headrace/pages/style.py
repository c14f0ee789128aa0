"""How a report looks: plain cards and tables, in the reader's light or dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --card: #ffffff; --ink: #1d2429; --soft: #5d6870; --line: #dfe3e4;
  --bar: #2f7d95; --mark: #c2571a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1c2226; --ink: #e8ecee; --soft: #a0abb2; --line: #333c42;
    --bar: #58aec8; --mark: #f0985a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 19px; margin: 40px 0 6px; }
h3 { font-size: 14px; margin: 0 0 8px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; color: var(--soft); max-width: 76ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 20px 0 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile small { display: block; color: var(--soft); font-size: 12px; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 12px; }
svg { max-width: 100%; height: auto; display: block; }
svg text { font-size: 12px; dominant-baseline: central; }
.label { fill: var(--ink); }
.value { fill: var(--soft); font-variant-numeric: tabular-nums; }
.bar { fill: var(--bar); }
.mark { stroke: var(--mark); stroke-width: 3; }
.axis { stroke: var(--line); }
.scroll { overflow: auto; max-height: 460px; margin: 12px 0; }
.scroll { border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
caption { text-align: left; padding: 10px 12px; color: var(--soft); }
th, td { text-align: left; padding: 5px 12px; border-top: 1px solid var(--line); vertical-align: top; }
th { position: sticky; top: 0; background: var(--card); white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 90px; }
td:first-child { min-width: 190px; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
footer { margin-top: 40px; color: var(--soft); font-size: 12px; overflow-wrap: anywhere; }
"""
