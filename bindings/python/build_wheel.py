# SPDX-License-Identifier: Apache-2.0
"""Makes the wheel (PEP 517), with nothing but the standard library: pip needs no network for it. The same files make
the same bytes."""
import base64
import hashlib
import pathlib
import re
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.*)"', (HERE / "twinlog/__init__.py").read_text(), re.M)[1]
METADATA = f"""Metadata-Version: 2.1
Name: twinlog
Version: {VERSION}
Summary: A durable, group-committing log in a directory (binding to libtwinlog)
License: Apache-2.0
Requires-Python: >=3.8
Description-Content-Type: text/markdown

"""
WHEEL = "Wheel-Version: 1.0\nGenerator: twinlog\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    info = f"twinlog-{VERSION}.dist-info"
    files = {f"twinlog/{name}": (HERE / "twinlog" / name).read_bytes() for name in ("__init__.py", "py.typed")}
    files[f"{info}/METADATA"] = (METADATA + (HERE / "README.md").read_text()).encode()
    files[f"{info}/WHEEL"] = WHEEL.encode()
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = f"twinlog-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # with a date that is always the same
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel
