"""What the benchmark page adds to the style that all pages share."""

BENCHMARK_STYLE = """
.table{overflow-x:auto;margin:0 0 1rem;border:1px solid var(--line);border-radius:8px;background:var(--ground)}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:.85rem;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--quiet);font-size:.78rem;text-align:right;vertical-align:bottom;line-height:1.25}
th,td{padding:.4rem .7rem;border-bottom:1px solid var(--line);white-space:nowrap;text-align:right;vertical-align:top}
tbody tr:last-child>*{border-bottom:0}
th:first-child,td:first-child,th[scope=row]{text-align:left}
tbody th{color:var(--text);font-weight:550;font-size:.85rem;vertical-align:top}
tbody th small{display:block;color:var(--quiet);font-weight:400;font-size:.75rem}
table tr>:first-child{position:sticky;left:0;background:var(--ground);z-index:1}
td>b,td>u,td>i{font-style:normal;font-weight:400;text-decoration:none}
td.best>b{font-weight:750;color:#fff}
td.second>u{text-decoration:underline;text-underline-offset:3px}
td span{display:block;font-size:.74rem;color:var(--quiet);line-height:1.35}
td span.paper{color:var(--blue)}td span.paper.off{color:var(--amber)}
td span.flag{color:#ff8a7a}
td.none{color:var(--quiet)}td.none i{opacity:.7}
tr.begins>*{border-top:1px solid #4a525b}
.legend{display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;margin:.2rem 0 .8rem;padding:0;list-style:none;font-size:.85rem;color:var(--quiet)}
.legend li::before{content:"";display:inline-block;width:.65rem;height:.65rem;border-radius:50%;background:var(--tone);margin-right:.45em}
.legend li.ring::before{background:none;border:1.5px solid var(--quiet);box-sizing:border-box}
.legend li.dots::before{border-radius:0;height:0;width:1.2rem;background:none;border-top:2px dotted var(--quiet);vertical-align:middle}
.legend li.dashes::before{border-radius:0;height:0;width:1.2rem;background:none;border-top:2px dashed var(--quiet);vertical-align:middle}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(17.5rem,100%),1fr));gap:.4rem 1rem;margin:0 0 1rem}
.plots.wide{grid-template-columns:repeat(auto-fill,minmax(min(30rem,100%),1fr))}
.plots svg{width:100%;height:auto;max-width:30rem;display:block}
.plots.wide svg{max-width:38rem}
.plots svg text{font-size:inherit;fill:inherit;stroke:none;paint-order:normal}
h3{font-size:.95rem;font-weight:600;margin:1rem 0 .5rem}
summary{width:auto}
.how{margin:0 0 1rem}.how .notes{margin-top:.6rem}
.notes{margin:0 0 1.2rem;padding:.7rem 1rem .7rem 2rem;border:1px solid var(--line);border-radius:8px;color:var(--quiet);font-size:.88rem}
.notes li{margin:.15rem 0}.notes b{color:var(--text);font-weight:600}
.asides{margin:.2rem 0 .8rem;padding:0 0 0 1.1rem;color:var(--quiet);font-size:.85rem}
.warning{margin:0 0 1rem;padding:.7rem 1rem;border:1px solid var(--amber);border-radius:8px;color:var(--amber)}
nav a.idle{color:var(--quiet)}
@media (max-width:820px){th,td{padding:.35rem .5rem}table tr>:first-child{max-width:8.5rem;min-width:6.6rem;white-space:normal}}
@media print{:root{--text:#000;--quiet:#444;--line:#bbb;--card:#fff;--ground:#fff;--blue:#0b62a8;--amber:#a05a00}td.best>b{color:#000}.table{overflow:visible}}
"""
