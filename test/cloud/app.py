"""Sample apps: packed the same way every time, so that the same files have the same digest."""

import gzip
import io
import os
import tarfile
from pathlib import Path

HELLO = Path(__file__).resolve().parent.parent / "demo" / "hello" / "hello.py"


def deterministic_tar(files):
    """A tar.gz (bytes) of {name: content}: sorted, no times, no owners."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            content = files[name]
            if isinstance(content, str):
                content = content.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def package_of(*paths):
    """A package of the given files, or of the hello app."""
    return deterministic_tar({Path(path).name: Path(path).read_bytes()
                              for path in (paths or (HELLO,))})


def random_package(size):
    """A package of about that many bytes, which no compression makes smaller."""
    return deterministic_tar({"noise": os.urandom(size)})


def manifest(name, package, /, **changes):
    """The manifest of a hello deployment; changes replace fields, None removes one."""
    whole = {
        "name": name,
        "app_type": "backend",
        "runtime": "executable",
        "package": package,
        "entrypoint": ["python3", "hello.py"],
        "replicas": 1,
        "resources": {"memory": "32MB", "cpu": 0.1},
        "health_check": {"path": "/health", "interval": "500ms", "timeout": "500ms", "retries": 6},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}
