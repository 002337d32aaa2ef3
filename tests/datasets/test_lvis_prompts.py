"""Category lists of the generalised prompts, compared with the paper's."""

from clipseg_pl.protocols.generalised import GROUPS
from datamodules.datasets.lvis_prompts import PROMPT_CATEGORIES

SEATS = (
    "armchair sofa loveseat deck_chair rocking_chair highchair folding_chair chair recliner "
    "wheelchair"
)
BIRDS = "eagle bird duck gull owl seabird pigeon goose parakeet"
VEHICLES = "minivan bus_(vehicle) cab_(taxi) jeep ambulance car_(automobile)"
PAPER = {
    "sit on": SEATS,
    "drink from": "bottle beer_bottle water_bottle wine_bottle thermos_bottle",
    "ride on": "horse pony motorcycle",
    "can fly": f"{BIRDS} jet_plane airplane fighter_jet",
    "can be driven": VEHICLES,
    "can swim": "duck duckling water_scooter penguin boat kayak canoe",
    "has wheels": f"{VEHICLES} dirt_bike wheelchair motorcycle bicycle",
    "has legs": f"{SEATS} {BIRDS} horse pony dog cat flamingo penguin cow puppy sheep black_sheep "
    "ostrich ram_(animal) chicken_(animal) person",
}
"""the lists of the paper's authors"""


def test_categories_equal_those_of_the_paper():
    assert PROMPT_CATEGORIES.keys() == PAPER.keys()
    for prompt, names in PROMPT_CATEGORIES.items():
        assert {name.replace(" ", "_") for name in names} == set(PAPER[prompt].split()), prompt
    assert all(len(set(names)) == len(names) for names in PROMPT_CATEGORIES.values())


def test_every_prompt_is_in_one_group():
    assert sorted(prompt for prompts in GROUPS.values() for prompt in prompts) == sorted(
        PROMPT_CATEGORIES
    )
