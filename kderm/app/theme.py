"""How the page looks: Gradio's theme with the system's own fonts, and the style of the answers.

Nothing is fetched: no font, no script, no picture. Colours follow Gradio's variables, so light and
dark come from one place.
"""

from typing import Any

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

STYLE = """
:root{--kd-good:#1a6b3c;--kd-good-page:#e8f5ee;--kd-bad:#9f1c14;--kd-bad-page:#fdeceb;
--kd-warn:#7a4a00;--kd-warn-page:#fdf3e1;--kd-bar:#0072b2;--kd-bar-bad:#c2410c;--kd-soft:#4b5563}
.dark{--kd-good:#7fd6a2;--kd-good-page:#12301f;--kd-bad:#ffaba3;--kd-bad-page:#3a1916;
--kd-warn:#f3c26b;--kd-warn-page:#33270f;--kd-bar:#4ba3da;--kd-bar-bad:#f0824a;--kd-soft:#b4b4bd}
.kd-head h1{font-size:1.6rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
.kd-head p{margin:0;color:var(--kd-soft)}
.kd-not{background:var(--kd-warn-page);color:var(--kd-warn);border-radius:10px;padding:10px 14px;
margin:10px 0 0!important}
.kd-head .kd-not{color:var(--kd-warn)}
.kd-answers{display:grid;gap:16px}
.kd-card{border:1px solid var(--border-color-primary);border-radius:12px;padding:16px 18px;
background:var(--block-background-fill);color:var(--body-text-color);display:grid;gap:12px;
grid-template-columns:minmax(0,1fr)}
.kd-card h3{margin:0;font-size:1.05rem;overflow-wrap:anywhere;color:var(--body-text-color)}
.kd-card p,.kd-card ul,.kd-card figure{margin:0}
.kd-lesion{border-width:2px;border-color:var(--kd-bar)}
.kd-flag{border-radius:10px;padding:9px 14px;background:var(--background-fill-secondary)}
.kd-flag small,.kd-best small{display:block;font-size:.86rem}
.kd-on{background:var(--kd-bad-page);color:var(--kd-bad)}
.kd-off{background:var(--kd-good-page);color:var(--kd-good)}
.kd-best{font-size:1.1rem}.kd-best small{color:var(--kd-soft)}
.kd-two{display:grid;grid-template-columns:minmax(0,5fr) minmax(0,6fr);gap:18px;align-items:start}
.kd-stack{position:relative;border-radius:8px;overflow:hidden;line-height:0}
.kd-stack img{width:100%;height:auto;display:block;margin:0}
.kd-stack .kd-map{position:absolute;inset:0;height:100%}
.kd-slide{display:grid;grid-template-columns:auto 1fr auto;gap:10px;align-items:center;
margin:8px 0 4px;font-size:.9rem}
.kd-slide input{width:100%;min-height:28px;accent-color:var(--kd-bar);cursor:pointer}
.kd-blend figcaption{font-size:.86rem;color:var(--kd-soft)}
.kd-odd{color:var(--kd-warn)}
.kd-bars,.kd-bars tr,.kd-bars th,.kd-bars td{border:0!important;background:none!important}
.kd-bars{width:100%;border-collapse:collapse;table-layout:fixed;font-size:.94rem;margin:0!important}
.kd-bars caption{text-align:left;font-weight:600;padding-bottom:4px;color:var(--body-text-color)}
.kd-bars th{text-align:left;font-weight:500;padding:6px 10px 6px 0!important;line-height:1.25;
overflow-wrap:anywhere;color:var(--body-text-color)}
.kd-bars tbody tr+tr>*{border-top:1px solid var(--border-color-primary)!important}
.kd-bars th small{display:block;color:var(--kd-soft);font-weight:400;font-size:.8rem}
.kd-bars td{padding:6px 0!important}.kd-bars td:last-child{text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}
.kd-bars .kd-what{width:46%}.kd-bars .kd-percent{width:4.6em}
.kd-bar{display:block;height:12px;min-width:2px;border-radius:3px;background:var(--kd-bar)}
.kd-bad{background:var(--kd-bar-bad)}
.kd-malignant{font-size:.72rem;border:1px solid var(--kd-bad);color:var(--kd-bad);border-radius:4px;
padding:0 4px;white-space:nowrap}
#forget,#forget-table{align-self:flex-end;width:auto;flex-grow:0}
.kd-unseen,.kd-unseen *{position:absolute!important;width:1px!important;height:1px;overflow:hidden;
clip-path:inset(50%);white-space:nowrap}
.kd-warnings,.kd-cautions{list-style:none;padding:0!important;display:grid;gap:6px}
.kd-warnings li,.kd-cautions li{background:var(--kd-warn-page);color:var(--kd-warn);
border-radius:8px;padding:8px 12px;margin:0;overflow-wrap:anywhere}
.kd-facts{padding-left:1.2em!important;color:var(--kd-soft);font-size:.92rem}
.kd-problem{background:var(--kd-bad-page);color:var(--kd-bad);border-radius:8px;padding:9px 14px;
margin:0;overflow-wrap:anywhere}
.kd-soft{color:var(--kd-soft);margin:0 0 8px}
.kd-empty{color:var(--kd-soft);padding:24px 8px;text-align:center}
.kd-try{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:8px}
.kd-try button{border:1px solid var(--border-color-primary);border-radius:8px;padding:0;
background:none;overflow:hidden;cursor:pointer;color:var(--body-text-color);font-size:.82rem;
margin:0!important;align-self:start}
.kd-try img{width:100%;height:auto;display:block;margin:0!important}
.kd-try span{display:block;padding:3px}
.kd-wide,.kd-about table{overflow-x:auto;background:
linear-gradient(to left,var(--kd-under) 35%,transparent) right/40px 100% no-repeat local,
linear-gradient(to left,rgb(128 128 128/.45),transparent) right/12px 100% no-repeat
scroll!important}
.kd-wide{--kd-under:var(--body-background-fill);border:1px solid var(--border-color-primary);
border-radius:10px}
.kd-table{border-collapse:collapse;font-size:.88rem;width:100%;margin:0!important;
color:var(--body-text-color)}
.kd-table,.kd-table tr,.kd-table th,.kd-table td{border:0!important}
.kd-table th,.kd-table td{padding:7px 12px!important;text-align:left;vertical-align:top;
border-bottom:1px solid var(--border-color-primary)!important}
.kd-table td.n,.kd-table th.n{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}
.kd-table td:first-child{overflow-wrap:anywhere;min-width:12ch}
.kd-table .kd-yes{color:var(--kd-bad);font-weight:600}
.kd-links{display:flex;flex-wrap:wrap;gap:10px}
.kd-links a{border:1px solid var(--border-color-primary);border-radius:8px;padding:8px 14px;
color:var(--body-text-color);text-decoration:none;background:var(--button-secondary-background-fill)}
.kd-sheet{display:grid;gap:14px 12px;grid-template-columns:repeat(auto-fill,minmax(148px,1fr))}
.kd-sheet figure{margin:0;min-width:0}
.kd-sheet :is(img,.kd-none){width:100%;aspect-ratio:4/3;display:block;margin:0;border-radius:6px}
.kd-none{border:1px dashed var(--border-color-primary)}
.kd-sheet .kd-marked img{outline:3px solid var(--kd-bad);outline-offset:0}
.kd-sheet figcaption{font-size:.86rem;line-height:1.3;margin-top:5px;overflow-wrap:anywhere;
color:var(--kd-soft)}
.kd-sheet figcaption b{display:block;font-weight:500;color:var(--body-text-color)}
.kd-sheet .kd-marked b{color:var(--kd-bad);font-weight:600}
.kd-figures{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.kd-figures img{width:100%;height:auto;border-radius:8px;background:#fff;margin:0}
.kd-report{width:100%;height:75vh;border:1px solid var(--border-color-primary);border-radius:10px}
.kd-about table{--kd-under:var(--block-background-fill);font-size:.9rem;display:block;
margin:12px 0!important;padding:0!important;width:fit-content;max-width:100%;border:0!important}
.kd-about td,.kd-about th{overflow-wrap:normal;word-break:normal;padding:6px 10px!important;
border:1px solid var(--border-color-primary)!important}
.kd-about thead:not(:has(th:not(:empty))){display:none}
.kd-about td:nth-child(2):last-child{overflow-wrap:anywhere;min-width:16ch}
@media (max-width:720px){.kd-two{grid-template-columns:minmax(0,1fr)}.kd-card{padding:12px}
.kd-try,.kd-sheet{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media (max-width:900px){.kd-wide{overflow:visible;border:0;background:none!important;
visibility:hidden}.kd-wide>*{visibility:visible} /* nothing to scroll: no stop for the keyboard */
.kd-table,.kd-table tbody{display:block;padding:0!important}
.kd-table tr{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:3px 14px;margin:0 0 10px;
border:1px solid var(--border-color-primary)!important;border-radius:10px;padding:10px 12px}
.kd-table td{display:block;padding:0!important;border:0!important}
.kd-table td:nth-child(even){text-align:right}
.kd-table td.n{white-space:normal}.kd-table td.n:nth-child(odd){text-align:left}
.kd-table thead,.kd-table thead *{position:absolute;width:1px;height:1px;overflow:hidden;
clip-path:inset(50%);padding:0!important}
.kd-table td.kd-what{font-size:1rem}.kd-table td.kd-name{font-weight:600}
.kd-table td[data-said]::before{content:attr(data-said) ": ";color:var(--kd-soft)}
.kd-table td.kd-whole{grid-column:1/3;text-align:left}.kd-table td.kd-whole:empty{display:none}}
"""

# Rules for Gradio's own elements, which Gradio would rewrite if they came with the others.
FRAME_STYLE = """
.dark{--color-accent:#38bdf8!important}
.gradio-container{width:100%!important;max-width:1120px!important;margin:0 auto!important}
.gradio-container :is(button,input,select,textarea,a,summary,[tabindex]):focus-visible{
outline:3px solid var(--kd-bar)!important;outline-offset:2px!important}
.gradio-container .kd-answers:focus-visible{outline:1px solid var(--kd-bar)!important;
outline-offset:5px!important;border-radius:12px}
.gradio-container .html-container{padding:8px 0!important}
.gradio-container footer .divider{display:none!important}
@media (max-width:720px){.gradio-container .kd-side{flex-direction:column!important}
.gradio-container .kd-side>*{width:100%!important;flex:none!important}
.gradio-container,.gradio-container :is(.main,.wrap,main,.column,.tabitem){min-width:0!important}
.gradio-container main,.gradio-container .main{padding-left:6px!important;
padding-right:6px!important}.gradio-container [role=tab]{padding:0 9px!important}}
"""


def theme() -> Any:
    """Gradio's plain theme, with fonts that every system has."""
    import gradio as gr

    fonts = [gr.themes.Font(name) for name in _FONT]
    mono = [gr.themes.Font(name) for name in _MONO]
    plain = gr.themes.Base(
        primary_hue="sky", secondary_hue="sky", neutral_hue="zinc", font=fonts, font_mono=mono
    )
    # Gradio's own soft greys are too faint to read.
    soft = {"block_info_text_color": "*neutral_600", "body_text_color_subdued": "*neutral_600"}
    return plain.set(
        color_accent="*primary_700", **soft, **{f"{name}_dark": "*neutral_300" for name in soft}
    )
