"""Evaluations count the photos that the weights were trained on, and leave them out."""

import copy

import numpy as np
import pytest
import torch

from clipseg_pl.convert.slim_checkpoint import slim
from clipseg_pl.protocols.general_referring import GeneralReferringProtocol
from clipseg_pl.protocols.generalised import GROUPS, GeneralisedProtocol
from clipseg_pl.protocols.one_shot import OneShotProtocol
from clipseg_pl.protocols.own_data import OwnDataProtocol
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.protocols.zero_shot import ZeroShotProtocol
from clipseg_pl.sample import Classes, Prompt, Sample, collate
from clipseg_pl.training.seen_photos import SeenPhotos, add_ids
from datamodules.datasets.coco_20i import read_fold
from datamodules.datasets.episodes import hsnet_coco_episodes
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.lvis_prompts import GeneralisedPrompts
from tests.command import EXPERIMENTS, arguments, launch, results, run
from tests.datasets.shared_photos import ELSEWHERE, SHARED_COCO, SHARED_LVIS, write_shared

COCO_20I, LVIS_PROMPTS = (
    EXPERIMENTS / "benchmarks" / f"{name}.yaml" for name in ("coco_20i", "lvis_prompts")
)
WITHOUT = EXPERIMENTS / "data" / "without_photos_of.yaml"
TWO = ("--trainer.strategy=ddp", "--trainer.devices=2")
PHRASES = [phrase for phrases in GROUPS.values() for phrase in phrases]


@pytest.fixture(scope="module")
def shared(miniature, tmp_path_factory):
    return write_shared(tmp_path_factory.mktemp("shared"), miniature)


@pytest.fixture(scope="module")
def fitted(shared, tmp_path_factory):
    """Checkpoint of a training on PhraseCut, which shares photos with COCO-20i and LVIS."""
    folder = tmp_path_factory.mktemp("runs") / "fitted"
    run(*arguments("fit", shared, folder, "--trainer.max_steps=1"))
    return folder / "checkpoints" / "last.ckpt"


def ids_in(checkpoint):
    return torch.load(checkpoint, weights_only=True)["coco_ids"]


def validate(root, folder, checkpoint, overlay, *more):
    run(*command(root, folder, checkpoint, overlay, *more))
    return results(folder)


def command(root, folder, checkpoint, overlay, *more):
    weights = "--ckpt_path" if str(checkpoint).endswith(".ckpt") else "--model.init_decoder"
    options = (f"{weights}={checkpoint}", "--data.init_args.allow_seen=true", *more)
    return arguments("validate", root, folder, *options, configs=(overlay,))


# ---- counts and metrics


def prompts_of(protocol, number):
    """Return the prompts of an image: class ids and phrases that suit the protocol."""
    if isinstance(protocol, ZeroShotProtocol):
        return [(class_id, "thing", False, 0) for class_id in range(protocol.num_classes)]
    count = 1 + number % 3
    phrases = [PHRASES[(number + place) % len(PHRASES)] for place in range(count)]
    return [((number + k) % 3, words, k == 2, (number + k) % 2) for k, words in enumerate(phrases)]


def samples(protocol, ids, generator):
    """Return an image with random prompts for each COCO id."""

    def mask(share):
        return torch.rand(1, 6, 8, generator=generator) < share

    def picture():
        return torch.randint(256, (3, 6, 8), generator=generator, dtype=torch.uint8)

    return [
        Sample(
            query_image=picture(),
            query_size=(6, 8),
            coco_id=coco_id,
            prompts=[
                Prompt(
                    prompt_id=f"{number}",
                    query_mask=mask(0 if negative else 0.4),
                    valid_mask=mask(0.9),
                    phrase=words,
                    text_prompt=words,
                    supports=[picture() for _ in range(supports)],
                    mix_weight=0.5,
                    class_id=class_id,
                    negative=negative,
                )
                for class_id, words, negative, supports in prompts_of(protocol, number)
            ],
        )
        for number, coco_id in enumerate(ids)
    ]


def evaluate(protocol, made, logits, update):
    """Update metrics with batches of three images; `logits` are by image."""
    for first in range(0, len(made), 3):
        batch = collate(made[first : first + 3])
        every = torch.cat(logits[first : first + 3])
        predictions = {}
        for prompt_type in protocol.prompt_types:
            selected = protocol.selected(prompt_type, batch)
            predictions[prompt_type] = every[selected], selected
        update(batch, predictions)


PROTOCOLS = {
    "referring": ReferringProtocol,
    "own data": OwnDataProtocol,
    "one-shot": lambda: OneShotProtocol(3),
    "generalised": GeneralisedProtocol,
    "zero-shot": lambda: ZeroShotProtocol(num_classes=3),
    "RefCOCO": GeneralReferringProtocol,
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_metrics_without_seen_photos_are_those_of_the_other_photos(name):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 12, (30,), generator=generator).tolist()
    ids[4], ids[9], ids[12:15] = -1, -1, [3, 3, 3]  # all photos of a batch were seen
    protocol = PROTOCOLS[name]()
    protocol.classes = Classes(("a", "b", "c"), frozenset([2]))
    made = samples(protocol, ids, generator)
    logits = [torch.randn(len(s["prompts"]), 1, 6, 8, generator=generator) for s in made]
    trained, alone = [3, 5, 900], copy.deepcopy(protocol)
    found = SeenPhotos(protocol, torch.tensor(ids).numpy(), torch.tensor(trained), len(ids))
    evaluate(protocol, made, logits, found.update)
    found.compute("val", 0.4, 0.6, {"a": 0.2})

    kept = [place for place, number in enumerate(ids) if number not in trained]
    alone.class_thresholds = {"a": 0.2}

    def update(batch, predictions):
        for prompt_type, (values, selected) in predictions.items():
            alone.update(prompt_type, values, batch, selected)

    evaluate(alone, [made[k] for k in kept], [logits[k] for k in kept], update)
    expected = {f"val/{key}": value for key, value in alone.compute(0.4, 0.6).items()}
    assert found.numbers == pytest.approx(expected, rel=1e-12) and len(expected) > 3
    photos = {number for number in ids if number != -1}
    assert (found.evaluated, found.seen) == (len(photos), len(photos & set(trained)))
    assert str(found) == f"2 of {len(photos)} evaluated COCO photos were trained on"


@pytest.mark.parametrize(
    ("trained", "seen"), [([], 0), ([4], 0), ([1, 2, 3], 3), ([1, 2, 3, 4], 3), (None, None)]
)
def test_metrics_are_not_repeated_if_all_or_no_photos_were_seen(trained, seen):
    stored = None if trained is None else torch.tensor(trained, dtype=torch.long)
    ids = torch.tensor([1, 1, 2, 3]).numpy()
    found = SeenPhotos(ReferringProtocol(), ids, stored, 4)
    found.compute("val", None, None, {})
    assert found.content() == {"evaluated": 3, "seen": seen, "metrics_without": {}}


@pytest.mark.parametrize(("trained", "seen"), [([1], 2), ([4], 0)])
def test_photos_after_the_limit_do_not_count(trained, seen):
    ids = np.array([1, 1, 2, 3, 4])
    found = SeenPhotos(ReferringProtocol(), ids, torch.tensor(trained), 2)
    found.compute("val", None, None, {})
    assert found.content() == {"evaluated": 1, "seen": min(seen, 1), "metrics_without": {}}


def test_thousands_are_grouped_and_photos_that_are_not_evaluated_are_not_counted():
    ids = torch.arange(5000).numpy() + 1
    found = SeenPhotos(ReferringProtocol(), ids, torch.arange(1, 413), 5000)
    assert str(found) == "412 of 5,000 evaluated COCO photos were trained on"
    found = SeenPhotos(ReferringProtocol(), ids, torch.arange(1, 413), 100)
    assert str(found) == "100 of 100 evaluated COCO photos were trained on"
    assert str(SeenPhotos(ReferringProtocol(), ids, None, 5000)).startswith(
        "It is unknown how many of the 5,000 evaluated COCO photos were trained on"
    )


def test_ids_of_several_trainings_are_merged_and_sorted():
    before = torch.tensor([7, 9])
    assert add_ids(before, None).tolist() == [7, 9]
    added = add_ids(before, torch.tensor([9, -1, 3, 3, -1]).numpy())
    assert added.tolist() == [3, 7, 9] and added.dtype == torch.int64


# ---- checkpoints


def test_checkpoint_stores_the_ids_of_its_training_photos(fitted, tmp_path):
    assert ids_in(fitted).tolist() == sorted({*SHARED_COCO, *SHARED_LVIS, ELSEWHERE})
    slim(fitted, tmp_path / "slim.ckpt")
    assert torch.equal(ids_in(tmp_path / "slim.ckpt"), ids_in(fitted))


def test_data_without_photos_of_coco_store_no_ids(trained):
    assert ids_in(trained / "checkpoints" / "last.ckpt").tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--ckpt_path", "--model.init_decoder"])
def test_later_trainings_add_ids(option, fitted, miniature, tmp_path):
    data = EXPERIMENTS / "data" / "coco_20i.yaml"
    more = (f"{option}={fitted}", "--trainer.max_steps=2", "--trainer.limit_val_batches=2")
    run(*arguments("fit", miniature, tmp_path, *more, configs=(data,)))
    ids = set(ids_in(tmp_path / "checkpoints" / "last.ckpt").tolist())
    before = set(ids_in(fitted).tolist())
    assert before < ids and 20 < len(ids - before) <= 40 and max(ids - before) <= 40


@pytest.mark.slow
def test_ids_stay_unknown_after_training_on_from_unknown_weights(decoder_file, shared, tmp_path):
    more = (f"--model.init_decoder={decoder_file}", "--trainer.max_steps=1")
    run(*arguments("fit", shared, tmp_path, *more))
    assert ids_in(tmp_path / "checkpoints" / "last.ckpt") is None


# ---- command line


@pytest.mark.slow
@pytest.mark.parametrize("overlay", [COCO_20I, LVIS_PROMPTS], ids=lambda file: file.stem)
def test_evaluation_reports_seen_photos_on_any_number_of_processes(
    overlay, fitted, shared, tmp_path, capsys
):
    if overlay == COCO_20I:  # 10 batches of 4 are the first 40 episodes
        limits = [(f"--trainer.limit_val_batches={count}",) for count in (10, 5)]
        episodes = hsnet_coco_episodes(read_fold(shared, "val", 0), 1, 0).episodes[:40]
        photos = [int(episode.query[-12:]) for episode in episodes]
    else:
        limits = [(), ()]
        dataset = GeneralisedPrompts(LVIS(shared, ["val"]), 64, 0)
        photos = [pair.image for pair in dataset.pairs]
    trained = {*SHARED_COCO, *SHARED_LVIS}
    content = validate(shared, tmp_path / "one", fitted, overlay, *limits[0])
    printed, seen = capsys.readouterr().out, content["seen_photos"]
    expected = len(set(photos)), len(set(photos) & trained)
    assert (seen["evaluated"], seen["seen"]) == expected and 0 < expected[1] < expected[0]
    line = f"{expected[1]} of {expected[0]} evaluated COCO photos were trained on"
    assert printed.count(line) == 1
    assert seen["metrics_without"].keys() == content["metrics"].keys()
    if overlay == COCO_20I:
        left = sum(number not in trained for number in photos)
        assert seen["metrics_without"]["val/visual/prompts"] == left
        assert content["metrics"]["val/visual/prompts"] == 40
        assert "val/visual, not trained on" in printed  # wrapped in the wider table of LVIS

    launch(*command(shared, tmp_path / "two", fitted, overlay, *TWO, *limits[1]))
    again = results(tmp_path / "two")
    assert again["processes"] == 2 and again["metrics"] == pytest.approx(content["metrics"])
    found = again["seen_photos"]
    assert (found["evaluated"], found["seen"]) == expected
    assert found["metrics_without"] == pytest.approx(seen["metrics_without"], rel=1e-12)


def test_weights_without_ids_are_unknown(decoder_file, miniature, tmp_path, capsys):
    options = ("--trainer.limit_val_batches=2",)
    found = validate(miniature, tmp_path, decoder_file, COCO_20I, *options)["seen_photos"]
    assert 1 < found["evaluated"] <= 8
    assert found == {"evaluated": found["evaluated"], "seen": None, "metrics_without": {}}
    line = f"unknown how many of the {found['evaluated']} evaluated COCO photos were trained on"
    assert capsys.readouterr().out.count(line) == 1


def test_evaluation_on_other_photos_says_nothing(trained, miniature, tmp_path, capsys):
    checkpoint = trained / "checkpoints" / "last.ckpt"
    run(*arguments("validate", miniature, tmp_path, f"--ckpt_path={checkpoint}"))
    assert results(tmp_path)["seen_photos"] is None
    assert "COCO" not in capsys.readouterr().out


@pytest.mark.slow
def test_training_without_photos_of_benchmarks(shared, tmp_path):
    run(*arguments("fit", shared, tmp_path, "--trainer.max_steps=1", configs=(WITHOUT,)))
    content, checkpoint = results(tmp_path), tmp_path / "checkpoints" / "last.ckpt"
    assert content["photos_left_out"] == 6
    assert content["dataset_skipped"]["train"] == {"on photos of coco_20i, lvis": 18}
    assert content["seen_photos"] is None
    assert ids_in(checkpoint).tolist() == [ELSEWHERE]
    options = ("--trainer.limit_val_batches=2",)
    seen = validate(shared, tmp_path, checkpoint, COCO_20I, *options)["seen_photos"]
    assert seen["seen"] == 0 and seen["metrics_without"] == {}


def test_unknown_benchmark_is_an_error(miniature, tmp_path, capsys):
    option = "--data.init_args.without_photos_of=[coco_20i,voc2012]"
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path, option))
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "unknown benchmark voc2012; choose from coco_20i, lvis, coco_stuff_171" in message
