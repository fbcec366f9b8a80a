"""Detection data in COCO format: reading, splitting, augmenting, generating."""

from nasneck.data.annotations import Annotations as Annotations
from nasneck.data.annotations import ImageRecord as ImageRecord
from nasneck.data.annotations import read_annotations as read_annotations
from nasneck.data.augment import Augment as Augment
from nasneck.data.augment import Target as Target
from nasneck.data.augment import augmented_view as augmented_view
from nasneck.data.augment import letterbox as letterbox
from nasneck.data.augment import letterbox_size as letterbox_size
from nasneck.data.augment import to_original as to_original
from nasneck.data.augment import train_transform as train_transform
from nasneck.data.coco import CocoSplit as CocoSplit
from nasneck.data.coco import read_coco as read_coco
from nasneck.data.config import DataConfig as DataConfig
from nasneck.data.config import load_data as load_data
from nasneck.data.image import read_rgb as read_rgb
from nasneck.data.shapes import ShapesConfig as ShapesConfig
from nasneck.data.shapes import generate_shapes as generate_shapes
from nasneck.data.split import DetectionData as DetectionData
from nasneck.data.split import hold_out as hold_out
