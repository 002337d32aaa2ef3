"""Writes `class_words.json`, the words that name Pascal's classes, from WordNet 3.0.

    python -m datamodules.datasets.class_words_build --wordnet <WordNet's dict folder>

The folder holds data.noun, index.noun and noun.exc (Debian's package wordnet-base has them).
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from datamodules.datasets.class_words import LISTS, WholeWords, words_of
from datamodules.datasets.pascal_classes import VOC_CLASSES
from datamodules.datasets.wordnet import Nouns

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
"""What the authors take for person.n.01 and all below it."""


@dataclass(frozen=True)
class Curation:
    """How the mended list of a class departs from WordNet; words are separated by commas.

    The list holds a word if what people call by it in a photo is what VOC's annotation guidelines
    (2007) put into the class, where vans are cars and donkeys horses. From WordNet come the lemmas
    below the synsets whose most frequent sense lies there.

    Args:
        synsets: where to look.
        also: names that WordNet does not give, or knows better in another sense.
        without: lemmas that mostly mean something else in photos.
        spared: names of other things that hold a name of the class.
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
    """The authors' lemmas of a class, and all that NLTK reduces to one of a single word."""
    lemmas = set(AUTHORS_PERSON)
    if name != "person":
        lemmas = nouns.lemmas(nouns.below(nouns.synset(AUTHORS_SYNSETS[name])))
    single = {lemma for lemma in lemmas if " " not in lemma}
    return {"lemmas": sorted(lemmas), "tokens": sorted(nouns.forms(single))}


def mended_words(nouns: Nouns, name: str) -> dict[str, list[str]]:
    """The mended names of a class in singular and plural, and what is spared.

    Of names within names ("bottle", "water bottle") only the shorter is listed.
    """
    curation = MENDED[name]
    synsets = [nouns.below(nouns.synset(synset)) for synset in _split(curation.synsets)]
    within = set().union(*synsets)
    lemmas = {lemma for lemma in nouns.lemmas(within) if nouns.first_sense(lemma) in within}
    if not lemmas >= set(_split(curation.without)):
        raise ValueError(f"{name}: {curation.without!r} names what is not there")
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
    """The content of `class_words.json`.

    Raises:
        FileNotFoundError: if a file of WordNet is missing, naming it.
        ValueError: if one is malformed, or WordNet is of another version.
    """
    nouns = Nouns(wordnet)
    if len(nouns) != _NOUN_SYNSETS:
        raise ValueError(
            f"{wordnet}: {len(nouns)} synsets of nouns, but WordNet 3.0 has {_NOUN_SYNSETS}"
        )
    head = (wordnet / "data.noun").read_text().splitlines()[:29]
    licence = [line.strip().partition(" ")[2].rstrip() for line in head]
    return {
        "source": "made by datamodules.datasets.class_words_build from WordNet 3.0",
        "licence of WordNet": licence,
        "classes": {
            name: authors_words(nouns, name) | mended_words(nouns, name) for name in VOC_CLASSES
        },
    }


def main() -> None:
    """Read the command line, build, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet 3.0's dict folder")
    parser.add_argument("--out", type=Path, default=LISTS, help=f"default: {LISTS}")
    given = parser.parse_args()
    try:
        content = build(given.wordnet)
    except (OSError, ValueError) as error:
        sys.exit(f"class_words_build: {error}")
    given.out.write_text(json.dumps(content, indent=0) + "\n")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
