"""The entry point of `lmms-eval --model c3l --model_args pretrained=FOLDER`.

It belongs to the group lmms_eval.models (pyproject.toml), which any import of lmms-eval reads. So
it names the class and imports nothing of C³L.
"""

from lmms_eval.models.registry_v2 import ModelManifest

C3L = ModelManifest("c3l", simple_class_path="c3l.lmms.C3LModel")
