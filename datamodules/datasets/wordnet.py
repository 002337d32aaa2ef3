"""The nouns of WordNet 3.0, read from its database files (formats: wndb(5WN), morphy(7WN)).

Only `class_words_build` reads them; what runs has the lists that it wrote.
"""

from collections import defaultdict
from collections.abc import Iterable, Set
from pathlib import Path

_SUFFIXES = (
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)
"""what a noun's form may end in -> what its lemma then ends in; applied once"""


class Nouns:
    """Synsets, lemmas and inflections.

    Words are as people write them: in lower case, with spaces.

    Args:
        folder: WordNet's dict folder, with data.noun, index.noun and noun.exc.

    Raises:
        FileNotFoundError: if one of them is missing, naming it.
        ValueError: if one is malformed, naming file and line.
    """

    def __init__(self, folder: Path) -> None:
        """Read all three."""
        self._lemmas: dict[str, list[str]] = {}  # by the synset's offset
        self._hyponyms: dict[str, list[str]] = {}
        self._synsets: dict[str, list[str]] = {}  # by lemma, the most frequent sense first
        self._bases: dict[str, list[str]] = {}  # irregular form -> lemmas
        self._irregular: dict[str, list[str]] = defaultdict(list)
        readers = {
            "data.noun": self._read_synset,
            "index.noun": self._read_senses,
            "noun.exc": self._read_exception,
        }
        missing = [name for name in readers if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} should be WordNet's dict folder, but has no {', '.join(missing)}"
            )
        for name, read in readers.items():
            lines = (folder / name).read_text(errors="replace").splitlines()
            for number, line in enumerate(lines, 1):
                if line.startswith("  "):
                    continue  # the licence
                try:
                    read(line.split("|")[0].split())
                except (ValueError, IndexError) as error:
                    raise ValueError(f"{folder / name}: line {number} is malformed") from error

    def __len__(self) -> int:
        """Number of synsets."""
        return len(self._lemmas)

    def synset(self, name: str) -> str:
        """Offset of a synset that is named as in "vessel.n.02", the lemma's second sense.

        Raises:
            ValueError: if there is none.
        """
        lemma, _, sense = name.split(".")
        offsets = self._synsets.get(lemma.replace("_", " "), [])
        if not 0 < int(sense) <= len(offsets):
            raise ValueError(f"{name}: WordNet has {len(offsets)} senses of it")
        return offsets[int(sense) - 1]

    def below(self, synset: str) -> set[str]:
        """A synset, its hyponyms, theirs, and so on; no instances."""
        found, open_ends = {synset}, [synset]
        while open_ends:
            new = set(self._hyponyms[open_ends.pop()]) - found
            found |= new
            open_ends += new
        return found

    def lemmas(self, synsets: Iterable[str]) -> set[str]:
        """The words that some synsets go by."""
        return {lemma for synset in synsets for lemma in self._lemmas[synset]}

    def first_sense(self, lemma: str) -> str:
        """The synset that a lemma means most often."""
        return self._synsets[lemma][0]

    def inflections(self, lemma: str) -> set[str]:
        """The lemma and every form that WordNet's rules and exceptions would reduce to it.

        Rules do not know English: among the forms of "bus" is "buss".
        """
        regular = {
            lemma[: len(lemma) - len(ending)] + suffix
            for suffix, ending in _SUFFIXES
            if lemma.endswith(ending)
        }
        return {lemma, *regular, *self._irregular[lemma]}

    def lemmatise(self, word: str) -> str:
        """NLTK's `WordNetLemmatizer().lemmatize(word)`: the shortest of the lemmas found.

        A word without lemma stays as it is. NLTK before 3.9 stripped suffixes again and again
        where one pass found nothing; of the 8,406 words in PhraseCut's published vocabulary that
        changes three, none to one of the lists' lemmas.
        """
        if word in self._bases:
            candidates = [word, *self._bases[word]]
        else:
            ends = [(s, e) for s, e in _SUFFIXES if word.endswith(s)]
            candidates = [word, *(word[: -len(suffix)] + ending for suffix, ending in ends)]
        return min((c for c in candidates if c in self._synsets), key=len, default=word)

    def forms(self, lemmas: Set[str]) -> set[str]:
        """All strings, of whatever letters, that `lemmatise` turns into one of some lemmas.

        It takes a lemma from the word itself, its exceptions or one rule; so whatever it reduces
        to a lemma is among the lemma's `inflections`.
        """
        inflected = {form for lemma in lemmas for form in self.inflections(lemma)}
        return {form for form in inflected if self.lemmatise(form) in lemmas}

    def _read_synset(self, fields: list[str]) -> None:
        offset, words, rest = fields[0], int(fields[3], 16), fields[4:]
        self._lemmas[offset] = [_spoken(rest[2 * k]) for k in range(words)]
        pointers = rest[2 * words + 1 :]
        if len(pointers) != 4 * int(rest[2 * words]):
            raise ValueError("number of pointers")
        self._hyponyms[offset] = [
            target
            for symbol, target in zip(pointers[::4], pointers[1::4], strict=True)
            if symbol == "~"
        ]

    def _read_senses(self, fields: list[str]) -> None:
        offsets = fields[-int(fields[2]) :]
        if any(offset not in self._lemmas for offset in offsets):
            raise ValueError("unknown synset")
        self._synsets[_spoken(fields[0])] = offsets

    def _read_exception(self, fields: list[str]) -> None:
        form, *bases = map(_spoken, fields)
        self._bases[form] = bases
        for base in bases:
            self._irregular[base].append(form)


def _spoken(word: str) -> str:
    return word.replace("_", " ").lower()
