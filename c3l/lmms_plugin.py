"""How lmms-eval finds our model: `lmms-eval --model c3l --model_args pretrained=FOLDER`.

The entry point of the group lmms_eval.models (pyproject.toml). It is read whenever anybody's
lmms-eval is imported, so it names the class and imports nothing of ours.
"""

from lmms_eval.models.registry_v2 import ModelManifest

C3L = ModelManifest("c3l", simple_class_path="c3l.lmms.C3LModel")
