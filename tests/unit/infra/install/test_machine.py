from __future__ import annotations

from infra.install import machine
from infra.install.connection import File
from infra.topology import NODE_IDS, Topology

LAB = Topology(workers=1)
NODE = LAB.node("worker-1")
FILES = [File(path="/etc/a", content=b"a"), File(path="/etc/b", content=b"b")]


def seen(*files: File) -> dict[str, str]:
    return {file.path: machine.digest(file) for file in files}


USERS = {"root": 0, "sampan": NODE.user_id, "sampan-server": machine.SERVER_USER_ID}


def test_a_bare_machine_gets_everything() -> None:
    plan = machine.plan(FILES, machine.folders(NODE), NODE, {}, {"root": 0})
    assert plan.files == tuple(FILES)
    assert f"sampan:x:{NODE.user_id}:" in plan.script


def test_only_what_differs_is_laid_down() -> None:
    plan = machine.plan(FILES, [], NODE, seen(FILES[0]) | {"/etc/b": "other"}, USERS)
    assert plan.files == (FILES[1],)
    assert "/etc/passwd" not in plan.script


def test_facts_are_read_back() -> None:
    digest = machine.digest(FILES[0])
    output = f"{digest}  /etc/a\n\nroot:x:0:0:root:/root:/bin/bash\nsampan:x:77:77::/h:/bin/bash\n"
    assert machine.parse(output) == ({"/etc/a": digest}, {"root": 0, "sampan": 77})
    assert machine.parse("\nroot:x:0:0::/:/bin/sh\n") == ({}, {"root": 0})


def test_servers_that_only_the_host_reaches_are_left_out() -> None:
    host = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch example.org\n"
    assert machine.reachable_servers(host) == "nameserver 192.0.2.1\nsearch example.org\n"


def test_the_users_ids_follow_its_own() -> None:
    (subuid,) = [file for file in machine.files(LAB, NODE, "") if file.path == "/etc/subuid"]
    assert subuid.content.decode() == f"sampan:{NODE.user_id + 1}:{NODE_IDS - 1}\n"
