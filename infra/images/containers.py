"""The offline container images, made from files of the node's root tree: pause, busybox, nginx and echo.

Each is a root file system of a few files (pause under 1 MB, busybox 2 MB, nginx about 15 MB, echo about 22 MB), known
by its `sampan.local` name and, for busybox and nginx, by the name that users type, which means docker.io/library.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from infra.images.archive import Copy, Directory, Entry, Image, Link, Text

ECHO_SERVER = Path(__file__).with_name("echo_server.py")

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
"""
NGINX_CONF = """\
worker_processes 1;
daemon off;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout combined;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """\
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    location / {
        root /usr/share/nginx/html;
        index index.html;
    }
}
"""
NGINX_PAGE = "<!doctype html>\n<title>Welcome to nginx</title>\n<h1>Welcome to nginx!</h1>\n"

# Parts of Python's library that no small server uses: 15 MB of 28.
UNUSED_PYTHON = {
    "__pycache__", "config-3.13-x86_64-linux-gnu", "config-3.13-aarch64-linux-gnu", "ctypes", "curses", "dbm",
    "ensurepip", "idlelib", "lib2to3", "multiprocessing", "pydoc_data", "sqlite3", "test", "tkinter", "turtledemo",
    "unittest", "venv", "wsgiref", "xmlrpc", "_pyrepl", "pydoc.py", "turtle.py",
}  # fmt: skip
UNUSED_DYNLOAD = (
    "_ssl",
    "_hashlib",
    "_sqlite3",
    "_curses",
    "_dbm",
    "_tkinter",
    "readline",
    "_ctypes",
    "_test",
    "_lzma",
)


def offline_images(tree: Path) -> dict[str, Image]:
    shell = _shell(tree)
    return {
        "pause": Image(
            names=("sampan.local/pause:1",),
            files={"/pause": Copy(tree / "usr/bin/catatonit", 0o755), "/tmp": Directory(0o1777)},
            entrypoint=("/pause", "-P"),
        ),
        "busybox": Image(names=("sampan.local/busybox:1", "docker.io/library/busybox:1"), files=shell, command=("sh",)),
        "nginx": Image(
            names=("sampan.local/nginx:1", "docker.io/library/nginx:1"),
            files=shell | _nginx(tree),
            command=("nginx",),
            ports=("80/tcp",),
            stop_signal="SIGQUIT",
        ),
        "echo": Image(
            names=("sampan.local/echo:1",),
            files=shell | _python(tree) | {"/echo_server.py": Copy(ECHO_SERVER, 0o644)},
            entrypoint=("/usr/bin/python3", "-I", "-S", "/echo_server.py"),
            ports=("8080/tcp", "8080/udp"),
        ),
    }


def _shell(tree: Path) -> dict[str, Entry]:
    """busybox and a link for each of its applets, with the files that programs expect of a root file system."""
    applets = subprocess.run(
        ["chroot", str(tree), "/bin/busybox", "--list"], check=True, capture_output=True, text=True
    ).stdout.split()
    files: dict[str, Entry] = {
        "/": Directory(),  # without it the root would be 0555
        "/bin/busybox": Copy(tree / "usr/bin/busybox", 0o755),
        "/etc/passwd": Text(PASSWD),
        "/etc/group": Text(GROUP),
        "/etc/nsswitch.conf": Text("passwd: files\ngroup: files\nhosts: files dns\n"),
        "/root": Directory(0o700),
        "/home": Directory(0o755),
        "/tmp": Directory(0o1777),
        "/run": Directory(),
        "/usr/bin/env": Link("/bin/busybox"),
    }
    return files | {f"/bin/{applet}": Link("busybox") for applet in applets if applet != "busybox"}


def _program(tree: Path, path: str) -> dict[str, Entry]:
    """A program of the tree and the shared libraries that it names, each at the path where the loader looks."""
    listed = subprocess.run(["chroot", str(tree), "/usr/bin/ldd", path], check=True, capture_output=True, text=True)
    words = (word for line in listed.stdout.splitlines() for word in line.split())
    libraries = {word for word in words if word.startswith("/")}
    return {name: Copy((tree / name.lstrip("/")).resolve()) for name in {path, *libraries}}


def _nginx(tree: Path) -> dict[str, Entry]:
    return _program(tree, "/usr/sbin/nginx") | {
        "/etc/nginx/nginx.conf": Text(NGINX_CONF),
        "/etc/nginx/conf.d/default.conf": Text(NGINX_SITE),
        "/etc/nginx/mime.types": Copy(tree / "etc/nginx/mime.types"),
        "/usr/share/nginx/html/index.html": Text(NGINX_PAGE),
        "/var/lib/nginx": Directory(),
        "/var/log/nginx": Directory(),
        "/bin/nginx": Link("/usr/sbin/nginx"),
    }


def _python(tree: Path) -> dict[str, Entry]:
    """The interpreter, its library as byte code alone (half the size, and no start compiles it), and its extensions."""
    library = tree / "usr/lib/python3.13"
    files = _program(tree, "/usr/bin/python3.13") | {"/usr/bin/python3": Link("python3.13")}
    modules = [
        module.relative_to(library)
        for module in library.rglob("*.py")
        if not set(module.relative_to(library).parts) & UNUSED_PYTHON
    ]
    for name, code in _compiled(tree, modules).items():
        files[f"/usr/lib/python3.13/{name}c"] = Text(code)
    files["/usr/lib/python3.13/os.py"] = Copy(library / "os.py")  # by which the interpreter finds its library
    for extension in (library / "lib-dynload").glob("*.so"):
        if not extension.name.startswith(UNUSED_DYNLOAD):
            files[f"/usr/lib/python3.13/lib-dynload/{extension.name}"] = Copy(extension)
    return files


_COMPILE = """
import base64, json, os, py_compile, sys, tempfile
os.chdir("/usr/lib/python3.13")
result = {}
with tempfile.TemporaryDirectory(dir="/tmp") as folder:
    target = os.path.join(folder, "code")
    for name in json.load(sys.stdin):
        py_compile.compile(
            name, target, dfile=name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
        with open(target, "rb") as file:
            result[name] = base64.b64encode(file.read()).decode()
json.dump(result, sys.stdout)
"""


def _compiled(tree: Path, modules: list[Path]) -> dict[str, bytes]:
    """Byte code of modules of the tree's library, made by the tree's own interpreter."""
    done = subprocess.run(
        ["chroot", str(tree), "/usr/bin/python3", "-c", _COMPILE],
        input=json.dumps([str(module) for module in modules]),
        check=True,
        capture_output=True,
        text=True,
    )
    return {name: base64.b64decode(code) for name, code in json.loads(done.stdout).items()}
