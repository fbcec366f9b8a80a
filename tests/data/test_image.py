"""Every kind of image file becomes RGB uint8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from nasneck.data import read_rgb
from nasneck.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def _read(path: Path) -> np.ndarray:
    image = read_rgb(path)
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    return image.permute(1, 2, 0).numpy()


def test_rgb(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), RGB)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((5, 7, 1), 3, dtype=np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), RGB)


def test_grey_is_repeated(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), np.stack([GREY] * 3, axis=2))


def test_grey_with_alpha(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), np.stack([GREY] * 3, axis=2))


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path / "a.png")[..., 1], (GREY > 127) * 255)


@pytest.mark.parametrize("transparency", [None, bytes([0, 128])])
def test_palette(tmp_path: Path, transparency: bytes | None) -> None:
    image = Image.fromarray((GREY > 127).astype(np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == "P"
    expected = np.where((GREY > 127)[..., None], (200, 100, 50), (10, 20, 30))
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), expected)


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256], [32768, 65535, 300]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    expected = np.array([[0, 0, 1], [128, 255, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), np.stack([expected] * 3, axis=2))


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to display
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), RGB)


def test_jpeg_and_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (6, 4), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert _read(tmp_path / "a.jpg").shape == (4, 6, 3)
    assert (_read(tmp_path / "a.jpg") > 250).all()


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff cannot be decoded: pixels are floating point"):
        read_rgb(tmp_path / "a.tiff")


def test_thirty_two_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[70000, 1]], dtype=np.int32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"grey values 1\.\.70000, expected 0\.\.65535"):
        read_rgb(tmp_path / "a.tiff")


@pytest.mark.parametrize("keep", [0, 20, 60, 0.7])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_broken_files_are_named(tmp_path: Path, keep: float, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.repeat(RGB, 20, axis=0)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(DataError, match=rf"image .*a\.{suffix} cannot be decoded") as caught:
        read_rgb(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image .*a\.png does not exist"):
        read_rgb(tmp_path / "a.png")
