"""Layout of the demo page, made with Gradio."""

from collections.abc import Sequence
from concurrent.futures import Future
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr
from gradio.components.image_editor import EditorData, EditorValue
from PIL import Image

from clipseg_pl.demo.callbacks import CUTOUT, INVERT, NO_PHOTO, UNION, Callbacks, uploaded

if TYPE_CHECKING:
    from clipseg_pl.inference.segmenter import Segmenter

_PHOTO_HEIGHT = 320  # pixels
_MAX_DISTANCE = 50  # pixels
_CANVAS = 640, 480  # width and height in pixels of the canvas on which an image prompt is painted
CSS = """
.gradio-container { overflow: clip !important; }  /* `hidden` would disable the sticky result */
@media (min-width: 768px) { #answer { position: sticky; top: 1rem; align-self: flex-start; } }
#words .input-container, #minus .input-container { align-items: center; padding-right: 6px;
  border: 1px solid var(--input-border-color); border-radius: var(--input-radius); }
#words .input-container button, #minus .input-container button { position: static; }
#status .html-container { padding: 0; overflow-wrap: anywhere; }
#result img { max-height: 560px; object-fit: contain; }
.prompts { width: 100%; border-collapse: collapse; }
.prompts th { text-align: left; font-weight: 600; }
.prompts th, .prompts td { padding: 6px 8px; }
.prompts td { border-top: 1px solid var(--border-color-primary); white-space: nowrap; }
.prompts td:first-child { width: 100%; max-width: 0; overflow: hidden; text-overflow: ellipsis; }
.prompts .number { text-align: right; }
.prompts i { display: inline-block; width: 14px; height: 14px; margin-right: 8px;
  vertical-align: -2px; border-radius: 3px; }
.prompts .bar { display: inline-block; width: 90px; height: 8px; margin-right: 8px;
  vertical-align: 1px; border-radius: 4px; background: var(--border-color-primary);
  overflow: hidden; }
@media (max-width: 480px) { .prompts .bar { display: none; } }
.prompts .bar b { display: block; height: 100%; }
"""


class Example(NamedTuple):
    """A sample photo and phrases for it."""

    image: Image.Image
    phrases: str


def build_page(
    model: "Future[Segmenter]",
    name: str,
    loading: str,
    folder: Path,
    examples: Sequence[Example] = (),
    support: Image.Image | None = None,
) -> gr.Blocks:
    """Build the page and connect its fields to the callbacks.

    Args:
        model: segmenter that the page runs, possibly still loading.
        name: name of the model.
        loading: message on the page until the model is loaded.
        folder: folder for sample photos, uploads and masks. The caller deletes it.
        examples: sample photos; the page opens with the first.
        support: initial image in the editor, on which users paint the object of an image prompt.
    """
    rows = []
    for number, (image, phrases) in enumerate(examples):
        file = folder / f"scene_{number}.png"
        image.save(file)
        rows.append([str(file), phrases])
    support_file = None
    if support is not None:
        support_file = str(folder / "support.png")
        support.save(support_file)
    page = gr.Blocks(title="CLIPSeg", analytics_enabled=False)
    with page:
        gr.Markdown("# CLIPSeg\nSegment a photo with text and image prompts.")
        status = gr.HTML(escape(loading), elem_id="status")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(
                    rows[0][0] if rows else None,
                    label="Photo",
                    placeholder="Drop a photo here\nor click to upload",
                    sources=["upload", "clipboard"],
                    height=_PHOTO_HEIGHT,
                    elem_id="photo",
                )
                phrases_box = gr.Textbox(
                    rows[0][1] if rows else "",
                    label="Text prompts",
                    info="Objects to segment, separated by commas.",
                    placeholder="a dog, grass",
                    submit_btn="Segment",
                    max_lines=3,
                    elem_id="words",
                    render=False,
                )
                if rows:
                    scenes = gr.Examples(
                        rows,
                        [photo, phrases_box],
                        label="Sample photos: this model only knows drawn scenes",
                        elem_id="scenes",
                        visible_columns=[0],
                    )
                phrases_box.render()  # type: ignore[no-untyped-call]
                with gr.Accordion(
                    "Image prompt: paint over an example", open=False, elem_id="show"
                ):
                    editor = gr.ImageEditor(
                        {"background": support_file, "layers": [], "composite": None},
                        show_label=False,
                        type="numpy",
                        sources=["upload", "clipboard"],
                        transforms=(),
                        layers=False,
                        buttons=[],
                        canvas_size=_CANVAS,
                        fixed_canvas=True,  # keeps the brush size independent of the photo
                        brush=gr.Brush(16, [("#d55e00", 0.6)], color_mode="fixed"),
                        height=_PHOTO_HEIGHT + 80,
                        elem_id="support",
                    )
                    _restrict_to_uploads(editor, folder)
                    with gr.Row():
                        use = gr.Button("Use this example", variant="primary", elem_id="use")
                        remove = gr.Button("Remove the example", elem_id="leave")
                    example_text = gr.Textbox(
                        "",
                        label="Text for the example (optional)",
                        info="Blended with the example.",
                        placeholder="a dog",
                        elem_id="example-words",
                    )
                    weight = gr.Slider(
                        0,
                        1,
                        0.5,
                        step=0.05,
                        label="Weight of the text",
                        info="0 uses the example only, 1 the text only.",
                        elem_id="weight",
                    )
            with gr.Column(elem_id="answer"):
                picture = gr.Image(
                    label="Masks",
                    format="jpeg",  # encoding WebP or PNG would dominate the response time
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="result",
                )
                table = gr.HTML("" if rows else NO_PHOTO, apply_default_css=False, elem_id="table")
                with gr.Row():
                    threshold = gr.Slider(
                        0,
                        1,
                        visible=False,  # until the model is loaded, which sets the default
                        step=0.01,
                        label="Threshold",
                        min_width=200,  # one below the other on a phone
                        info="Minimum probability in a mask.",
                        elem_id="threshold",
                    )
                    absent_cut = gr.Slider(
                        0,
                        1,
                        visible=False,
                        step=0.01,
                        label="Minimum presence",
                        min_width=200,
                        info="Prompts with a lower presence score get no mask.",
                        elem_id="least-presence",
                    )
                with gr.Accordion("Edit the masks", open=False, elem_id="edits"):
                    options = gr.CheckboxGroup(
                        [UNION, INVERT, CUTOUT], show_label=False, elem_id="options"
                    )
                    minus = gr.Textbox(
                        "",  # None would be sent while the accordion is closed
                        label="Minus",
                        info="Objects to remove from all masks, separated by commas.",
                        placeholder="a face",
                        submit_btn="Remove",
                        max_lines=1,
                        elem_id="minus",
                    )
                    with gr.Row():
                        grow = gr.Slider(
                            -_MAX_DISTANCE,
                            _MAX_DISTANCE,
                            0,
                            step=1,
                            label="Grow",
                            info="Pixels; negative values shrink.",
                            elem_id="grow",
                        )
                        feather = gr.Slider(
                            0,
                            _MAX_DISTANCE,
                            0,
                            step=1,
                            label="Feather",
                            info="Pixels; softens the edges in the download.",
                            elem_id="feather",
                        )
                masks = gr.DownloadButton("Download", size="md", elem_id="download")
        encoded, example, result = gr.State(), gr.State(), gr.State()
        callbacks = Callbacks(model, name, folder)
        # One object for all events: Gradio runs events with the same function object one at a time.
        segment = callbacks.segment
        prompts = [encoded, phrases_box, example, example_text, weight, minus]
        settings = [encoded, result, threshold, absent_cut, options, grow, feather]
        sliders = threshold, absent_cut, grow, feather
        outputs = [picture, table, masks]
        loaded = page.load(
            callbacks.wait, None, [status, threshold, absent_cut], show_progress="hidden"
        )
        # preprocess=False, because Gradio's own preprocessing would open any file of this machine
        # and photos of any size, and would show a traceback for files that are not photos.
        # The events are `input` and `clear`, because `change` fires twice for an upload.
        chosen = [
            gr.on([photo.input, photo.clear], callbacks.encode, photo, encoded, preprocess=False),
            loaded.success(callbacks.encode, photo, encoded, preprocess=False),
        ]
        if rows:
            clicked = scenes.load_input_event
            chosen.append(clicked.success(callbacks.encode, photo, encoded, preprocess=False))
        for changed in (
            *chosen,
            use.click(callbacks.use_example, editor, example),
            remove.click(lambda: None, None, example),
        ):
            changed.success(segment, prompts, result).success(callbacks.draw, settings, outputs)
        # The event of a slider's reset button is `release`.
        gr.on(
            [
                phrases_box.submit,
                example_text.submit,
                weight.input,
                weight.release,
                minus.submit,
            ],
            segment,
            prompts,
            result,
            trigger_mode="always_last",
        ).success(callbacks.draw, settings, outputs)
        gr.on(
            [
                options.input,
                *(slider.input for slider in sliders),
                *(slider.release for slider in sliders),
            ],
            callbacks.draw,
            settings,
            outputs,
            trigger_mode="always_last",
            show_progress="hidden",
        )
    return page


def _restrict_to_uploads(editor: gr.ImageEditor, folder: Path) -> None:
    """Prevent an editor from opening any file of this machine except uploads.

    This patches the editor object. For a subclass, Gradio would write a .pyi file next to this
    module.
    """
    open_any = editor.preprocess

    def open_uploads(payload: EditorData | None) -> EditorValue | None:
        if payload is not None:
            for part in (payload.background, *payload.layers, payload.composite):
                try:
                    if part is not None:
                        uploaded(part.path, folder)
                except ValueError as error:
                    raise gr.Error(str(error), print_exception=False) from error
        return open_any(payload)

    editor.preprocess = open_uploads  # type: ignore[method-assign]
