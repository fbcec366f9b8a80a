"""Studies: the durable record of a search, and how to go on with one."""

from nasneck.study.records import Asked, Told
from nasneck.study.resume import Resumed, resume
from nasneck.study.study import Study

__all__ = ["Asked", "Resumed", "Study", "Told", "resume"]
