"""The paper of every fixed neck."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a neck was published.

    Args:
        authors: First author and "et al.".
        title: In full.
        venue: Conference with its year, or ``arXiv``.
        year: Of the venue.
        reference: Where to find it: an arXiv identifier, or a pull request.
        note: What the neck here takes from elsewhere.
    """

    authors: str
    title: str
    venue: str
    year: int
    reference: str
    note: str = ""

    @property
    def short_title(self) -> str:
        """The title up to its colon."""
        return self.title.partition(":")[0]

    @property
    def published(self) -> str:
        """Venue and year."""
        return f"{self.venue} {self.year}"

    @property
    def url(self) -> str:
        """Address of the paper."""
        where, _, number = self.reference.rpartition(" ")
        homes = {"arXiv": "https://arxiv.org/abs/", "google/automl": "https://github.com/google/automl/pull/"}
        return homes[where] + number


_EFFICIENTDET = Paper(
    "Tan et al.", "EfficientDet: Scalable and Efficient Object Detection", "CVPR", 2020, "arXiv 1911.09070"
)

PAPERS: dict[str, Paper] = {
    "fpn": Paper("Lin et al.", "Feature Pyramid Networks for Object Detection", "CVPR", 2017, "arXiv 1612.03144"),
    "panet": Paper(
        "Liu et al.", "Path Aggregation Network for Instance Segmentation", "CVPR", 2018, "arXiv 1803.01534"
    ),
    "bifpn": _EFFICIENTDET,
    "efficientdet": _EFFICIENTDET,
    "weighted_pan": replace(_EFFICIENTDET, note="PANet's paths with its fusion; layout as in effdet (pan_fa)"),
    "qufpn": Paper(
        "Raj and Tan",
        "QuFPN, contributed to EfficientDet",
        "google/automl",
        2020,
        "google/automl 601",
        note="layout as in effdet (qufpn_fa)",
    ),
    "nas_fpn": Paper(
        "Ghiasi et al.",
        "NAS-FPN: Learning Scalable Feature Pyramid Architecture for Object Detection",
        "CVPR",
        2019,
        "arXiv 1904.07392",
    ),
    "mlfpn": Paper(
        "Zhao et al.",
        "M2Det: A Single-Shot Object Detector based on Multi-Level Feature Pyramid Network",
        "AAAI",
        2019,
        "arXiv 1811.04533",
    ),
    "augfpn": Paper(
        "Guo et al.",
        "AugFPN: Improving Multi-scale Feature Learning for Object Detection",
        "CVPR",
        2020,
        "arXiv 1912.05384",
    ),
    "nas_fcos": Paper(
        "Wang et al.",
        "NAS-FCOS: Fast Neural Architecture Search for Object Detection",
        "CVPR",
        2020,
        "arXiv 1906.04423",
    ),
    "opanas": Paper(
        "Liang et al.",
        "OPANAS: One-Shot Path Aggregation Network Architecture Search for Object Detection",
        "CVPR",
        2021,
        "arXiv 2103.04507",
    ),
    "mnasfpn": Paper(
        "Chen et al.",
        "MnasFPN: Learning Latency-aware Pyramid Architecture for Object Detection on Mobile Devices",
        "CVPR",
        2020,
        "arXiv 1912.01106",
    ),
    "spinenet": Paper(
        "Du et al.",
        "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization",
        "CVPR",
        2020,
        "arXiv 1912.05027",
    ),
    "asff": Paper(
        "Liu et al.", "Learning Spatial Fusion for Single-Shot Object Detection", "arXiv", 2019, "arXiv 1911.09516"
    ),
    "libra": Paper(
        "Pang et al.",
        "Libra R-CNN: Towards Balanced Learning for Object Detection",
        "CVPR",
        2019,
        "arXiv 1904.02701",
    ),
    "hrfpn": Paper(
        "Sun et al.",
        "High-Resolution Representations for Labeling Pixels and Regions",
        "arXiv",
        2019,
        "arXiv 1904.04514",
    ),
    "fpg": Paper("Chen et al.", "Feature Pyramid Grids", "arXiv", 2020, "arXiv 2004.03580"),
    "yolox_pafpn": Paper("Ge et al.", "YOLOX: Exceeding YOLO Series in 2021", "arXiv", 2021, "arXiv 2107.08430"),
    "cspnext_pafpn": Paper(
        "Lyu et al.",
        "RTMDet: An Empirical Study of Designing Real-Time Object Detectors",
        "arXiv",
        2022,
        "arXiv 2212.07784",
    ),
    "gfpn": Paper(
        "Jiang et al.", "GiraffeDet: A Heavy-Neck Paradigm for Object Detection", "ICLR", 2022, "arXiv 2202.04256"
    ),
    "carafe_fpn": Paper(
        "Wang et al.", "CARAFE: Content-Aware ReAssembly of FEatures", "ICCV", 2019, "arXiv 1905.02188"
    ),
    "ssh": Paper("Najibi et al.", "SSH: Single Stage Headless Face Detector", "ICCV", 2017, "arXiv 1708.03979"),
    "channel_mapper": Paper(
        "Zhu et al.",
        "Deformable DETR: Deformable Transformers for End-to-End Object Detection",
        "ICLR",
        2021,
        "arXiv 2010.04159",
        note="its input projection, as mmdet names it",
    ),
}
