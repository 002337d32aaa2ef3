"""The page: its fields, and what each of them calls. Made with Gradio."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gradio as gr
from gradio.components.image_editor import EditorData, EditorValue
from PIL import Image

from clipseg_pl.demo.callbacks import Callbacks, uploaded
from clipseg_pl.inference.segmenter import Segmenter

_SHORT = 320  # pixels, of a photo that is asked about
_CANVAS = 640, 480  # pixels, of what is painted on
CSS = """
.gradio-container { overflow: clip !important; }  /* hidden would not let the answer stick */
@media (min-width: 768px) { #answer { position: sticky; top: 1rem; align-self: flex-start; } }
#words .input-container { align-items: center; padding-right: 6px;
  border: 1px solid var(--input-border-color); border-radius: var(--input-radius); }
#words .input-container button { position: static; }
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
.prompts .bar b { display: block; height: 100%; }
"""


class Example(NamedTuple):
    """A photo to begin with, and words for it."""

    image: Image.Image
    words: str


def build_page(
    segmenter: Segmenter,
    examples: Sequence[Example],
    support: Image.Image,
    about: str,
    folder: Path,
) -> gr.Blocks:
    """Lay out the fields and connect them.

    Args:
        segmenter: is asked.
        examples: at least one; the page opens with the first.
        support: the image that an example is painted on, until another is chosen.
        about: a line on the weights, in Markdown.
        folder: for files that the page needs; whoever gives it empties it.
    """
    rows = []
    for number, (image, phrases) in enumerate(examples):
        file = folder / f"scene_{number}.png"
        image.save(file)
        rows.append([str(file), phrases])
    support_file = folder / "support.png"
    support.save(support_file)
    page = gr.Blocks(title="CLIPSeg", analytics_enabled=False)
    with page:
        gr.Markdown(f"# CLIPSeg\nSay what to look for in a photo, or show it.\n\n{about}")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(
                    rows[0][0],
                    label="Photo",
                    sources=["upload", "clipboard"],
                    height=_SHORT,
                    elem_id="photo",
                )
                words = gr.Textbox(
                    rows[0][1],
                    label="Words",
                    info="What to look for; several with commas between.",
                    placeholder="a dog, grass",
                    submit_btn="Segment",
                    max_lines=3,
                    elem_id="words",
                    render=False,
                )
                scenes = gr.Examples(
                    rows,
                    [photo, words],
                    label="Or take one of these drawn scenes",
                    elem_id="scenes",
                    visible_columns=[0],
                )
                words.render()  # type: ignore[no-untyped-call]
                with gr.Accordion("Or show it: paint over an example", open=False, elem_id="show"):
                    editor = gr.ImageEditor(
                        {"background": str(support_file), "layers": [], "composite": None},
                        show_label=False,
                        type="numpy",
                        sources=["upload", "clipboard"],
                        transforms=(),
                        layers=False,
                        buttons=[],
                        canvas_size=_CANVAS,
                        fixed_canvas=True,  # so that the brush fits photos of all sizes
                        brush=gr.Brush(16, [("#d55e00", 0.6)], color_mode="fixed"),
                        height=_SHORT + 80,
                        elem_id="support",
                    )
                    _refuse_others(editor, folder)
                    with gr.Row():
                        use = gr.Button("Find this", variant="primary", elem_id="use")
                        leave = gr.Button("Leave it out", elem_id="leave")
                    example_words = gr.Textbox(
                        label="Words for it (optional)",
                        info="Blended with the example.",
                        placeholder="a dog",
                        elem_id="example-words",
                    )
                    weight = gr.Slider(
                        0,
                        1,
                        0.5,
                        step=0.05,
                        label="Weight of these words",
                        info="0 is the example alone, 1 the words alone.",
                        elem_id="weight",
                    )
            with gr.Column(elem_id="answer"):
                picture = gr.Image(
                    label="Masks",
                    format="jpeg",  # WebP and PNG take longer than all the rest of a change
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="result",
                )
                table = gr.HTML(apply_default_css=False, elem_id="table")
                with gr.Row():
                    threshold = gr.Slider(
                        0,
                        1,
                        segmenter.threshold,
                        step=0.01,
                        label="Threshold",
                        info="Pixels above it belong to a mask.",
                        elem_id="threshold",
                    )
                    least_presence = gr.Slider(
                        0,
                        1,
                        segmenter.absent_cut,
                        step=0.01,
                        label="Least presence",
                        info="Prompts below it are not found.",
                        elem_id="least-presence",
                    )
                masks = gr.DownloadButton("Download masks", size="md", elem_id="download")
        seen, example, segmentation = gr.State(), gr.State(), gr.State()
        callbacks = Callbacks(segmenter, folder)
        ask = callbacks.ask  # one object: Gradio calls it once at a time
        asked = [seen, words, example, example_words, weight]
        drawn = [seen, segmentation, threshold, least_presence]
        shown = [picture, table, masks]
        # unread: Gradio's own reading takes any file of this machine and photos of any size, and
        # answers files that are no photos with a traceback;
        # and not its `change`, which an upload fires twice
        for changed in (
            gr.on(
                [page.load, photo.input, photo.clear],
                callbacks.see,
                photo,
                seen,
                preprocess=False,
            ),
            scenes.load_input_event.success(callbacks.see, photo, seen, preprocess=False),
            use.click(callbacks.show, editor, example),
            leave.click(lambda: None, None, example),
        ):
            changed.success(ask, asked, segmentation).success(callbacks.draw, drawn, shown)
        gr.on(
            [words.submit, example_words.submit, weight.input],
            ask,
            asked,
            segmentation,
            trigger_mode="always_last",
        ).success(callbacks.draw, drawn, shown)
        gr.on(
            [threshold.input, least_presence.input],
            callbacks.draw,
            drawn,
            shown,
            trigger_mode="always_last",
            show_progress="hidden",
        )
    return page


def _refuse_others(editor: gr.ImageEditor, folder: Path) -> None:
    """Let an editor open what was uploaded, no other file of this machine.

    It is changed in place: for a class of its own Gradio would write a file beside this one.
    """
    open_all = editor.preprocess

    def open_uploads(payload: EditorData | None) -> EditorValue | None:
        if payload is not None:
            for part in (payload.background, *payload.layers, payload.composite):
                try:
                    if part is not None:
                        uploaded(part.path, folder)
                except ValueError as error:
                    raise gr.Error(str(error), print_exception=False) from error
        return open_all(payload)

    editor.preprocess = open_uploads  # type: ignore[method-assign]
