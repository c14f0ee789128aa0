"""What every component shares: the image that holds headrace, and the decorator that names it.

The image carries kfp and headrace, so nothing is installed when a task starts. Its tag is the release:
a new release therefore never answers from the cache of an older one.
"""

import functools
import os

from kfp import dsl

from headrace import __version__

IMAGE = os.environ.get("HEADRACE_IMAGE", f"headrace/headrace-python:{__version__}")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
"""`dsl.component` on our image."""
