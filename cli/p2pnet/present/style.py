"""The style sheet of the HTML report, with a light and a dark palette: for wide and narrow screens and for print."""

LIGHT = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#1b2330",
    "quiet": "#566173",
    "line": "#d9dee6",
    "accent": "#0b62b8",
    "pass": "#146c37",
    "fail": "#b3211c",
    "invalid": "#8a4b00",
    "wash": "#eaf2fb",
}
DARK = {
    "page": "#0f141b",
    "card": "#182029",
    "ink": "#e5eaf1",
    "quiet": "#9fabbc",
    "line": "#313c4a",
    "accent": "#6fb4f5",
    "pass": "#5fce8a",
    "fail": "#ff8f85",
    "invalid": "#f2b350",
    "wash": "#1c2c3d",
}


def sheet() -> str:
    """The style sheet as CSS text."""
    return f":root{{{_variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}{_RULES}"


def themed_sheet() -> str:
    """The same for a page whose reader may choose: `data-theme` of the root is `light` or `dark`, or is not set."""
    light, dark = _variables(LIGHT), _variables(DARK)
    return (
        f":root{{{light}}}@media screen{{:root[data-theme=dark]{{{dark}}}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}{_RULES}"
    )


def _variables(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in palette.items())


_RULES = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 .75rem}
p{margin:.35rem 0;overflow-wrap:anywhere}
.eyebrow{color:var(--quiet);font-size:.875rem;margin:0 0 .25rem}
.quiet,.hint{color:var(--quiet)}
.hint{font-size:.875rem}
.verdict,.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1.1rem 1.25rem;margin:0 0 1rem}
.verdict{border-left:.45rem solid var(--tone)}
.verdict h1{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .7rem}
th code{font-size:.95em}
.is-pass{--tone:var(--pass)}.is-fail{--tone:var(--fail)}.is-invalid{--tone:var(--invalid)}
.badge{display:inline-block;color:var(--tone);border:1.5px solid var(--tone);border-radius:1rem;padding:0 .65em;
font-size:.8125rem;font-weight:650;line-height:1.55;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.75rem;margin:0 0 1rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.7rem .8rem}
.tile dt{color:var(--quiet);font-size:.8125rem}
.tile dd{margin:0;font-variant-numeric:tabular-nums}
.tile .figure{font-size:1.3rem;font-weight:650;line-height:1.4;white-space:nowrap}
.tile .beside{color:var(--quiet);font-size:.8125rem;line-height:1.35}
.pair{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:1.25rem;align-items:start}
.scroll{overflow-x:auto}
.scroll+.scroll{margin-top:1.4rem}
.scroll:focus-visible,summary:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--quiet);font-size:.875rem;padding:0 0 .5rem}
th,td{text-align:left;vertical-align:top;padding:.32rem .9rem .32rem 0;border-bottom:1px solid var(--line)}
th:last-child,td:last-child{padding-right:0}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--quiet);font-weight:600;font-size:.8125rem;white-space:nowrap}
tbody th{font-weight:500;overflow-wrap:anywhere}
.name{white-space:nowrap}
tbody .words{min-width:5rem;max-width:18rem;overflow-wrap:break-word}
.right{text-align:right;white-space:nowrap}
.mono,code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.85em}
.mono{overflow-wrap:anywhere}
.stands-out>*{background:color-mix(in srgb,var(--invalid) 10%,transparent)}
.meter{display:block;width:100%;min-width:4rem;height:.55rem;margin-top:.45rem;background:var(--line);border-radius:.3rem;overflow:hidden}
.meter i{display:block;height:100%;background:var(--accent)}
.wait{display:block;position:relative;min-width:9rem;height:.6rem;margin-top:.4rem;background:var(--wash);border-radius:.2rem}
.wait i{position:absolute;top:0;bottom:0;min-width:3px;background:var(--quiet);border-radius:.2rem}
.critical .wait i{background:var(--accent)}
.critical th{color:var(--accent);font-weight:650}
.hop{display:block;padding-left:calc(var(--depth)*1rem)}
.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25rem 1.25rem;margin:0;font-size:.9rem}
.facts dt{color:var(--quiet)}
.facts dd{margin:0;overflow-wrap:anywhere}
details{margin-top:.9rem}
summary{cursor:pointer;color:var(--accent);font-size:.9rem}
details>*:not(summary){margin-top:.6rem}
pre{margin:0;overflow-x:auto;background:var(--page);border:1px solid var(--line);border-radius:.4rem;
padding:.75rem;line-height:1.4}
ul{margin:.25rem 0;padding-left:1.2rem;overflow-wrap:anywhere}
svg.chart{display:block;width:100%;max-width:36rem;height:auto}
.chart text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--quiet)}
.chart .grid{stroke:var(--line);stroke-width:1}
.chart .curve{fill:none;stroke:var(--accent);stroke-width:2.5;stroke-linejoin:round}
.chart .under{fill:var(--accent);opacity:.12;stroke:none}
.chart .dot{fill:var(--card);stroke:var(--accent);stroke-width:2}
.chart .named{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px}
.chart .limit{stroke:var(--tone);stroke-width:1.5;stroke-dasharray:5 4}
.chart .limit-name{fill:var(--tone)}
.sr-only{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
footer{color:var(--quiet);font-size:.8125rem;padding:0 .25rem}
@media (max-width:44rem){
main{padding:.75rem .6rem 2rem}
.verdict,.card{padding:.85rem .9rem}
.pair{grid-template-columns:minmax(0,1fr)}
.tiles{grid-template-columns:1fr 1fr;gap:.5rem}
h1{font-size:1.25rem}
th,td{padding-right:.6rem}
.wide{display:none}
.hop{padding-left:calc(min(var(--depth),6)*.6rem)}
.facts{grid-template-columns:1fr;gap:0}
.facts dd{margin-bottom:.4rem}
}
@media print{
body{background:#fff;font-size:12px}
main{max-width:none;padding:0}
.verdict,.card,.tile{break-inside:avoid-page}
.scroll{overflow:visible}
}
"""
