"""The table of mutants, held against the code; `python -m tests.mutants` runs the tests on them."""

import ast

import pytest

from tests.mutants.__main__ import REPOSITORY, applied
from tests.mutants.table import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}:{mutant.source}")
def test_is_one_edit_of_code_that_is_there(mutant):
    code = (REPOSITORY / mutant.file).read_text()
    assert ast.dump(ast.parse(applied(mutant, code))) != ast.dump(ast.parse(code))
    for test in mutant.tests.split():
        file, _, name = test.partition("::")
        assert f"def {name}" in (REPOSITORY / file).read_text()


def test_no_edit_is_there_twice():
    assert len({(m.file, m.source, m.replacement) for m in MUTANTS}) == len(MUTANTS)


def test_text_that_is_not_found_once_is_refused():
    mutant = MUTANTS[0]
    for code in ("", mutant.source * 2):
        with pytest.raises(ValueError, match=mutant.file):
            applied(mutant, code)
