"""HTML of the app: shaded sentences, the findings, and what the colours mean.

Shades are laid half transparent over whatever the page's background is, and the text keeps the
page's own colour, so that both a light and a dark page can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from xray_captioning.captioner.calibration import NOT_CONFIDENT
from xray_captioning.serving.app_parts import Result, Rows, strength, unfamiliar, withheld_sentences

SHADE = (0, 114, 178)  # blue of Okabe and Ito: told from grey with every kind of colour vision
DEEPEST = 0.42  # opacity of the surest sentence's shade
SAID = {1: "present", 0: "absent", -1: "uncertain", None: "not named"}

STYLE = """<style>
.block-container, [data-testid="stMainBlockContainer"] { max-width: 84rem; padding-top: 3.2rem; }
.stApp h2 { font-size: 1.5rem; }
.xc-caption { font-size: 1.15rem; line-height: 2; margin: 0; }
.xc-caption mark { color: inherit; padding: .22em .4em; border-radius: .3em;
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.xc-caption small { font-size: .74em; margin-left: .1em; white-space: nowrap; }
.xc-caption mark.xc-withheld { background: none; border: 1px dashed currentColor;
  font-style: italic; }
.xc-note { font-size: .875rem; margin: .35rem 0 0; }
.stApp [data-testid="stImageCaption"], .stApp [data-testid="stImageCaption"] * {
  color: inherit; opacity: 1; }
.xc-scale { display: inline-block; width: 6rem; height: .7em; border-radius: .2em;
  vertical-align: -.05em; margin: 0 .3em; border: 1px solid rgba(128, 128, 128, .7); }
.xc-table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.xc-table th { text-align: left; font-weight: 600; padding: .25rem .5rem .25rem 0; }
.xc-table td { padding: .25rem .5rem .25rem 0; border-top: 1px solid rgba(128, 128, 128, .3); }
.xc-bar { display: inline-block; width: 45%; max-width: 9rem; height: .65em; border-radius: .2em;
  background: rgba(128, 128, 128, .3); margin-right: .5em; }
.xc-list { font-size: .95rem; padding-left: 1.4rem; margin: 0; }
.xc-list li { margin-bottom: .3rem; }
.xc-bar i { display: block; height: 100%; border-radius: .2em; background: rgb(0, 114, 178); }
</style>"""


def opacity(chance: float) -> float:
    """Return how opaque the shade of a sentence is: the surer, the more."""
    return round(DEEPEST * min(max(chance, 0.0), 1.0), 3)


def percent(chance: float) -> str:
    """Return a probability as whole percent, not to be broken over two lines."""
    return f"{100 * chance:.0f}\N{NO-BREAK SPACE}%"


def caption_html(result: Result, threshold: float) -> str:
    """Return the caption, each sentence shaded by how sure it is and with that in figures.

    Of images unlike those the model knows, how sure it is means nothing, and nothing is shaded.

    Parameters
    ----------
    result : Result
    threshold : float
        Sentences with a confidence below it are withheld.
    """
    withheld = withheld_sentences(result, threshold)
    known = not unfamiliar(result)
    parts = [
        _sentence(
            NOT_CONFIDENT if i in withheld else sentence.text,
            strength(sentence) if known else None,
            i in withheld,
        )
        for i, sentence in enumerate(result.caption.sentences)
    ]
    return f'<p class="xc-caption">{" ".join(parts) or "<em>The model wrote nothing.</em>"}</p>'


def _sentence(text: str, chance: float | None, withheld: bool) -> str:
    number = "" if chance is None else f"\N{NO-BREAK SPACE}<small>{percent(chance)}</small>"
    if withheld:
        return f'<mark class="xc-withheld">{escape(text)}{number}</mark>'
    shade = f"background: rgba{(*SHADE, opacity(chance or 0.0))}"
    return f'<mark style="{shade}">{escape(text)}{number}</mark>'


def confidence_legend(result: Result) -> str:
    """Return what the shades and figures behind the sentences are; empty where there are none."""
    if unfamiliar(result):
        return ""
    meaning = (
        "confidence, calibrated on validation studies: of sentences marked 80 %, about 80 % were "
        "right there"
        if result.calibrated
        else "how likely the model finds each word of the sentence, exp(mean log-probability). The "
        "bundle is not calibrated: this is no chance of being right, and nothing is withheld"
    )
    ends = ", ".join(f"rgba{(*SHADE, opacity(chance))}" for chance in (0, 1))
    scale = f'<span class="xc-scale" style="background: linear-gradient(90deg, {ends})"></span>'
    return f'<p class="xc-note">0 %{scale}100 %: {meaning}.</p>'


def attention_legend(colours: Sequence[str], top: float, views: int) -> str:
    """Return a colour bar of the attention and what it means.

    Parameters
    ----------
    colours : sequence of str
        From no attention to the most.
    top : float
        The share of the attention that the last colour stands for.
    views : int
        How many there are.
    """
    whole = "both views" if views > 1 else "the view"
    scale = f"linear-gradient(90deg, {', '.join(colours)})"
    return (
        f'<p class="xc-note">0 %<span class="xc-scale" style="background: {scale}"></span>'
        f"{100 * top:.1f} %: share of the attention on a region; all regions of {whole} make "
        "100 %. It shows where the decoder read, not why.</p>"
    )


def findings_html(rows: Rows) -> str:
    """Return a table of findings.

    Parameters
    ----------
    rows : list of tuples
        Name, the encoder's probability or None, and what the caption says of it.
    """
    scored = any(chance is not None for _, chance, _ in rows)
    head = ["Finding", *(["Encoder"] if scored else []), "Caption"]
    body = [
        [escape(name), *([_bar(chance)] if scored else []), SAID[said]]
        for name, chance, said in rows
    ]
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f'<table class="xc-table"><thead><tr>{top}</tr></thead><tbody>{cells}</tbody></table>'


def _bar(chance: float | None) -> str:
    if chance is None:
        return "none"
    return f'<span class="xc-bar"><i style="width: {chance:.0%}"></i></span>{percent(chance)}'


def alternatives_html(result: Result, threshold: float) -> str:
    """Return the captions that the search liked less, or why there are none.

    Beside a sentence that is withheld they would say it all the same.
    """
    if withheld_sentences(result, threshold):
        return '<p class="xc-note">Not shown while a sentence is withheld.</p>'
    items = [
        f"<li>{escape(text)} <small>(log-probability {log_probability:.1f})</small></li>"
        for text, log_probability in result.caption.alternatives
    ]
    if not items:
        return '<p class="xc-note">A beam of one has none; choose a larger one.</p>'
    best = f"{result.caption.log_probability:.1f}"
    note = f'<p class="xc-note">The caption above has log-probability {best}.</p>'
    return f'<ol class="xc-list">{"".join(items)}</ol>{note}'
