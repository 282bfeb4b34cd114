"""S3, by moto's server in a process of its own.

It lives in `.moto/` (or where MOTO_PYTHON says), made on first use, because its libraries contradict the operator's.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Self

import httpx2
import obstore
from obstore.store import S3Store

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
START_SECONDS = 60.0
PATHS_ALONE = {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}  # s3.stores.svc is a host, no bucket called s3
A_MINUTE = timedelta(minutes=1)
PORT_LINE = "Running on http://{host}:"


def moto_python() -> Path:
    """The Python that has moto; installs it into `.moto/` where there is none."""
    if given := os.environ.get("MOTO_PYTHON"):
        return Path(given)
    folder = REPOSITORY / ".moto"
    with (REPOSITORY / ".moto.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Tests run side by side, and the first of each process comes here.
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            install = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)]
            subprocess.run(install, check=True)
            (folder / "complete").touch()
    return folder / "bin/python"


class MotoS3:
    """A running S3; `environment` is what a client of it needs. `host` is the address that it listens at."""

    def __init__(self, log: Path, host: str = "127.0.0.1") -> None:
        self._host = host
        self._python = moto_python()
        self._log = log
        self.url = ""

    def __enter__(self) -> Self:
        command = [str(self._python), "-m", "moto.server", "-H", self._host, "-p", "0"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | PATHS_ALONE
            )
        deadline = time.monotonic() + START_SECONDS
        line = PORT_LINE.format(host=self._host)
        while line not in self._log.read_text():
            assert time.monotonic() < deadline and self._process.poll() is None, self._log.read_text()
            time.sleep(0.02)
        port = self._log.read_text().partition(line)[2].split()[0]
        self.url = f"http://{self._host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def fill(self, bucket: str, prefix: str, folder: Path, *, encryption: str | None = None) -> None:
        """Uploads a folder, each file in one part, so that its ETag is its MD5."""
        headers = {"x-amz-server-side-encryption": encryption} if encryption else {}
        store = self.store(bucket)
        httpx2.put(f"{self.url}/{bucket}").raise_for_status()
        for path in folder.rglob("*"):
            if path.is_file():
                url = obstore.sign(store, "PUT", f"{prefix}/{path.relative_to(folder).as_posix()}", A_MINUTE)
                httpx2.put(url, content=path.read_bytes(), headers=headers).raise_for_status()

    def store(self, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            endpoint=self.url,
            access_key_id="test",
            secret_access_key="test",
            region="us-east-1",
            client_options={"allow_http": True},
        )
