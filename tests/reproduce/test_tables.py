"""Tables as plans: their commands are ones that the trainers and `apr-dali` take, and their cells have the numbers."""

import shutil

import pytest
from helpers.reproduce import asked, every_set

from apr_dali.cli import build_parser
from apr_dali.commands import reproduce
from apr_dali.errors import InputError
from apr_dali.eval.corruption import CORRUPTIONS
from apr_dali.reproduce import paper, tables
from apr_dali.reproduce import plan as plan_module
from apr_dali.reproduce.follow import CODE, FOLLOWED, PAPER
from apr_dali.reproduce.sets import NEEDS
from apr_dali.reproduce.tables import TABLES, check_runs, plan_of
from apr_dali.training.command_line import parse
from apr_dali.training.options import CIFAR_RECIPES, IMAGENET_RECIPES, CifarOptions, ImageNetOptions

_OPTIONS = {"cifar": (CifarOptions, CIFAR_RECIPES), "imagenet": (ImageNetOptions, IMAGENET_RECIPES)}
ROWS = {"table1": 10, "table2": 8, "table3": 5, "table4": 12, "fig4": 16, "fig9": 11, "fourier": 4}


@pytest.fixture
def all_there(tmp_path):
    every_set(tmp_path / "data")
    return tmp_path


def test_the_command_names_all_tables_and_data_sets():
    assert tuple(TABLES) == reproduce._TABLES
    assert {name for table in TABLES.values() for name in (*table.datasets, *table.others)} == set(reproduce._DATASETS)


@pytest.mark.parametrize("follow", FOLLOWED.values(), ids=FOLLOWED)
@pytest.mark.parametrize("name", TABLES)
def test_every_command_is_one(all_there, name, follow):
    table = TABLES[name]
    every = asked(all_there, follow=follow, datasets=(*table.datasets, *table.others), amp="bf16", attack=None)
    plan = plan_of(name, every)
    assert plan.missing == {}
    for run in plan.runs:
        home = run.home(plan.asked.output)
        python, script, *words = run.training.words(home)
        assert (python, script.rpartition("/")[2]) == ("python", f"train_{run.training.trainer}.py")
        kind, recipes = _OPTIONS[run.training.trainer]
        options = parse(kind, "", words, recipes)
        assert (options.output, options.resume, options.amp) == (str(home / "train"), "auto", "bf16")
        assert options.epochs == run.training.epochs
        for evaluation in run.evaluations:
            program, *words = evaluation.words(home)
            given = build_parser(words).parse_args(words)
            assert program == "apr-dali"
            assert (given.model, given.output) == (str(home / "train/latest.pt"), str(home / "eval"))
    for words in plan.prepared:
        assert build_parser(words[1:]).parse_args(words[1:]).run


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_there_trained_or_named(all_there, name):
    plan = plan_of(name, asked(all_there))
    methods = {cell.method for cell in plan.cells}
    assert len(methods) == ROWS[name]
    trained = {run.key.split("/")[3] for run in plan.runs}
    untrained = {cell.method for cell in plan.cells if cell.why}
    assert trained | untrained == methods
    assert not trained & untrained
    assert len(plan.not_trained) == len(untrained)


def test_every_number_of_the_paper_stands_in_a_cell(all_there):
    def numbers(name):
        return sorted(cell.paper for cell in plan_of(name, asked(all_there)).cells if cell.paper is not None)

    def flat(*tables):
        return sorted(value for table in tables for row in table.values() for value in row.values())

    assert numbers("table1") == flat(*paper.TABLE_1.values())
    assert numbers("table2") == flat(paper.TABLE_2)
    assert numbers("table3") == sorted(value for row in paper.TABLE_3.values() for value in row)
    assert numbers("table4") == flat(paper.TABLE_4)
    assert numbers("fig4") == flat(paper.FIGURE_4)
    cells = {cell.key: cell.paper for name in TABLES for cell in plan_of(name, asked(all_there)).cells}
    assert cells["cifar100.densenet-bc-100-12.corrupted_error.apr-s"] == 38.3
    assert cells["cifar10.mean.corrupted_error.augmix"] == 12.5
    assert cells["cifar10.resnet18.auroc.LSUN_fix.csi"] == 92.1
    assert cells["cifar10.preactresnet18.robust.fgsm-cutout"] == 41.6
    assert cells["imagenet.resnet50.ce.fog.deepaugment"] == 64
    assert cells["cifar10.resnet18.accuracy.amplitude-low-phase-band"] == 66.1


@pytest.mark.parametrize(("name", "network"), [("table1", "wrn-16-1"), ("table2", "allconv"), ("table4", "resnet18")])
def test_the_papers_numbers_are_of_its_networks(all_there, name, network):
    plan = plan_of(name, asked(all_there, networks=(network,)))
    assert {cell.paper for cell in plan.cells} == {None}


def options_of(plan, method):
    (run,) = (run for run in plan.runs if f"/{method}/" in run.key)
    kind, recipes = _OPTIONS[run.training.trainer]
    return parse(kind, "", run.training.words(run.home(plan.asked.output))[2:], recipes)


def test_what_is_followed_decides_steps_axes_overflow_score_and_bands(all_there):
    def of(follow, name, method):
        network = {"table1": ("wrn-40-2",)}.get(name, ())
        datasets = {"table1": ("cifar10",)}.get(name, ())
        return options_of(plan_of(name, asked(all_there, follow=follow, networks=network, datasets=datasets)), method)

    code, text = (of(follow, "table1", "apr-sp") for follow in (CODE, PAPER))
    assert (code.lr_steps, code.axes, code.overflow) == ((60, 120, 160, 190), "chw", "wrap")
    assert (text.lr_steps, text.axes, text.overflow) == ((60, 120, 180), "hw", "clamp")
    assert (of(PAPER, "table1", "apr-p").axes, of(PAPER, "table1", "augmix").axes) == ("hw", "chw")
    bands = [of(follow, "fig4", "amplitude-low-phase-high").spectrum for follow in (CODE, PAPER)]
    assert bands == ["amplitude=low,phase=high", "amplitude=low,phase=high,outside=1"]
    assert of(PAPER, "fig4", "amplitude-low-phase-full").spectrum == "amplitude=low,phase=full"
    scores = {"scores": {"max-logit": {"SVHN": {"auroc": 0.25}}, "max-softmax": {"SVHN": {"auroc": 0.75}}}}
    for follow, value in ((CODE, 25), (PAPER, 75)):
        cells = {cell.key: cell for cell in plan_of("table2", asked(all_there, follow=follow)).cells}
        assert cells["cifar10.resnet18.auroc.SVHN.apr-p"].measure({"ood": scores}) == value
        # The mean of the paper is over six sets.
        assert cells["cifar10.resnet18.auroc.mean.apr-p"].measure({"ood": scores}) is None


def test_a_short_run_has_the_steps_in_proportion(all_there):
    plan = plan_of("table4", asked(all_there, epochs=10))
    assert options_of(plan, "apr-p").lr_steps == (3, 6, 9)
    # Those of adversarial training are cyclic.
    assert options_of(plan_of("table3", asked(all_there, epochs=10)), "fgsm-apr-p").epochs == 10


def test_deepaugment_trains_on_its_folders_too(all_there):
    plan = plan_of("table4", asked(all_there))
    data = all_there / "data"
    options = options_of(plan, "deepaugment-apr-sp")
    assert options.train == (str(data / "DeepAugment/EDSR"), str(data / "DeepAugment/CAE"))
    assert (options.data, options.aug) == (str(data / "imagenet"), "apr-sp")
    assert options_of(plan, "deepaugment").aug == "none"
    assert options_of(plan, "apr-sp").train == ()


def test_what_is_missing_is_named_and_left_out(all_there):
    shutil.rmtree(all_there / "data/DeepAugment/CAE")
    shutil.rmtree(all_there / "data/imagenet-c")
    plan = plan_of("table4", asked(all_there))
    assert set(plan.missing) == {"CAE", "ImageNet-C"}
    assert plan.missing["ImageNet-C"].startswith(f"put it in {all_there}/data/imagenet-c, which should hold: <corr")
    assert {run.key.split("/")[3]: run.lacks for run in plan.runs}["deepaugment"] == ("CAE",)
    # What is missing stands in the commands where it should be.
    assert options_of(plan, "deepaugment").train == tuple(
        str(all_there / f"data/DeepAugment/{n}") for n in ("EDSR", "CAE")
    )
    assert {run.evaluations[0].options["data"] for run in plan.runs} == {(str(all_there / "data/imagenet-c"),)}
    assert [evaluation.lacks for run in plan.runs for evaluation in run.evaluations] == [("ImageNet-C",)] * 7
    check_runs(plan)
    computed = plan_of("table4", asked(all_there, on_the_fly=True))
    (evaluation,) = computed.runs[0].evaluations
    assert evaluation.lacks == ()
    assert evaluation.options["val"] == (str(all_there / "data/imagenet/val"),)


def test_out_of_distribution_sets_that_are_missing_leave_the_others(all_there):
    shutil.rmtree(all_there / "data/LSUN_fix")
    plan = plan_of("table2", asked(all_there))
    names = [text.partition("=")[0] for text in plan.runs[0].evaluations[1].options["ood"]]
    assert names == [name for name in paper.OOD_SETS if name != "LSUN_fix"]
    assert set(plan.missing) == {"LSUN_fix"}


def test_a_folder_that_lacks_some_of_its_set_is_missing_before_anything_is_trained(all_there):
    data = all_there / "data"
    for name in ("labels.npy", "fog.npy"):
        (data / "CIFAR-10-C" / name).unlink()
    (data / "cifar-100-python/test").unlink()
    (data / "LSUN_fix/image.png").unlink()
    (data / "imagenet-c/snow").unlink()
    plan = plan_of("table1", asked(all_there))
    assert set(plan.missing) == {"CIFAR-10-C", "CIFAR-100"}
    assert plan.missing["CIFAR-10-C"].startswith(f"{data}/CIFAR-10-C lacks fog.npy, labels.npy, which should hold: ")
    assert plan.missing["CIFAR-100"].startswith(f"{data}/cifar-100-python lacks test, which should hold: ")
    plan = plan_of("table2", asked(all_there))
    assert plan.missing["LSUN_fix"].startswith(f"{data}/LSUN_fix lacks images, which should hold: 32×32 image files")
    assert plan_of("table4", asked(all_there)).missing["ImageNet-C"].startswith(f"{data}/imagenet-c lacks snow, which")
    (data / "imagenet-c").rename(data / "ImageNet-C")
    assert plan_of("table4", asked(all_there)).missing["ImageNet-C"].startswith(f"{data}/ImageNet-C lacks snow, which")
    # The archive beside a damaged folder is taken.
    (data / "cifar-100-python.tar.gz").touch()
    assert set(plan_of("table1", asked(all_there)).missing) == {"CIFAR-10-C"}


def test_nothing_to_train_on_is_refused_with_the_folders(tmp_path):
    (tmp_path / "data").mkdir()
    plan = plan_of("table1", asked(tmp_path))
    with pytest.raises(InputError, match=r"(?s)no run has its images.*CIFAR-10: put it in .*cifar-10-batches-py"):
        check_runs(plan)
    # An ImageNet without its validation part is none.
    (tmp_path / "data/imagenet/train").mkdir(parents=True)
    assert NEEDS["ImageNet"].find(tmp_path / "data") is None


def test_what_would_fail_after_days_is_refused_before(all_there, monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="table3 needs pyautoattack: pip install"):
        check_runs(plan_of("table3", asked(all_there)))
    check_runs(plan_of("table4", asked(all_there)))
    shutil.rmtree(all_there / "data/imagenet-c")
    with pytest.raises(InputError, match="table4 needs imagecorruptions"):
        check_runs(plan_of("table4", asked(all_there, on_the_fly=True)))
    for data in (all_there / "data", all_there / "nothing"):
        with pytest.raises(InputError, match="none of the chosen methods is trained here"):
            check_runs(plan_of("table2", asked(all_there, only=("csi",), data=data)))


def test_the_trainers_lie_in_the_clone(all_there, monkeypatch):
    monkeypatch.setattr(plan_module, "__file__", str(all_there / "site-packages/apr_dali/reproduce/plan.py"))
    with pytest.raises(InputError, match=r"site-packages/train_cifar.py is not there: .* from a clone"):
        plan_of("table1", asked(all_there))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("table1", {"only": ("apr",)}, "--only of table1 must be one of standard, cutout.*got 'apr'"),
        ("table2", {"datasets": ("imagenet",)}, "--dataset of table2 must be one of cifar10, digits"),
        ("table1", {"networks": ("wrn-40",)}, "unknown model 'wrn-40'"),
        ("table4", {"networks": ("wrn-40-x",)}, "unknown model"),
        ("table1", {"datasets": ("digits",), "on_the_fly": True}, "--on-the-fly changes nothing for digits: "),
        ("table4", {"datasets": ("sample",), "on_the_fly": True}, "--on-the-fly changes nothing for sample: "),
    ],
)
def test_what_a_table_does_not_take_is_refused(all_there, name, given, message):
    with pytest.raises(InputError, match=message):
        plan_of(name, asked(all_there, **given))


def test_digits_need_no_files_and_no_numbers_of_the_paper_stand_beside_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, table in TABLES.items():
        if "digits" in table.others:
            plan = plan_of(name, asked(tmp_path, datasets=("digits",)))
            assert plan.missing == {}
            assert {cell.paper for cell in plan.cells} == {None}
            assert {run.network for run in plan.runs} == {"wrn-16-1"}
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match="something is called digits here"):
        plan_of("table1", asked(tmp_path, datasets=("digits",)))


def test_numbers_are_taken_from_results(all_there):
    cells = {cell.key: cell for cell in plan_of("table4", asked(all_there)).cells}
    ce = dict.fromkeys(CORRUPTIONS, 50.0) | {"fog": 40.0}
    for prefix in ("", "generated_"):
        results = {"corruption": {f"{prefix}ce": ce, f"{prefix}mce": 49.0, "clean_error": 0.25}}
        measured = [
            cells[f"imagenet.resnet50.{key}.apr-p"].measure(results) for key in ("clean_error", "mce", "ce.fog")
        ]
        assert measured == [25, 49, 40]
    assert cells["imagenet.resnet50.mce.apr-p"].measure({}) is None


def test_seeds_and_networks_make_runs_of_their_own(all_there):
    plan = plan_of("table1", asked(all_there, seeds=3, only=("apr-p", "adv-training"), datasets=("cifar10",)))
    assert len({run.key for run in plan.runs}) == 12
    assert {run.training.options["seed"] for run in plan.runs} == {("0",), ("1",), ("2",)}
    mean = next(cell for cell in plan.cells if cell.key == "cifar10.mean.corrupted_error.apr-p")
    assert [len(keys) for keys in mean.runs] == [4, 4, 4]
    # A mean over other networks than the paper's stands beside nothing.
    fewer = plan_of("table1", asked(all_there, networks=("allconv",), datasets=("cifar10",)))
    assert not [cell for cell in fewer.cells if ".mean." in cell.key]
