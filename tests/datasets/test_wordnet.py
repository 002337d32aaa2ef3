"""The WordNet reader, on a few invented synsets in WordNet's file format."""

import itertools
import re
import sys

import pytest

from datamodules.datasets.build import class_words as class_words_build
from datamodules.datasets.build.class_words import Nouns
from datamodules.datasets.class_words import class_words

SYNSETS = {
    "entity": (["entity"], ["vehicle", "person", "leaf", "mess", "boxes"]),
    "vehicle": (["vehicle"], ["bus", "car", "lady"]),
    "bus": (["bus", "Motor_Bus", "autobus"], ["omnibus"]),
    "omnibus": (["omnibus", "horse_bus"], ["bus"]),  # a cycle
    "car": (["car", "bus"], []),
    "person": (["person", "man"], ["men", "lady", "us"]),
    "men": (["men", "workforce"], []),
    "lady": (["lady", "witch", "lass", "as"], []),
    "us": (["u", "fez"], []),
    "leaf": (["leaf", "calf", "axe", "ax", "brush"], []),
    "mess": (["mess", "mesa", "glasses"], []),
    "boxes": (["box", "boxe", "mes"], []),
}
INSTANCE = "Ford_T"
EXCEPTIONS = {"men": ["man"], "axes": ["ax", "axe"], "busses": ["bus"], "lice": ["louse"]}


def write_wordnet(folder, lines=None):
    """Write data.noun, index.noun and noun.exc in the format of wndb(5WN); return the folder."""
    offsets = {name: f"{1000 + 17 * at:08d}" for at, name in enumerate([*SYNSETS, "instance"])}
    data = ["  1 This is a licence  "]
    senses = {}
    everything = {**SYNSETS, "instance": ([INSTANCE], [])}
    for name, (lemmas, hyponyms) in everything.items():
        pointers = [f"~ {offsets[other]} n 0000" for other in hyponyms]
        pointers += ["+ 00000042 v 0101"] + [f"~i {offsets['instance']} n 0000"] * (name == "car")
        words = " ".join(f"{lemma} 0" for lemma in lemmas)
        data.append(
            f"{offsets[name]} 03 n {len(lemmas):02x} {words} {len(pointers):03d} "
            f'{" ".join(pointers)} | a gloss; "with | and ~ inside"  '
        )
        for lemma in lemmas:
            senses.setdefault(lemma.lower(), []).append(offsets[name])
    index = ["  1 This is a licence  "] + [
        f"{lemma} n {len(found)} 2 @ ~ {len(found)} 0 {' '.join(found)}  "
        for lemma, found in sorted(senses.items())
    ]
    exceptions = [" ".join([form, *bases]) for form, bases in EXCEPTIONS.items()]
    folder.mkdir(exist_ok=True)
    for name, content in {"data.noun": data, "index.noun": index, "noun.exc": exceptions}.items():
        (folder / name).write_text("\n".join(content) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_wordnet(tmp_path_factory.mktemp("wordnet"))


@pytest.fixture(scope="module")
def nouns(folder):
    return Nouns(folder)


def lemmatised(word, known, exceptions):
    """Return the lemma as NLTK's `WordNetLemmatizer` does: the first of the shortest candidates."""
    rules = "s= ses=s ves=f xes=x zes=z ches=ch shes=sh men=man ies=y".split()
    bases = exceptions.get(word)
    if bases is None:
        bases = [re.sub(f"{old}$", new, word) for old, new in (rule.split("=") for rule in rules)]
        bases = [base for base in bases if base != word]
    found = [base for base in [word, *bases] if base in known]
    return sorted(found, key=len)[0] if found else word


def test_synsets_are_found_by_lemma_and_sense(nouns):
    assert len(nouns) == len(SYNSETS) + 1
    assert nouns.synset("bus.n.02") == nouns.synset("car.n.01") == nouns.first_sense("car")
    assert nouns.synset("motor_bus.n.01") == nouns.synset("bus.n.01") == nouns.first_sense("bus")
    for name in ("bus.n.03", "bus.n.00", "tram.n.01"):
        with pytest.raises(ValueError, match=f"{name}: WordNet has . senses"):
            nouns.synset(name)


def test_below_includes_all_hyponyms_but_no_instances(nouns):
    below = nouns.below(nouns.synset("vehicle.n.01"))
    assert nouns.lemmas(below) == {
        *("vehicle", "bus", "motor bus", "autobus", "omnibus", "horse bus", "car"),
        *("lady", "witch", "lass", "as"),
    }


def test_lemmatise_returns_the_shortest_lemma(nouns):
    assert [nouns.lemmatise(word) for word in ("buses", "ladies", "men", "axes", "Cars")] == [
        *("bus", "lady", "men", "ax", "Cars")
    ]
    assert nouns.lemmatise("us") == "u" and nouns.lemmatise("glasses") == "glasses"
    assert nouns.lemmatise("lice") == "lice"  # "louse" is not among the nouns here


def test_forms_are_all_words_that_lemmatise_to_a_lemma(nouns):
    known = {lemma.lower() for lemmas, _ in SYNSETS.values() for lemma in lemmas}
    single = sorted(lemma for lemma in known if "_" not in lemma)
    stems = {lemma[:end] for lemma in [*single, *EXCEPTIONS] for end in range(len(lemma) + 1)}
    ends = "|s|es|ses|ves|f|xes|x|zes|z|ches|ch|shes|sh|men|man|ies|y".split("|")
    words = {stem + a + b for stem, a, b in itertools.product(stems, ends, ends)}
    lemma_of = {word: lemmatised(word, known, EXCEPTIONS) for word in words}
    assert len(words) > 10_000
    assert all(nouns.lemmatise(word) == lemma for word, lemma in lemma_of.items())
    for lemmas in [{lemma} for lemma in single] + [set(single[::2]), set(single)]:
        forms = nouns.forms(lemmas)
        assert forms == {word for word, lemma in lemma_of.items() if lemma in lemmas}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["class_words", *map(str, arguments)])
    class_words_build.main()


def test_other_versions_of_wordnet_raise(folder, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"found 13 noun synsets, but WordNet 3\.0 has 82115"):
        run(monkeypatch, "--wordnet", folder, "--out", tmp_path / "lists.json")
    with pytest.raises(SystemExit, match=r"has no data\.noun, index\.noun, noun\.exc"):
        run(monkeypatch, "--wordnet", tmp_path, "--out", tmp_path / "lists.json")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def wordnet(real_data):
    folder = real_data / "wordnet"
    if not folder.is_dir():
        pytest.skip("no WordNet 3.0 in wordnet/ of CLIPSEG_REAL_DATA")
    return folder


def test_build_reproduces_the_shipped_lists(wordnet, tmp_path, monkeypatch):
    run(monkeypatch, "--wordnet", wordnet, "--out", tmp_path / "lists.json")
    assert (tmp_path / "lists.json").read_bytes() == class_words_build.LISTS.read_bytes()


def test_shipped_tokens_are_all_words_that_lemmatise_to_a_lemma(wordnet):
    index = (wordnet / "index.noun").read_text().splitlines()
    known = {line.split()[0] for line in index if not line.startswith("  ")}
    lines = map(str.split, (wordnet / "noun.exc").read_text().splitlines())
    exceptions = {form: bases for form, *bases in lines}
    words = {noun for noun in known if "_" not in noun} | exceptions.keys()
    words |= {noun + end for noun in words for end in ("s", "es", "ses", "ves", "men", "ies")}
    lemma_of = {word: lemmatised(word, known, exceptions) for word in words}
    for name, lists in class_words().items():
        single = {lemma for lemma in lists["lemmas"] if " " not in lemma}
        tokens = words & set(lists["tokens"])
        assert tokens == {word for word, lemma in lemma_of.items() if lemma in single}, name
