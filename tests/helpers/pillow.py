"""What the Pillow that is installed can do."""

import PIL
from packaging.version import Version

READS_YCBCR = Version(PIL.__version__) >= Version("13")  # older ones cannot read the YCbCr TIFFs that they write
