"""Reports for the phantoms, worded as radiologists do.

Sides are always named ``left``, ``right``, ``bilateral`` or ``both``. Of several paraphrases the
earlier ones are used more often, as people have favourite words.
"""

from dataclasses import dataclass

import numpy as np

from xray_captioning.phantom.study import BILATERAL, Finding, PhantomStudy


@dataclass(frozen=True)
class Report:
    """The texts of one study; every sentence ends in a full stop.

    Parameters
    ----------
    findings : str
        Three to seven sentences on heart, lungs, pleura, bones and devices.
    impression : str
        One to three sentences: every finding of the study, or that the chest is normal.
    indication, comparison : str
        Why the images were made, and what they were compared with.
    """

    findings: str
    impression: str
    indication: str
    comparison: str


# Noun phrases for the impression. `detail` below says what the placeholders become.
_PHRASES = {
    "Pneumothorax": (
        "{size} {side} pneumothorax",
        "{side} pneumothorax of {size} size",
        "{size} pneumothorax on the {side}",
        "{size} {side} sided pneumothorax",
    ),
    "Edema": (
        "{size} pulmonary edema",
        "{size} interstitial pulmonary edema",
        "{size} edema of the lungs",
        "pulmonary edema of {size} degree",
    ),
    "Consolidation": (
        "{side} {place} zone consolidation",
        "consolidation in the {side} {place} zone",
        "airspace consolidation in the {side} {place} lung",
        "{side} {place} lung consolidation",
    ),
    "Lung Lesion": (
        "{side} {place} zone pulmonary {lesion}",
        "pulmonary {lesion} in the {side} {place} zone",
        "{size} lung {lesion} in the {side} {place} zone",
        "{side} {place} lung {lesion}",
    ),
    "Pleural Effusion": (
        "{size} {side} pleural effusion",
        "{side} pleural effusion of {size} size",
        "{size} pleural effusion on the {side}",
        "{size} {side} sided pleural effusion",
    ),
    "Cardiomegaly": (
        "{size} cardiomegaly",
        "{size} enlargement of the heart",
        "cardiomegaly of {size} degree",
        "{degree} enlarged heart",
    ),
    "Atelectasis": (
        "{side} basal linear atelectasis",
        "linear atelectasis at the {side} lung base",
        "plate like atelectasis at the {side} base",
        "{side} basilar atelectasis",
    ),
    "Emphysema": (
        "emphysema with hyperinflated lungs",
        "hyperinflated lungs with emphysema",
        "pulmonary emphysema",
        "emphysema with flat diaphragms",
    ),
    "Fracture": (
        "displaced {side} rib fractures",
        "{side} rib fractures with displacement",
        "fractures of several {side} ribs",
        "multiple {side} rib fractures",
    ),
    "Hiatal Hernia": (
        "{size} hiatal hernia",
        "{size} hiatal hernia behind the heart",
        "{size} retrocardiac hiatal hernia",
        "hiatal hernia of {size} size",
    ),
    "Granuloma": (
        "calcified granuloma in the {side} {place} zone",
        "{side} {place} zone calcified granuloma",
        "calcified granuloma of the {side} {place} lung",
        "healed granuloma in the {side} {place} zone",
    ),
    "Scoliosis": (
        "{size} scoliosis convex to the {side}",
        "{size} {side} convex scoliosis",
        "{size} thoracic scoliosis with {side} convexity",
        "{side} convex scoliosis of {size} degree",
    ),
    "central venous catheter": (
        "{side} central venous catheter",
        "{side} sided central venous catheter",
        "central venous catheter from the {side}",
        "{side} central venous line",
    ),
    "pacemaker": (
        "{side} chest wall pacemaker",
        "{side} sided pacemaker",
        "pacemaker in the {side} chest wall",
        "{side} pacemaker with leads in the heart",
    ),
}
_BOTH_SIDES = {
    "Pleural Effusion": (
        "{size} bilateral pleural effusions",
        "bilateral pleural effusions of {size} size",
        "{size} pleural effusions on both sides",
        "bilateral {size} pleural effusions",
    ),
    "Atelectasis": (
        "bilateral basal linear atelectasis",
        "linear atelectasis at both lung bases",
        "plate like atelectasis at both bases",
        "bilateral basilar atelectasis",
    ),
    "Consolidation": (
        "bilateral {place} zone consolidation",
        "consolidation in both {place} zones",
        "airspace consolidation in both {place} zones",
        "bilateral {place} lung consolidation",
    ),
}
# Whole sentences for the findings section; more are made from the phrases above.
_SENTENCES = {
    "Pneumothorax": (
        "There is a {size} {side} pneumothorax with a visible pleural line.",
        "A {size} {side} pneumothorax separates the lung from the chest wall.",
    ),
    "Edema": (
        "Perihilar haze and septal lines show {size} pulmonary edema.",
        "The pulmonary vessels are indistinct with {size} edema.",
    ),
    "Lung Lesion": (
        "There is a {size} round {lesion} in the {side} {place} zone.",
        "A {size} pulmonary {lesion} projects over the {side} {place} lung.",
    ),
    "Cardiomegaly": (
        "The heart is {degree} enlarged.",
        "The heart size is {degree} enlarged.",
        "There is {size} cardiomegaly.",
    ),
    "Emphysema": (
        "The lungs are hyperinflated with flat diaphragms, in keeping with emphysema.",
        "Large lucent lungs and flat diaphragms show emphysema.",
        "The lungs are hyperinflated from emphysema.",
    ),
    "Fracture": (
        "There are displaced fractures of several {side} ribs.",
        "Several {side} ribs are broken, with displaced fractures.",
    ),
    "Hiatal Hernia": (
        "There is a {size} hiatal hernia with an air fluid level behind the heart.",
        "A {size} hiatal hernia lies behind the heart.",
    ),
    "Granuloma": (
        "There is a dense calcified granuloma in the {side} {place} zone.",
        "A calcified granuloma projects over the {side} {place} lung.",
    ),
    "Scoliosis": (
        "The thoracic spine has a {size} scoliosis convex to the {side}.",
        "There is {size} scoliosis of the spine convex to the {side}.",
    ),
    "central venous catheter": (
        "A {side} central venous catheter ends in the superior vena cava.",
        "The tip of the {side} central venous catheter is in the superior vena cava.",
    ),
    "pacemaker": (
        "A {side} chest wall pacemaker has leads in the right atrium and ventricle.",
        "There is a {side} sided pacemaker with two leads.",
    ),
}
_FRAMES = ("There is {}.", "{} is present.", "{} is seen.")
_PLURAL_FRAMES = ("There are {}.", "{} are present.", "{} are seen.")

_NORMAL_IMPRESSIONS = (
    "No acute cardiopulmonary abnormality.",
    "Normal chest.",
    "No acute cardiopulmonary disease.",
    "Normal heart and clear lungs.",
    "No acute abnormality of the chest.",
    "Normal chest radiograph.",
)
_NORMAL_HEART = (
    "The heart is normal in size.",
    "Heart size is normal.",
    "The cardiac silhouette is within normal limits.",
    "The heart has normal size and shape.",
)
_NORMAL_LUNGS = (
    "The lungs are clear.",
    "The lungs are well expanded and clear.",
    "The lungs are clear without focal consolidation.",
    "No focal airspace opacity is seen.",
)
_NORMAL_PLEURA = (
    "No pleural effusion or pneumothorax.",
    "There is no pleural effusion or pneumothorax.",
    "No pneumothorax or pleural effusion is seen.",
    "There is no evidence of pleural effusion or pneumothorax.",
)
_NORMAL_BONES = (
    "The bones are intact.",
    "No acute bony abnormality.",
    "The osseous structures are unremarkable.",
    "The skeleton is normal.",
)
_NORMAL_MEDIASTINUM = (
    "The mediastinal contours are normal.",
    "Mediastinal contours are within normal limits.",
    "The mediastinum is unremarkable.",
    "Normal mediastinum.",
)
_NO_CONSOLIDATION = (
    "There is no focal consolidation.",
    "No focal consolidation.",
    "No consolidation is seen.",
    "There is no airspace consolidation.",
)
_NO_PNEUMOTHORAX = ("No pneumothorax.", "There is no pneumothorax.", "No pneumothorax is seen.")
_NO_EFFUSION = (
    "No pleural effusion.",
    "There is no pleural effusion.",
    "No pleural effusion is seen.",
)
_NO_FRACTURE = ("No rib fracture.", "There is no rib fracture.", "No fracture is seen.")
_INDICATIONS = (
    "Chest pain.",
    "Shortness of breath.",
    "Cough.",
    "Cough and fever.",
    "Dyspnea.",
    "Before surgery.",
    "Follow up.",
    "Weakness.",
)
_COMPARISONS = ("None.", "None available.", "Prior chest radiograph.", "No prior study.")

_LUNGS = ("Edema", "Consolidation", "Lung Lesion", "Atelectasis", "Emphysema", "Granuloma")
_SYSTEMS = {  # the order in which a chest is described
    "heart": ("Cardiomegaly",),
    "mediastinum": ("Hiatal Hernia",),
    "lungs": _LUNGS,
    "pleura": ("Pneumothorax", "Pleural Effusion"),
    "bones": ("Fracture", "Scoliosis"),
    "devices": ("Support Devices",),
}
_LONGEST = 7  # sentences in the findings section


def report(study: PhantomStudy, rng: np.random.Generator) -> Report:
    """Write the report of a study: all that is true of it, and nothing else.

    Parameters
    ----------
    study : PhantomStudy
        Its findings are named in both sections, with side, place and size.
    rng : numpy.random.Generator
        Chooses among paraphrases.

    Returns
    -------
    Report
    """
    return Report(
        findings=_write_findings(study, rng),
        impression=_write_impression(study, rng),
        indication=_choose(_INDICATIONS, rng),
        comparison=_choose(_COMPARISONS, rng),
    )


def _write_impression(study: PhantomStudy, rng: np.random.Generator) -> str:
    if not study.findings:
        return _choose(_NORMAL_IMPRESSIONS, rng)
    parts = [_phrase(finding, rng) for finding in study.findings]
    while len(parts) > 3 or (len(parts) > 1 and rng.random() < 0.2):
        parts[-2:] = [f"{parts[-2]} and {parts[-1]}"]
    return " ".join(_capital(part) + "." for part in parts)


def _write_findings(study: PhantomStudy, rng: np.random.Generator) -> str:
    """Findings and, for organs without any, normal statements, in the order of `_SYSTEMS`."""
    spoken = {
        system: [_sentence(finding, rng) for name in names if (finding := study.find(name))]
        for system, names in _SYSTEMS.items()
    }
    for system, choices in (("heart", _NORMAL_HEART), ("pleura", _NORMAL_PLEURA)):
        if not spoken[system]:
            spoken[system] = [_choose(choices, rng)]
    if not spoken["lungs"]:
        effusion = study.find("Pleural Effusion") or study.find("Pneumothorax")
        spoken["lungs"] = [_choose(_NO_CONSOLIDATION if effusion else _NORMAL_LUNGS, rng)]
    room = _LONGEST - sum(map(len, spoken.values()))
    for system, denials in _further_negatives(study)[:room]:
        if rng.random() < 0.6:
            spoken[system].append(_choose(denials, rng))
    return " ".join(sentence for sentences in spoken.values() for sentence in sentences)


def _further_negatives(study: PhantomStudy) -> list[tuple[str, tuple[str, ...]]]:
    """What else is truly absent and worth saying, as (system, choices)."""
    present = {finding.name for finding in study.findings}
    negatives: list[tuple[str, tuple[str, ...]]] = []
    if "Pleural Effusion" in present and "Pneumothorax" not in present:
        negatives.append(("pleura", _NO_PNEUMOTHORAX))
    if "Pneumothorax" in present and "Pleural Effusion" not in present:
        negatives.append(("pleura", _NO_EFFUSION))
    if not present & {"Fracture", "Scoliosis"}:
        negatives.append(("bones", _NORMAL_BONES))
    elif "Fracture" not in present:
        negatives.append(("bones", _NO_FRACTURE))
    if present & set(_LUNGS) and not present & {"Consolidation", "Edema"}:
        negatives.append(("lungs", _NO_CONSOLIDATION))
    if not present & {"Hiatal Hernia", "Scoliosis", "Cardiomegaly"}:
        negatives.append(("mediastinum", _NORMAL_MEDIASTINUM))
    return negatives


def _phrase(finding: Finding, rng: np.random.Generator) -> str:
    both = finding.side == BILATERAL
    key = finding.kind or finding.name
    choices = _BOTH_SIDES[key] if both else _PHRASES[key]
    return _fill(_choose(choices, rng), finding)


def _sentence(finding: Finding, rng: np.random.Generator) -> str:
    """A whole sentence: one of its own, or the phrase of an impression in a frame."""
    own: tuple[str, ...] = ()
    if finding.side != BILATERAL:
        own = _SENTENCES.get(finding.kind or finding.name, ())
    if own and rng.random() < 0.6:
        return _capital(_fill(_choose(own, rng), finding))
    phrase = _phrase(finding, rng)
    plural = any(word in phrase for word in ("effusions", "fractures", "hyperinflated lungs with"))
    return _capital(_choose(_PLURAL_FRAMES if plural else _FRAMES, rng).format(_article(phrase)))


_COUNTED = ("pneumothorax", "effusion", "nodule", "mass", "hernia", "granuloma")
_DEVICES = ("catheter", "line", "pacemaker", "heart")


def _article(phrase: str) -> str:
    """Put `a` or `an` before the phrases that need one."""
    words = phrase.split()
    if not set(words) & {*_COUNTED, *_DEVICES} or "enlargement" in words:
        return phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _fill(template: str, finding: Finding) -> str:
    return template.format(
        side=finding.side,
        place=finding.place,
        size=finding.size,
        degree=f"{finding.size}ly" if finding.size else "",
        lesion="nodule" if finding.size == "small" else "mass",
    )


def _choose(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    share = 0.6 ** np.arange(len(choices))
    return choices[int(rng.choice(len(choices), p=share / share.sum()))]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
