"""What the quality page adds to the style that all pages share."""

QUALITY_STYLE = """
.table{overflow-x:auto;margin:0 0 1.4rem;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--quiet);font-size:.78rem;text-align:left;vertical-align:bottom}
th,td{padding:.4rem .75rem;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child td{border-bottom:0}
th:not(:first-child),td:not(:first-child){text-align:right}
td a{color:var(--text);font-weight:600;text-decoration:none;border-bottom:1px solid var(--quiet)}
td a:hover,td a:focus-visible{border-color:var(--amber);outline:none}
.sample figcaption b{color:var(--text);font-weight:600;margin-right:.3em}
.sample{grid-template-columns:repeat(4,minmax(0,1fr))}
.blocks{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:1rem 1.8rem;margin-top:1rem}
.blocks h3{font-size:.85rem;font-weight:600;margin:0 0 .35rem}
.blocks ul{list-style:none;margin:0;padding:0;font-size:.85rem;font-variant-numeric:tabular-nums}
.blocks li{display:grid;grid-template-columns:minmax(0,9.5rem) minmax(3rem,1fr) 5.6rem;gap:.6rem;align-items:center;padding:.1rem 0}
.name{color:var(--quiet)}
.share{text-align:right}.share span{color:var(--blue)}
.meter2{position:relative;height:.55rem;background:var(--line);border-radius:2px}
.meter2 b{position:absolute;inset:0 auto 0 0;background:#c9ced4;border-radius:2px}
.odd .meter2 b{background:var(--amber)}.odd .share{color:var(--amber)}
.mark{position:absolute;top:-.2rem;bottom:-.2rem;width:2px;margin-left:-1px;background:var(--blue)}
.sizes svg{width:100%;max-width:26rem;height:auto;display:block;overflow:visible}
.sizes svg text{font-size:9px;fill:var(--quiet);stroke:none}
.bars rect{fill:#c9ced4}.sizes polyline{fill:none;stroke:var(--blue);stroke-width:1.8}.tick{stroke:var(--quiet);stroke-width:.8;fill:none}
@media (max-width:1100px){.blocks{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media (max-width:720px){.blocks{grid-template-columns:1fr}.sample{grid-template-columns:repeat(2,minmax(0,1fr))}
.sizes svg text{font-size:8px}.blocks li{grid-template-columns:minmax(0,8.5rem) minmax(3rem,1fr) 5.6rem}}
"""
