"""References in code, configs and pages lead to something that exists."""

import re
import subprocess

import pytest
import yaml

from tests.docs.commands import ROOT

NAMES = subprocess.run(
    ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\0")
TEXTS = {
    name: (ROOT / name).read_text()
    for name in NAMES
    if name.endswith((".py", ".yaml", ".yml", ".toml", ".md")) or name.startswith(".ci/")
    if (ROOT / name).is_file() and name != "tests/docs/test_references.py"
}
ROWS = set(re.findall(r'<a id="([\w-]+)">', (ROOT / "docs" / "deviations.md").read_text()))


def found(pattern):
    return [
        (name, match) for name, text in TEXTS.items() for match in re.findall(pattern, text, re.I)
    ]


def test_nothing_refers_to_documents_outside_of_the_repository():
    outside = (
        r"\btraps? T?\d+|\(T\d+\)|\b\w+\.md,? (?:section )?\d|\b(?:paper|peers|style|house)\.md\b"
    )
    assert found(outside) == []


def test_references_to_deviations_name_a_row():
    cited = [
        (name, row)
        for name, rows in found(r"docs/deviations\.md`?[\s#]*\(([\w\s,#-]+)\)")
        for row in re.findall(r"[\w-]+", rows)
    ]
    assert len(cited) > 20 and [(name, row) for name, row in cited if row not in ROWS] == []


def test_named_files_exist():
    """Pages and sources name files below these folders by their path from the repository's root."""
    folders = "clipseg_pl|datamodules|docs|tests|experiments|sweeps|\\.ci|\\.github"
    pattern = (
        rf"(?<![\w/<>{{}}.*-])((?:{folders})/[\w./+-]*\.(?:py|md|yaml|yml|json|jsonl|png|toml))\b"
    )
    written = {"experiments/results/toy_claims.json"}
    missing = [
        (name, path)
        for name, path in found(pattern)
        if not (ROOT / path).exists() and path not in written
    ]
    assert missing == []


def test_links_between_pages_lead_somewhere():
    missing = []
    for name, text in TEXTS.items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", text):
            if not target.startswith("http") and not ((ROOT / name).parent / target).exists():
                missing.append((name, target))
    assert missing == []


@pytest.mark.parametrize("script", ["lint", "test", "slow", "docs"])
def test_the_workflow_runs_the_scripts_of_ci(script):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert f".ci/{script}" in commands
    assert f".ci/{script}" in (ROOT / ".ci" / "run").read_text().splitlines()
