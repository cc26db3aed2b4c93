"""Style and the few lines of script of the gallery page."""

STYLE = """
:root{color-scheme:dark;--ground:#131518;--card:#1a1d21;--line:#2b3036;--text:#e6e8eb;--quiet:#9aa3ad;--amber:#ffb454;--blue:#62c7ff;--green:#8fd18f}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0 auto;max-width:1480px;padding:clamp(.8rem,2.5vw,2.4rem);background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
h1{font-size:clamp(1.5rem,3.2vw,2.1rem);line-height:1.2;margin:0 0 .5rem;letter-spacing:-.01em;font-weight:650}
h2{font-size:1.25rem;line-height:1.25;margin:0;font-weight:650}
.facts{list-style:none;margin:0 0 1rem;padding:0;color:var(--quiet);display:flex;flex-wrap:wrap;gap:.1rem 1.4rem;font-size:.95rem}
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

# Holding a picture shows the slice without the lesion, in the same place.
SCRIPT = """
document.querySelectorAll('.hold').forEach(function(figure){
var frame=figure.querySelector('.frame'),image=frame.querySelector('img'),after=image.src;
var before=figure.previousElementSibling.querySelector('img').src;
var show=function(source){return function(event){if(event.type==='contextmenu')event.preventDefault();else image.src=source}};
var key=function(source){return function(event){if(event.key===' '){event.preventDefault();image.src=source}}};
frame.tabIndex=0;frame.setAttribute('role','button');frame.setAttribute('aria-label','Hold to see the slice without the lesion');
image.draggable=false;
frame.addEventListener('pointerdown',show(before));
['pointerup','pointerleave','pointercancel'].forEach(function(name){frame.addEventListener(name,show(after))});
frame.addEventListener('contextmenu',show(after));
frame.addEventListener('keydown',key(before));frame.addEventListener('keyup',key(after));
frame.addEventListener('blur',function(){image.src=after});
});
"""
