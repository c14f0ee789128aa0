"""headrace: text to a promoted, served model, as one Kubeflow pipeline tracked in MLflow."""

__version__ = "0.1.0"
