"""Whether a phrase names a Pascal class: the authors' rule, and one that is mended.

The lists in `class_words.json` are made by `class_words_build` from WordNet 3.0.
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
    """The lists of each class of VOC.

    `lemmas` are the authors' words of WordNet, in lower case with spaces, and `tokens` all strings
    that NLTK's noun lemmatiser turns into one of those of a single word. `names` are the mended
    rule's, in singular and plural, and `spared` names of other things that hold such a name.
    """
    lists: dict[str, dict[str, list[str]]] = json.loads(LISTS.read_text())["classes"]
    return lists


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; whatever is no letter or digit ends one."""
    return _WORD.findall(text.lower())


class WholeWords:
    """True for texts that hold a name as whole words, in upper or lower case.

    Args:
        names: of one or more words each.
        spared: longer names of other things ("hot dog"), within which no name counts.

    Raises:
        ValueError: if a name has no word.
    """

    def __init__(self, names: Iterable[str], spared: Iterable[str] = ()) -> None:
        """Index the names by their first word."""
        self._counts = dict.fromkeys(map(_joined, names), True)
        self._counts |= dict.fromkeys(map(_joined, spared), False)
        lengths = defaultdict(set)
        for name in self._counts:
            words = name.split()
            lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(found, reverse=True) for word, found in lengths.items()}

    def __call__(self, text: str) -> bool:
        """Look from left to right, for the longest name first."""
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
    """True for texts that the authors' filter removes.

    That is if a lemma of several words is any part of the text, letter for letter ("stock car" of
    "livestock carrier"), or if a token between spaces is in the other list. Case counts.

    Args:
        lemmas: those without a space are not looked at; `tokens` stand for them.
        tokens: strings without a space.

    Reference: `remove_classes` of the authors' PhraseCut.
    """

    def __init__(self, lemmas: Iterable[str], tokens: Iterable[str]) -> None:
        """Index the lemmas by what surrounds their first space."""
        self._tokens = frozenset(tokens)
        self._lemmas = defaultdict(list)
        for lemma in lemmas:
            gap = lemma.find(" ")
            if gap >= 0:
                self._lemmas[lemma[gap - 1 : gap + 2]].append(lemma)

    def __call__(self, text: str) -> bool:
        """Test the tokens, then every lemma whose first space the text may hold."""
        if not self._tokens.isdisjoint(text.split(" ")):
            return True
        gaps = {text[at - 1 : at + 2] for at, letter in enumerate(text) if letter == " "}
        return any(lemma in text for gap in gaps for lemma in self._lemmas.get(gap, ()))


def _joined(name: str) -> str:
    words = words_of(name)
    if not words:
        raise ValueError(f"{name!r} holds no word to look for")
    return " ".join(words)
