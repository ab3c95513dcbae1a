"""The style sheet of the page: light and dark, wide and narrow, screen and paper; nothing is fetched."""

from __future__ import annotations

CSS = """
:root { --page: #f6f7f9; --card: #ffffff; --ink: #1d2227; --soft: #5b6470; --line: #dde1e6;
  --accent: #0b62a4;
  --head: #eef1f4; --warn: #fff4dc; --warn-line: #e0a92e; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --card: #1c2026; --ink: #e6e9ed; --soft: #a0a9b5; --line: #343b44;
  --accent: #7cc0f5;
    --head: #252b33; --warn: #3a301a; --warn-line: #b98a26; }
  figure { filter: brightness(0.9); } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-size: 16px; }
.layout { display: grid; grid-template-columns: 10.5rem minmax(0, 1fr); gap: 1.6rem; max-width: 84rem;
  margin: 0 auto;
  padding: 2rem 1.5rem 4rem; }
header.top { grid-column: 1 / -1; border-bottom: 1px solid var(--line); padding-bottom: 1.25rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em; overflow-wrap: anywhere; }
.subtitle { margin: 0.4rem 0 0; color: var(--soft); font-size: 1.05rem; }
nav { position: sticky; top: 1.5rem; align-self: start; font-size: 0.92rem; }
nav h2 { font-size: 0.78rem; text-transform: uppercase; letter-spacing: 0.07em; color: var(--soft);
  margin: 0 0 0.4rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav ul ul { padding-left: 0.8rem; font-size: 0.94em; }
nav a { display: block; padding: 0.18rem 0; color: var(--ink); text-decoration: none;
  overflow-wrap: anywhere; }
nav a:hover, nav a:focus { color: var(--accent); text-decoration: underline; }
main { min-width: 0; }
section { margin: 0 0 2.75rem; }
h2 { font-size: 1.35rem; margin: 0 0 0.6rem; letter-spacing: -0.005em; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.5rem; }
p { margin: 0.4rem 0 0.9rem; max-width: 46rem; }
.soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 0.9rem;
  margin: 0 0 1rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.8rem 1rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 0.86rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  margin: 0.6rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.84rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--soft); font-size: 0.84rem;
  padding: 0.5rem 0.75rem; }
th, td { padding: 0.4rem 0.5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--head); font-weight: 600; vertical-align: bottom; }
th small, td small { display: block; font-weight: 400; color: var(--soft); }
thead th small { white-space: normal; }
tbody tr:last-child > * { border-bottom: none; }
tfoot td, tfoot th { border-top: 1px solid var(--line); border-bottom: none; font-weight: 600; }
th.text, td.text { text-align: left; }
td.wrap { white-space: normal; min-width: 10rem; text-align: left; }
tbody th { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 8.5rem; }
tbody th em { display: block; font-weight: 400; font-size: 0.86em; max-width: 16rem; white-space: normal; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.86em; }
td code { overflow-wrap: anywhere; white-space: normal; }
pre { margin: 0; padding: 0.9rem 1rem; overflow-x: auto; line-height: 1.45; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  margin: 0.6rem 0 1rem; }
summary { cursor: pointer; padding: 0.6rem 1rem; font-weight: 600; }
details[open] summary { border-bottom: 1px solid var(--line); }
figure { margin: 0.8rem 0 1.4rem; background: #ffffff; border: 1px solid var(--line);
  border-radius: 8px; padding: 0.7rem; }
figure img { display: block; width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #4c5560; font-size: 0.86rem; padding: 0.5rem 0.3rem 0.1rem; }
ul.notes { margin: 0; padding: 0.7rem 1rem 0.7rem 2rem; background: var(--warn);
  border: 1px solid var(--warn-line);
  border-radius: 8px; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 0.86rem; }
@media (max-width: 60rem) { .layout { grid-template-columns: minmax(0, 1fr); gap: 1.25rem;
  padding: 1.25rem 1rem 3rem; }
  nav { position: static; } nav ul ul { display: none; } nav ul { display: flex; flex-wrap: wrap;
  gap: 0 1rem; } }
@media (max-width: 45rem) { figure { overflow-x: auto; } figure img { width: auto; } }
@media print { body { background: #fff; font-size: 11pt; } nav { display: none; } .layout {
  display: block; padding: 0; }
  figure, .scroll, .tile { break-inside: avoid; } }
""".strip()
