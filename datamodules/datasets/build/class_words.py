"""Generates `class_words.json`, the words that name Pascal classes, from WordNet 3.0.

    python -m datamodules.datasets.build.class_words --wordnet <WordNet's dict folder>

The folder must contain data.noun, index.noun and noun.exc (in Debian: package wordnet-base).
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from datamodules.datasets.class_words import LISTS, WholeWords, words_of
from datamodules.datasets.pascal_5i import VOC_CLASSES

_NOUN_SYNSETS = 82115  # of version 3.0

AUTHORS_SYNSETS = dict(
    zip(
        VOC_CLASSES,
        "aeroplane.n.01 bicycle.n.01 bird.n.01 vessel.n.02 bottle.n.01 bus.n.01 car.n.01 "
        "cat.n.01 chair.n.01 cattle.n.01 table.n.02 dog.n.01 horse.n.01 motorcycle.n.01 "
        "person.n.01 pot_plant.n.01 sheep.n.01 sofa.n.01 train.n.01 television.n.03".split(),
        strict=True,
    )
)
AUTHORS_PERSON = frozenset("person human man woman toddler baby body child infant".split())
"""the authors' words for the class "person", used instead of the lemmas below person.n.01"""

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
"""suffix of an inflected noun, suffix of its lemma; at most one suffix is replaced"""


class Nouns:
    """WordNet's nouns: synsets (sets of synonyms), lemmas (base forms) and their inflections.

    Words are in lower case, with spaces instead of underscores. WordNet's manual pages wndb(5WN)
    and morphy(7WN) describe the file formats and the inflections.

    Args:
        folder: WordNet's dict folder, with data.noun, index.noun and noun.exc.

    Raises:
        FileNotFoundError: if one of the files is missing.
    """

    def __init__(self, folder: Path) -> None:
        """Read the three files."""
        self._lemmas: dict[str, list[str]] = {}  # by synset offset
        self._hyponyms: dict[str, list[str]] = {}  # by synset offset
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
                f"{folder} is not WordNet's dict folder: it has no {', '.join(missing)}"
            )
        for name, read in readers.items():
            for line in (folder / name).read_text(errors="replace").splitlines():
                if not line.startswith("  "):  # lines of the licence
                    read(line.split("|")[0].split())

    def __len__(self) -> int:
        """Return the number of synsets."""
        return len(self._lemmas)

    def synset(self, name: str) -> str:
        """Return the offset of a synset by name; "vessel.n.02" is the lemma's second sense.

        Raises:
            ValueError: if there is no such synset.
        """
        lemma, _, sense = name.split(".")
        offsets = self._synsets.get(lemma.replace("_", " "), [])
        if not 0 < int(sense) <= len(offsets):
            raise ValueError(f"{name}: WordNet has {len(offsets)} senses of this lemma")
        return offsets[int(sense) - 1]

    def below(self, synset: str) -> set[str]:
        """Return a synset and all hyponyms (narrower terms) below it, without instances."""
        found, pending = {synset}, [synset]
        while pending:
            new = set(self._hyponyms[pending.pop()]) - found
            found |= new
            pending += new
        return found

    def lemmas(self, synsets: Iterable[str]) -> set[str]:
        """Return the lemmas of all given synsets."""
        return {lemma for synset in synsets for lemma in self._lemmas[synset]}

    def first_sense(self, lemma: str) -> str:
        """Return the most frequent synset of a lemma."""
        return self._synsets[lemma][0]

    def inflections(self, lemma: str) -> set[str]:
        """Return the lemma and every form that WordNet's rules and exceptions reduce to it.

        The rules also produce non-words, e.g. "buss" for "bus".
        """
        regular = {
            lemma[: len(lemma) - len(ending)] + suffix
            for suffix, ending in _SUFFIXES
            if lemma.endswith(ending)
        }
        return {lemma, *regular, *self._irregular[lemma]}

    def lemmatise(self, word: str) -> str:
        """Return the shortest lemma found, as NLTK's `WordNetLemmatizer().lemmatize(word)` does.

        A word without lemma is returned unchanged. NLTK before 3.9 stripped suffixes repeatedly if
        one pass found nothing. It gives other lemmas for 3 of the 8,406 words in PhraseCut's
        published vocabulary, and none of these lemmas is in the lists.
        """
        if word in self._bases:
            candidates = [word, *self._bases[word]]
        else:
            ends = [(s, e) for s, e in _SUFFIXES if word.endswith(s)]
            candidates = [word, *(word[: -len(suffix)] + ending for suffix, ending in ends)]
        return min((c for c in candidates if c in self._synsets), key=len, default=word)

    def forms(self, lemmas: Set[str]) -> set[str]:
        """Return all strings that `lemmatise` maps to one of the lemmas.

        `lemmatise` uses the word itself, its exceptions or one rule. Every such string is therefore
        in the `inflections` of the lemma.
        """
        inflected = {form for lemma in lemmas for form in self.inflections(lemma)}
        return {form for form in inflected if self.lemmatise(form) in lemmas}

    def _read_synset(self, fields: list[str]) -> None:
        offset, words, rest = fields[0], int(fields[3], 16), fields[4:]
        self._lemmas[offset] = [_spoken(rest[2 * k]) for k in range(words)]
        pointers = rest[2 * words + 1 :]
        self._hyponyms[offset] = [
            target
            for symbol, target in zip(pointers[::4], pointers[1::4], strict=True)
            if symbol == "~"
        ]

    def _read_senses(self, fields: list[str]) -> None:
        self._synsets[_spoken(fields[0])] = fields[-int(fields[2]) :]

    def _read_exception(self, fields: list[str]) -> None:
        form, *bases = map(_spoken, fields)
        self._bases[form] = bases
        for base in bases:
            self._irregular[base].append(form)


def _spoken(word: str) -> str:
    return word.replace("_", " ").lower()


@dataclass(frozen=True)
class Curation:
    """Manual changes to WordNet's words of a class, for the whole-word rule ("mended").

    A word belongs to the list if people who describe photos use it for something that VOC's
    annotation guidelines (2007) assign to the class. In the guidelines, vans are cars and donkeys
    are horses. WordNet provides the lemmas of `synsets` and of their hyponyms, except lemmas whose
    most frequent sense is none of these synsets. In all fields, items are separated by commas.

    Args:
        synsets: synsets of the class.
        also: names to add, which WordNet does not list or lists with another most frequent sense.
        without: lemmas to remove, which mostly mean something else in descriptions of photos.
        spared: names of other things that contain a name of the class ("hot dog").
    """

    synsets: str
    also: str = ""
    without: str = ""
    spared: str = ""


_PEOPLE = """
adult, athlete, audience, aunt, baby, ballplayer, barber, bartender, baserunner, batter, bicyclist,
biker, boarder, boy, bride, bridesmaid, brother, businessman, businesswoman, butcher, cameraman,
captain, cashier, catcher, chef, child, clown, competitor, contestant, cop, couple,
cowboy, cowgirl, crew, crowd, customer, cyclist, dad, daddy, dancer, daughter, doctor, driver, dude,
everyone, family, farmer, father, fellow, female, fielder, firefighter, fireman, fisherman, friend,
gentleman, girl, goalie, goalkeeper, golfer, grandfather, grandma, grandmother, grandpa, groom,
grownup, guard, guest, guy, he, hiker, hitter, human, husband, infant, infielder, instructor,
jockey, jogger, judge, juggler, kid, lad, lady, lifeguard, male, man, mom, mommy, monk, mother,
motorcyclist, motorist, musician, newborn, newlywed, nun, nurse, officer, onlooker, outfielder,
parent, passenger, passerby, patron, pedestrian, people, person, photographer, pilot, pitcher,
player, police, policeman, policewoman, preschooler, priest, referee, rider, runner, sailor,
salesman, she, shopper, sister, skateboarder, skater, skier, skiier, snowboarder, soldier, somebody,
someone, son, spectator, student, surfer, swimmer, teacher, team, teen, teenager, toddler, tourist,
traveler, ump, umpire, uncle, vendor, viewer, waiter, waitress, wife, windsurfer, woman, worker,
youngster, youth
""".replace("\n", " ").strip()

MENDED: dict[str, Curation] = {
    "aeroplane": Curation(
        "airplane.n.01, glider.n.01",
        also="aircraft",
        without="bomber, interceptor, kamikaze",
        spared="hang glider",
    ),
    "bicycle": Curation("bicycle.n.01", also="bike, tricycle, unicycle", without="off-roader"),
    "bird": Curation(
        "bird.n.01, young_bird.n.01",
        also="albatross, canary, cuckoo, emu, gull, heron, jay, loon, ostrich, partridge, peacock, "
        "quail, thrush, warbler, wren",
        without="black kite, long-legs",
    ),
    "boat": Curation(
        "vessel.n.02",
        also="liner, pedalo, schooner, trawler, tug, vessel, watercraft",
        without="corvette, galley, gig, knockabout, launch, outboard, scooter, sea scooter, "
        "tin can, water scooter",
        spared="gravy boat",
    ),
    "bottle": Curation(
        "bottle.n.01", without="canteen, gourd, jug, lota, magnum, water jug, whiskey jug"
    ),
    "bus": Curation("bus.n.01", without="passenger vehicle"),
    "car": Curation(
        "car.n.01",
        also="cab, van",
        without="cruiser, electric, two-seater",
        spared="cable car, rail car, railroad car, railway car, subway car, train car",
    ),
    "cat": Curation("cat.n.01, kitten.n.01", also="kitty"),
    "chair": Curation("chair.n.01", also="lounger"),
    "cow": Curation(
        "cattle.n.01, calf.n.01",
        also="steer",
        without="beef, milker, whiteface",
        spared="bull dog, bull mastiff, bull terrier, pit bull",
    ),
    "diningtable": Curation("", also="table, tabletop", spared="table tennis"),
    "dog": Curation(
        "dog.n.01, pup.n.01",
        also="chihuahua, dalmatian",
        spared="corn dog, hot dog, prairie dog",
    ),
    "horse": Curation(
        "horse.n.01, foal.n.01",
        also="donkey, mule",
        without="buckskin, charger, dun, entire, mount, mustang, pacer, pinto, stable companion, "
        "three year old, two year old",
        spared="pony tail, saw horse, sea horse",
    ),
    "motorbike": Curation("motorcycle.n.01", also="scooter"),
    "person": Curation(
        "",
        also=_PEOPLE,
        spared="baby blue, baby grand, cowboy boot, cowboy hat, grandfather clock, man made, "
        "passenger bus, passenger car, passenger jet, passenger plane, passenger side, "
        "passenger train, passenger window",
    ),
    "pottedplant": Curation("", also="bonsai, houseplant, plant, potted", spared="power plant"),
    "sheep": Curation("sheep.n.01, lamb.n.01", also="ewe, ram"),
    "sofa": Curation("sofa.n.01", also="chesterfield, futon, settee", without="lounge"),
    "train": Curation(
        "train.n.01",
        also="locomotive, rail car, railcar, railroad car, railway car, subway car",
        without="commuter",
    ),
    "tvmonitor": Curation(
        "television.n.03",
        also="monitor, screen, t v, television, tv",
        spared="laptop screen, phone screen, screen door, window screen",
    ),
}


def authors_words(nouns: Nouns, name: str) -> dict[str, list[str]]:
    """Return a class's `lemmas` and `tokens`, see `datasets.class_words.class_words`."""
    lemmas = set(AUTHORS_PERSON)
    if name != "person":
        lemmas = nouns.lemmas(nouns.below(nouns.synset(AUTHORS_SYNSETS[name])))
    single = {lemma for lemma in lemmas if " " not in lemma}
    return {"lemmas": sorted(lemmas), "tokens": sorted(nouns.forms(single))}


def mended_words(nouns: Nouns, name: str) -> dict[str, list[str]]:
    """Return a class's `names` and `spared` names, see `datasets.class_words.class_words`.

    Names are in singular and plural. Names that contain a shorter name of the class are left out:
    "bottle" already matches "water bottle".

    Raises:
        ValueError: if a lemma in `without` is not among WordNet's words of the class.
    """
    curation = MENDED[name]
    synsets = [nouns.below(nouns.synset(synset)) for synset in _split(curation.synsets)]
    within = set().union(*synsets)
    lemmas = {lemma for lemma in nouns.lemmas(within) if nouns.first_sense(lemma) in within}
    if not lemmas >= set(_split(curation.without)):
        raise ValueError(f"{name}: not all of {curation.without!r} are lemmas of the class")
    names = {name, *lemmas, *_split(curation.also)} - set(_split(curation.without))
    forms: set[str] = set()
    inflected = sorted(_inflected(nouns, names), key=_length)
    for _, of_one_length in groupby(inflected, key=_length):
        shorter = WholeWords(forms)
        forms |= {form for form in of_one_length if not shorter(form)}
    spared = _inflected(nouns, _split(curation.spared))
    return {"names": sorted(forms), "spared": sorted(spared)}


def _split(words: str) -> list[str]:
    return words.split(", ") if words else []


def _length(name: str) -> int:
    return name.count(" ")


def _inflected(nouns: Nouns, words: Iterable[str]) -> set[str]:
    return {" ".join(words_of(form)) for word in words for form in nouns.inflections(word)}


def build(wordnet: Path) -> dict[str, Any]:
    """Return the content of `class_words.json`.

    Raises:
        FileNotFoundError: if a WordNet file is missing.
        ValueError: if WordNet has another version than 3.0.
    """
    nouns = Nouns(wordnet)
    if len(nouns) != _NOUN_SYNSETS:
        raise ValueError(
            f"{wordnet}: found {len(nouns)} noun synsets, but WordNet 3.0 has {_NOUN_SYNSETS}"
        )
    head = (wordnet / "data.noun").read_text().splitlines()[:29]
    licence = [line.strip().partition(" ")[2].rstrip() for line in head]
    return {
        "source": "made by datamodules.datasets.build.class_words from WordNet 3.0",
        "licence of WordNet": licence,
        "classes": {
            name: authors_words(nouns, name) | mended_words(nouns, name) for name in VOC_CLASSES
        },
    }


def main() -> None:
    """Build the word lists and write them to a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet 3.0's dict folder")
    parser.add_argument("--out", type=Path, default=LISTS, help=f"output file, default: {LISTS}")
    args = parser.parse_args()
    try:
        content = build(args.wordnet)
    except (OSError, ValueError) as error:
        sys.exit(f"class_words: {error}")
    args.out.write_text(json.dumps(content, indent=0) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
