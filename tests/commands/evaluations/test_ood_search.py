"""`apr-dali eval ood --search-parameters`, and what is kept of an evaluation that is stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.eval_sets import Linear, logits_of, named, random_levels, unscaled, write_levels

from apr_dali.eval import kept_passes, ood_scoring

SCORES = ("--scores", "energy", "gen", "odin", "react", "ash", "scale", "knn", "mahalanobis")


@pytest.fixture
def sets(tmp_path):
    write_levels(tmp_path / "val", random_levels(1, count=8, spread=15))
    write_levels(tmp_path / "train", random_levels(7, count=20, spread=15))
    write_levels(tmp_path / "valid", random_levels(9, count=7, spread=15))
    write_levels(tmp_path / "others", {"a": [65, 75, 165, 240, 20]})
    write_levels(tmp_path / "f", {"a": [12, 240, 250, 70, 75]})
    return tmp_path


def given(root, *scores: str) -> tuple[object, ...]:
    plain = ("ood", "--data", root / "val", "--ood", *named(root, "f"), *scores)
    return (*plain, "--search-parameters", "--val-data", root / "valid", "--ood-val", root / "others")


def rate(own: torch.Tensor, other: torch.Tensor) -> float:
    return float(((own[:, None] > other).double() + (own[:, None] == other).double() / 2).mean())


@pytest.mark.slow
def test_the_parameters_are_searched_for(evaluate, sets, capsys):
    status, record = evaluate(*given(sets, *SCORES), "--fit-data", sets / "train", model=unscaled(Linear()))
    assert status == 0, capsys.readouterr().err
    result = record["result"]
    search = result["search"]
    assert (search["data"], search["images"]) == (str(sets / "others"), 5)
    assert result["validation"] == {"data": str(sets / "valid"), "images": 18}
    assert result["fit"] == {"data": str(sets / "train"), "images": 57}
    assert {name: found["candidates"] for name, found in search["found"].items()} == {
        **{"gen": 42, "odin": 8, "react": 4, "ash": 7, "scale": 7},
        "knn": 1,  # there are 57 images to fit to
    }
    # ReAct the whole way by hand.
    model, features = Linear(), {}
    model.fc.register_forward_pre_hook(lambda _, inputs: features.update({name: inputs[0].double()}))
    for name in ("valid", "others", "val", "f"):
        logits_of(model, sets / name)
    halves = {name: values.half().double() for name, values in features.items()}  # as they are kept
    limits = {share: np.percentile(halves["valid"].numpy(), share) for share in (85, 90, 95, 99)}

    def react(values: torch.Tensor, share: float) -> torch.Tensor:
        return (values.clamp(max=float(limits[share])) @ model.fc.weight.double().T).logsumexp(1)

    rates = {share: rate(react(halves["valid"], share), react(halves["others"], share)) for share in limits}
    best = max(rates, key=rates.__getitem__)
    assert search["found"]["react"] == {
        **{"parameters": {"percentile": best}, "candidates": 4},
        "auroc": pytest.approx(rates[best], abs=1e-9),
    }
    expected = rate(react(features["val"], best), react(features["f"], best))
    assert result["scores"]["react"]["f"]["auroc"] == pytest.approx(expected, abs=1e-9)
    # It is said to people, too.
    assert result["parameters"]["react"] == f"percentile {best}"
    power, top = search["found"]["gen"]["parameters"].values()
    assert result["parameters"]["gen"] == f"power {power:g}, the {top} greatest probabilities"
    assert any("searched for" in note and "18 images" in note for note in result["notes"])
    assert "searched for" in capsys.readouterr().out


def test_candidates_take_no_pass_of_their_own(evaluate, sets):
    """But ODIN's, which is not asked for here."""
    model, seen = Linear(), []
    model.fc.register_forward_hook(lambda *_: seen.append(1))
    evaluate(*given(sets, *SCORES[:1], "gen"), model=unscaled(model))
    fewest = len(seen)
    seen.clear()
    wide = ("gen", "react", "ash", "scale", "knn", "mahalanobis")
    evaluate(*given(sets, *SCORES[:1], *wide), "--fit-data", sets / "train", model=unscaled(model))
    training = (57 + 4) // 5
    finding_the_last_layer = 1
    assert len(seen) == fewest + training + finding_the_last_layer


def test_without_a_search_nothing_changes(evaluate, sets):
    plain = ("ood", "--data", sets / "val", "--ood", *named(sets, "f"), "--fit-data", sets / "train")
    _, record = evaluate(*plain, "--scores", "react", "knn", "max-logit", model=unscaled(Linear()))
    assert "search" not in record["result"]
    assert record["result"]["parameters"]["react"] == "percentile 90"
    assert record["result"]["parameters"]["knn"] == "50 neighbors"
    assert "max-logit" not in record["result"]["parameters"], "it has none"


class Stopping:
    """Counts the passes over images that are prepared for and over those that are scored; ends them with Ctrl-C."""

    def __init__(self, monkeypatch) -> None:
        self.prepared, self.scored, self.stop_at, self.stop_scoring = 0, 0, None, False
        self._real = kept_passes.collect
        monkeypatch.setattr(kept_passes, "collect", self._prepare)
        monkeypatch.setattr(ood_scoring, "collect", self._score)

    def _prepare(self, *given, **more):
        self.prepared += 1
        return self._run(given, more)

    def _score(self, *given, **more):
        self.scored += 1
        return self._run(given, more)

    def _run(self, given, more):
        if self.prepared + self.scored == self.stop_at or (self.stop_scoring and self.scored):
            raise KeyboardInterrupt
        return self._real(*given, **more)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 3, 5])
def test_a_stopped_evaluation_goes_on_with_what_is_kept(evaluate, sets, monkeypatch, stop_at):
    """Three sets are prepared for, two are scored."""
    command = (*given(sets, "--scores", "gen", "react", "knn"), "--fit-data", sets / "train")
    _, whole = evaluate(*command, model=unscaled(Linear()))
    for path in (sets / "out").iterdir():
        path.unlink()
    passes = Stopping(monkeypatch)
    passes.stop_at = stop_at
    status, record = evaluate(*command, model=unscaled(Linear()))
    assert (status, record) == (130, None)
    kept = {path.name for path in (sets / "out").glob("ood.*.features/*")}
    assert kept == set(("training", "validation", "others")[: stop_at - 1])
    passes.stop_at = None
    status, record = evaluate(*command, model=unscaled(Linear()))
    assert status == 0
    assert record["result"] == whole["result"]
    assert passes.prepared + passes.scored == 5 + 1, "only the pass that was stopped runs twice"
    assert not list((sets / "out").glob("*.features")), "nothing is kept of what is done"


def test_the_same_command_twice_at_once(evaluate, sets, monkeypatch, capsys):
    """What the one keeps must not go with the other."""
    plain = ("ood", "--data", sets / "val", "--ood", *named(sets, "f"))
    command, second = (*plain, "--scores", "knn", "--fit-data", sets / "train"), []

    def beside(*given, **more):
        if not second:
            second.append(None)
            second[0] = evaluate(*command, model=unscaled(Linear()))
        return real(*given, **more)

    real = ood_scoring.collect
    monkeypatch.setattr(ood_scoring, "collect", beside)
    status, record = evaluate(*command, model=unscaled(Linear()))
    assert second == [(2, None)]
    message = f"writes to {sets / 'out'}: wait for it to end or stop it, or choose another folder"
    assert message in capsys.readouterr().err
    assert (status, record["result"]["images"]) == (0, 21)
    assert {path.name.rpartition(".")[2] for path in (sets / "out").iterdir()} == {"json", "png"}


def test_a_set_that_comes_later_needs_no_second_search(evaluate, sets, monkeypatch):
    command = given(sets, "--scores", "gen")
    _, first = evaluate(*command, model=unscaled(Linear()))
    write_levels(sets / "g", {"a": [3, 99, 180]})
    passes = Stopping(monkeypatch)
    _, second = evaluate(*command, "--ood", *named(sets, "f", "g"), model=unscaled(Linear()))
    assert (passes.prepared, passes.scored) == (0, 1)
    assert second["result"]["search"] == first["result"]["search"]
    assert second["result"]["scores"]["gen"]["f"] == first["result"]["scores"]["gen"]["f"]


def test_what_is_kept_is_of_one_network_and_one_set(evaluate, sets, monkeypatch):
    plain = ("ood", "--data", sets / "val", "--ood", *named(sets, "f"))
    passes = Stopping(monkeypatch)

    def prepared_by(model) -> int:
        """How many passes are made over what is prepared, before Ctrl-C comes in the first other one."""
        before, passes.scored, passes.stop_scoring = passes.prepared, 0, True
        assert evaluate(*plain, "--scores", "knn", "--fit-data", sets / "train", model=model)[0] == 130
        return passes.prepared - before

    own = unscaled(Linear())
    assert prepared_by(own) == 1
    assert prepared_by(own) == 0
    assert prepared_by(replace(own, fingerprint="another")) == 1
    assert prepared_by(own) == 0
    (path, *_) = (sets / "train").glob("*/*.png")
    path.write_bytes((sets / "f" / "a" / "00.png").read_bytes())
    assert prepared_by(own) == 1, "another image is another set"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--search-parameters"], "--search-parameters needs --val-data and --ood-val"),
        (["--search-parameters", "--val-data", "{root}/valid"], "--search-parameters needs --ood-val"),
        (["--search-parameters", "--ood-val", "{root}/others"], "--search-parameters needs --val-data"),
        (["--ood-val", "{root}/others"], "--ood-val changes nothing without --search-parameters"),
        (["--val-data", "{root}/valid"], "--val-data changes nothing without react or --search-parameters"),
        (
            ["--search-parameters", "--val-data", "{root}/val", "--ood-val", "{root}/others"],
            "--val-data {root}/val are images that are evaluated, too",
        ),
        (
            ["--search-parameters", "--val-data", "{root}/valid", "--ood-val", "{root}/train/../f"],
            "f are images that are evaluated, too",
        ),
        (
            ["--search-parameters", "--val-data", "{root}/valid", "--ood-val", "{root}/valid"],
            "--ood-val {root}/valid are images that are those of --val-data, too",
        ),
        (
            ["--search-parameters", "--val-data", "{root}/valid", "--ood-val", "{root}/no"],
            "--ood-val={root}/no: {root}/no is not there",
        ),
        (["--openood", "{root}", "--ood-val", "{root}/others"], "leave out --data, --ood, --ood-val"),
    ],
)
def test_bad_input_is_named(evaluate, sets, capsys, arguments, message):
    plain = ["--data", "{root}/val", "--ood", "f={root}/f", "--scores", "gen"]
    status, record = evaluate("ood", *(text.format(root=sets) for text in [*plain, *arguments]))
    assert (status, record) == (2, None)
    assert message.format(root=sets) in capsys.readouterr().err


@pytest.mark.parametrize("scores", [[], ["--scores", "energy", "max-logit"]])
def test_a_search_for_nothing_is_refused(evaluate, sets, capsys, scores):
    assert evaluate(*given(sets, *scores))[0] == 2
    assert "none of the scores is one of gen, odin, react, ash, scale, vim, knn" in capsys.readouterr().err
