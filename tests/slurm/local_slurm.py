"""A real Slurm of several nodes on this machine, for tests: each node has its own network, name and shared memory.

By hand:  python -m tests.slurm.local_slurm    starts one, says how to use it, and stops it at Ctrl-C.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "srun", "slurmctld", "slurmd", "munged", "munge", "ip", "nsenter", "unshare")
SLOTS = 20  # Slurms that can stand side by side: pytest-xdist has a worker for each file
FIRST_PORT, PORTS = 31_800, 100  # of a slot: the controller's, then one for each node
UP_WITHIN = 30.0  # s; one second is usual

CONF = """
ClusterName=dtb{slot}
SlurmctldHost={host}({net}.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as a credential lives: 120 s if nothing is said, 5 s at least.
AuthInfo=socket={run}/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd.%n.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd.%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
# No control groups: what a container lacks. CPUs are as many as we say, whatever the machine has.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0,defer_batch=0
ReturnToService=2
KillWait=5
MinJobAge=86400
InactiveLimit=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=test Nodes=node[1-{n_nodes}] Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here, or nothing."""
    if os.geteuid() != 0:
        return "namespaces of nodes need root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (.ci/run installs them)"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


class LocalSlurm:
    """Munge, a controller and `n_nodes` nodes of `cpus` CPUs, up when constructed; `environment` leads to it."""

    def __init__(self, n_nodes: int = 2, cpus: int = 2) -> None:
        self.n_nodes, self.cpus = n_nodes, cpus
        self.folder = Path(tempfile.mkdtemp(prefix="dtb-slurm-"))
        self.folder.chmod(0o755)
        self.slot = self._claim()
        self.net, self.port = f"10.78.{self.slot}", FIRST_PORT + PORTS * self.slot
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        try:
            self._clear()
            self._configure()
            self._start()
        except BaseException:
            self.stop()
            raise

    def command(self, *arguments: str) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def stop(self) -> None:
        with suppress(RuntimeError, subprocess.TimeoutExpired, OSError):
            self.command("scancel", "--user=root")
            self._until(lambda: not self.command("squeue", "-h"), 10, "the end of all jobs")
        for name in [*(f"slurmd.node{i}" for i in range(1, self.n_nodes + 1)), "slurmctld", "munged"]:
            end(self.folder / "run" / f"{name}.pid")
        self._clear()
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # parts -----------------------------------------------------------------------------------------------------

    def _claim(self) -> int:
        """A number that no other Slurm of ours has, held by a lock that dies with this process."""
        for slot in range(SLOTS):
            path = Path(tempfile.gettempdir()) / f"dtb-slurm-{slot}.lock"
            lock = open(path, "w", encoding="ascii")  # noqa: SIM115 - held as long as this Slurm is there
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self._lock = lock
            return slot
        raise RuntimeError(f"{SLOTS} Slurms for tests are running already")

    def _clear(self) -> None:
        """Remove the networks of this slot, also those of a test that was killed."""
        for i in range(1, max(self.n_nodes, 8) + 1):
            quiet("ip", "netns", "del", f"dtb{self.slot}-{i}")
            quiet("ip", "link", "del", f"dtbv{self.slot}-{i}")
        quiet("ip", "link", "del", f"dtbb{self.slot}")

    def _configure(self) -> None:
        for name in ("state", "spool", "log", "run", "pmix"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        numbers, host = range(1, self.n_nodes + 1), socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName=node{i} NodeAddr={self.net}.{i} Port={self.port + i} CPUs={self.cpus} Sockets=1 "
            f"CoresPerSocket={self.cpus} ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN"
            for i in numbers
        )
        values = {
            "slot": self.slot, "host": host, "net": self.net, "port": self.port, "n_nodes": self.n_nodes,
            "nodes": nodes, "folder": self.folder, "run": self.folder / "run", "log": self.folder / "log",
        }  # fmt: skip
        (self.folder / "slurm.conf").write_text(CONF.format(**values))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        (self.folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={self.folder / 'pmix'}\n")
        hosts = [f"{self.net}.254 {host}", *(f"{self.net}.{i} node{i}" for i in numbers)]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts]) + "\n")

    def _start(self) -> None:
        run, conf, bridge = self.folder / "run", self.folder / "slurm.conf", f"dtbb{self.slot}"
        files = {"key-file": self.folder / "munge.key", "socket": run / "munge.sock", "pid-file": run / "munged.pid"}
        files |= {"log-file": self.folder / "log" / "munged.log", "seed-file": run / "munged.seed"}
        self._call("munged", "--force", *(f"--{name}={path}" for name, path in files.items()))
        self._call("ip", "link", "add", bridge, "type", "bridge")
        self._call("ip", "addr", "add", f"{self.net}.254/24", "dev", bridge)
        self._call("ip", "link", "set", bridge, "up")
        self._call("slurmctld", "-f", str(conf))
        for i in range(1, self.n_nodes + 1):
            space, wire = f"dtb{self.slot}-{i}", f"dtbv{self.slot}-{i}"
            self._call("ip", "netns", "add", space)
            self._call("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
            self._call("ip", "link", "set", wire, "master", bridge, "up")
            self._call("ip", "-n", space, "link", "set", "lo", "up")
            self._call("ip", "-n", space, "addr", "add", f"{self.net}.{i}/24", "dev", "eth0")
            self._call("ip", "-n", space, "link", "set", "eth0", "up")
            inside = (
                f"hostname node{i} && mount --bind {self.folder}/hosts /etc/hosts && mount -t tmpfs none /dev/shm && "
                f"mount -t tmpfs none {self.folder}/pmix && exec slurmd -N node{i} -f {conf}"
            )  # not by `ip netns exec`: its other /sys lacks the control groups that slurmd looks for
            self._call("nsenter", f"--net=/run/netns/{space}", "unshare", "--uts", "--mount", "sh", "-c", inside)
        self._until(lambda: len(self.command("sinfo", "-hNtidle").split("\n")) == self.n_nodes, UP_WITHIN, "idle nodes")

    def _call(self, *arguments: str) -> None:
        done = subprocess.run(
            arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=30, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout.strip()}")

    def _until(self, condition, seconds: float, what: str) -> None:
        end_of_patience = time.monotonic() + seconds
        while True:
            with suppress(RuntimeError):
                if condition():
                    return
            if time.monotonic() > end_of_patience:
                raise TimeoutError(f"Slurm for tests: no {what} within {seconds:g} s")
            time.sleep(0.1)


def quiet(*arguments: str) -> None:
    subprocess.run(arguments, capture_output=True, check=False)


def end(pid_file: Path) -> None:
    """End a daemon that we started, gently first."""
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            time.sleep(0.1)
            os.kill(pid, 0)  # ProcessLookupError, an OSError, once it is gone
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    slurm = LocalSlurm()
    print(f"export SLURM_CONF={slurm.environment['SLURM_CONF']}    # Ctrl-C stops it", flush=True)
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # after the start: daemons inherit what is blocked
    signal.sigwait(ends)
    slurm.stop()
