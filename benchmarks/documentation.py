"""Questions about Python's standard library, answered by its docstrings: what people wrote, and not what a model would say."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache

from instructions import asked_about

MODULES = (
    "argparse", "array", "asyncio", "base64", "bisect", "calendar", "collections", "concurrent.futures", "configparser", "contextlib", "copy",
    "csv", "datetime", "decimal", "difflib", "dis", "email.message", "fractions", "ftplib", "functools", "gettext", "glob", "gzip", "hashlib",
    "heapq", "html.parser", "http.client", "http.server", "imaplib", "inspect", "io", "ipaddress", "itertools", "json", "locale", "logging",
    "mailbox", "math", "mimetypes", "multiprocessing", "numbers", "operator", "os", "os.path", "pathlib", "pdb", "pickle", "platform", "poplib",
    "pprint", "queue", "random", "re", "reprlib", "sched", "secrets", "selectors", "shelve", "shlex", "shutil", "signal", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "statistics", "string", "struct", "subprocess", "symtable", "tarfile", "tempfile", "textwrap", "threading",
    "time", "tokenize", "trace", "traceback", "turtle", "types", "typing", "unittest", "unittest.mock", "urllib.parse", "urllib.request", "uuid",
    "warnings", "wave", "weakref", "xml.dom.minidom", "xml.etree.ElementTree", "zipfile", "zoneinfo",
)  # fmt: skip
TEMPLATES = (
    "What does {name} do?", "Explain {name} in Python.", "What is {name} for?", "{name}", "How do I use {name}?",
    "I came across {name}. What is it?", "Describe {name} briefly.",
)  # fmt: skip
_WORDS = (5, 40)
"""Words that the first paragraph of a docstring has to have."""


@cache
def documented(count: int, seed: int) -> tuple[tuple[str, str], ...]:
    """Return `count` different questions and answers in an order fixed by `seed`. Raises ValueError when there are not enough."""
    known = {name: text for module in MODULES for name, text in _entries(module)}
    return asked_about(known, TEMPLATES, count, seed)


def _entries(module: str) -> Iterator[tuple[str, str]]:
    """Yield the names of a module's public functions, classes and methods, with the first paragraph of what is said of each."""
    held = importlib.import_module(module)
    for name, value in sorted(vars(held).items()):
        if name.startswith("_") or not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        inside = sorted(vars(value).items()) if inspect.isclass(value) else []
        methods = [
            (f"{name}.{own}", each) for own, each in inside if not own.startswith("_") and inspect.isroutine(each)
        ]
        for path, each in [(name, value), *methods]:
            text = _first_paragraph(inspect.getdoc(each) or "")
            if _WORDS[0] <= len(text.split()) <= _WORDS[1]:
                yield f"{module}.{path}", text


def _first_paragraph(text: str) -> str:
    return re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip()
