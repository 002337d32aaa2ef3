"""Finds phrases that name a Pascal class, by the authors' rule or by whole words.

`datamodules.datasets.build.class_words` generates the lists in `class_words.json` from WordNet 3.0.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LISTS = Path(__file__).with_name("class_words.json")
_WORD = re.compile(r"[^\W_]+")


@cache
def class_words() -> dict[str, dict[str, list[str]]]:
    """Load the word lists: VOC class -> list name -> words.

    The authors' rule uses two lists. `lemmas` are WordNet lemmas (base forms of nouns) in lower
    case with spaces. `tokens` are all strings that NLTK's noun lemmatizer maps to a single-word
    lemma. The whole-word rule ("mended") uses two other lists. `names` are names of the class in
    singular and plural. `spared` are names of other things that contain a name ("hot dog").
    """
    lists: dict[str, dict[str, list[str]]] = json.loads(LISTS.read_text())["classes"]
    return lists


def words_of(text: str) -> list[str]:
    """Split a text into words in lower case, at everything that is not a letter or digit."""
    return _WORD.findall(text.lower())


class WholeWords:
    """Matches texts that contain a name as whole words, case-insensitive.

    Args:
        names: names of one or more words each.
        spared: longer names of other things ("hot dog"); names inside them do not count.

    Raises:
        ValueError: if a name has no letter or digit.
    """

    def __init__(self, names: Iterable[str], spared: Iterable[str] = ()) -> None:
        """Index the names by their first word."""
        self._counts = dict.fromkeys(map(_joined, names), True)
        self._counts |= dict.fromkeys(map(_joined, spared), False)
        lengths = defaultdict(set)
        for name in self._counts:
            words = name.split()
            lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(counts, reverse=True) for word, counts in lengths.items()}

    def __call__(self, text: str) -> bool:
        """Return whether the text contains a name; at each word, longer names are tried first."""
        words = words_of(text)
        at = 0
        while at < len(words):
            step = 1
            for length in self._lengths.get(words[at], ()):
                counts = self._counts.get(" ".join(words[at : at + length]))
                if counts:
                    return True
                if counts is False:
                    step = length
                    break
            at += step
        return False


class AuthorsRule:
    """Matches texts that the authors' filter removes.

    A text matches if it contains a lemma of several words as a substring ("livestock carrier"
    contains "stock car"), or if one of its words, split at spaces, is in `tokens`. Case-sensitive.

    Args:
        lemmas: only lemmas with a space are used; `tokens` cover the others.
        tokens: strings without spaces.

    Reference: authors' code, `remove_classes` of PhraseCut.
    """

    def __init__(self, lemmas: Iterable[str], tokens: Iterable[str]) -> None:
        """Index the lemmas by the characters around their first space."""
        self._tokens = frozenset(tokens)
        self._lemmas = defaultdict(list)
        for lemma in lemmas:
            gap = lemma.find(" ")
            if gap >= 0:
                self._lemmas[lemma[gap - 1 : gap + 2]].append(lemma)

    def __call__(self, text: str) -> bool:
        """Return whether the text contains a token, or a lemma as a substring."""
        if not self._tokens.isdisjoint(text.split(" ")):
            return True
        gaps = {text[at - 1 : at + 2] for at, letter in enumerate(text) if letter == " "}
        return any(lemma in text for gap in gaps for lemma in self._lemmas.get(gap, ()))


def _joined(name: str) -> str:
    words = words_of(name)
    if not words:
        raise ValueError(f"{name!r} contains no letter or digit")
    return " ".join(words)
