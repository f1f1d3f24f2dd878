"""Named rules that turn a report as it was dictated into words separated by single spaces.

A protocol decides which words exist, so its name is stored with the tokenizer. ``r2gen`` is that of the released code
of Chen et al., EMNLP 2020, for IU X-ray. The XXXX marks of removed text: Demner-Fushman et al., JAMIA 2016.
"""

import html
import re
import unicodedata

from xray_captioning.errors import ConfigError, DataError

# Letters and digits of any script: the regular-expression class \w without the underscore.
_ALNUM = r"[^\W_]"
_PUNCTUATION = str.maketrans("\u2018\u2019\u2010\u2011\u2013!?;", "''---..,")
# Three X in a row occur in no word; two are a mark only where they stand alone or end a number.
# What a mark leaves of "x-XXXX" or "XXXX's" is no word either.
_REMOVED_TEXT = re.compile(
    rf"(?:(?<!{_ALNUM})[a-z]-)?(?:x{{3,}}|(?<![^\W\d_])x{{2}}(?!{_ALNUM}))(?:'[a-z](?!{_ALNUM}))?"
)
_TITLE = re.compile(rf"(?<!{_ALNUM})(dr|mr|mrs|ms|vs)\.")
_DOTTED, _DIGIT = re.compile(r"\.[a-z]\."), re.compile(r"\d")
_INITIALS = re.compile(rf"(?<!{_ALNUM})(?:[a-z]\.){{2,}}")
_BRACKETED_ITEM = re.compile(r"(?:^|(?<=[.,\n]))\s*\(?\d{1,2}\)")
_BARE_DECIMAL = re.compile(r"(?<![\w.])\.(?=\d)")
_ATTACHED_UNIT = re.compile(rf"(?<=\d)(mm|cm)(?!{_ALNUM})")
_ATOM = rf"(?:\d+(?:[./]\d+|,\d{{3}}(?!\d))+|{_ALNUM}+)"
_TOKEN = re.compile(rf"{_ATOM}(?:['-]{_ATOM})*|[.,%]")


def clean_plain(text: str) -> str:
    """Clean for training; twice changes nothing."""
    # Lower case; full stop, comma, percent as words; marks and list numbers go; sentences end in " .".
    text = unicodedata.normalize("NFC", text.lower()).translate(_PUNCTUATION)
    if _DOTTED.search(text):  # most texts have nothing of this
        text = _INITIALS.sub(lambda match: match[0].replace(".", ""), text)
    text = _REMOVED_TEXT.sub(" ", text) if "xx" in text else text
    text = _TITLE.sub(r"\1 ", text)
    if _DIGIT.search(text):
        text = _ATTACHED_UNIT.sub(r" \1", _BARE_DECIMAL.sub("0.", _BRACKETED_ITEM.sub(" ", text)))
    return "".join(_plain_sentence(words) for words in _split(_TOKEN.findall(text))).strip()


def _split(tokens: list[str]) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for token in tokens:
        if token == ".":
            sentences.append([])
        elif token != "," or (sentences[-1] and sentences[-1][-1] != ","):
            sentences[-1].append(token)
    return sentences


def _plain_sentence(words: list[str]) -> str:
    words = words[:-1] if words[-1:] == [","] else words
    # A sentence that is nothing but a small number was the "1." of a list.
    if not words or (len(words) == 1 and re.fullmatch(r"\d{1,2}", words[0])):
        return ""
    return f" {' '.join(words)} ."


# What R2Gen deletes inside a sentence. The hyphen is not among them: R2Gen's regular expression
# reads it as the middle of a range that runs from the colon to the opening bracket.
_R2GEN_DELETED = str.maketrans("", "", "\"'/\\.,?;*!%^&_+():<=>@[]{}")
_R2GEN_ITEMS = (*(f". {n}. " for n in range(2, 6)), *(f" {n}. " for n in range(2, 6)))


def clean_r2gen(text: str) -> str:
    """Clean as R2Gen's released code cleans IU X-ray reports, for comparable numbers."""
    # Hyphens and XXXX marks stay, commas and apostrophes vanish, and an empty text becomes ".".
    for _ in range(3):
        text = text.replace("..", ".")
    text = text.replace("1. ", "")
    for item in _R2GEN_ITEMS:
        text = text.replace(item, ". ")
    sentences = (s.translate(_R2GEN_DELETED) for s in text.strip().lower().split(". "))
    return " ".join(" . ".join([*sentences, ""]).split())


def clean_legacy(text: str) -> str:
    """Clean the raw text of one section as the older Keras project did, for its weights only."""
    # Lower-case letters and full stops; each digit is deleted together with the character after it.
    text = re.sub(r"\d.", "", text).replace("X", "").replace(" .", "")
    return " ".join(re.sub(r"[^A-Za-z.]", " ", text).replace(".", " .").lower().split())


PROTOCOLS = {"plain": clean_plain, "r2gen": clean_r2gen, "legacy": clean_legacy}


def clean(text: str, protocol: str) -> str:
    """Clean a report by a named protocol to words separated by single spaces.

    Parameters
    ----------
    text : str
        A report or a section of one. Where nothing is left of it the result is empty; of ``r2gen`` a full stop.
    protocol : {'plain', 'r2gen', 'legacy'}
        The rule: this project's own, R2Gen's or the older Keras project's.

    Raises
    ------
    ConfigError, DataError
        When no protocol has that name, or `text` is no text, such as an empty table cell's NaN.

    Examples
    --------
    >>> clean("1. No effusion.  2. Heart size XXXX normal.", "plain")
    'no effusion . heart size normal .'
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown cleaning protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    if not isinstance(text, str):
        raise DataError(f"a report is not text but {type(text).__name__}; drop it or use ''")
    return PROTOCOLS[protocol](text)


_MARK_WORDS = "start|end|bos|eos|sos|s|cls|sep|pad|mask|startseq|endseq|start_of_text|end_of_text|begin_of_text"
_MARK_WORDS += "|startoftext|endoftext|im_start|im_end|start_token|end_token"
_SEQUENCE = r"\b(?:start|begin|end)_?(?:of_?)?seq(?:uence)?\b"
_MARK = re.compile(rf" ?(?:<\|?/?(?:{_MARK_WORDS})/?\|?>|\[/?(?:{_MARK_WORDS})\]|{_SEQUENCE}) ?", re.IGNORECASE)
_TAG = re.compile(r"</?(?:(b|i|u|em|strong|span)|br|p|div|li|ul|ol|h\d)\s?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,4});")
_BEGIN, _END = ("start", "begin", "bos", "sos"), ("end", "eos", "stop")  # where all texts have them
# As text columns with missing cells become words when they are joined: "Clear lungs. nan".
_NAN = re.compile(r"(?<!\S)(?:nan|NaN)(?:\s?\.)?(?!\S) ?")


def without_tags(text: str) -> str:
    """Leave out the tags of HTML; those that begin or end a line become a line break."""
    return _TAG.sub(lambda tag: "" if tag[1] else "\n", text) if "<" in text else text


def without_marks(text: str) -> str:
    """Leave out words that programs add (``startseq``, ``<end>``, ``[CLS]``, ``nan``) and HTML: its tags, entities."""
    # Of words such as "start" only a whole column tells what they are.
    while "&" in text and _ENTITY.search(text):
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = without_tags(text)
    if "<" in text or "[" in text or "seq" in text or "SEQ" in text:
        text = _MARK.sub(" ", text)
    if "nan" in text or "NaN" in text:
        text = _NAN.sub("", text)
    return text.strip()


def without_common_marks(texts: list[str | None]) -> list[str | None]:
    """Leave out "start" and "end" where all texts begin and end so, as tutorials prepare them."""
    # One after the other: of very many texts the first nearly always tells that these are no marks.
    rows = (text.split() for text in texts if text)
    if not any(texts) or not all(r and r[0].lower() in _BEGIN and r[-1].lower() in _END for r in rows):
        return texts
    return [text and (" ".join(text.split()[1:-1]) or None) for text in texts]


def sentences(text: str) -> list[str]:
    """Split a cleaned or an ordinary text at full stops, not at decimal points, and drop these."""
    return [part for part in re.split(r"\s*\.+(?:\s+|$)", text.strip()) if part]


def prettify(text: str) -> str:
    """Write a cleaned text for display, "no effusion ." as "No effusion."; ordinary ones stay."""
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in sentences(re.sub(r"\s+([,%])", r"\1", text)))
