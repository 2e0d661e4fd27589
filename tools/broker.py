"""A real single-node Kafka broker for tests and for trying things out.

    python -m tools.broker            runs one in the foreground and prints its address
    python -m tools.broker 9092       the same on a port of one's choice

Apache Kafka comes from Maven Central once and stays under .cache/ of the checkout. Each broker has its own
folder and free loopback ports, and is ended by its process id. Settings are those of a test: one copy of
everything, no wait before the first rebalance, no log cleaner. Needs a JDK 17 or newer and Maven.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError

from tools.ports import free_port

KAFKA_VERSION = "4.4.0"
CHECKOUT = Path(__file__).resolve().parents[1]
POM = Path(__file__).resolve().parent / "kafka" / "pom.xml"
# Named after the pom's content too: another pom is another set of jars.
CACHE = CHECKOUT / ".cache" / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"

_CLASS_ARCHIVE = CACHE / "classes.jsa"

# A fixed identity, so that one formatted folder serves every broker as its beginning.
CLUSTER_ID = "ZHVncy1zdHJlYW0tdGVzdA"

# Four minutes for the first download over a slow line; a minute for a start on a machine busy with other tests.
DOWNLOAD_SECONDS = 240.0
START_SECONDS = 60.0
KILL_SECONDS = 20.0

JVM_FLAGS = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
log.cleaner.enable=false
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
background.threads=2
socket.request.max.bytes=209715200
"""


class BrokerError(RuntimeError):
    """The broker cannot be had or did not start; says what to install or shows its last lines."""


class Broker:
    """One broker process: start, kill, start again on the same data."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._controller_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port, as bootstrap_servers takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id, for tests that stop or kill it."""
        assert self._process is not None, "the broker was not started"
        return self._process.pid

    @property
    def output(self) -> Path:
        """The file that holds what the broker printed."""
        return self.folder / "output.txt"

    def start(self) -> Broker:
        """Start on this folder's data and return when a transaction could begin."""
        libraries = kafka_libraries()
        self._prepare_folder(libraries)
        with _class_archive() as (archive, is_to_make):
            with self.output.open("ab") as output:
                self._process = subprocess.Popen(
                    [
                        *_java(libraries, *self._extensions, archive=archive),
                        "kafka.Kafka",
                        str(self._properties),
                    ],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    start_new_session=True,  # a Ctrl-C in the terminal must not reach it before its clients end
                )
            self._watcher = _ends_with_this_process(self._process.pid)
            self._wait_until_ready()
            if is_to_make and not self._extensions:
                _make_class_archive(self._process.pid)
        return self

    def start_if_down(self) -> None:
        """Start it where it does not run, also when a fault left it dead."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(KILL_SECONDS)

    @property
    def _extensions(self) -> tuple[Path, ...]:
        """Folders with classes of one's own."""
        return ()

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _prepare_folder(self, libraries: Path) -> None:
        if self._properties.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self._formatted(libraries), self.folder / "data")
        self._properties.write_text(self._settings(self.folder / "data"))

    @property
    def _admin_address(self) -> str:
        """Where a client gets in that may do everything."""
        return self.address

    def _formatted(self, libraries: Path) -> Path:
        """The data folder to begin with."""
        return _formatted_data(libraries)

    def _settings(self, data: Path) -> str:
        return PROPERTIES.format(port=self.port, controller_port=self._controller_port, data=data)

    def _wait_until_ready(self) -> None:
        """Ready is when an admin client is answered and a transactional id can be initialised."""
        assert self._process is not None
        ends_at = time.monotonic() + START_SECONDS
        while time.monotonic() < ends_at:
            if self._process.poll() is not None:
                raise BrokerError(f"the broker ended with {self._process.returncode}:\n{self._last_lines()}")
            with contextlib.suppress(OSError, KafkaError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                _initialise_a_transaction(self._admin_address)
                return
            time.sleep(0.05)
        self.kill()
        raise BrokerError(f"the broker was not ready within {START_SECONDS} s:\n{self._last_lines()}")

    def _last_lines(self) -> str:
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-30:])


@contextlib.contextmanager
def running_broker(port: int | None = None) -> Iterator[Broker]:
    """A broker of its own on a temporary folder, ended and removed afterwards; on any free port by default."""
    with tempfile.TemporaryDirectory(prefix="dugs-broker-", ignore_cleanup_errors=True) as folder:
        broker = Broker(Path(folder), port)
        try:
            yield broker.start()
        finally:
            broker.kill()  # its data goes too, and a graceful end takes up to twelve seconds


def _ends_with_this_process(pid: int) -> subprocess.Popen[bytes]:
    """A watcher that ends `pid` when this process dies without doing it: its input is ours, and ends with us."""
    return subprocess.Popen(
        [_tool("sh"), "-c", f"cat > /dev/null; kill -9 {pid} 2> /dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # a reader of our own output must not wait for this one
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _initialise_a_transaction(address: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=5_000)
    admin.close()
    producer = KafkaProducer(
        bootstrap_servers=address, transactional_id="broker-is-ready", bootstrap_timeout_ms=5_000
    )
    try:
        producer.init_transactions()
    finally:
        producer.close(timeout=5)


def _java(libraries: Path, *extensions: Path, archive: str = "-Xshare:auto") -> list[str]:
    return [_tool("java"), *JVM_FLAGS, archive, "-cp", ":".join([f"{libraries}/*", *map(str, extensions)])]


@contextlib.contextmanager
def _class_archive() -> Iterator[tuple[str, bool]]:
    """The option of Java that loads Kafka's classes parsed and verified, and whether this broker is to make that file.

    A start costs half the CPU with it. The first broker makes it; what runs at the same time, and a JDK that cannot,
    goes without. Java itself passes over one that another JDK or other jars have made.
    """
    if _CLASS_ARCHIVE.exists():
        yield f"-XX:SharedArchiveFile={_CLASS_ARCHIVE}", False
        return
    lock = filelock.FileLock(CACHE / "classes.lock", blocking=False)
    try:
        with lock:
            yield "-XX:+RecordDynamicDumpInfo", shutil.which("jcmd") is not None
    except filelock.Timeout:
        yield "-Xshare:auto", False


def _make_class_archive(pid: int) -> None:
    arriving = _CLASS_ARCHIVE.with_suffix(".arriving")
    arriving.unlink(missing_ok=True)
    subprocess.run(
        [_tool("jcmd"), str(pid), "VM.cds", "dynamic_dump", str(arriving)],
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
    )
    if arriving.exists():
        arriving.rename(_CLASS_ARCHIVE)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BrokerError(
            f"{name!r} is not on the PATH; the broker tests run a real Apache Kafka {KAFKA_VERSION} and need a "
            "JDK 17 or newer and Maven (Debian: apt-get install openjdk-17-jdk-headless maven). "
            "`make test-fast` needs neither; DUGS_TEST_KAFKA=host:port uses a broker that runs already."
        )
    return found


def kafka_libraries() -> Path:
    """The folder of Kafka's jars, fetched by Maven where it is not there yet."""
    libraries = CACHE / "libs"
    _tool("java")
    if libraries.is_dir():
        return libraries
    CACHE.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE / "fetch.lock"):
        if not libraries.is_dir():
            arriving = CACHE / "libs.arriving"
            shutil.rmtree(arriving, ignore_errors=True)
            _run(
                [_tool("mvn"), "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
                 f"-DoutputDirectory={arriving}"],
                DOWNLOAD_SECONDS,
            )  # fmt: skip
            arriving.rename(libraries)
    return libraries


def _formatted_data(libraries: Path) -> Path:
    """A freshly formatted data folder to copy: formatting costs a JVM start of some seconds, a copy none."""
    formatted = CACHE / "formatted"
    with filelock.FileLock(CACHE / "format.lock"):
        if not formatted.is_dir():
            format_storage(libraries, formatted)
    return formatted


def format_storage(libraries: Path, formatted: Path, options: Sequence[str] = ()) -> None:
    """Make a data folder that a first start takes; `options` are StorageTool's own."""
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        data = Path(scratch) / "data"
        settings = Path(scratch) / "server.properties"
        settings.write_text(PROPERTIES.format(port=9092, controller_port=9093, data=data))
        tool = [*_java(libraries), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings)]
        _run([*tool, *options], START_SECONDS)
        data.rename(formatted)


def _run(command: list[str], deadline_seconds: float) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_seconds, check=False)
    if done.returncode != 0:
        raise BrokerError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def main() -> None:
    """Run a broker until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with running_broker(int(sys.argv[1]) if len(sys.argv) > 1 else None) as broker:
            print(broker.address, flush=True)
            print("The broker runs until Ctrl-C.", file=sys.stderr, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except BrokerError as error:
        sys.exit(f"broker: {error}")


if __name__ == "__main__":
    main()
