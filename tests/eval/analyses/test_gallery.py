"""The gallery shows what the operators give, and what it says about it is true."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import apr_dali
from apr_dali import pillow_ops, spectral
from apr_dali.cli import main
from apr_dali.draws import OPERATIONS, SingleDraws
from apr_dali.eval.analyses.gallery import gallery_page, gallery_picture, rows
from apr_dali.eval.analyses.method_gallery import changed, shown

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def images(crops):
    return crops(3, 40, 40, seed=3)


def test_panels_are_the_operators_outputs(images):
    found = rows(images, NAMES, seed=10)
    draws = SingleDraws.sample(3, 40, 40, seed=10)
    draws = SingleDraws(draws.operation, draws.parameters, np.ones(3, bool), draws.amplitude_of_second)
    mixed = apr_dali.pair(images, np.array([1, 2, 0]))
    for overflow in ("wrap", "clamp"):
        expected = apr_dali.single(images, draws, overflow=overflow)
        for row, pixels in zip(found, expected, strict=True):
            assert np.array_equal(row.single[overflow], pixels)
    for n, row in enumerate(found):
        assert np.array_equal(row.photograph, images[n])
        assert np.array_equal(row.partner, images[(n + 1) % 3])
        assert (row.name, row.partner_name) == (NAMES[n], NAMES[(n + 1) % 3])
        assert np.array_equal(row.pair, np.clip(np.rint(np.moveaxis(mixed[n], 0, -1)), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("seed", range(4))
def test_the_operations_named_are_those_that_were_recombined(images, seed):
    """From the words alone, step by step with the reference: phase of the one, amplitude of the other."""
    draws = SingleDraws.sample(3, 40, 40, seed=seed)
    for n, row in enumerate(rows(images, NAMES, seed=seed)):
        made = {}
        for text in row.operations:
            image = images[n]
            for step, operation in enumerate(text.split(" + ")):
                name = operation.replace(" ", "_")
                assert name == OPERATIONS[draws.operation[n, step]]
                image = pillow_ops.apply(image, name, draws.parameters[n, step])
            made[text] = np.moveaxis(image, -1, 0)
        phase, amplitude = (made[text] for text in row.operations)
        expected = spectral.to_levels(spectral.recombine(phase, amplitude), "clamp")
        assert np.abs(np.moveaxis(expected, 0, -1).astype(int) - row.single["clamp"]).max() <= 1


def test_spectra_give_back_the_luminance(images):
    row = rows(images, NAMES, seed=0)[0]
    amplitude, phase = np.fft.ifftshift(10**row.amplitude - 1), np.fft.ifftshift(row.phase)
    gray = np.fft.ifft2(amplitude * np.exp(1j * phase))
    assert np.allclose(gray, np.asarray(Image.fromarray(images[0]).convert("L")), atol=1e-6)


def test_wrapped_counts_what_the_modes_differ_in(images):
    row = rows(images, NAMES, seed=10)[0]
    row.single["wrap"][:] = row.single["clamp"][:]
    assert row.wrapped == 0
    row.single["wrap"][:10] += 100
    assert row.wrapped == pytest.approx(0.25)


def test_the_picture_is_wide_and_small_and_the_page_is_one_file(images):
    found = rows(images, NAMES, seed=10)
    png = gallery_picture(found)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width == 1200
        assert np.asarray(picture.convert("L")).std() > 30
    assert len(png) < 600_000
    page = gallery_page(found)
    assert page.count("<img") == 3
    assert page.count('src="data:image/png;base64,') == 3
    assert "http" not in page
    for row in found:
        assert f"phase of “{row.operations[0]}”, amplitude of “{row.operations[1]}”" in page


def test_the_command(tmp_path, images, capsys):
    files = []
    for name, image in zip(NAMES, images, strict=True):
        files.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(image).save(files[-1])
    assert main(["analyze", "gallery", *files, "--size", "32", "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "gallery.html",
        "gallery.json",
        "gallery.png",
    ]
    record = json.loads((tmp_path / "out" / "gallery.json").read_text())
    assert [row["partner"] for row in record["rows"]] == ["two", "three", "one"]
    assert "one: phase of " in capsys.readouterr().out


@pytest.mark.parametrize(("broken", "message"), [(False, "two images or more, got one"), (True, "cannot be decoded")])
def test_bad_input(broken, message, tmp_path, images, capsys):
    first = tmp_path / "first.png"
    Image.fromarray(images[0]).save(first)
    (tmp_path / "text.png").write_text("no image")
    given = [str(first)] + ([str(tmp_path / "text.png")] if broken else [])
    assert main(["analyze", "gallery", *given, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", shown())
def test_each_method_shows_what_it_makes_of_all_photographs(images, name):
    found = changed(images, name, seed=0)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert np.array_equal(changed(images, name, seed=0), found)
    # APR-S's operations, which some of them have, leave some images as they are.
    assert (found != images).any(axis=(1, 2, 3)).sum() >= 2


def test_the_command_writes_the_methods_that_are_asked_for(tmp_path, capsys):
    assert main(["analyze", "gallery", "--aug", "afa", "hybrid-ps", "--size", "32", "--output", str(tmp_path)]) == 0
    page = (tmp_path / "methods.html").read_text()
    assert "AFA" in page
    assert "HybridAugment" in page
    assert Image.open(tmp_path / "methods.png").width > 300
    # Several views of an image are columns of their own.
    assert main(["analyze", "gallery", "--aug", "vipaug", "afa+prime", "--size", "32", "--output", str(tmp_path)]) == 0
    page = (tmp_path / "methods.html").read_text()
    assert [title in page for title in ("by vipaug", "by prime", "by afa", "by afa+prime")] == [True, True, True, False]
    assert "apr-p: each keeps its phase" in page
    assert main(["analyze", "gallery", "--aug", "nosuch", "--output", str(tmp_path)]) == 2
    assert "hybrid-ps" in capsys.readouterr().err
