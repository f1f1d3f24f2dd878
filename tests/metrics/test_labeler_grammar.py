"""Sentences made from a grammar, finding by cue by frame by noise, each with a known answer."""

from itertools import product

import pytest

from xray_captioning.metrics.labeler import label_report

WORDS = {
    "Pleural Effusion": ["effusion", "left pleural effusion", "pleural fluid"],
    "Pneumothorax": ["pneumothorax", "apical pneumothorax"],
    "Consolidation": ["consolidation", "right lower lobe consolidation"],
    "Pneumonia": ["pneumonia", "lingular pneumonia"],
    "Atelectasis": ["atelectasis", "bibasilar atelectasis"],
    "Edema": ["edema", "pulmonary edema"],
    "Lung Opacity": ["airspace disease", "basilar opacity"],
    "Lung Lesion": ["nodule", "lung mass"],
}
PAIRS = [
    ("effusion", "Pleural Effusion", "atelectasis", "Atelectasis"),
    ("consolidation", "Consolidation", "pneumothorax", "Pneumothorax"),
    ("edema", "Edema", "pleural effusion", "Pleural Effusion"),
    ("pneumothorax", "Pneumothorax", "basilar opacity", "Lung Opacity"),
]

ONE = {
    1: """
        there is {x}
        {x} is present
        {x} is again seen
        small {x}
        stable {x}
        new {x}
        {x} persists
        persistent {x} on the left
        worsening {x}
        {x} has increased since the prior study
        {x} has decreased
        {x} is unchanged
        {x}, unchanged
        unchanged {x}
        no change in the {x}
        no significant interval change in {x}
        there is no interval increase in the {x}
        no worsening of {x}
        without significant change in the {x}
        {x} without interval change
        {x} has not changed
        {x} has not resolved
        {x} has not significantly improved
        {x} is not significantly changed from the prior exam
        {x} shows no change
        no improvement of the {x}
        {x} is no larger than before
        {x} is slowly resolving
        resolving {x}
        {x} has only partially resolved
        incomplete resolution of the {x}
        {x} was again demonstrated
        {x}: present
        {x}: mild
        {x} - small
        {x}: unchanged
        findings consistent with {x}
        {x} is noted on the right
        interval development of {x}
        not only {x}
        redemonstration of {x}
        impression: {x}
        no {x} other than the small one seen before
        no {x} on the right; small one on the left
        trace left and no right {x}
        {x}: yes
        {x}? mild
        positive for {x}
        {x} unchanged for two years
    """,
    0: """
        no {x}
        there is no {x}
        no evidence of {x}
        no {x} is seen
        without {x}
        negative for {x}
        free of {x}
        absence of {x}
        {x} is absent
        {x} is not seen
        {x} not identified
        {x} is not present
        {x} has not developed
        there is neither {x}
        no definite {x}
        no sign of {x}
        no findings to suggest {x}
        {x} has been ruled out
        {x}: none
        {x}: no
        {x}: not seen
        {x} - none
        {x} (none)
        {x}? no
        {x} has resolved
        {x} has completely resolved
        {x} has cleared
        {x} is no longer seen
        {x} is no longer present
        {x} is gone
        {x}: resolved
        previously noted {x} has resolved
        {x} seen previously is no longer visible
        interval resolution of the {x}
        complete clearing of {x}
        resolved {x}
        {x} has disappeared
        no residual {x}
        {x} is unlikely
        rather than {x}
        lungs are without {x}
        lacks evidence of {x}
        denies {x}
        no convincing evidence for {x}
        no {x} following tube placement
        {x} is not a feature
        nowhere is there {x}
        {x} has come and gone
        the film of last week showed {x}, which is not seen today
        {x} was present and has resolved
    """,
    -1: """
        possible {x}
        there may be {x}
        {x} is possible
        {x} is suspected
        suspected {x}
        cannot exclude {x}
        {x} cannot be excluded
        {x} is not excluded
        {x} cannot be entirely ruled out
        {x} would be difficult to exclude
        it is hard to exclude {x}
        question of {x}
        questionable {x}
        {x} is questioned
        ? {x}
        {x}?
        {x} is a consideration
        {x} should be considered
        {x} is in the differential
        differential includes {x}
        this could represent {x}
        may reflect {x}
        can represent {x}
        maybe {x}
        perhaps {x}
        concerning for {x}
        suspicious for {x}
        worrisome for {x}
        {x} less likely
        less likely {x}
        raises the possibility of {x}
        {x}: possible
        equivocal {x}
        consider {x}
        unable to exclude {x}
        suggestive of {x}
        no new {x}
        no new or worsening {x}
        without new {x}
        there may or may not be {x}
        i doubt {x}
    """,
    None: """
        evaluate for {x}
        rule out {x}
        r/o {x}
        eval for {x}
        indication: {x}. findings: chest
        history: {x}<br><br>findings: chest
        reason for exam: {x}
        clinical question: {x}?
        history of {x}
        h/o {x}
        status post treatment for {x}
        ct to evaluate for {x}
        ct is more sensitive for {x}
        if {x} is a concern, ct is advised
        assess for {x}
        {x} may be radiographically occult
        comparison: prior film with {x}. impression: chest
    """,
}

TWO = """
    1 0 {x} without {y}
    1 0 {x}, no {y}
    1 0 {x}; no {y}
    1 0 {x} but no {y}
    1 0 {x} is present, but {y} is not seen
    1 0 there is {x}. no {y}.
    1 0 {x}: yes. {y}: no.
    1 0 {x} has increased; {y} has resolved
    1 0 {x} rather than {y}
    1 0 no change in the {x} and no {y}
    1 0 {x} is unchanged and {y} has resolved
    1 0 {x} persists and there is no {y}
    0 1 no {x}, but {y} is present
    0 1 no {x}. small {y}
    0 1 no {x}; small {y}
    0 1 no {x}, small {y}
    0 1 no {x} but {y}
    0 1 no {x}, however there is {y}
    0 1 no {x} aside from {y}
    0 1 {x} has resolved but {y} persists
    0 1 {x} is no longer visible; {y} is unchanged
    0 1 {x}: none; {y}: small
    0 1 no {x}, {y} is unchanged
    0 1 - no {x}<br>- {y}
    0 1 no {x}<br>{y}<br>chest
    0 1 1. no {x} 2. {y}
    0 1 negative for {x}, positive for {y}
    0 0 no {x} or {y}
    0 0 no {x}, {y}
    0 0 no {x} and no {y}
    0 0 neither {x} nor {y}
    0 0 neither {x} nor {y} is seen
    0 0 without {x} or {y}
    0 0 negative for {x} and {y}
    0 0 {x} and {y} are not seen
    0 0 {x} and {y} have resolved
    0 0 {x}: no; {y}: no
    0 0 no {x}, {y} or mass effect
    0 0 no evidence of {x}, large {y}, or fracture
    0 0 resolution of {x} and {y}
    1 1 {x} and {y}
    1 1 {x} with {y}
    1 1 no change in {x} or {y}
    1 1 {x} and {y} are unchanged
    1 1 {x} has not resolved and {y} persists
    1 -1 {x}, possible {y}
    1 -1 {x} and possible {y}
    1 -1 {x} which may represent {y}
    1 -1 {x}; cannot exclude {y}
    1 -1 {x}, {y} not excluded
    1 -1 {x}, {y} less likely
    0 -1 no {x}, possible {y}
    0 -1 no {x}; {y} cannot be excluded
    0 -1 no {x} or new {y}
    -1 -1 {x} versus {y}
    -1 -1 possible {x} or {y}
    -1 0 possible {x}, no {y}
    -1 0 possible {x} without {y}
    -1 0 cannot exclude {x} but no {y}
"""


def _wrapped(text):
    """Break the line in the middle, as a fixed width does."""
    words = f"{text.capitalize()}.".split(" ")
    half = len(words) // 2
    return f"{' '.join(words[:half])}\n {' '.join(words[half:])}" if half else text


def _exchanged(text):
    """Exchange two letters of a long name of a finding, as hasty typing does."""
    for name in ("effusion", "pneumothorax", "consolidation", "atelectasis", "pneumonia"):
        text = text.replace(name, f"{name[:4]}{name[5]}{name[4]}{name[6:]}")
    return text


NOISE = {
    "as it is": str,
    "full stop": "{}.".format,
    "capitals": str.upper,
    "first letter": str.capitalize,
    "bullet": "- {}.".format,
    "before": "The aorta is normal. {}".format,
    "behind": "{}. The trachea is midline.".format,
    "number": "1. {}.".format,
    "wrapped": _wrapped,
    "misspelt": _exchanged,
    "blanks": lambda text: text.replace(" ", "  "),
    "removed": "{} XXXX".format,
}


def sentences():
    """Yield (noise, text, finding, label)."""
    for label, block in ONE.items():
        for frame, (finding, words) in product(_templates(block), WORDS.items()):
            for word in words:
                yield frame.format(x=word), {finding: label}
    for frame in _templates(TWO):
        first, second, text = frame.split(" ", 2)
        for x, one, y, two in PAIRS:
            yield text.format(x=x, y=y), {one: int(first), two: int(second)}


def _templates(block):
    """Return the lines of a block; a line break within one is written out."""
    return [line.strip().replace("<br>", "\n") for line in block.strip().splitlines()]


@pytest.mark.parametrize("noise", NOISE)
def test_labels(noise):
    wrong, number = [], 0
    for text, expected in sentences():
        noisy = text if "\n" in text or " - " in text else NOISE[noise](text)
        labels = label_report(noisy)
        got = {finding: labels[finding] for finding in expected}
        number += 1
        if got != expected:
            wrong.append((noisy, expected, got))
    assert number > 1_000
    assert len(wrong) <= number / 100, wrong[:20]
