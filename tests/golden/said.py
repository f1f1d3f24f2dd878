"""Numbers that are said: README and docs against what is stored in the repository, by `numbers.toml`.

    python -m tests.golden.said                   # says what disagrees, and of each page what is compared
    python -m tests.golden.said --renew           # writes the stored numbers into the pages, rounded as they were
    python -m tests.golden.said --store r2gen results/metrics.json    # what a command of `[results]` gave, or printed

`numbers.toml` says how a table or a sentence is compared: with a bundle's card, with the package, with what is counted,
with what a command of `[results]` gave (`results/`), or with the table of another page that has the numbers from the
command itself.
"""

import dataclasses
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CARD = Path("weights/phantom_attention/README.md")  # the bundle's manifest has its digest, so it is never renewed
RULES = tomllib.loads((HERE / "numbers.toml").read_text("utf-8"))
WORDS = dict(enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"], 1))
DIGITS = r"(?<![\w.])[+-]?(?:\d{1,3}(?:,\d{3})+|\d*\.?\d+(?:e[+-]?\d+)?)(?!\w)"
NUMBER = re.compile(rf"{DIGITS}|\b(?:{'|'.join(WORDS.values())})\b", re.I)
ROW = re.compile(r"(?<!\\)\|")


@dataclasses.dataclass(frozen=True)
class Said:
    """A number of a page: where it stands, how it is written, and what is stored."""

    page: str
    start: int
    text: str
    stored: float
    renewable: bool = True

    def agrees(self) -> bool:
        """Say whether it is what is stored, rounded as it is written."""
        bare = self.text.replace(",", "").lower()
        spelt = [number for number, word in WORDS.items() if word == bare]
        if spelt:
            return spelt[0] == self.stored
        digits, _, power = bare.partition("e")
        unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
        return abs(float(bare) - self.stored) <= unit * 0.500001

    def renewed(self) -> str:
        """Return what is stored, written in the same way."""
        if self.text.lower() in WORDS.values():
            word = WORDS.get(int(self.stored), f"{self.stored:,.0f}")
            return word.capitalize() if self.text[0].isupper() else word
        digits, power, _ = self.text.lower().partition("e")
        places = len(digits.partition(".")[2])
        if power:
            return f"{self.stored:.{places}e}"
        grouped = "," if "," in self.text or (self.stored >= 1000 and len(self.text) < 4) else ""
        written = f"{self.stored:{'+' if self.text[0] == '+' else ''}{grouped}.{places}f}"
        return re.sub(r"^([+-]?)0\.", r"\1.", written) if re.match(r"[+-]?\.", self.text) else written


def numbers(text: str) -> list[float]:
    """Return the numbers of a text, in digits."""
    return [float(found[0].replace(",", "")) for found in NUMBER.finditer(text) if found[0][-1].isdigit()]


@cache
def page_text(page: str) -> str:
    """Return a page of the repository."""
    return (ROOT / page).read_text("utf-8")


def table(text: str, head: str) -> list[list[tuple[int, str]]]:
    """Return the rows of the first table whose header begins so, its header first: cells with their places."""
    if not (start := re.search(rf"^ *{re.escape(head)}", text, re.M)):
        raise LookupError(f"no table begins with {head!r}")
    found, place = [], start.start()
    for line in text[place:].splitlines(keepends=True):
        if not line.lstrip().startswith("|"):
            break
        bars = [bar.start() for bar in ROW.finditer(line)]
        found.append([(place + a + 1, line[a + 1 : b].strip(" `*")) for a, b in pairwise(bars)])
        place += len(line)
    return [found[0], *found[2:]]


def rows(page: str, head: str) -> list[dict[str, str]]:
    """Return a table of a page as a list of its rows, for expressions."""
    header, *lines = table(page_text(page), head)
    return [{name: cell for (_, name), (_, cell) in zip(header, line)} for line in lines]


def one(found: list[dict[str, Any]], **cells: Any) -> dict[str, Any]:
    """Return the one row with these cells."""
    matching = [row for row in found if all(str(row[name]) == str(cell) for name, cell in cells.items())]
    if len(matching) != 1:
        raise LookupError(f"{len(matching)} rows have {cells}")
    return matching[0]


def store(name: str, file: Path) -> None:
    """Keep what a command gave: of a `metrics.json` rows and differences, of anything else the lines."""
    text = file.read_text("utf-8")
    if file.suffix == ".json":
        found = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))
        kept = {part: found[part] for part in ("rows", "differences")}
    else:
        kept = {"printed": text.splitlines()}
    kept["command"] = RULES["results"][name]
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def labelled(result: dict[str, Any], start: str) -> list[dict[str, str]]:
    """Return a table that `benchmarks/labeler.py` printed below a line that begins so, the macro F1 as its last row."""
    printed = result["printed"]
    place = next(number for number, line in enumerate(printed) if line.startswith(start))
    end = next(number for number in range(place, len(printed)) if printed[number].startswith("macro F1"))
    names = ("finding", "coded", "precision", "recall", "F1")
    found = [dict(zip(names, line.rsplit(None, 4))) for line in printed[place + 2 : end]]
    return [*found, {"finding": "macro", "F1": printed[end].replace("macro F1", "").replace("95 %", "")}]


def quoted(page: str, sentence: str) -> float:
    """Return the number that stands for `#` in a sentence of a page."""
    before, after = (r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in sentence.split("#"))
    found = re.search(f"{before}({DIGITS}){after}", page_text(page))
    if not found:
        raise LookupError(f"{page} no longer says: {sentence}")
    return float(found[1].replace(",", ""))


def package(name: str) -> Any:
    """Return what a dotted name of the package stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"xray_captioning.{module}"), attribute)


def files(pattern: str) -> int:
    """Return how many files of the repository fit a pattern."""
    return len(list(ROOT.glob(pattern)))


def lines(file: str) -> int:
    """Return how many rows a table of the repository has, its header left out."""
    return len((ROOT / file).read_text("utf-8").splitlines()) - 1


@cache
def namespace() -> dict[str, Any]:
    """Return what expressions may name: stored files and the functions above."""
    names: dict[str, Any] = {f.__name__: f for f in (rows, one, numbers, quoted, labelled, package, files, lines)}
    names["fields"] = dataclasses.fields
    for name, file in RULES["stored"].items():
        names[name] = json.loads((ROOT / file).read_text("utf-8"))
    for name in RULES["results"]:
        names[name] = json.loads((HERE / "results" / f"{name}.json").read_text("utf-8"))
    for name, expression in RULES["names"].items():
        names[name] = eval(expression, names)
    return names


def spots_of_sentence(page: str, text: str, sentence: str) -> Iterator[Said]:
    """Yield the numbers of a sentence, in which an expression in braces stands for each that is stored.

    A sentence that begins with `= ` has numbers beside them that were measured at the same time: it is never renewed.
    """
    renewable, sentence = not sentence.startswith("= "), sentence.removeprefix("= ")
    parts = re.split(r"\{([^{}]+)\}", sentence)
    values = [float(eval(part, namespace())) for part in parts[1::2]]
    between = [r"\s+".join(re.escape(word) for word in re.split(r"\s+", part)) for part in parts[::2]]
    found = list(re.finditer(f"({NUMBER.pattern})".join(between), text, re.I))
    if not found:
        raise LookupError(f"no longer says: {sentence}")
    for match in found:
        for group, value in enumerate(values, 1):
            yield Said(page, match.start(group), match[group], value, renewable)


def spots_of_table(page: str, text: str, rule: dict[str, Any]) -> Iterator[Said]:
    """Yield the numbers of a table, whose rows are found by the cells of some columns."""
    stored, names = eval(rule["rows"], namespace()), rule.get("names", {})
    header, *lines = table(text, rule["head"])
    for line in lines:
        cells = {names.get(column, column): cell for (_, column), cell in zip(header, line)}
        wanted = {key: names.get(cells[key][1], cells[key][1]) for key in rule["by"]}
        if cells[rule["by"][0]][1] in rule.get("free_rows", []):
            continue
        found = [row for row in stored if all(str(row.get(k) or "") == v for k, v in wanted.items())]
        if len(found) != 1:
            raise LookupError(f"{len(found)} stored rows are {wanted} of the table {rule['head']!r}")
        for column, (place, cell) in cells.items():
            if column in rule["by"] or column in rule.get("free", []):
                continue
            value = found[0][column]
            values = numbers(value) if isinstance(value, str) else [] if value is None else [float(value)]
            matches = list(NUMBER.finditer(text, place, place + len(text[place:].split("|")[0])))
            if len(matches) != len(values):
                raise LookupError(f"{wanted}, {column}: says {cell!r}, stored is {value!r}")
            for match, one_value in zip(matches, values):
                yield Said(page, match.start(), match[0], one_value)


def guarded(page: str, text: str) -> tuple[list[Said], list[str]]:
    """Return the numbers of a page that are compared, and what could not be found."""
    spots: list[Said] = []
    missing = []
    for rule in [*RULES["says"].get(page, []), *(one for one in RULES["table"] if one["page"] == page)]:
        try:
            found = spots_of_sentence(page, text, rule) if isinstance(rule, str) else spots_of_table(page, text, rule)
            spots += found
        except (LookupError, TypeError, ValueError) as error:
            missing.append(f"{page}: {type(error).__name__}: {error}")
    return spots, missing


def where(page: str, text: str, place: int) -> str:
    """Return page and line of a place."""
    return f"{page}:{text.count(chr(10), 0, place) + 1}"


def wrong(page: str, text: str) -> list[str]:
    """Return a line for every number that is not what is stored."""
    spots, missing = guarded(page, text)
    lines = [f"{where(page, text, s.start)}: says {s.text}, stored is {s.stored:.6g}" for s in spots if not s.agrees()]
    return lines + missing


def renewed(page: str, text: str) -> str:
    """Return a page with the numbers that are stored."""
    for spot in sorted(set(guarded(page, text)[0]), key=lambda spot: -spot.start):
        if spot.renewable and not spot.agrees():
            text = text[: spot.start] + spot.renewed() + text[spot.start + len(spot.text) :]
    return text


# What no rule compares: decimals, shares and times. Each has to have a command near it, or a line in the table.
LOOSE = re.compile(
    r"(?<![\w.,/-])(?:\d[\d,]*|)\.\d+(?!\w|\.\d)|(?<![\w.])(?!95 %)\d[\d,.]* %"
    r"|\d[\d,.]* (?:s|ms|µs|seconds?|minutes?|hours?|MB|MiB|GB)\b"
)
TIME = re.compile(
    r"\d[\d,.]* (?:s|ms|µs|seconds|minutes?|hours?)\b"
    r"|\b\w+/s\b|\b(?:images|studies|requests|reports) (?:a|per) second\b|\| (?:\w+ )*m?s\b[^|]*\|"
)
MACHINE = re.compile(r"\bcores?\b|processor|\bEPYC\b|\bXeon\b|\bGPU\b|\bmachine\b|\bdevice\b")
VARY = re.compile(r"\bvar(?:y|ies)\b")
COMMAND = re.compile(r"benchmarks/\w+\.py|tests/[\w/]+\.(?:py|tsv)|xray-captioning (?:demo|evaluate|score|calibrate)\b")
LINK = re.compile(r"\]\(([^)\s#:]*)(?:#([^)\s]*))?\)")


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading of a page: where its text begins, the text, and that of the headings above it."""

    title: str
    start: int
    text: str
    above: tuple["Section", ...]

    def near(self) -> str:
        """Return its text and that of the headings above it."""
        return "\n".join(part.text for part in (*self.above, self))


def sections(text: str) -> list[Section]:
    """Return the sections of a page."""
    fenced = [match.span() for match in re.finditer(r"^```.*?^```", text, re.M | re.S)]
    heads = [h for h in re.finditer(r"^(#+) (.*)$", text, re.M) if not any(a < h.start() < b for a, b in fenced)]
    found: list[Section] = []
    above: list[tuple[int, Section]] = []
    for head, after in zip(heads, [*(h.start() for h in heads[1:]), len(text)]):
        above = [one for one in above if one[0] < len(head[1])]
        found.append(Section(head[2], head.end(), text[head.end() : after], tuple(one for _, one in above)))
        above.append((len(head[1]), found[-1]))
    return found


def anchor(title: str) -> str:
    """Return what a link to a heading is called."""
    return re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")


def linked(page: str, section: Section) -> str:
    """Return the texts of the sections that a section links to."""
    found = []
    for target, name in LINK.findall(section.near()):
        file = (ROOT / page).parent / target if target else ROOT / page
        if file.suffix == ".md" and file.is_file() and name:
            found += [one.near() for one in sections(file.read_text("utf-8")) if anchor(one.title) == name]
    return "\n".join(found)


def prose(text: str) -> str:
    """Return a text with blanks in place of code, comments and addresses."""
    return re.sub(r"```.*?```|`[^`]*`|<!--.*?-->|\]\([^)]*\)", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def unaccounted(page: str, text: str) -> list[str]:
    """Return a line for each section with numbers that nothing compares and no command is named for, or with times of
    which nobody says on which machine they were taken and how much they vary.
    """
    found: list[str] = []
    spots = [(spot.start, spot.start + len(spot.text)) for spot in guarded(page, text)[0]]
    for section in sections(text):
        name = f"{page}#{section.title}"
        said = prose(section.text)
        loose = [
            m
            for m in LOOSE.finditer(said)
            if not any(a < section.start + m.end() and section.start + m.start() < b for a, b in spots)
        ]
        if {page, name} & set(RULES["chosen"]) or not loose:
            continue
        near = section.near() + linked(page, section)
        time = TIME.search(said)
        asked = {
            "by which command": not {page, name} & set(RULES["measured"])
            and not COMMAND.search(section.near())
            and loose[0],
            "on which machine": not MACHINE.search(near) and time,
            "how much does it vary": not VARY.search(near) and time,
        }
        for question, match in asked.items():
            if match:
                found.append(
                    f"{where(page, text, section.start + match.start())} ({section.title}): {match[0]}: {question}?"
                )
    return found


def pages() -> list[str]:
    """Return the pages that are read."""
    folders = ("benchmarks", "notebooks", "weights", "findings", CARD.parent)
    found = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *(ROOT / one / "README.md" for one in folders)]
    return [str(page.relative_to(ROOT)) for page in found]


def main(renew: bool) -> int:
    """Say what disagrees; return the number of lines."""
    count = 0
    for page in pages():
        text = page_text(page)
        if renew and page != str(CARD) and (now := renewed(page, text)) != text:
            (ROOT / page).write_text(now, "utf-8")
            page_text.cache_clear()
            namespace.cache_clear()
            text = now
        said = wrong(page, text) + unaccounted(page, text)
        print(f"{page}: {len(set(guarded(page, text)[0]))} numbers are compared", *said, sep="\n  ")
        count += len(said)
    return count


if __name__ == "__main__":
    if "--store" in sys.argv[1:]:
        store(sys.argv[2], Path(sys.argv[3]))
    sys.exit(main("--renew" in sys.argv[1:]) > 0)
