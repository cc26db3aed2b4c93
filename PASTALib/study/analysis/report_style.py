"""What the report of a study adds to the style of the other pages."""

STUDY_STYLE = """
body{max-width:1180px}
.verdict{border-left:4px solid var(--amber);background:var(--card);border-radius:8px;padding:.8rem 1.1rem;margin:0 0 1.2rem}
.verdict p{margin:.25rem 0;font-size:1.05rem}
.limits{border:1px solid var(--line);border-radius:8px;padding:.7rem 1.1rem;margin:0 0 1.2rem;font-size:.92rem}
.limits h2{font-size:.95rem;color:var(--amber)}.limits ul{margin:.35rem 0 0;padding-left:1.1rem;color:var(--text)}
article h2{margin:0 0 .8rem}
article h3{font-size:1rem;font-weight:600;margin:1.3rem 0 .5rem}article h3:first-of-type{margin-top:.2rem}
.plot{margin:0 0 1.1rem}.plot img{display:block;width:100%;height:auto;max-width:960px;margin:0 auto}
.plot figcaption{max-width:960px;margin:.2rem auto 0}
.plot.square img{max-width:520px}
article .table{margin:0 0 1rem;background:none}
.numbers td:not(:first-child){white-space:nowrap}
.interval{color:var(--quiet);font-style:normal;white-space:nowrap}
.none{color:var(--quiet);white-space:normal}
.lead{color:var(--quiet);font-size:.92rem;margin:.2rem 0 1rem;max-width:75ch}
.beside-plot{display:grid;grid-template-columns:minmax(0,5fr) minmax(0,6fr);gap:1.5rem;align-items:start}
.methods p{max-width:75ch;margin:.2rem 0 .7rem}
footer a{color:var(--blue);overflow-wrap:anywhere}
td .narrow{font-size:.85rem}
@media (max-width:820px){article th{white-space:normal}td .interval{display:block}.beside-plot{grid-template-columns:minmax(0,1fr);gap:.4rem}.numbers td:not(:first-child){white-space:normal}
.verdict p{font-size:1rem}}
@media print{:root{color-scheme:light}article,.verdict,.limits{border-color:#999}}
"""
