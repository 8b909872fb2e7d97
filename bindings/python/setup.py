# SPDX-License-Identifier: Apache-2.0
"""The extension module; the rest is in pyproject.toml. pkg-config finds the library."""
import os
import shlex
import subprocess
import sysconfig

from setuptools import Extension, setup

# One wheel for every Python from 3.10 on; free-threaded ones have no stable interface yet.
stable = not sysconfig.get_config_var("Py_GIL_DISABLED")


def flags(option: str) -> "list[str]":
    """As a shell would take them: pkg-config puts a backslash before each byte of a path that is not ASCII."""
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), option, "twinlog"]
    words = subprocess.check_output(command).decode("ascii", "surrogateescape")
    return [os.fsdecode(word.encode("ascii", "surrogateescape")) for word in shlex.split(words)]


# Two builds of the same sources give the same bytes: a wheel takes this date, and the module no name of a folder.
sources = [os.path.join("twinlog", name) for name in os.listdir("twinlog") if name.endswith((".c", ".py", ".pyi"))]
os.environ.setdefault("SOURCE_DATE_EPOCH", str(int(max(map(os.path.getmtime, sources)))))

setup(
    ext_modules=[
        Extension(
            "twinlog._twinlog",
            ["twinlog/_twinlog.c"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")] if stable else [],
            py_limited_api=stable,
            extra_compile_args=[*flags("--cflags"), f"-ffile-prefix-map={os.getcwd()}=."],
            extra_link_args=flags("--libs"),
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if stable else {},
)
