"""The page itself: three tabs of Gradio components, wired to the desk.

Imports Gradio, so import it late and only after `kderm.app.server.prepare_gradio`. What is sent
comes in as files and goes out as HTML and JSON that hold everything, so the server offers no file.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kderm.app.about import (
    NOT_A_DEVICE,
    STORES_NOTHING,
    card_markdown,
    facts_markdown,
    figures_html,
    has_report,
    report_html,
)
from kderm.app.desk import Desk
from kderm.app.examples import Example, draw_examples
from kderm.app.limits import Refused
from kderm.app.points import point_choice, points_of
from kderm.app.sessions import REMEMBERED
from kderm.errors import UserError
from kderm.html_page import data_uri

# One request at a time looks at the members; the others wait in one queue.
_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "members", "concurrency_limit": 1}
_HIDDEN: dict[str, Any] = {"api_visibility": "private"}
_TRY_EXAMPLE = (
    "element.addEventListener('click',event=>{const chosen=event.target.closest('button');"
    "if(chosen)trigger('click',{number:Number(chosen.dataset.number)})})"
)
# Readers with a phone, a keyboard or a screen reader are brought to what they asked for.
_GO_TO_ANSWERS = (
    "()=>{const found=document.querySelector('#ID section');"
    "if(found){found.focus({preventScroll:true});found.scrollIntoView({block:'start'})}}"
)


def build_page(desk: Desk) -> gr.Blocks:
    """The page for `desk`, not yet served."""
    bundle = desk.ensemble.bundle
    with gr.Blocks(
        title=f"{bundle.facts.run}: skin lesions", analytics_enabled=False, delete_cache=None
    ) as page:
        gr.HTML(_head(desk))
        with gr.Tab("Photos"):
            photos = _photos_tab(desk)
        with gr.Tab("Many pictures"):
            many = _many_tab(desk)
        with gr.Tab("About"):
            point = _about_tab(desk)
        _wire_photos(desk, photos, point)
        _wire_many(desk, many, point)
        _add_api(desk)
    page.queue(max_size=desk.limits.waiting, default_concurrency_limit=1)
    return page


def _head(desk: Desk) -> str:
    facts = desk.ensemble.bundle.facts
    synthetic = (
        '<p class="kd-not"><b>Synthetic data.</b> This ensemble learnt from pictures drawn by a '
        "program. Its answers say nothing medical.</p>"
    )
    return (
        f'<header class="kd-head"><h1>What is this spot?</h1><p>Answers of the ensemble '
        f"{escape(facts.run)}, made with kderm.</p>"
        f'<p class="kd-not">{escape(NOT_A_DEVICE)}</p>{synthetic * facts.synthetic}</header>'
    )


def _photos_tab(desk: Desk) -> dict[str, Any]:
    limits = desk.limits
    with gr.Row(elem_classes="kd-side"):
        with gr.Column(scale=3, min_width=280):
            drop = _file(
                f"Photos of skin spots: up to {limits.photos}, {limits.file_mb} MB each",
                file_count="multiple",
                elem_id="photos",
                height=180,
            )
        with gr.Column(scale=2, min_width=280):
            one = gr.Checkbox(
                label="These photos show one and the same spot",
                info="Then they are also answered together, as one lesion.",
            )
            facts = _facts_inputs(desk)
            with gr.Accordion("Use a camera", open=False):
                camera = _from_reader_only(
                    gr.Image(
                        sources=["webcam"],
                        type="filepath",
                        image_mode=None,
                        label="Camera",
                        webcam_options=gr.WebcamOptions(mirror=False),
                        elem_id="camera",
                    )
                )
    examples = draw_examples()
    trial = gr.HTML(
        _examples_html(examples), js_on_load=_TRY_EXAMPLE, elem_id="examples", padding=False
    )
    clear = gr.Button("Forget these answers", size="sm", visible=False, elem_id="forget")
    state = gr.State(None, time_to_live=REMEMBERED)
    answers = gr.HTML(desk.photos_html(None, None), elem_id="answers", padding=False)
    return {
        "drop": drop,
        "one": one,
        "facts": facts,
        "camera": camera,
        "examples": examples,
        "trial": trial,
        "clear": clear,
        "state": state,
        "answers": answers,
    }


def _facts_inputs(desk: Desk) -> list[gr.components.Component]:
    """Inputs for what the members look at beside the picture, in the order of `desk.facts`."""
    inputs = []
    spec = desk.ensemble.bundle.metadata
    for column in () if spec is None else spec.columns:
        if column.name == "age":
            inputs.append(gr.Number(label="Age in years, if known", minimum=0, maximum=120))
        else:
            choices = [("not known", ""), *((value, value) for value in column.values)]
            inputs.append(gr.Dropdown(choices, value="", label=column.name.capitalize()))
    return inputs


def _many_tab(desk: Desk) -> dict[str, Any]:
    limits = desk.limits
    gr.HTML(
        f"<p>Up to {limits.images} pictures and {limits.upload_mb} MB at a time. For more, and for "
        "labelled pictures, there is the command <code>ensemble-predict</code>.</p>"
    )
    with gr.Row(elem_classes="kd-side"):
        drop = _file("A zip, or pictures", file_count="multiple", elem_id="many", height=160)
        folder = _file("A folder", file_count="directory", elem_id="folder", height=160)
    state = gr.State(None, time_to_live=REMEMBERED)
    clear = gr.Button("Forget these answers", size="sm", visible=False, elem_id="forget-table")
    answers = gr.HTML(desk.many_html(None, None), elem_id="table", padding=False)
    return {"drop": drop, "folder": folder, "clear": clear, "state": state, "answers": answers}


def _about_tab(desk: Desk) -> gr.Radio:
    bundle = desk.ensemble.bundle
    points = points_of(bundle)
    choices = [(point_choice(point, bundle.labels), point.name) for point in points]
    point = gr.Radio(
        choices,
        value=points[0].name if points else None,
        label="Operating point: what is flagged on the other tabs",
        info="Chosen once on held-out pictures of the ensemble's own data set, where they had the "
        "rates below, and frozen. The model card has the rates at thresholds that other pictures "
        "chose, which flatter less. Fewer misses cost more false alarms.",
        visible=bool(points),
        elem_id="point",
    )
    gr.Markdown(facts_markdown(bundle, desk.ensemble.settings))
    gr.Markdown(STORES_NOTHING)
    with gr.Accordion("Model card", open=True):
        gr.Markdown(card_markdown(bundle), elem_classes="kd-about")
    show_whole = has_report(bundle)
    draw = report_html if show_whole else figures_html
    if show_whole or figures_html(bundle):
        words = "Show the out-of-fold report" if show_whole else "Show the out-of-fold figures"
        show = gr.Button(words, elem_id="show-report")
        report = gr.HTML("", padding=False, elem_id="report")
        show.click(lambda: draw(bundle), outputs=report, **_HIDDEN)
    return point


def _wire_photos(desk: Desk, tab: dict[str, Any], point: gr.Radio) -> None:
    how = [point, tab["one"]]

    def sent(paths: Any, *facts: Any) -> tuple[Any, ...]:
        if not paths:  # the input was just emptied, by the line below
            return gr.skip(), gr.skip()
        known = dict(zip(desk.facts, facts, strict=True))
        return None, desk.photos(_listed(paths), known)

    def tried(event: gr.EventData) -> Any:
        examples: list[Example] = tab["examples"]
        return desk.example(examples[int(event._data["number"]) % len(examples)])

    asked = []
    for source in (tab["drop"], tab["camera"]):
        event = source.upload if source is tab["drop"] else source.change
        inputs, outputs = [source, *tab["facts"]], [source, tab["state"]]
        asked.append(event(sent, inputs, outputs, **_ONE_AT_A_TIME, **_HIDDEN))
    asked.append(tab["trial"].click(tried, None, tab["state"], **_ONE_AT_A_TIME, **_HIDDEN))
    _wire_shown(desk.photos_html, tab, how, asked)


def _wire_many(desk: Desk, tab: dict[str, Any], point: gr.Radio) -> None:
    def sent(paths: Any, progress: Any = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        def report(done: int, count: int) -> None:
            progress((done, count), desc="answering", unit="pictures")

        return None, desk.many(_listed(paths), report) if paths else None

    asked = [
        source.upload(sent, source, [source, tab["state"]], **_ONE_AT_A_TIME, **_HIDDEN)
        for source in (tab["drop"], tab["folder"])
    ]
    _wire_shown(desk.many_html, tab, [point], asked)


def _wire_shown(
    html: Callable[..., str], tab: dict[str, Any], how: list[Any], asked: list[Any]
) -> None:
    """Draw answers after each event of `asked`, as `how` stands then: it may change meanwhile."""
    shown = [tab["answers"], tab["clear"]]

    def drawn(found: Any, *how: Any) -> tuple[str, Any]:
        return html(found, *how), gr.update(visible=found is not None)

    for event in asked:
        done = event.then(drawn, [tab["state"], *how], shown, **_HIDDEN)
        done.then(None, js=_GO_TO_ANSWERS.replace("ID", tab["answers"].elem_id))
    forgotten = tab["clear"].click(lambda: None, None, tab["state"], **_HIDDEN)
    forgotten.then(drawn, [tab["state"], *how], shown, **_HIDDEN)
    for changed in how:
        changed.change(html, [tab["state"], *how], tab["answers"], **_HIDDEN)


def _add_api(desk: Desk) -> None:
    """`/predict`: files in, the rows of predictions.csv out."""

    def predict(
        files: list[str],
        one_lesion: bool = False,
        age: float | None = None,
        sex: str = "",
        site: str = "",
    ) -> dict[str, Any]:
        """The rows of predictions.csv for pictures, or zips of them.

        Args:
            files: pictures or zips.
            one_lesion: whether they show one lesion, which then gets an answer too.
            age: in years, where the ensemble looks at it, as at the next two; all may be unknown.
            sex: female or male.
            site: where on the body.
        """
        facts = {"age": age, "sex": sex, "site": site}
        try:
            return desk.predict(_listed(files), one_lesion, facts)
        except (Refused, UserError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    files = _file("Files", file_count="multiple", visible=False)
    one = gr.Checkbox(label="One lesion", visible=False)
    age = gr.Number(None, label="Age", visible=False)
    sex, site = (gr.Textbox("", label=name, visible=False) for name in ("Sex", "Site"))
    answer = gr.JSON(visible=False)
    button = gr.Button(visible=False)
    inputs = [files, one, age, sex, site]
    button.click(predict, inputs, answer, api_name="predict", **_ONE_AT_A_TIME)


def _file(label: str, **about: Any) -> gr.File:
    """A file input for what the reader sends."""
    return _from_reader_only(gr.File(label=label, type="filepath", **about))


def _from_reader_only(component: Any) -> Any:
    """The component, taking nothing but uploads: no file of the server, and no address.

    Gradio itself looks only where it was started by `launch`, and would fetch an address.
    """
    move = component.async_move_resource_to_block_cache

    async def moved(place: Any) -> Any:
        if place is not None:
            path = Path(str(place)).resolve()
            if "://" in str(place) or not path.is_relative_to(component.GRADIO_CACHE):
                raise gr.Error("Send the file itself, not its address.", print_exception=False)
        return await move(place)

    component.async_move_resource_to_block_cache = moved
    return component


def _examples_html(examples: list[Example]) -> str:
    buttons = "".join(
        f'<button type="button" data-number="{number}" aria-label="Try {example.name}">'
        f'<img src="{data_uri(example.data, "image/jpeg")}" alt=""><span>{example.name}</span>'
        "</button>"
        for number, example in enumerate(examples)
    )
    return (
        '<p class="kd-soft">Or try a drawing, made by a program: no photographs of anybody.</p>'
        f'<div class="kd-try">{buttons}</div>'
    )


def _listed(paths: Any) -> list[str]:
    if not paths:
        return []
    return [paths] if isinstance(paths, str) else [str(path) for path in paths]
