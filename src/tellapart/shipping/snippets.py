"""The programs that come with an .onnx file: in Python, JavaScript and C++. They hold no word of the model itself."""

from importlib import resources

SOURCES = {"predict.py": "predict_onnx.py", "predict.mjs": "predict.mjs.txt", "predict.cpp": "predict.cpp.txt"}


def snippets() -> dict[str, str]:
    """The text of each program by the name of its file. Names of classes are data that they read from the model."""
    folder = resources.files("tellapart.shipping")
    return {name: folder.joinpath(source).read_text(encoding="utf-8") for name, source in SOURCES.items()}
