"""Breast histopathology: classify pictures with a ResNet50 and explain each verdict.

Importing the package loads neither TensorFlow nor OpenVINO; the modules that need them do.
"""

import os

__version__ = "0.1.0"

# Read when TensorFlow is first imported: warnings and errors, not its notes on the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
