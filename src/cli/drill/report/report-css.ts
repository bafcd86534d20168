/** Style sheet of the report page, on top of the layout's. Pure. */
export const reportCss = `
:root { --warn: #7a5200; --info: #23588f; --band: rgb(160 44 23 / .09); --permitted: #4f9382; --refused: #c9b98f; --focus: #1f6fd6; }
@media (prefers-color-scheme: dark) { :root { --warn: #e8bf6a; --info: #93c1f2; --band: rgb(255 156 134 / .13); --permitted: #4b927f; --refused: #6d6240; --focus: #7db4ff; } }
body { padding: clamp(0rem, 2vw, 2rem) clamp(0rem, 2vw, 2rem) 2rem; font-size: 15px; }
main.wide { overflow-x: clip; max-width: 82rem; padding: clamp(1rem, 3vw, 2.25rem); }
h2 { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.outcome { font-size: 1.125rem; font-weight: 600; }
nav { margin: 1.5rem 0 0; } nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; } nav a { display: inline-block; padding: .25rem 0; }
section dl, main > dl { grid-template-columns: fit-content(13rem) minmax(0, 1fr); }
.scroll { overflow-x: auto; margin: 0 0 1rem; } :focus-visible { outline: 2px solid var(--focus); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: start; color: var(--muted); padding: .25rem 0 .375rem; }
th, td { text-align: start; padding: .375rem .75rem .375rem 0; border-bottom: 1px solid var(--line); vertical-align: top; font-weight: 400; overflow-wrap: break-word; }
thead th { color: var(--muted); font-weight: 550; vertical-align: bottom; } .num { text-align: end; white-space: nowrap; } thead .num { white-space: normal; }
:where(.num) + :is(th, td):where(:not(.num)) { padding-inline-start: .75rem; } table.scroll th:first-child { position: sticky; inset-inline-start: 0; background: var(--card); }
td { min-width: 4.5rem; } tbody th { min-width: 6rem; font-weight: 500; } table.scroll tbody th { white-space: nowrap; }
.status { white-space: nowrap; font-weight: 550; } .outcome .status { white-space: normal; } .status i { font-style: normal; }
.status.good { color: var(--good); } .status.bad { color: var(--bad); } .status.warn { color: var(--warn); } .status.info { color: var(--info); } .status.off { color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 2rem; }
figure.chart { margin: 1rem 0; min-width: 0; container-type: inline-size; } figcaption { display: flex; flex-wrap: wrap; gap: 0 .75rem; align-items: baseline; font-size: .875rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 .75rem; color: var(--muted); } .legend > span { white-space: nowrap; } .key { display: inline-block; width: .75rem; height: .75rem; border: 1px solid var(--muted); vertical-align: -.06rem; }
.key.permitted { background: var(--permitted); } .key.refused { background: var(--refused); } .key.error, .key.fault { background: var(--bad); border-color: var(--bad); }
.key.failed { border: 1px dashed var(--bad); }
.key.after { background: repeating-linear-gradient(45deg, var(--bad) 0 2px, transparent 2px 5px); }
.key.head { height: 0; border: 0; border-top: 2px dashed var(--ink); vertical-align: .22rem; } .key.node { height: 0; border: 0; border-top: 2px solid var(--accent); vertical-align: .22rem; }
.mark-key { width: .875rem; height: .875rem; vertical-align: -.125rem; }
svg.plot { display: block; overflow: visible; width: calc(100% - 3rem); margin-inline-start: 3rem; } svg.defs { position: absolute; }
.bands rect { fill: var(--band); } .grid { stroke: var(--line); } .base, .mark { stroke: var(--muted); }
.tick, .time { font-size: 11px; fill: var(--muted); paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; } .tick.strong { font-weight: 600; fill: var(--ink); }
path.permitted { fill: var(--permitted); } path.refused { fill: var(--refused); } path.lane { fill: var(--permitted); }
path.outline { fill: none; stroke: var(--accent); stroke-width: 1; vector-effect: non-scaling-stroke; } path.error { fill: var(--bad); }
path.node { fill: none; stroke: var(--accent); stroke-width: 1.25; vector-effect: non-scaling-stroke; opacity: .75; }
path.n1 { stroke: var(--info); } path.n2 { stroke: var(--warn); } path.n3 { stroke: var(--good); } path.n4 { stroke: var(--muted); } path.n5 { stroke: var(--bad); }
path.head { fill: none; stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; vector-effect: non-scaling-stroke; }
rect.fault { fill: var(--bad); } rect.fault.failed { fill: none; stroke: var(--bad); stroke-dasharray: 3 2; } rect.after { stroke: var(--bad); stroke-width: .5; } .hatch { fill: var(--bad); }
.number { font-size: 10px; font-weight: 600; fill: var(--card); paint-order: stroke; stroke: var(--bad); stroke-width: 3px; } .number.failed { fill: var(--bad); stroke: var(--card); }
.m-circle { fill: none; stroke: var(--muted); stroke-width: 1.5; } .m-triangle { fill: var(--info); } .m-square { fill: var(--accent); }
rect.receipt.good { fill: var(--good); } rect.receipt.warn { fill: var(--warn); } rect.receipt.bad { fill: var(--bad); } rect.receipt.info { fill: var(--info); } rect.receipt.off { fill: var(--muted); }
details { margin: .5rem 0; } summary { padding: .25rem 0; } pre { overflow-x: auto; padding: .75rem; background: var(--soft); border-radius: 8px; font-size: .8125rem; white-space: pre-wrap; }
.notes { list-style: none; padding: 0; font-size: .875rem; } .at { display: inline-block; min-width: 5rem; color: var(--muted); font-variant-numeric: tabular-nums; }
footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 40rem) { .stack, .stack caption, .stack tbody, .stack tr, .stack tbody th, .stack td { display: block; text-align: start; } .stack thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .stack tr { padding: .5rem 0; border-bottom: 1px solid var(--line); } .stack tbody th, .stack td { border: 0; padding: .0625rem 0; } .stack td.none { display: none; } .stack td::before { content: attr(data-head) ": "; color: var(--muted); } }
@media (max-width: 40rem) { main.wide { border: 0; border-radius: 0; box-shadow: none; } table.scroll tbody th { white-space: normal; min-width: 7.75rem; } table.scroll thead .num { white-space: nowrap; } main > dl { grid-template-columns: 1fr; } .brand { margin-bottom: 1rem; } }
@container (max-width: 30rem) { .odd text { display: none; } }
@media (forced-colors: active) { path.error, rect.fault { fill: CanvasText; } .bands rect { fill: none; stroke: GrayText; } }
@media print { body { background: none; } main.wide { border: 0; box-shadow: none; max-width: none; } figure, tr { break-inside: avoid; } }
`;
