import pytest
import torch

from nasneck.backbone import build_backbone
from nasneck.proxy.features import BATCH, compute_features, feature_bytes, normalised

CPU = torch.device("cpu")


def images(count: int = 70) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_images_are_normalised_by_the_backbones_mean() -> None:
    backbone = build_backbone("resnet10", width=8)
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    pixels[0, 1] = 0
    values = normalised(pixels, backbone, CPU)[0, :, 0, 0].tolist()
    assert values == pytest.approx([(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_features_are_those_of_the_backbone_in_eval_mode() -> None:
    backbone = build_backbone("resnet10", width=8)
    backbone.train()
    state = {k: v.clone() for k, v in backbone.state_dict().items()}
    pictures = images()  # more than one batch
    store = compute_features(backbone, pictures.split(BATCH), total=70, device=CPU, dtype=torch.float32)
    assert backbone.training
    assert all(torch.equal(v, state[k]) for k, v in backbone.state_dict().items())
    assert len(store) == 70
    with torch.no_grad():
        expected = backbone.eval()(normalised(pictures, backbone, CPU))
    taken = store.take(torch.tensor([69, 0, 69]))
    for mine, theirs in zip(taken, expected.values(), strict=True):
        torch.testing.assert_close(mine, theirs[[69, 0, 69]], rtol=1e-4, atol=1e-5)
        assert mine.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_taking_gives_new_float32_maps(dtype: torch.dtype) -> None:
    store = compute_features(build_backbone("resnet10", width=8), images(3).split(2), total=3, device=CPU, dtype=dtype)
    size = torch.empty((), dtype=dtype).element_size()
    assert store.nbytes == 3 * size * (16 * 6 * 6 + 32 * 3 * 3 + 64 * 2 * 2)
    for indices in (torch.tensor([1]), slice(1, 2)):
        first = store.take(indices)
        assert all(m.dtype == torch.float32 for m in first)
        for m in first:
            m.fill_(-7)  # whatever a neck does to its input, the store keeps its own
        assert not any((m == -7).any() for m in store.take(indices))


def test_memory_is_known_before_it_is_taken() -> None:
    backbone = build_backbone("resnet10", width=8)
    store = compute_features(backbone, images(3).split(3), total=3, device=CPU, dtype=torch.float16)
    assert store.nbytes == 3 * feature_bytes(backbone, canvas=48, dtype=torch.float16)
    odd = torch.zeros(1, 3, 50, 50, dtype=torch.uint8)
    store = compute_features(backbone, [odd], total=1, device=CPU, dtype=torch.float32)
    assert store.nbytes == feature_bytes(backbone, canvas=50, dtype=torch.float32)
