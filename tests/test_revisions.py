"""A part whose values change raises its revision, or stores would give the images of the old values.

tests/revisions.json holds the values of every part in a few numbers; ``python -m tests.revisions`` records them anew once the revision of
what changed has been raised, and refuses before.
"""

from __future__ import annotations

import copy
import json

import pytest
import torch

from preimage.energy.regularizers import REGULARIZERS, AlphaNorm

from . import revisions


@pytest.fixture(scope="module")
def now():
    return revisions.current()


def test_a_part_whose_values_change_has_a_new_revision(now):
    found = revisions.differences(json.loads(revisions.GOLDEN.read_text()), now)
    if said := [*found["unraised"], *found["recorded"]]:
        pytest.fail("\n".join([*said, f"Then record the values: {revisions.COMMAND}"]), pytrace=False)


def test_a_changed_constant_is_noticed_and_is_not_recorded_until_the_revision_is_raised(now, monkeypatch, tmp_path, capsys):
    slightly = lambda self, x: (x.square().sum(1) / (1.0005 * self.B) ** 2).pow(self.alpha / 2).mean((1, 2))  # noqa: E731
    monkeypatch.setattr(AlphaNorm, "add_gradient", lambda self, x, gradient: slightly(self, x), raising=False)
    changed = copy.deepcopy(now)
    name = "regularizer alpha-norm"
    changed[name] = {"revision": 1, "values": revisions._cases(REGULARIZERS, "alpha-norm", revisions._regularizer)()}
    assert [line.split(" (")[0] for line in revisions.differences(now, changed)["unraised"]] == [f"The values of {name}"]

    copied = tmp_path / "revisions.json"
    copied.write_text(json.dumps(now))
    monkeypatch.setattr(revisions, "GOLDEN", copied)
    monkeypatch.setattr(revisions, "current", lambda: changed)
    before = copied.read_text()
    assert revisions.main() == 1 and copied.read_text() == before
    assert "raise the revisions first" in capsys.readouterr().out
    changed[name]["revision"] = 2
    assert revisions.differences(now, changed)["recorded"] == [f"{name} has revision 2, and the values recorded are those of 1."]
    assert revisions.main() == 0
    recorded = json.loads(copied.read_text())
    assert recorded[name] == changed[name] and {k: v for k, v in recorded.items() if k != name} == {
        k: v for k, v in now.items() if k != name
    }


def test_the_values_of_the_parts_do_not_depend_on_torchs_own_generator(now):
    torch.manual_seed(7)
    torch.rand(5)
    assert revisions.current() == now
