"""Style and the few lines of script of the gallery page and of the report page."""

STYLE = """
:root{color-scheme:dark;--ground:#131518;--card:#1a1d21;--line:#2b3036;--text:#e6e8eb;--quiet:#9aa3ad;--amber:#ffb454;--blue:#62c7ff;--green:#8fd18f}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0 auto;max-width:1480px;padding:clamp(.8rem,2.5vw,2.4rem);background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
h1{font-size:clamp(1.5rem,3.2vw,2.1rem);line-height:1.2;margin:0 0 .5rem;letter-spacing:-.01em;font-weight:650}
h2{font-size:1.25rem;line-height:1.25;margin:0;font-weight:650}
.facts{list-style:none;margin:0 0 1rem;padding:0;color:var(--quiet);display:flex;flex-wrap:wrap;gap:.1rem 1.4rem;font-size:.95rem}
header .beside{margin:0 0 1rem}header .beside a{color:var(--blue)}
nav{display:flex;flex-wrap:wrap;gap:.4rem;margin:0 0 1.4rem}
nav a{color:var(--text);text-decoration:none;font-size:.875rem;padding:.25rem .7rem;border:1px solid var(--line);border-radius:99px}
nav a:hover,nav a:focus-visible{border-color:var(--amber);outline:none}
article,.left-out{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:clamp(.75rem,1.6vw,1.25rem);margin:0 0 1.25rem}
.title{display:flex;flex-wrap:wrap;align-items:baseline;gap:.1rem 1rem;margin:0 0 .8rem}
.title p{margin:0;color:var(--quiet);font-size:.9rem;font-variant-numeric:tabular-nums}
.remark{margin:0 0 .8rem;color:var(--amber);font-size:.9rem}
.pictures{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:.6rem}
.pictures.three{grid-template-columns:repeat(3,minmax(0,1fr));max-width:1060px;margin-top:.8rem}
figure{margin:0;min-width:0}
.frame{position:relative;aspect-ratio:1;background:#000;border-radius:4px;overflow:hidden}
.frame img{display:block;width:100%;height:100%}
.frame svg{position:absolute;inset:0;width:100%;height:100%}
.whole{display:grid;place-items:center}
.fit{position:relative}
figcaption{font-size:.85rem;color:var(--quiet);padding:.3rem .1rem 0}
.hint{opacity:.75;margin-left:.35em}
.hold .frame{cursor:pointer;touch-action:manipulation;user-select:none;-webkit-user-select:none;-webkit-touch-callout:none}
.hold .frame:focus-visible{outline:2px solid var(--amber);outline-offset:2px}
svg text{font-size:4px;fill:#e6e8eb;paint-order:stroke;stroke:#000;stroke-width:.7px;stroke-opacity:.7}
svg .letter{fill:#b4bcc5}
.pictures.stages{margin-top:.8rem}
.told{font-size:.9rem;color:var(--quiet);align-self:center;padding:.2rem .4rem}.told p{margin:0 0 .45rem}
.key::before{content:"";display:inline-block;width:1.4em;height:0;border-top:2px solid;margin:0 .5em .25em 0;vertical-align:middle}
.key.found-organ::before{border-color:#62c7ff}.key.found-lesion::before{border-color:#ff6fae}.key.outline::before{border-color:var(--amber)}
.found-organ polygon,.found-lesion polygon{fill:none;stroke-width:1.4px;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.found-organ polygon{stroke:#62c7ff}.found-lesion polygon{stroke:#ff6fae}
.outline polygon{fill:none;stroke:var(--amber);stroke-width:1.4px;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.box{fill:none;stroke:var(--blue);stroke-width:1.5px;vector-effect:non-scaling-stroke}
.bar{filter:drop-shadow(0 0 .5px #000);stroke:#e6e8eb;stroke-width:2.5px;vector-effect:non-scaling-stroke;fill:none}
dl{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:1px;margin:.9rem 0 0;background:var(--line);border:1px solid var(--line);border-radius:6px;overflow:hidden}
dl>div{background:var(--card);padding:.55rem .75rem .6rem}
dt{font-size:.78rem;color:var(--quiet)}
dd{margin:0;font-weight:550;line-height:1.35;overflow-wrap:anywhere}
dd.origin{font-weight:400;font-size:.8rem;color:var(--quiet);margin-top:.1rem}
.agrees{color:var(--green)}.differs{color:var(--amber)}.other{color:var(--text)}
.number{display:block}
details{margin-top:.8rem}
summary{cursor:pointer;color:var(--quiet);font-size:.9rem;width:max-content;padding:.15rem 0}
summary:hover,summary:focus-visible{color:var(--text)}
.left-out ul{margin:.6rem 0 0;padding-left:1.1rem;color:var(--quiet)}
.left-out b{color:var(--text);font-weight:600;margin-right:.4rem}
footer{color:var(--quiet);font-size:.85rem}footer p{margin:.2rem 0}
@media (max-width:820px){.pictures,dl{grid-template-columns:repeat(2,minmax(0,1fr))}.pictures.three{gap:.35rem}
.pictures.three .hint{display:none}.pictures.three figcaption{font-size:.72rem}dl>div{padding:.45rem .6rem}}
@media (max-width:820px){svg text{font-size:6px}}
@media print{body{background:#fff;color:#000}article{break-inside:avoid}}
"""

# Holding a picture shows the one before it, in the same place: the slice without the lesion, or the lesion before refinement.
SCRIPT = """
document.querySelectorAll('.hold').forEach(function(figure){
var frame=figure.querySelector('.frame'),image=frame.querySelector('img'),after=image.src;
var before=figure.previousElementSibling.querySelector('img').src;
var show=function(source){return function(event){if(event.type==='contextmenu')event.preventDefault();else image.src=source}};
var key=function(source){return function(event){if(event.key===' '){event.preventDefault();image.src=source}}};
frame.tabIndex=0;frame.setAttribute('role','button');frame.setAttribute('aria-label','Hold to compare with the picture before');
image.draggable=false;
frame.addEventListener('pointerdown',show(before));
['pointerup','pointerleave','pointercancel'].forEach(function(name){frame.addEventListener(name,show(after))});
frame.addEventListener('contextmenu',show(after));
frame.addEventListener('keydown',key(before));frame.addEventListener('keyup',key(after));
frame.addEventListener('blur',function(){image.src=after});
});
"""

# What the report page adds to STYLE.
REPORT_STYLE = """
.banner{border:2px solid #ff6b5e;background:#3a1513;color:#ffd9d5;border-radius:8px;padding:.7rem 1rem;margin:0 0 1.2rem;font-weight:600}
.banner span{display:block;font-weight:400;font-size:.92rem}
.notes{margin:0 0 1.2rem;padding:.6rem 1rem .6rem 2rem;border:1px solid var(--line);border-radius:8px;color:var(--quiet);font-size:.9rem}
.table{overflow-x:auto;margin:0 0 1.4rem;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--quiet);font-size:.78rem;text-align:left;white-space:nowrap}
th,td{padding:.45rem .75rem;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child td{border-bottom:0}
td.mm{white-space:nowrap}
td a{color:var(--text);font-weight:600;text-decoration:none;border-bottom:1px solid var(--quiet)}
td a:hover,td a:focus-visible{border-color:var(--amber);outline:none}
.switches{display:flex;gap:.2rem 1.2rem;flex-wrap:wrap;margin:0 0 .7rem;font-size:.875rem;color:var(--quiet)}
.switches label{display:inline-flex;gap:.4rem;align-items:center;cursor:pointer;padding:.2rem 0}
.switches input{accent-color:var(--amber);width:1rem;height:1rem;margin:0}
.no-outline .outline,.no-lines .size{display:none}
.pictures.report{grid-template-columns:repeat(var(--count),minmax(0,1fr))}
.size line{stroke-width:1.6px;vector-effect:non-scaling-stroke}
.size .long{stroke:#7fe3ff}.size .short{stroke:#9df28a}
.size text.long{fill:#7fe3ff;stroke:#000}.size text.short{fill:#9df28a;stroke:#000}
svg .size text{font-size:5px;font-weight:600}
.axes{display:flex;flex-wrap:wrap;gap:.15rem 1.3rem;margin:.8rem 0 0;padding:0;list-style:none;font-size:.92rem;font-variant-numeric:tabular-nums}
.axes li::before{content:attr(data-name);color:var(--quiet);margin-right:.45em;font-size:.85rem}
.axes .long{color:#7fe3ff}.axes .short{color:#9df28a}
.meter{display:flex;align-items:center;gap:.5rem;margin-top:.2rem;font-variant-numeric:tabular-nums}
.meter i{flex:1;max-width:9rem;height:.36rem;border-radius:9px;background:var(--line);overflow:hidden;display:block}
.meter i b{display:block;height:100%;background:var(--blue);border-radius:9px}
.unsure .meter i b{background:var(--amber)}
.void dd:not(.origin){text-decoration:line-through;text-decoration-color:#ff6b5e;color:var(--quiet)}
.void .meter i b{background:#ff6b5e}
.unknown dd:not(.origin){color:var(--quiet);font-weight:400}
.tag{color:var(--green)}.tag.predicted{color:var(--blue)}.tag.edited,.tag.requested{color:var(--amber)}.void .tag{color:#ff6b5e}
.more{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(17rem,100%),1fr));gap:.9rem 2rem;margin-top:.6rem}
.more h3{font-size:.85rem;font-weight:600;margin:0 0 .25rem}
.more ul{list-style:none;margin:0;padding:0;font-size:.85rem;color:var(--quiet);font-variant-numeric:tabular-nums}
.more li{display:flex;justify-content:space-between;gap:1rem;padding:.08rem 0}
.more li.best{color:var(--text)}
.more li .meter{margin:0;flex:0 0 9.5rem}
.nothing{font-size:1.05rem}
td .narrow{display:none;color:var(--quiet);font-size:.85rem}
td.void{text-decoration:line-through;text-decoration-color:#ff6b5e;color:var(--quiet)}
@media (max-width:1320px){.widest{display:none}}
@media (max-width:820px){.wide{display:none}td .narrow{display:block}th,td{padding:.4rem .45rem}
.pictures.report{grid-template-columns:repeat(2,minmax(0,1fr))}
.pictures.report figure:first-child,.pictures.report figure:last-child:nth-child(even){grid-column:1/-1}
.pictures.report figure:first-child svg text{font-size:4px}.pictures.report figure:first-child svg .size text{font-size:4.6px}}
@media print{.switches{display:none}}
"""

REPORT_SCRIPT = """
document.querySelectorAll('.switches input').forEach(function(box){
box.addEventListener('change',function(){box.closest('article').classList.toggle('no-'+box.value,!box.checked)});
});
document.addEventListener('keydown',function(event){
if(event.key!=='o'||event.ctrlKey||event.metaKey||event.altKey)return;
var boxes=Array.from(document.querySelectorAll('.switches input'));
var on=boxes.some(function(box){return box.checked});
boxes.forEach(function(box){box.checked=!on;box.dispatchEvent(new Event('change'))});
});
"""
